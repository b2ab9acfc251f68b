"""What a task is: the types that every family of tasks is written with. numpy only.

A task is next-token prediction over one sequence `prompt answer <end>`. The prompt is given, the answer and its
end token are scored. A task draws examples fast (`sample`) and answers a prompt slowly and obviously (`solve`);
the two are written apart, and `genlab.tasks.check_task` holds them against each other.
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
from genlab.tasks.examples import Examples, Floats, Ints, Vocab


def hint_names(count: int) -> tuple[str, ...]:
    """Names of index hints: a, b, ..., z, aa, ab, ...

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
    """An immutable map of splits by name; the first must be `id`."""
    if splits[0].name != "id":
        raise ValueError("the first split of a task is 'id', its in-distribution test")
    return MappingProxyType({split.name: split for split in splits})


class Task(ABC):
    """A family of examples, built from a `TaskSpec`.

    A subclass gives the class fields and `symbols`, `width`, `draw`, `solve` and `chance`; it overrides the other
    hooks only where it differs. `genlab.tasks.check_task` states the contract as a check.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    family: ClassVar[str]
    """Heading in the list of tasks."""
    asks: ClassVar[str]
    """One line: what the model is asked."""
    source: ClassVar[str]
    """The paper (and program) that the definition comes from."""
    length_unit: ClassVar[str]
    """What a length counts, in the plural: bits, digits, items."""
    formats: ClassVar[Mapping[str, str]]
    """Format name -> one line. The first is the default."""
    splits: ClassVar[Mapping[str, Split]]
    """Split name -> split. The first is `id`, the in-distribution test."""
    language_class: ClassVar[str] = ""
    """Where the task stands in the Chomsky hierarchy: regular, context-free, context-sensitive; empty if nowhere."""
    train_split: ClassVar[str] = "id"
    """The split that training draws from unless told (another one only where `id` is held out from training)."""
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """Format (or '*') -> options of model and training that learn it within minutes on two cores."""
    needs_gpu: ClassVar[bool] = False
    """Whether three honest configurations of ten minutes on two cores did not learn it (docs/tasks.md has them)."""

    id_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of position ids that the family gives (`ModelConfig.positions`), by `placed`."""

    shown_length: ClassVar[int] = 8
    """The length at which `lab show` shows examples unless told."""
    every_length: ClassVar[bool] = False
    """Whether each length up to the training length is evaluated, not only a few (every shot, where each trains)."""

    class Params(Frozen):
        """Parameters of the family beside its format; a subclass declares its own."""

    def __init__(self, spec: TaskSpec):
        """Raises `UserError` where the spec asks for what the family cannot make."""
        if spec.format not in self.formats:
            raise unknown(f"format of task {self.name!r}:", spec.format, self.formats)
        if spec.version != self.version:
            raise UserError(
                f"task {self.name!r} is at version {self.version}, the spec asks for version {spec.version}: "
                "its samples or scoring have changed since"
            )
        self.spec = spec
        self.format = spec.format
        self.max_len = spec.max_len
        self.params = build(self.Params, spec.params)
        self.vocab = Vocab(self.symbols())

    @final
    def read(self, examples: Examples, row: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Prompt and answer of one example as token strings, the end token left out."""
        prompt = examples.tokens[row, : examples.prompt_len(row)]
        answer = examples.targets[row, examples.scored[row]]
        return self.vocab.decode(prompt), self.vocab.decode(answer[answer != Vocab.end])

    @property
    @final
    def n_ctx(self) -> int:
        """Positions a model needs: the longest input at `max_len` (the last token is never read)."""
        return self.width(self.max_len) - 1

    @final
    def split(self, split: str | Split) -> Split:
        """A split by name, checked. Raises `UserError` for an unknown one."""
        name = split if isinstance(split, str) else split.name
        if name not in self.splits:
            raise unknown(f"split of task {self.name!r}:", name, self.splits)
        return self.splits[name] if isinstance(split, str) else split

    @final
    def sample(self, rng: np.random.Generator, split: str | Split, lengths: Sequence[int] | Ints) -> Examples:
        """Draw one example for each of `lengths` (int[n]) from `split`.

        The same generator state gives the same batch; nothing else is read.

        Raises:
            UserError: unknown split, or a length that the task cannot make.
        """
        chosen = self.split(split)
        wanted = np.asarray(lengths, dtype=np.int64)
        if wanted.ndim != 1 or not len(wanted):
            raise UserError("lengths must be a sequence of at least one length")
        self.check_lengths(chosen, wanted)
        return self.draw(rng, chosen, wanted)

    def check_pool(self, split: str | Split, low: int, high: int, size: int) -> None:
        """Raise `UserError` where `draw_pool` cannot make a pool of this size from lengths `low` to `high`."""
        del size
        self.length_law(split, low, high)

    def draw_pool(
        self,
        shared: np.random.Generator,
        own: np.random.Generator,
        split: str | Split,
        low: int,
        high: int,
        size: int,
    ) -> Examples:
        """A fixed pool of training examples of lengths `low` to `high`, lengths rising.

        The lengths follow from `shared` alone, so that pools of several seeds have one shape; what stands in them
        is drawn from `own`. Examples may come twice, unless a family says otherwise.
        """
        lengths, weights = self.length_law(split, low, high)
        return self.sample(own, split, np.sort(shared.choice(lengths, size=size, p=weights)))

    @final
    def placed(self, examples: Examples, kind: str, width: int | None = None) -> Examples:
        """The examples with `position_ids` of a kind, for as many positions as they have, or for `width` of them.

        Raises:
            UserError: the task gives no such ids.
        """
        self.check_ids(kind)
        reach = width or examples.tokens.shape[1]
        return replace(examples, position_ids=self.position_ids(kind, examples, reach))

    def check_ids(self, kind: str) -> None:
        """Raise `UserError` where the task gives no position ids of a kind; formats may refuse some of them."""
        if kind not in self.id_kinds:
            gives = f"it gives those of {', '.join(self.id_kinds)}" if self.id_kinds else "it gives none"
            raise UserError(f"task {self.name!r} gives no position ids for positions {kind!r} ({gives})")

    @final
    def check_lengths(self, split: str | Split, lengths: Sequence[int] | Ints) -> None:
        """Raise `UserError` for a length outside what this task makes on this split."""
        chosen = self.split(split)
        low, high = self.min_len(chosen), self.longest(chosen)
        asked = set(np.asarray(lengths).tolist())
        for length in (min(asked), max(asked)):
            if not low <= length <= high:
                upper = "--max-len sets" if high == self.max_len else "--max-len and the task's parameters set"
                allowed = (
                    f"allowed are {low} to {high}" if low <= high else f"its shortest has {low}, its longest {high}"
                )
                raise UserError(
                    f"task {self.name!r} cannot make length {length} on split {chosen.name!r}: {allowed} "
                    f"{self.length_unit} ({upper} the upper end)"
                )
        for length in asked:
            if not self.makes(chosen, length):
                near = sorted(self.lengths_between(chosen, low, high), key=lambda other: abs(other - length))[:2]
                raise UserError(
                    f"task {self.name!r} has no example of {length} {self.length_unit} on split {chosen.name!r}; "
                    f"nearest it has: {', '.join(map(str, sorted(near))) or 'none'}"
                )

    @final
    def lengths_between(self, split: str | Split, low: int, high: int) -> Ints:
        """The lengths from `low` to `high`, both included, that a split makes, rising; maybe none."""
        chosen = self.split(split)
        span = range(max(low, self.min_len(chosen)), min(high, self.longest(chosen)) + 1)
        return np.array([length for length in span if self.makes(chosen, length)], dtype=np.int64)

    @final
    def length_law(self, split: str | Split, low: int, high: int) -> tuple[Ints, Floats]:
        """The lengths that a split makes from `low` to `high`, and how likely each is when the task draws them.

        Raises:
            UserError: the split makes none of these lengths.
        """
        chosen = self.split(split)
        lengths = self.lengths_between(chosen, low, high)
        if not len(lengths):
            raise UserError(
                f"task {self.name!r} has no example of {low} to {high} {self.length_unit} on split {chosen.name!r}: "
                f"its lengths lie between {self.min_len(chosen)} and {self.longest(chosen)}"
            )
        weights = self.length_weights(chosen, lengths)
        return lengths, weights / weights.sum()

    # -- what a family gives -------------------------------------------------------------------------------

    @abstractmethod
    def symbols(self) -> Sequence[str]:
        """The task's own token strings, in order. Raises `UserError` if they cannot serve `max_len`."""

    @abstractmethod
    def width(self, length: int) -> int:
        """Most tokens of `prompt answer <end>` at a length (so that a context can be sized)."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, split: Split, lengths: Ints) -> Examples:
        """Draw one example for each of `lengths`; called by `sample`, which has checked the arguments."""

    @abstractmethod
    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        """The answer to a prompt (token strings, `>` included), without its end token: slow and obvious."""

    @abstractmethod
    def chance(self, length: int) -> float:
        """Exact match of an answer drawn like the task's own answers on `id`, whatever the prompt."""

    # -- what a family may override --------------------------------------------------------------------------

    @classmethod
    def resolve(cls, format: str, max_len: int, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """All parameters of a new spec, those not given filled in (a vocabulary that fits `max_len`, for example).

        Those that came `later` are left out at their defaults, so that a task that was there before keeps its spec;
        where nothing is given, a new spec may take another value than they mean (`Params.planned`).
        """
        del format, max_len
        filled = build(cls.Params, {**cls.Params.planned(), **params}).model_dump()
        later = {name for name in cls.Params.later if filled[name] == cls.Params.model_fields[name].default}
        return {name: value for name, value in filled.items() if name not in later}

    def min_len(self, split: Split) -> int:
        """The shortest length that a split can make."""
        del split
        return 1

    def longest(self, split: Split) -> int:
        """The longest length that a split can make, at most `max_len`."""
        del split
        return self.max_len

    def makes(self, split: Split, length: int) -> bool:
        """Whether a split has examples of this length, one between `min_len` and `longest` (only even ones, say)."""
        del split, length
        return True

    def length_weights(self, split: Split, lengths: Ints) -> Floats:
        """How often each of these lengths comes up where the lengths are the task's to draw, on any scale.

        `lengths` are all those that the split makes in some range, rising. Uniform unless a family says otherwise.
        """
        del split
        return np.ones(len(lengths))

    def baseline(self, length: int) -> Mapping[str, float]:
        """Exact match on `id` of shortcuts that do better than chance: name -> score."""
        del length
        return {}

    def baseline_on(self, split: Split, length: int) -> Mapping[str, float]:
        """`baseline` on any split; a family that knows no more has one for `id` alone."""
        return self.baseline(length) if split.name == "id" else {}

    def position_ids(self, kind: str, examples: Examples, width: int) -> Ints:
        """Ids of a kind for the first `width` positions, int[n, width], 0 where a token has no place of its own.

        They follow from the prompts alone, and go on where an answer might: never do they depend on the answer.
        """
        raise NotImplementedError(f"task {self.name!r} names {kind!r} in `id_kinds` and does not give them")

    def id_reach(self, kind: str, length: int) -> int:
        """The largest id of an example of this length."""
        raise NotImplementedError(f"task {self.name!r} names {kind!r} in `id_kinds` and does not say how far they go")

    def solve_example(self, examples: Examples, row: int) -> tuple[str, ...]:
        """`solve` for one example, for families that need more than its prompt (real values, the answer's length)."""
        return self.solve(self.read(examples, row)[0])

    def accepts(self, prompt: Sequence[str], answer: Sequence[str]) -> bool:
        """Whether an answer is right. Families with several right answers override this."""
        return tuple(answer) == self.solve(prompt)

    @property
    def judges(self) -> Mapping[str, str]:
        """Further scores of a freely decoded answer beside its exact match: metric name -> one line."""
        return {}

    def judge(self, prompt: Sequence[str], answer: Sequence[str]) -> dict[str, bool]:
        """The scores that `judges` names, for one answer as written (before its end token; maybe ill-formed)."""
        del prompt, answer
        return {}

    def rules(self, prompt: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """What rules that fit the training examples answer to a prompt, the task's own among them: name -> answer."""
        del prompt
        return {}

    def factors(self, examples: Examples) -> dict[str, Ints]:
        """Properties of examples that results are also given by: name -> int[n] (longest carry chain)."""
        del examples
        return {}

    def token_shares(self, split: Split, length: int) -> Mapping[str, float]:
        """How likely each token is at a random place of a prompt; empty where the family does not say.

        `genlab.tasks.check_task` holds `sample` against it.
        """
        del split, length
        return {}

    @property
    def d_values(self) -> int:
        """Numbers at each position of a format with real-valued items (`Examples.values`); 0: tokens alone."""
        return 0

    def written(self, examples: Examples, row: int) -> tuple[str, str]:
        """Prompt and answer of one example as a person reads them."""
        prompt, answer = self.read(examples, row)
        return " ".join(prompt), " ".join(answer)

    def drawing(self, prompt: Sequence[str], answer: Sequence[str], length: int) -> str:
        """One example drawn with characters; empty where the family has no drawing."""
        del prompt, answer, length
        return ""

    def draw_figure(self, file: Path, prompt: Sequence[str], answer: Sequence[str], length: int) -> None:
        """One example as a figure. Raises `UserError` where the family has none, or the file cannot be written."""
        del prompt, answer, length
        raise UserError(f"task {self.name!r} has no figure to draw to {str(file)!r}; mazes have one")
