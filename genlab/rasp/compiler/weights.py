"""Assemble heads and units into the weights of an ordinary transformer configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genlab.errors import UserError
from genlab.rasp.checker import tokens_of
from genlab.rasp.compiler.graph import Parts, Setting, compile_graph
from genlab.rasp.compiler.parts import ONE, START, Floats, Linear, Variable
from genlab.rasp.lang.graph import Graph, Node
from genlab.rasp.lang.sequence import sequence
from genlab.rasp.running import Program, run_program_body
from genlab.rasp.tokens import NO_TOKEN
from genlab.spec import ModelConfig, build
from genlab.tasks import Task, Vocab
from genlab.tasks.examples import START as START_TOKEN

LOGIT = 16.0
"""The logit of the predicted token; all others have 0."""
MOST_WEIGHTS = 50_000_000
"""The most weights of a compiled model."""


@dataclass(frozen=True)
class Compiled:
    """A program as a transformer.

    Attributes:
        config: an ordinary configuration.
        weights: name -> float64, as `Transformer.weights` declares them.
        parts: the heads, units and variables that it was assembled from.
        blocks: variable -> its directions of the residual stream.
        heads: of each layer, in order, what it computes.
        units: of each layer, how many.
    """

    config: ModelConfig
    weights: Mapping[str, Floats]
    parts: Parts
    blocks: Mapping[Variable, slice]
    heads: list[list[str]]
    units: list[int]

    @property
    def largest(self) -> float:
        """The largest absolute weight."""
        return max(float(np.abs(weight).max()) for weight in self.weights.values())

    @property
    def readings(self) -> list[tuple[int, int, float]]:
        """Layer, neuron and gain of every unit that reads a number as attention gives it."""
        found: list[tuple[int, int, float]] = []
        for layer in range(self.config.n_layers):
            units = [unit for unit in self.parts.units if unit.layer == layer]
            first = [unit.reads.parts[0] for unit in units]
            found += [(layer, 2 * i, abs(float(m[0, 0]))) for i, (v, m) in enumerate(first) if v.raw]
        return found


def compile_programs(programs: Sequence[tuple[Program, float]], task: Task, gap: float = 40.0) -> Compiled:
    """Compile programs to a transformer whose logits are the weighted sum of theirs, up to the task's longest inputs.

    Args:
        programs: programs of the task, each with the weight of its logits.
        task: the task, with a start token; its vocabulary and longest length are those of the model.
        gap: by how much the attention score of a key that shall win is larger than that of one that shall not.

    Raises:
        UserError: some operations cannot be compiled, and the message lists all of them; or the model is too large.
    """
    parts = _parts_of([program for program, _ in programs], task, gap)
    variables = [ONE, START, *parts.variables]
    starts = np.cumsum([0, *map(len, variables)]).tolist()
    blocks = {v: slice(a, b) for v, a, b in zip(variables, starts[:-1], starts[1:], strict=True)}
    return _Assembly(parts, blocks, task).compiled([weight for _, weight in programs])


def _parts_of(programs: Sequence[Program], task: Task, gap: float) -> Parts:
    if task.d_values:
        raise UserError(f"task {task.name!r}, format {task.format!r} has real-valued items: a program reads tokens")
    if START_TOKEN not in task.vocab:
        raise UserError(f"a compiled model needs a start token: set start_token for task {task.name!r}")
    tokens, start = tokens_of(task), task.vocab.id(START_TOKEN)
    readable = tokens.values[[i for i in range(len(task.vocab)) if i not in (Vocab.pad, start)]]
    # A task's own start token is part of what a program sees; one that was put before the examples is not.
    sees_start = not task.spec.start_token
    graph, outputs = _traced(programs, tokens.values[[start]] if sees_start else readable[:1])
    at_start = {node: int(found[0, 0]) for node, found in graph.values.items()}
    setting = Setting(readable, task.n_ctx - 1, gap, int(sees_start), at_start if sees_start else {})
    parts = compile_graph(graph, outputs, setting)
    if parts.refused:
        many = f"{len(parts.refused)} operations cannot be compiled: " if len(parts.refused) > 1 else ""
        raise UserError(many + "; ".join(parts.refused))
    return parts


def _traced(programs: Sequence[Program], first: NDArray[np.int64]) -> tuple[Graph, list[Node]]:
    """The graph of all programs on one input, and their outputs."""
    graph = Graph(keep=True)
    x = sequence(first, graph)
    return graph, [run_program_body(program, x).node for program in programs]


def _balance(queries: Floats, keys: Floats) -> float:
    """What to divide queries by, and multiply keys with, so that both have entries of about the same size.

    Noise on weights is relative to the largest of a matrix. A power of two changes no score, not even by rounding.
    """
    large, small = float(np.abs(queries).max()), float(np.abs(keys).max())
    return 2.0 ** round(np.log2(large / small) / 2) if large and small else 1.0


class _Assembly:
    def __init__(self, parts: Parts, blocks: Mapping[Variable, slice], task: Task):
        self.parts, self.blocks, self.task = parts, blocks, task
        self.layers = 1 + max([head.layer for head in parts.heads] + [unit.layer for unit in parts.units], default=0)
        self.heads = [[h for h in parts.heads if h.layer == layer] for layer in range(self.layers)]
        self.units = [[u for u in parts.units if u.layer == layer] for layer in range(self.layers)]
        self.d_model = max(block.stop for block in blocks.values())
        self.d_head = max([max(h.q.width, h.v.width) for h in parts.heads], default=1)
        self.n_heads = max([len(heads) for heads in self.heads] + [1])
        self.d_mlp = max([2 * len(units) for units in self.units] + [1])
        self.indexed = next((v for v in parts.variables if v.name == "index"), None)

    def compiled(self, shares: Sequence[float]) -> Compiled:
        """All of it, with the share that each program has in the logits."""
        config = self._config()
        weights: dict[str, Floats] = {"embed.W_E": self._embedding()}
        if self.indexed is not None:
            weights["pos_embed.W_pos"] = self._positions(config.n_ctx)
        for layer in range(self.layers):
            weights |= self._attention(layer) | self._mlp(layer)
        weights |= {"unembed.W_U": self._unembedding(shares), "unembed.b_U": np.zeros(len(self.task.vocab))}
        return Compiled(
            config,
            weights,
            self.parts,
            self.blocks,
            [[h.what for h in heads] for heads in self.heads],
            [len(units) for units in self.units],
        )

    def _config(self) -> ModelConfig:
        size = self.d_model * self.layers * (4 * self.n_heads * self.d_head + 2 * self.d_mlp)
        if size > MOST_WEIGHTS:
            raise UserError(
                f"the compiled model would have {size:,} weights (at most {MOST_WEIGHTS:,}): {self.layers} layers of "
                f"{self.n_heads} heads of width {self.d_head} and MLPs of width {self.d_mlp}, d_model "
                f"{self.d_model}; a smaller max_len makes it smaller"
            )
        values = {
            **{"d_vocab": len(self.task.vocab), "n_ctx": self.task.n_ctx, "n_layers": self.layers},
            **{"d_model": self.d_model, "n_heads": self.n_heads, "d_head": self.d_head, "d_mlp": self.d_mlp},
            **{"act_fn": "relu", "normalization_type": "none", "final_norm": False},
            "positions": "none" if self.indexed is None else "learned",
        }
        if self.indexed is not None:
            values["offsets"] = "zero"
        return build(ModelConfig, values)

    def _embedding(self) -> Floats:
        vocab = self.task.vocab
        out = np.zeros((len(vocab), self.d_model))
        start = vocab.id(START_TOKEN)
        others = [i for i in range(len(vocab)) if i not in (Vocab.pad, start)]
        out[others, self.blocks[ONE]] = 1.0
        out[start, self.blocks[START]] = 1.0
        for variable, block in self.blocks.items():
            if variable.name == "token" and variable in self.parts.variables:
                out[others, block] = np.eye(len(others))
            elif len(variable.at_start):
                out[start, block] = -variable.at_start
        return out

    def _positions(self, n_ctx: int) -> Floats:
        assert self.indexed is not None
        out = np.zeros((n_ctx, self.d_model))
        out[1:, self.blocks[self.indexed]] = np.eye(n_ctx - 1)
        return out

    def _dense(self, linear: Linear) -> Floats:
        out = np.zeros((self.d_model, linear.width))
        for variable, matrix in linear.parts:
            out[self.blocks[variable]] += matrix
        return out

    def _attention(self, layer: int) -> dict[str, Floats]:
        h, k = self.n_heads, self.d_head
        qkv, o = np.zeros((self.d_model, 3, h, k)), np.zeros((h, k, self.d_model))
        for i, head in enumerate(self.heads[layer]):
            queries, keys = self._dense(head.q) * np.sqrt(k), self._dense(head.k)  # scores are divided by this
            balance = _balance(queries, keys)
            qkv[:, 0, i, : head.q.width], qkv[:, 1, i, : head.k.width] = queries / balance, keys * balance
            qkv[:, 2, i, : head.v.width] = self._dense(head.v)
            o[i, : head.v.width, self.blocks[head.out]] = np.eye(head.v.width)
        name = f"blocks.{layer}.attn"
        return {
            f"{name}.W_QKV": qkv.reshape(self.d_model, -1),
            f"{name}.b_QKV": np.zeros(3 * h * k),
            f"{name}.W_O": o.reshape(-1, self.d_model),
            f"{name}.b_O": np.zeros(self.d_model),
        }

    def _mlp(self, layer: int) -> dict[str, Floats]:
        w_in, b_in = np.zeros((self.d_model, self.d_mlp)), np.zeros(self.d_mlp)
        w_out = np.zeros((self.d_mlp, self.d_model))
        for i, unit in enumerate(self.units[layer]):
            w_in[:, 2 * i : 2 * i + 2] = self._dense(unit.reads)
            b_in[2 * i : 2 * i + 2] = unit.bias, unit.bias - 1  # relu(z) - relu(z - 1): z between 0 and 1
            for variable, change in unit.writes:
                w_out[2 * i, self.blocks[variable]] += change
                w_out[2 * i + 1, self.blocks[variable]] -= change
        name = f"blocks.{layer}.mlp"
        return {
            f"{name}.W_in": w_in,
            f"{name}.b_in": b_in,
            f"{name}.W_out": w_out,
            f"{name}.b_out": np.zeros(self.d_model),
        }

    def _unembedding(self, shares: Sequence[float]) -> Floats:
        """The token of each value of the output; the padding where a value is no token."""
        total = np.zeros((self.d_model, len(self.task.vocab)))
        for output, share in zip(self.parts.outputs, shares, strict=True):
            ids = tokens_of(self.task).decode(output.values.reshape(-1).astype(np.int64))
            ids = np.where(ids == NO_TOKEN, Vocab.pad, ids)
            logits = LOGIT * share * (ids[:, None] == np.arange(len(self.task.vocab))[None]).astype(float)
            total += self._dense(output.read(logits))
        return total
