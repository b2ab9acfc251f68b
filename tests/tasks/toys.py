"""Sound toy tasks, and the list of ways to break them: one table of cases for the tests of the contract."""

# ruff: noqa: RUF012 (the class fields of toys are written once and never changed)

from dataclasses import replace

import numpy as np

from genlab.spec import Split
from genlab.tasks import Examples, Part, Task, Vocab, assemble, split_map

ZERO = Vocab.first


class Toy(Task):
    """Sound: copy digits from 0 to 4, after a `+` or a `-` that says nothing."""

    name, family, asks, source, length_unit = "toy", "toys", "write the digits again", "this test", "digits"
    formats = {"plain": "sign, digits > digits"}
    splits = split_map(Split(name="id", shift={"below": 5}), Split(name="low", shift={"below": 2}))
    judges = {"first": "the first digit"}

    def symbols(self):
        return ("0", "1", "2", "3", "4", "+", "-")

    def width(self, length):
        return 2 * length + 3

    def digits(self, rng, split, lengths):
        return rng.integers(0, split.shift["below"], (len(lengths), max(lengths)))

    def draw(self, rng, split, lengths):
        sign = Part(ZERO + 5 + rng.integers(0, 2, (len(lengths), 1)))
        digits = ZERO + self.digits(rng, split, lengths)
        keep = np.arange(digits.shape[1]) < lengths[:, None]
        parts = [sign, Part(digits, keep=keep), Part(Vocab.sep), Part(digits, True, keep), Part(Vocab.end, True)]
        return assemble(parts, lengths)

    def solve(self, prompt):
        return tuple(prompt[1 : prompt.index(">")])

    def chance(self, length):
        return 5.0**-length

    def judge(self, prompt, answer):
        return {"first": tuple(answer[:1]) == tuple(prompt[1:2])}

    def factors(self, examples):
        return {"zeros": (examples.tokens == ZERO).sum(axis=1)}

    def token_shares(self, split, length):
        below = split.shift["below"]
        return (
            {str(i): length / below / (length + 2) for i in range(below)}
            | dict.fromkeys("+-", 0.5 / (length + 2))
            | {">": 1 / (length + 2)}
        )


class Several(Toy):
    """Sound: the digits in any order will do."""

    def accepts(self, prompt, answer):
        return sorted(answer) == sorted(self.solve(prompt))

    def solve(self, prompt):
        return super().solve(prompt)[::-1]

    def chance(self, length):
        return {1: 1 / 5, 2: 9 / 125, 3: 109 / 3125}.get(length, 0.0)


class HeldOut(Toy):
    """Sound: training has the sign `+`, and `id` the sign `-`."""

    splits = split_map(
        Split(name="id", shift={"below": 5, "sign": 1}), Split(name="plus", shift={"below": 5, "sign": 0})
    )
    train_split = "plus"

    def draw(self, rng, split, lengths):
        x = super().draw(rng, split, lengths)
        x.tokens[:, 0] = ZERO + 5 + split.shift["sign"]
        return x

    def token_shares(self, split, length):
        return {}


class Placed(Toy):
    """Sound: a digit and its copy have one id, the sign has none."""

    id_kinds = ("coupled",)

    def position_ids(self, kind, examples, width):
        sep = np.argmax(examples.tokens == Vocab.sep, axis=1)[:, None]
        column = np.arange(width)
        return np.where(column <= sep, column, (column - sep).clip(max=sep))

    def id_reach(self, kind, length):
        return length + 1


class Changed(Toy):
    """Examples changed after they are drawn."""

    def draw(self, rng, split, lengths):
        return replace(x := super().draw(rng, split, lengths), **self.change(x, lengths))

    def change(self, x: Examples, lengths) -> dict:
        raise NotImplementedError


SOUND = [Toy, Several, HeldOut, Placed]
BROKEN: list[tuple[str, str, type[Task]]] = []


def breaks(clause, message):
    def add(cls):
        BROKEN.append((clause, message, cls))
        return cls

    return add
