"""How many steps a model takes to learn a task, by recipe: a plain loop with each suspect of a recipe as one flag.

    python benchmarks/learning.py copy-20 --seeds 0:2                       # the plain recipe
    python benchmarks/learning.py copy-20 --seeds 0:2 --set start=off       # one thing changed
    python benchmarks/learning.py copy-20 --seeds 0:2 --alone               # the plain recipe, then each change alone
    python benchmarks/learning.py copy-20 --set warmup=100 clip=1 --then    # the changes one after the other, kept
    python benchmarks/learning.py --page                                    # the tables of docs/learning.md

The loop reads as one would write it from the protocol of Huang et al. 2024 (arXiv 2410.02140, a small GPT-2 on fresh
examples): every example draws its own length and stands at its own random place in the context, a start token leads,
the embedding is also the unembedding, weights start at a standard deviation of .02, and the learning rate of AdamW
falls on a straight line from the first step on, without warm-up or clipping. Examples are drawn by `genlab.tasks`;
`engine=lab` trains by the lab's engine on the same batches from the same initial weights
(`tests/training/test_training_learning.py`).

Rows are added to `results/learning.csv` while a run goes on; a run that has its last row there is not run again, and
one that was interrupted starts anew in place of its rows. Seconds are processor time.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genlab.tasks import Examples, Task, Vocab, make

ROWS = Path(__file__).parent / "results" / "learning.csv"
COLUMNS: tuple[str, ...] = (
    "case",
    "recipe",
    "seed",
    "step",
    "loss",
    "in_distribution",
    "longer",
    "twice",
    "by_length",
    "seconds",
)
CHECK, LOOK_FURTHER = 50, 250
"""Steps between checks in distribution, and between those that look at longer examples too."""
EXAMPLES = 256
BANDS = 5
PIECES = 3
"""Widths that a batch is padded to."""


# -- what is trained, and how ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. The defaults are the plain recipe; `name` says what differs from it.

    Attributes:
        lengths: lengths drawn for a batch; 0: one for each example.
        offsets: where an example stands: anywhere in the room that it leaves (`own`), in the room that the widest
            example of its batch leaves (`batch`; tested in its own), or at the start (`zero`).
        start: whether a start token leads every example.
        tied: whether the embedding is also the unembedding.
        init_std, position_std: standard deviations of the initial weights, and of the position embeddings.
        residual_scaling: whether what writes to the residual stream starts smaller by sqrt(2 n_layers), as in GPT-2.
        loss: over the answer (`scored`) or over all tokens (`all`).
        horizon: steps over which the learning rate falls; 0: those of the case.
        engine: `plain`, or `lab` for `genlab.training`.
    """

    lengths: int = 0
    offsets: str = "own"
    start: bool = True
    tied: bool = True
    init_std: float = 0.02
    position_std: float = 0.02
    residual_scaling: bool = True
    warmup: int = 0
    schedule: str = "linear"
    clip: float = 0.0
    loss: str = "scored"
    precision: str = "float32"
    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 64
    horizon: int = 0
    engine: str = "plain"

    @property
    def name(self) -> str:
        """What differs from the plain recipe: `plain`, or `start=off warmup=100`."""
        plain = Recipe()
        values = {f.name: (getattr(self, f.name), getattr(plain, f.name)) for f in fields(self)}
        return (
            " ".join(f"{name}={_said(value)}" for name, (value, usual) in values.items() if value != usual) or "plain"
        )

    def changed(self, settings: Sequence[str]) -> Recipe:
        """With `name=value` settings. Raises `ValueError` for an unknown name or a value that it cannot have."""
        values: dict[str, Any] = {}
        for setting in (one for each in settings for one in TOGETHER.get(each, (each,))):
            name, _, text = setting.partition("=")
            if name not in {f.name for f in fields(self)}:
                raise ValueError(f"unknown flag {name!r}; there are {', '.join(f.name for f in fields(self))}")
            values[name] = _read(name, text, type(getattr(self, name)))
        return replace(self, **values)


_CHOICES = {
    "offsets": ("own", "batch", "zero"),
    "schedule": ("linear", "cosine", "constant"),
    "loss": ("scored", "all"),
    "precision": ("float32", "bfloat16"),
    "engine": ("plain", "lab"),
}
_SWITCH = {"on": True, "off": False}


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(name: str, text: str, kind: type) -> Any:
    allowed = _CHOICES.get(name, tuple(_SWITCH) if kind is bool else ())
    if allowed and text not in allowed:
        raise ValueError(f"{name} is one of {', '.join(allowed)}, not {text!r}")
    return _SWITCH[text] if kind is bool else kind(text)


ALONE = (
    ("start=off",),
    ("offsets=batch",),
    ("lengths=8",),
    ("tied=off",),
    ("init_std=0.05", "position_std=0.05"),
    ("position_std=0.05",),
    ("residual_scaling=off",),
    ("warmup=100",),
    ("schedule=cosine",),
    ("schedule=constant",),
    ("clip=1",),
    ("loss=all",),
    ("offsets=zero",),
    ("lengths=4",),
    ("precision=bfloat16",),
)
"""The suspects, each with the value that the lab has today (or another that is in use)."""
TOGETHER = {
    "lab": ("lengths=8", "tied=off", "init_std=0.05", "position_std=0.05", "warmup=100", "schedule=cosine", "clip=1")
}
"""`lab`: what the lab trains copy with today, in all but the start token and the offsets."""


@dataclass(frozen=True)
class Case:
    """A task with its lengths, the shape of the model, and how long it is trained.

    Attributes:
        steps: optimiser steps that are taken.
        horizon: steps over which the learning rate falls (more than `steps`: the start of a longer run).
    """

    task: str
    format: str
    train_len: int
    test_len: int
    n_layers: int = 2
    n_heads: int = 1
    d_model: int = 64
    steps: int = 3000
    horizon: int = 3000
    min_len: int = 1
    params: tuple[tuple[str, int], ...] = ()

    def made(self) -> Task:
        return make(self.task, max_len=self.test_len, format=self.format, params=dict(self.params))


CASES = {
    "copy-10": Case("copy", "unique", 10, 20, steps=1500, horizon=2500),
    "copy-20": Case("copy", "unique", 20, 40, steps=2500, horizon=2500),
    "copy-50": Case("copy", "unique", 50, 100, horizon=12_000),
    "count-20": Case("count", "plain", 20, 40, n_layers=1, n_heads=4),
    "reverse-20": Case("reverse", "unique", 20, 40, n_heads=4),
    "sort-20": Case("sort", "plain", 20, 40, n_heads=4),
    "recall-8": Case("associative-recall", "in-place", 8, 16, n_heads=4),
    "addition-8": Case("addition", "reversed-hints", 8, 16, n_heads=4),
}


# -- the model -------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A pre-norm block of GPT-2."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """`[batch, pos, d]`, or `[place, d]` at the positions `keep` alone."""
        B, T, D = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, D)
        if keep is not None:
            z, x = z[keep], x[keep]
        x = x + self.proj(z)
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class GPT(nn.Module):
    """A small GPT-2 with learned positions: logits at the places asked for."""

    def __init__(self, d_vocab: int, n_ctx: int, case: Case, recipe: Recipe, seed: int):
        super().__init__()
        d = case.d_model
        self.wte, self.wpe = nn.Embedding(d_vocab, d), nn.Embedding(n_ctx, d)
        self.blocks = nn.ModuleList(Block(d, case.n_heads) for _ in range(case.n_layers))
        self.ln_f, self.head = nn.LayerNorm(d), nn.Linear(d, d_vocab, bias=not recipe.tied)
        self._draw(recipe, torch.Generator().manual_seed(seed))
        if recipe.tied:
            self.head.weight = self.wte.weight

    @torch.no_grad()
    def _draw(self, recipe: Recipe, generator: torch.Generator) -> None:
        for name, p in self.named_parameters():
            if p.ndim == 1:
                p.fill_(float(".ln" in f".{name}" and name.endswith("weight")))  # gains 1, biases 0
                continue
            std = recipe.position_std if name.startswith("wpe") else recipe.init_std
            if recipe.residual_scaling and name.endswith(("proj.weight", "down.weight")):
                std /= math.sqrt(2 * len(self.blocks))
            p.normal_(0.0, std, generator=generator)

    def forward(self, tokens: Tensor, positions: Tensor, places: Tensor) -> Tensor:
        """Logits `[place, d_vocab]` at the places where bool[batch, pos] `places` holds, row by row."""
        x = self.wte(tokens) + self.wpe(positions)
        *before, last = self.blocks
        for block in before:
            x = block(x)
        return self.head(self.ln_f(last(x, places)))


# -- the batches -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Arrays of examples.

    Attributes:
        tokens, targets: int[n, pos], pads on the right.
        places, answer: bool[n, pos], where the loss is taken, and what has to be right.
        offsets, lengths: int[n], the position of the first token, and the task's own length.
    """

    tokens: np.ndarray
    targets: np.ndarray
    places: np.ndarray
    answer: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray

    def pieces(self, count: int) -> Iterator[Batch]:
        """The examples in so many pieces, short ones together, each as wide as its widest: less padding is read."""
        widths = (self.targets != Vocab.pad).sum(axis=1)
        for rows in np.array_split(np.argsort(widths, kind="stable"), count):
            wide = int(widths[rows].max())
            sequences = (array[rows, :wide] for array in (self.tokens, self.targets, self.places, self.answer))
            yield Batch(*map(np.ascontiguousarray, sequences), self.offsets[rows], self.lengths[rows])

    def positions(self, n_ctx: int) -> Tensor:
        """int[n, pos]; those of pads may go beyond the context, where nothing reads them."""
        return torch.from_numpy((self.offsets[:, None] + np.arange(self.tokens.shape[1])).clip(max=n_ctx - 1))


_TRAIN, _TEST = 1, 2


class Source:
    """The examples of a case under a recipe: those of training by step, and fixed ones to test with."""

    def __init__(self, case: Case, recipe: Recipe, seed: int):
        self.case, self.recipe, self.seed, self.task = case, recipe, seed, case.made()
        self.d_vocab = len(self.task.vocab) + recipe.start  # the start token is the last
        self.n_ctx = self.task.n_ctx + recipe.start
        self.law = self.task.length_law("id", case.min_len, case.train_len)

    def batch(self, step: int) -> Batch:
        """The training examples of a step."""
        rng, size = np.random.default_rng([_TRAIN, self.seed, step]), self.recipe.batch
        lengths = rng.choice(self.law[0], size=self.recipe.lengths or size, p=self.law[1])
        return self._placed(rng, np.resize(lengths, size))

    def test(self) -> dict[str, list[Batch]]:
        """Sets of test examples, alike for all seeds and recipes but for where they stand, cut into batches."""
        low, high = self.case.train_len + 1, self.case.test_len
        laws = {"in_distribution": self.law, "longer": self.task.length_law("id", low, high)}
        laws["twice"] = (laws["longer"][0][-1:], np.ones(1))
        return {name: list(self._cut(i, *law)) for i, (name, law) in enumerate(laws.items())}

    def _cut(self, which: int, lengths: np.ndarray, weights: np.ndarray) -> Iterator[Batch]:
        rng = np.random.default_rng([_TEST, which])
        drawn = np.sort(rng.choice(lengths, size=EXAMPLES, p=weights))
        for start in range(0, EXAMPLES, 64):  # short ones together, so that little padding is read
            yield self._placed(rng, drawn[start : start + 64], test=True)

    def _placed(self, rng: np.random.Generator, lengths: np.ndarray, test: bool = False) -> Batch:
        drawn = self.task.sample(rng, "id", lengths)
        arrays = [drawn.tokens, drawn.targets, self._places(drawn), drawn.scored]
        if self.recipe.start:
            leading = [self.d_vocab - 1, drawn.tokens[:, 0], self.recipe.loss == "all", False]
            columns = [np.broadcast_to(one, len(drawn))[:, None] for one in leading]
            arrays = [np.concatenate(pair, axis=1) for pair in zip(columns, arrays, strict=True)]
        widths = (arrays[1] != Vocab.pad).sum(axis=1)
        if self.recipe.offsets == "batch" and not test:  # tested anywhere in their own room, as by the lab
            widths[:] = widths.max()
        room = self.n_ctx - widths
        offsets = rng.integers(0, room + 1) * (self.recipe.offsets != "zero")
        return Batch(*map(np.ascontiguousarray, arrays), offsets, lengths)

    def _places(self, drawn: Examples) -> np.ndarray:
        if self.recipe.loss == "all":
            return drawn.targets != Vocab.pad
        return drawn.scored if drawn.trained is None else drawn.trained


# -- the loop --------------------------------------------------------------------------------------------------------


class Plain:
    """The plain loop: one module, fused AdamW."""

    def __init__(self, source: Source):
        self.recipe, self.case = source.recipe, source.case
        self.model = GPT(source.d_vocab, source.n_ctx, source.case, source.recipe, source.seed)
        self.params = list(self.model.parameters())
        matrices, vectors = [p for p in self.params if p.ndim > 1], [p for p in self.params if p.ndim == 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        rates: dict[str, Any] = {"lr": self.recipe.lr, "weight_decay": self.recipe.weight_decay}
        self.optimizer = torch.optim.AdamW(groups, fused=True, **rates)
        self.done = 0

    def rate(self) -> float:
        """The learning rate of the coming step."""
        recipe, horizon = self.recipe, self.recipe.horizon or self.case.horizon
        if self.done < recipe.warmup:
            return recipe.lr * (self.done + 1) / recipe.warmup
        gone = (self.done - recipe.warmup) / (horizon - recipe.warmup)
        left = {"linear": 1 - gone, "cosine": (1 + math.cos(math.pi * gone)) / 2, "constant": 1.0}
        return recipe.lr * left[recipe.schedule]

    def step(self, batch: Batch) -> float:
        """Take a step; the loss before it. Gradients are added up over pieces of the batch, which gives the same."""
        whole, places = 0.0, int(batch.places.sum())
        for piece in batch.pieces(PIECES):
            targets = torch.from_numpy(piece.targets[piece.places])
            with _precision(self.recipe):
                logits = self.logits(piece, piece.places)
            loss = F.cross_entropy(logits.float(), targets, reduction="sum") / places
            loss.backward()
            whole += float(loss.detach())
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.params, self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return whole

    @torch.no_grad()
    def take_weights(self, state: Any) -> None:
        """Go on with the weights of a run of the lab (`genlab.training.RunState`)."""
        for ours, theirs in _pairs(self.model, state.weights, state.spec.model):
            ours.copy_(theirs)

    def logits(self, batch: Batch, places: np.ndarray) -> Tensor:
        n_ctx = self.model.wpe.num_embeddings
        return self.model(torch.from_numpy(batch.tokens), batch.positions(n_ctx), torch.from_numpy(places))


def _precision(recipe: Recipe) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext()


class Lab(Plain):
    """The lab's engine on the same batches, from the same initial weights."""

    def __init__(self, source: Source):
        super().__init__(source)
        from genlab.training import Stack, fresh

        spec = lab_spec(source)
        state = fresh([spec])[0]
        with torch.no_grad():
            for ours, theirs in _pairs(self.model, state.weights, spec.model):
                theirs.copy_(ours)
        self.stack = Stack(source.task, [state], torch.device("cpu"))

    def step(self, batch: Batch) -> float:
        from genlab.training.batches import arrange, to_device

        one = [array[None] for array in (batch.tokens, batch.targets, batch.answer, batch.lengths, batch.places)]
        whole = Examples(*one[:4], trained=one[4])
        before = self.stack.states()[0].loss_sum
        self.stack.advance(to_device(arrange(whole, batch.offsets[None], "scored"), torch.empty(0)))
        self.done += 1
        return self.stack.states()[0].loss_sum - before

    def logits(self, batch: Batch, places: np.ndarray) -> Tensor:
        self.take_weights(self.stack.states()[0])
        return super().logits(batch, places)


def lab_spec(source: Source) -> Any:
    """The run of the lab that is trained like this."""
    from genlab.spec import ModelConfig, RunSpec, TrainConfig

    recipe, case = source.recipe, source.case
    shape: dict[str, Any] = {"n_layers": case.n_layers, "n_heads": case.n_heads, "d_model": case.d_model}
    model = ModelConfig(d_vocab=source.d_vocab, n_ctx=source.n_ctx, tie_word_embeddings=recipe.tied, **shape)
    steps = recipe.horizon or case.horizon
    rates: dict[str, Any] = {
        "lr": recipe.lr,
        "warmup": recipe.warmup,
        "schedule": recipe.schedule,
        "grad_clip": recipe.clip,
        "dtype": recipe.precision,
    }
    train = TrainConfig(
        **rates,
        train_len=case.train_len,
        steps=steps,
        eval_every=steps,
        weight_decay=recipe.weight_decay,
        batch_size=recipe.batch,
        init_seed=source.seed,
        data_seed=source.seed,
    )
    return RunSpec(task=source.task.spec, model=model, train=train)


def lab_names(n_layers: int, tied: bool) -> dict[str, str]:
    """The lab's parameters -> those of `GPT`."""
    names = {"embed.W_E": "wte.weight", "pos_embed.W_pos": "wpe.weight"}
    names |= {"ln_final.w": "ln_f.weight", "ln_final.b": "ln_f.bias"}
    names |= {} if tied else {"unembed.W_U": "head.weight", "unembed.b_U": "head.bias"}
    linear = {"attn.{}_QKV": "qkv", "attn.{}_O": "proj", "mlp.{}_in": "up", "mlp.{}_out": "down"}
    for i in range(n_layers):
        for theirs, ours in linear.items():
            names[f"blocks.{i}.{theirs.format('W')}"] = f"blocks.{i}.{ours}.weight"
            names[f"blocks.{i}.{theirs.format('b')}"] = f"blocks.{i}.{ours}.bias"
        for norm in ("ln1", "ln2"):
            names |= {f"blocks.{i}.{norm}.{w}": f"blocks.{i}.{norm}.{o}" for w, o in (("w", "weight"), ("b", "bias"))}
    return names


def _pairs(model: GPT, weights: Tensor, cfg: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Each parameter of the module beside its part of the lab's weights, in one shape."""
    from genlab.models import views

    ours, named = dict(model.named_parameters()), lab_names(cfg.n_layers, cfg.tie_word_embeddings)
    for name, (weight,) in views(weights[None], cfg).items():
        linear = weight.ndim == 2 and name not in ("embed.W_E", "pos_embed.W_pos")
        yield ours[named[name]], weight.T if linear else weight


def trainer(source: Source) -> Plain:
    return Lab(source) if source.recipe.engine == "lab" else Plain(source)


# -- what it comes to ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def correct(loop: Plain, batches: Sequence[Batch]) -> np.ndarray:
    """Which examples are answered exactly, bool[example]: one teacher-forced pass, as in `genlab.training`."""
    found = []
    for batch in batches:
        with _precision(loop.recipe):
            chosen = loop.logits(batch, batch.answer).argmax(-1).numpy()
        wrong = np.zeros_like(batch.answer)
        wrong[batch.answer] = chosen != batch.targets[batch.answer]
        found.append(~wrong.any(axis=1))
    return np.concatenate(found)


def measured(loop: Plain, sets: dict[str, list[Batch]], further: bool) -> dict[str, str]:
    """The columns of a row that tell how right the model is."""
    names = list(sets) if further else ["in_distribution"]
    right = {name: correct(loop, sets[name]) for name in names}
    row = {name: f"{values.mean():.3f}" for name, values in right.items()}
    if further:
        lengths = np.concatenate([batch.lengths for batch in sets["longer"]])
        bands = zip(np.array_split(lengths, BANDS), np.array_split(right["longer"], BANDS), strict=True)
        row["by_length"] = " ".join(f"{at[0]}-{at[-1]}:{values.mean():.2f}" for at, values in bands)
    return row


def train(case: str, recipe: Recipe, seed: int) -> Iterator[dict[str, Any]]:
    """Train one run; the rows of its curve."""
    source = Source(CASES[case], recipe, seed)
    loop, sets, steps = trainer(source), source.test(), CASES[case].steps
    losses: list[float] = []
    start = time.process_time()
    for step in range(1, steps + 1):
        losses.append(loop.step(source.batch(step - 1)))
        if step % CHECK and step < steps:
            continue
        scores = measured(loop, sets, further=step % LOOK_FURTHER == 0 or step == steps)
        found = {"case": case, "recipe": recipe.name, "seed": seed, "step": step, "loss": f"{np.mean(losses):.4f}"}
        losses.clear()
        yield found | scores | {"seconds": f"{time.process_time() - start:.1f}"}


def kept() -> list[dict[str, str]]:
    if not ROWS.exists():
        return []
    with ROWS.open(newline="") as file:
        return list(csv.DictReader(file))


def write(rows: Sequence[dict[str, Any]]) -> None:
    with ROWS.with_suffix(".part").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    ROWS.with_suffix(".part").replace(ROWS)


def run(case: str, recipe: Recipe, seed: int) -> None:
    """Train one run that is not there yet, adding its rows; one that was interrupted is done again."""
    rows, key = kept(), (case, recipe.name, str(seed))
    own = [row for row in rows if (row["case"], row["recipe"], row["seed"]) == key]
    if own and int(own[-1]["step"]) >= CASES[case].steps:
        return
    write([row for row in rows if row not in own])
    for row in train(case, recipe, seed):
        with ROWS.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        if "twice" in row:
            print(*key, *(row[name] for name in COLUMNS[3:]), flush=True)


def recipes(settings: Sequence[str], alone: bool, then: bool) -> list[Recipe]:
    """What one command runs, in order."""
    base = Recipe()
    if then:
        return [base.changed(settings[:count]) for count in range(len(settings) + 1)]
    base = base.changed(settings)
    return [base, *(base.changed(change) for change in ALONE)] if alone else [base]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=list(CASES))
    parser.add_argument("--seeds", default="0:1", help="half-open range of seeds")
    parser.add_argument("--set", nargs="*", default=[], metavar="FLAG=VALUE", help="unlike the plain recipe")
    parser.add_argument("--alone", action="store_true", help="then each suspect alone")
    parser.add_argument("--then", action="store_true", help="the settings one after the other, each kept")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/learning.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.page:
        from learning_page import write_page

        write_page()
    if given.case:
        try:
            wanted = recipes(given.set, given.alone, given.then)
        except ValueError as error:
            parser.error(str(error))
        for seed in range(*map(int, given.seeds.split(":"))):
            for recipe in wanted:
                run(given.case, recipe, seed)


if __name__ == "__main__":
    main()
