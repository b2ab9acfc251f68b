"""The base class of all tasks.

A task is next-token prediction over one sequence `prompt answer <end>`. The prompt is given; the answer and its
end token are scored. A task draws examples with fast, vectorized code (`sample`) and answers a single prompt with
slow, obvious code (`solve`). The two are written independently, and `genlab.tasks.check_task` compares them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, final

import numpy as np

from genlab.errors import UserError, unknown
from genlab.spec import Frozen, Scalar, Split, TaskSpec, build
from genlab.tasks.examples import START, Examples, Floats, Ints, Vocab


def hint_names(count: int) -> tuple[str, ...]:
    """Return the names of index hints: a, b, ..., z, aa, ab, ...

    >>> hint_names(28)[24:]
    ('y', 'z', 'aa', 'ab')
    """
    names: list[str] = []
    for i in range(count):
        name, rest = "", i
        while True:
            name = chr(ord("a") + rest % 26) + name
            rest = rest // 26 - 1
            if rest < 0:
                break
        names.append(name)
    return tuple(names)


def split_map(*splits: Split) -> Mapping[str, Split]:
    """Return an immutable mapping from name to split; the first split must be `id`."""
    if splits[0].name != "id":
        raise ValueError("the first split of a task must be 'id', its in-distribution test")
    return MappingProxyType({split.name: split for split in splits})


class Task(ABC):
    """A distribution over examples, built from a `TaskSpec`.

    A subclass defines the class attributes and `symbols`, `width`, `draw`, `solve` and `chance`. It overrides the
    remaining methods only if the defaults do not fit. `genlab.tasks.check_task` tests the full contract.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    family: ClassVar[str]
    """Heading under which the task is listed."""
    asks: ClassVar[str]
    """What the model has to do, in one line."""
    source: ClassVar[str]
    """The paper (and code) that defines the task."""
    length_unit: ClassVar[str]
    """The unit of length, in the plural: bits, digits, items."""
    formats: ClassVar[Mapping[str, str]]
    """Maps format names to one-line descriptions. The first is the default."""
    splits: ClassVar[Mapping[str, Split]]
    """Maps names to splits. The first is `id`, the in-distribution test."""
    language_class: ClassVar[str] = ""
    """Class in the Chomsky hierarchy: regular, context-free or context-sensitive; empty if not applicable."""
    train_split: ClassVar[str] = "id"
    """The default training split. It differs from `id` only if `id` is held out from training."""
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """Maps a format (or '*') to model and training options that learn it within minutes on two cores."""
    needs_gpu: ClassVar[bool] = False
    """Whether three reasonable configurations failed to learn it in ten minutes on two cores (see docs/tasks.md)."""

    leads: ClassVar[bool] = True
    """Whether new runs put a start token before each example by default (`TaskSpec.start_token`)."""

    id_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of position ids (values of `ModelConfig.positions`) that the task provides through `placed`."""

    shown_length: ClassVar[int] = 8
    """Default length of the examples printed by `lab show`."""
    every_length: ClassVar[bool] = False
    """Whether to evaluate every length up to the training length, not just a few (used if every shot is trained)."""

    class Params(Frozen):
        """Parameters of the task other than its format; subclasses declare their own."""

    def __init__(self, spec: TaskSpec):
        """Raises `UserError` if the task does not support what the spec requests."""
        if spec.format not in self.formats:
            raise unknown(f"format of task {self.name!r}:", spec.format, self.formats)
        if spec.version != self.version:
            raise UserError(
                f"task {self.name!r} is at version {self.version}, but the spec asks for version {spec.version}: "
                "its samples or scoring have changed"
            )
        self.spec = spec
        self.format = spec.format
        self.max_len = spec.max_len
        self.params = build(self.Params, spec.params)
        symbols = tuple(self.symbols())
        if spec.start_token and not self.may_lead(symbols):
            why = f"its examples have {START!r} already" if START in symbols else "its items are not tokens"
            raise UserError(f"start_token is not possible for task {self.name!r}, format {self.format!r}: {why}")
        self.vocab = Vocab([*symbols, *[START] * spec.start_token])  # last, so that all other ids stay what they are

    @final
    def may_lead(self, symbols: Sequence[str] | None = None) -> bool:
        """Whether examples can have a start token: they are tokens, and have none of their own."""
        return not self.d_values and START not in (self.symbols() if symbols is None else symbols)

    @final
    def lead(self, examples: Examples) -> Examples:
        """Return examples with the start token before each of them, if the spec has one."""
        return examples.led_by(self.vocab.id(START)) if self.spec.start_token else examples

    @final
    def bare(self, examples: Examples) -> Examples:
        """Return examples without the start token, as `draw` gives them."""
        return examples.columns(None, 1) if self.spec.start_token else examples

    @final
    def read(self, examples: Examples, row: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return prompt and answer of one example as token strings, without start and end token."""
        prompt = examples.tokens[row, int(self.spec.start_token) : examples.prompt_len(row)]
        answer = examples.targets[row, examples.scored[row]]
        return self.vocab.decode(prompt), self.vocab.decode(answer[answer != Vocab.end])

    @property
    @final
    def n_ctx(self) -> int:
        """Context length that a model needs: the longest input at `max_len`."""
        return self.reach(self.max_len)

    @final
    def reach(self, length: int) -> int:
        """Return the maximum number of input positions at a length; the last token is never an input."""
        return self.width(length) - 1 + self.spec.start_token

    @final
    def split(self, split: str | Split) -> Split:
        """Look up a split by name. Raises `UserError` if there is none."""
        name = split if isinstance(split, str) else split.name
        if name not in self.splits:
            raise unknown(f"split of task {self.name!r}:", name, self.splits)
        return self.splits[name] if isinstance(split, str) else split

    @final
    def sample(self, rng: np.random.Generator, split: str | Split, lengths: Sequence[int] | Ints) -> Examples:
        """Draw one example for each of `lengths` (int[n]) from `split`.

        The batch depends on the state of the generator alone.

        Raises:
            UserError: If the split is unknown or has no examples of a requested length.
        """
        chosen = self.split(split)
        requested = np.asarray(lengths, dtype=np.int64)
        if requested.ndim != 1 or not len(requested):
            raise UserError("lengths must be a sequence of at least one length")
        self.check_lengths(chosen, requested)
        return self.lead(self.draw(rng, chosen, requested))

    @final
    def sample_pool(
        self,
        shared: np.random.Generator,
        own: np.random.Generator,
        split: str | Split,
        low: int,
        high: int,
        size: int,
    ) -> Examples:
        """Draw a fixed pool of training examples of lengths `low` to `high`, sorted by length (see `draw_pool`)."""
        return self.lead(self.draw_pool(shared, own, self.split(split), low, high, size))

    def check_pool(self, split: str | Split, low: int, high: int, size: int) -> None:
        """Raise `UserError` if `draw_pool` cannot draw a pool of this size from lengths `low` to `high`."""
        del size
        self.length_law(split, low, high)

    def draw_pool(
        self,
        shared: np.random.Generator,
        own: np.random.Generator,
        split: Split,
        low: int,
        high: int,
        size: int,
    ) -> Examples:
        """Draw a pool for `sample_pool`, without start tokens.

        Lengths are drawn from `shared`, so that the pools of several seeds have the same shape; contents are drawn
        from `own`. Examples may repeat, unless a task overrides this.
        """
        lengths, weights = self.length_law(split, low, high)
        return self.draw(own, split, np.sort(shared.choice(lengths, size=size, p=weights)))

    @final
    def placed(self, examples: Examples, kind: str, width: int | None = None) -> Examples:
        """Return the examples with `position_ids` of a kind, for all their positions or for the first `width`.

        Raises:
            UserError: If the task does not provide such ids.
        """
        self.check_ids(kind)
        start = int(self.spec.start_token)  # it has no id
        reach = (width or examples.tokens.shape[1]) - start
        ids = np.pad(self.position_ids(kind, self.bare(examples), reach), ((0, 0), (start, 0)))
        return replace(examples, position_ids=ids)

    def check_ids(self, kind: str) -> None:
        """Raise `UserError` if the task provides no position ids of a kind; this may depend on the format."""
        if kind not in self.id_kinds:
            gives = f"it gives those of {', '.join(self.id_kinds)}" if self.id_kinds else "it gives none"
            raise UserError(f"task {self.name!r} gives no position ids for positions {kind!r} ({gives})")

    @final
    def check_lengths(self, split: str | Split, lengths: Sequence[int] | Ints) -> None:
        """Raise `UserError` if a length is not available on this split."""
        chosen = self.split(split)
        low, high = self.min_len(chosen), self.longest(chosen)
        requested = set(np.asarray(lengths).tolist())
        for length in (min(requested), max(requested)):
            if not low <= length <= high:
                upper = "--max-len sets" if high == self.max_len else "--max-len and the task's parameters set"
                allowed = (
                    f"allowed are {low} to {high}" if low <= high else f"its shortest has {low}, its longest {high}"
                )
                raise UserError(
                    f"task {self.name!r} cannot make length {length} on split {chosen.name!r}: {allowed} "
                    f"{self.length_unit} ({upper} the upper end)"
                )
        for length in requested:
            if not self.makes(chosen, length):
                near = sorted(self.lengths_between(chosen, low, high), key=lambda other: abs(other - length))[:2]
                raise UserError(
                    f"task {self.name!r} has no example of {length} {self.length_unit} on split {chosen.name!r}; "
                    f"nearest available: {', '.join(map(str, sorted(near))) or 'none'}"
                )

    @final
    def lengths_between(self, split: str | Split, low: int, high: int) -> Ints:
        """Return the lengths from `low` to `high` (inclusive) that a split has, in ascending order; may be empty."""
        chosen = self.split(split)
        span = range(max(low, self.min_len(chosen)), min(high, self.longest(chosen)) + 1)
        return np.array([length for length in span if self.makes(chosen, length)], dtype=np.int64)

    @final
    def length_law(self, split: str | Split, low: int, high: int) -> tuple[Ints, Floats]:
        """Return the lengths that a split has from `low` to `high`, and their probabilities in training.

        Raises:
            UserError: If the split has none of these lengths.
        """
        chosen = self.split(split)
        lengths = self.lengths_between(chosen, low, high)
        if not len(lengths):
            raise UserError(
                f"task {self.name!r} has no example of {low} to {high} {self.length_unit} on split {chosen.name!r}: "
                f"its lengths are between {self.min_len(chosen)} and {self.longest(chosen)}"
            )
        weights = self.length_weights(chosen, lengths)
        return lengths, weights / weights.sum()

    # -- Methods that a subclass must define

    @abstractmethod
    def symbols(self) -> Sequence[str]:
        """Return the task's own token strings, in order. Raises `UserError` if they do not suffice for `max_len`."""

    @abstractmethod
    def width(self, length: int) -> int:
        """Return the maximum number of tokens in `prompt answer <end>` at a length, without a start token."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        """Draw one example for each of `lengths`. Called by `sample`, which validates the arguments."""

    @abstractmethod
    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        """Solve a prompt (token strings, including `>`) with slow, obvious code. The end token is left out."""

    @abstractmethod
    def chance(self, length: int) -> float:
        """Return the exact match of guessing with an answer drawn from those on `id`, whatever the prompt."""

    # -- Methods that a subclass may override

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return all parameters of a new spec, filling in missing ones (a vocabulary that fits `max_len`, say).

        Parameters listed in `Params.later` are omitted at their defaults, so that specs of older runs do not
        change. If such a parameter is not given, a new spec may use another value (`Params.planned`).
        """
        del format, max_len
        filled = build(cls.Params, {**cls.Params.planned(), **params}).model_dump()
        later = {name for name in cls.Params.later if filled[name] == cls.Params.model_fields[name].default}
        return {name: value for name, value in filled.items() if name not in later}

    def min_len(self, split: Split) -> int:
        """Return the shortest length of a split."""
        del split
        return 1

    def longest(self, split: Split) -> int:
        """Return the longest length of a split, at most `max_len`."""
        del split
        return self.max_len

    def makes(self, split: Split, length: int) -> bool:
        """Whether a split has examples of this length, for a length between `min_len` and `longest`."""
        del split, length
        return True

    def length_weights(self, split: Split, lengths: Ints) -> Floats:
        """Return unnormalized probabilities of lengths in training. Uniform by default.

        `lengths` are all the lengths that the split has in some range, in ascending order.
        """
        del split
        return np.ones(len(lengths))

    def baseline(self, length: int) -> Mapping[str, float]:
        """Return the exact match on `id` of shortcuts that beat chance, by name."""
        del length
        return {}

    def baseline_on(self, split: Split, length: int) -> Mapping[str, float]:
        """Return `baseline` for any split. By default, only `id` has one."""
        return self.baseline(length) if split.name == "id" else {}

    def position_ids(self, kind: str, examples: Examples, width: int) -> Ints:
        """Return ids of a kind for the first `width` positions, int[n, width]; 0 for tokens that have none.

        Ids depend on the prompt alone and continue through any possible answer; they never depend on the answer.
        """
        raise NotImplementedError(f"task {self.name!r} lists {kind!r} in `id_kinds` but does not implement it")

    def id_reach(self, kind: str, length: int) -> int:
        """Return the largest id in an example of this length."""
        raise NotImplementedError(f"task {self.name!r} lists {kind!r} in `id_kinds` but does not define its range")

    def solve_example(self, examples: Examples, row: int) -> tuple[str, ...]:
        """Solve one example. Override if the prompt does not suffice (real values, the length of the answer)."""
        return self.solve(self.read(examples, row)[0])

    def accepts(self, prompt: Sequence[str], answer: Sequence[str]) -> bool:
        """Whether an answer is correct. Tasks with several correct answers override this."""
        return tuple(answer) == self.solve(prompt)

    @property
    def judges(self) -> Mapping[str, str]:
        """Additional metrics of a generated answer, besides exact match: maps names to one-line descriptions."""
        return {}

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        """Return the metrics in `judges` for one generated answer (without end token; possibly ill-formed)."""
        del prompt, answer
        return {}

    def rules(self, prompt: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Return the answers of candidate rules that fit the training data, including the true rule, by rule name."""
        del prompt
        return {}

    def factors(self, examples: Examples) -> dict[str, Ints]:
        """Return properties of `bare` examples to break results down by (carry-chain length), int[n] by name."""
        del examples
        return {}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        """Return the probability of each token at a random prompt position; empty if not specified.

        `genlab.tasks.check_task` tests `sample` against it.
        """
        del split, length
        return {}

    @property
    def d_values(self) -> int:
        """Numbers per position in formats with real-valued items (`Examples.values`); 0 for token formats."""
        return 0

    def written(self, examples: Examples, row: int) -> tuple[str, str]:
        """Return prompt and answer of one example in readable form."""
        prompt, answer = self.read(examples, row)
        return " ".join(prompt), " ".join(answer)

    def drawing(self, prompt: Sequence[str], answer: Sequence[str], length: int) -> str:
        """Return a text drawing of one example; empty if the task has none."""
        del prompt, answer, length
        return ""

    def draw_figure(self, file: Path, prompt: Sequence[str], answer: Sequence[str], length: int) -> None:
        """Draw one example to a file. Raises `UserError` if the task has no figure or writing fails."""
        del prompt, answer, length
        raise UserError(f"task {self.name!r} has no figure to write to {str(file)!r}; mazes have one")
