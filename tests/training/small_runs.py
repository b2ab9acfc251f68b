"""A tiny task that a tiny model learns in a second, and runs of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genlab.spec import ModelConfig, RunSpec, Split, TaskSpec, TrainConfig
from genlab.tasks import Examples, Part, Task, Vocab, assemble, make, split_map
from genlab.tasks.examples import Ints
from genlab.training import Stream


class First(Task):
    """The first letter again, twice if it is an `a`: so inputs of one length differ in width.

    >>> task = first()
    >>> " ".join(task.solve("a c b >".split())), " ".join(task.solve("b a a >".split()))
    ('a a', 'b')
    """

    name = "first"
    family = "tests"
    asks = "what is the first letter?"
    source = "made up"
    length_unit = "letters"
    formats = {"plain": "letters > the first one"}  # noqa: RUF012
    splits = split_map(Split(name="id", about="uniform letters"), Split(name="a", about="begins with an a"))

    def symbols(self) -> tuple[str, ...]:
        return ("a", "b", "c")

    def width(self, length: int) -> int:
        return length + 4

    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        letters = Vocab.first + rng.integers(0, 3, size=(len(lengths), int(lengths.max())))
        if split.name == "a":
            letters[:, 0] = Vocab.first
        inside = np.arange(letters.shape[1]) < lengths[:, None]
        answer, twice = letters[:, :1], letters[:, :1] == Vocab.first
        parts = [Part(letters, keep=inside), Part(Vocab.sep), Part(answer, scored=True)]
        return assemble([*parts, Part(answer, scored=True, keep=twice), Part(Vocab.end, scored=True)], lengths)

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        return ("a", "a") if prompt[0] == "a" else (prompt[0],)

    def chance(self, length: int) -> float:
        return 1 / 3

    @property
    def judges(self) -> Mapping[str, str]:
        return {"begins_right": "whether the first letter written is right"}

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        return {"begins_right": tuple(answer[:1]) == (prompt[0],)}

    def factors(self, examples: Examples) -> dict[str, Ints]:
        return {"letter": examples.tokens[:, 0]}


def first(max_len: int = 8) -> Task:
    return First(TaskSpec(name="first", version=1, format="plain", max_len=max_len))


def parity(format: str = "plain", max_len: int = 6) -> Task:
    return make("parity", max_len=max_len, format=format)


def run(task: Task, seed: int = 0, model: Mapping[str, Any] | None = None, **train: Any) -> RunSpec:
    """A small run; both seeds are `seed` unless given."""
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "init_std": 0.1, **(model or {})}
    options = {"train_len": 5, "steps": 6, "batch_size": 4, "eval_every": 3, "lr": 0.01}
    seeds = {"init_seed": seed, "data_seed": seed}
    return RunSpec(
        task=task.spec,
        model=ModelConfig(d_vocab=len(task.vocab), n_ctx=task.n_ctx, **sizes),
        train=TrainConfig(**{**options, **seeds, **train}),
    )


def runs(task: Task, seeds: Sequence[int], **options: Any) -> list[RunSpec]:
    return [run(task, seed, **options) for seed in seeds]


def same_examples(one: Examples, other: Examples) -> bool:
    names = ("tokens", "targets", "scored", "lengths")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def digest(task: Task, steps: Sequence[int]) -> str:
    """Of the batches and offsets of some steps, in that order."""
    spec = run(task, data_seed=3)
    made, found = Stream(task, spec.train, spec.model), hashlib.sha256()
    for step in steps:
        batch = made.batch(step)
        for array in (batch.tokens, batch.targets, batch.scored, batch.lengths, made.offsets(step, batch)):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
