"""Compiled models against the programs that they come from: token by token, with margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genlab.models import StackedModel
from genlab.rasp.checker import tokens_of
from genlab.rasp.compiler.runs import compiled, find_program
from genlab.rasp.compiler.weights import Compiled
from genlab.rasp.running import Program, predict
from genlab.rasp.tokens import NO_TOKEN
from genlab.spec import RunSpec
from genlab.tasks import Task, Vocab, make
from genlab.tasks.examples import START

_TOKENS = 1 << 15
"""Tokens in a forward pass."""


@dataclass(frozen=True)
class Agreement:
    """A model against a program on inputs of one length.

    Attributes:
        length: in the task's own unit; positions: of an input, start token included.
        inputs, tokens: how many were compared; padding, and the prediction at the start token, are not.
        wrong_inputs, wrong_tokens: on how many the token with the largest logit is not that of the program.
        logit_margin: the smallest difference between the logit of the program's token and the next best one.
        reading_margin: the smallest distance of a number that attention gives (1 / (n + 1) beside n selected keys)
            from where a unit would read it as another one; NaN if the program has no such number.
    """

    length: int
    positions: int
    inputs: int
    tokens: int
    wrong_inputs: int
    wrong_tokens: int
    logit_margin: float
    reading_margin: float


def agreement(
    model: StackedModel, spec: RunSpec, lengths: Sequence[int], n: int, rng: np.random.Generator
) -> list[Agreement]:
    """Compare a compiled run with its (first) program: `n` inputs per length, half of the task, half random.

    Args:
        model: a stack of one.
        spec: of the run.
        lengths: in the task's own unit, on split `id`.
        n: inputs per length.
        rng: what they are drawn with.
    """
    assert spec.compiled is not None
    task = make(spec.task)
    program, made = find_program(spec.compiled.program, task), compiled(spec.task, spec.compiled)
    found: list[Agreement] = []
    for length in lengths:
        tokens = inputs_of(task, length, n, rng)
        step = max(1, _TOKENS // tokens.shape[1])
        counts = [compare(model, made, program, task, tokens[i : i + step]) for i in range(0, n, step)]
        sums, least = np.sum([c[:3] for c in counts], axis=0), np.min([c[3:] for c in counts], axis=0)
        found.append(Agreement(length, tokens.shape[1], n, *(int(s) for s in sums), *(float(x) for x in least)))
    return found


def inputs_of(task: Task, length: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Examples of the task, and random tokens of the same width: int[n, pos]."""
    tokens = task.sample(rng, "id", np.full(n - n // 2, length)).tokens
    start = task.vocab.id(START)
    readable = [i for i in range(len(task.vocab)) if i not in (Vocab.pad, start)]
    drawn = rng.choice(readable, size=(n // 2, tokens.shape[1]))
    drawn[:, 0] = start
    return np.concatenate([tokens, drawn])


@torch.no_grad()
def compare(
    model: StackedModel, made: Compiled, program: Program, task: Task, tokens: NDArray[np.int64]
) -> tuple[int, int, int, float, float]:
    """Tokens compared, inputs and tokens that are wrong, logit margin and reading margin."""
    real = tokens != Vocab.pad
    real[:, 0] = False
    expected = _expected(program, task, tokens)
    reading = _Readings(made, torch.from_numpy(real))
    logits = model(torch.from_numpy(tokens), tap=reading)
    right = logits.gather(-1, torch.from_numpy(expected)[..., None])[..., 0]
    others = logits.scatter(-1, torch.from_numpy(expected)[..., None], -torch.inf).amax(-1)
    margin = (right - others).numpy()
    wrong = real & ~(margin > 0)
    return int(real.sum()), int(wrong.any(1).sum()), int(wrong.sum()), float(margin[real].min()), reading.least


def _expected(program: Program, task: Task, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The program's predictions as token ids; `<pad>` for a value that is no token. Arbitrary at the start token."""
    values, lead = tokens_of(task), int(task.spec.start_token)
    ids = values.decode(predict(program, values.encode(tokens[:, lead:])))
    return np.pad(np.where(ids == NO_TOKEN, Vocab.pad, ids), ((0, 0), (lead, 0)))


class _Readings:
    """A tap that keeps the smallest distance of a raw number from the threshold of a unit that reads it."""

    def __init__(self, made: Compiled, real: Tensor):
        self.least, self._real = float("nan"), real
        self._gains: dict[str, tuple[list[int], Tensor]] = {}
        for layer in range(made.config.n_layers):
            rows = [(neuron, gain) for at, neuron, gain in made.readings if at == layer]
            if rows:
                gains = torch.tensor([gain for _, gain in rows])
                self._gains[f"blocks.{layer}.mlp.hook_pre"] = ([neuron for neuron, _ in rows], gains)

    def __call__(self, name: str, x: Tensor) -> Tensor:
        if name in self._gains:
            neurons, gains = self._gains[name]
            distance = (x[0][self._real][:, neurons] - 0.5).abs() / gains
            self.least = float(np.fmin(self.least, float(distance.min())))
        return x
