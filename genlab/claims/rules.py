"""The parts of a claim that are fixed before its runs start: what is measured, what fits, and by which rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from genlab.spec import Frozen, Scalar

Where = dict[str, Scalar]
"""Setting -> value: the runs of some configurations of a claim's grid."""

_RANGE = re.compile(r"\d+-\d+")
TRAINED, BEYOND = "trained", "beyond"


class Evaluate(Frozen):
    """An evaluation of every run of a claim, beside those of its grid."""

    split: str = "id"
    lengths: tuple[int, ...] = Field(min_length=1)
    n: int = Field(ge=1, description="examples per length")
    seed: int = Field(0, ge=0)
    attn_weights: str = Field("", description="evaluate with these attention weights; empty: as in training")


# -- Measures


class Place(Frozen):
    """Where exact match, or another metric, is read.

    `lengths` is a list, a range such as "51-100" (both ends included), "trained", or "beyond" (all longer lengths
    that were evaluated).
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    split: str = "id"
    lengths: tuple[int, ...] | str
    metric: str = "exact_match"
    weights: Literal["equal", "law"] = Field(
        "equal", description="of lengths in the mean; law: as training draws them"
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> Place:
        text = self.lengths
        if isinstance(text, str) and text not in (TRAINED, BEYOND) and not _RANGE.fullmatch(text):
            raise ValueError(f'lengths {text!r} is not a list, "51-100", "{TRAINED}" or "{BEYOND}"')
        return self

    def holds(self, length: int, trained: tuple[int, int]) -> bool:
        """Whether a length is one of those that are read, given the shortest and longest training length."""
        if not isinstance(self.lengths, str):
            return length in self.lengths
        if self.lengths in (TRAINED, BEYOND):
            return length > trained[1] if self.lengths == BEYOND else trained[0] <= length <= trained[1]
        low, high = map(int, self.lengths.split("-"))
        return low <= length <= high


class Evaluation(Place):
    """A metric of evaluations of the final weights: its mean over lengths, or its value at each length."""

    reads: Literal["evaluation"]
    attn_weights: str = Field("", description="read the evaluation with these attention weights")
    by_length: bool = Field(False, description="one value per length in place of the mean")


class Reached(Frozen):
    """A value that is reached from below (`at_least`) or from above (`at_most`)."""

    at_least: float | None = None
    at_most: float | None = None

    def keeps(self, value: float) -> bool:
        """Whether a value is there; NaN is not."""
        low = self.at_least is None or value >= self.at_least - 1e-9
        return bool(low and (self.at_most is None or value <= self.at_most + 1e-9))

    @model_validator(mode="after")
    def _check_bound(self) -> Reached:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give at_least or at_most, one of them")
        return self


class Steps(Place, Reached):
    """The first step at which a metric, as evaluated during training, reaches a value; infinite if never."""

    reads: Literal["steps"]


class Signal(Frozen):
    """A signal read from the final weights, by the name that `lab probe` shows."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    reads: Literal["signal"]
    signal: str


class SignalSteps(Reached):
    """The first checkpoint at which a signal reaches a value; infinite if none does."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    reads: Literal["signal_steps"]
    signal: str


class Combined(Frozen):
    """The difference or ratio of two measures of one run; at each length, where both are read by length."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    reads: Literal["difference", "ratio"]
    of: tuple[str, str]


Measure = Evaluation | Steps | Signal | SignalSteps | Combined
MEASURES: Mapping[str, type[Frozen]] = {
    "evaluation": Evaluation,
    "steps": Steps,
    "signal": Signal,
    "signal_steps": SignalSteps,
    "difference": Combined,
    "ratio": Combined,
}


# -- Bounds and what "fitted" means


class Bounded(Frozen):
    """A bound on a value: at least, at most, both, or near a value within a distance."""

    at_least: float | None = None
    at_most: float | None = None
    near: float | None = None
    within: float | None = Field(None, gt=0)

    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest allowed value."""
        if self.near is not None and self.within is not None:
            return self.near - self.within, self.near + self.within
        low = float("-inf") if self.at_least is None else self.at_least
        return low, float("inf") if self.at_most is None else self.at_most

    def in_words(self) -> str:
        """The bound as text."""
        if self.near is not None:
            return f"within {self.within:g} of {self.near:g}"
        parts = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        return " and ".join(parts + ([f"at most {self.at_most:g}"] if self.at_most is not None else []))

    @model_validator(mode="after")
    def _check_bounds(self) -> Bounded:
        if (self.near is None) != (self.within is None):
            raise ValueError("near and within go together")
        one_sided = self.at_least is not None or self.at_most is not None
        if one_sided == (self.near is not None):
            raise ValueError("give at_least, at_most, or near with within")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is above at_most {self.at_most:g}")
        return self


class Fitted(Bounded):
    """When a run has learned its task, and the fraction of runs that must have for a rule to be judged."""

    measure: str
    share: float = Field(0.8, ge=0.8, le=1)


# -- Rules


class Rule(Frozen):
    """What all rules have: the runs that they speak of.

    Of `where` the runs that fitted are judged (`runs` = "all": every run, fitted or not). With fewer fitted runs than
    the share of `[fitted]`, or than `least_runs`, the rule is undecided.
    """

    measure: str
    about: str = Field("", description="what the rule says, for readers")
    where: Where = Field(default_factory=dict[str, Scalar])
    runs: Literal["fitted", "all"] = "fitted"
    least_runs: int = Field(2, ge=1)

    def groups(self) -> list[Where]:
        """The groups of runs that are judged."""
        return [self.where]

    def reads(self) -> list[str]:
        """The names of the measures that every run must have."""
        return [self.measure]


class All(Bounded, Rule):
    """Every run keeps a bound (or a share of them); of a measure by length, at each length."""

    kind: Literal["all"]
    share: float = Field(1.0, gt=0, le=1)


class Median(Bounded, Rule):
    """The median over runs keeps a bound; of a measure by length, at each length."""

    kind: Literal["median"]


class Ordering(Rule):
    """Every run of one group is above every run of another; or the mean is, if its standard error is small enough."""

    kind: Literal["ordering"]
    above: Where
    below: Where
    by: Literal["runs", "means"] = "runs"
    largest_se: float | None = Field(None, gt=0, description="of the difference of means; above it, undecided")

    def groups(self) -> list[Where]:
        return [{**self.where, **self.above}, {**self.where, **self.below}]

    @model_validator(mode="after")
    def _check_error(self) -> Ordering:
        if (self.by == "means") != (self.largest_se is not None):
            raise ValueError('largest_se goes with by = "means"')
        return self


class Monotone(Rule):
    """The mean over runs of a measure by length falls (or rises) from each length to the next."""

    kind: Literal["monotone"]
    direction: Literal["falling", "rising"]


class Interval(Rule):
    """The mean over runs is near the published value: within a distance, or 1.96 joint standard errors.

    By length, at each length that has a published value.
    """

    kind: Literal["interval"]
    within: float | None = Field(None, gt=0, description="allowed distance; absent: 1.96 joint standard errors")
    largest_se: float = Field(gt=0, description="of our mean; above it, undecided")


class Fisher(Rule):
    """The count of runs at a value or above does not differ from the published count, by Fisher's exact test."""

    kind: Literal["fisher"]
    at_least: float
    alpha: float = Field(gt=0, lt=1)


class Auroc(Rule):
    """Runs at a value or above are told from the others as well as in print: the printed AUROC is in our interval.

    The interval is one of 95 %. The forecast is made from measures of a run (`by`; none: from its settings), for runs
    that it has not seen, or for settings that it has not seen (`genlab.claims.forecasting`).
    """

    kind: Literal["auroc"]
    at_least: float
    by: tuple[str, ...] = ()
    model: Literal["linear", "forest", "boosting", "threshold"] = "linear"
    held_out: Literal["runs", "settings"]
    printed: float = Field(ge=0, le=1)
    widest: float = Field(gt=0, le=1, description="of our interval; above it, undecided")

    def reads(self) -> list[str]:
        return [self.measure, *self.by]

    @model_validator(mode="after")
    def _check_model(self) -> Auroc:
        if self.model == "threshold" and len(self.by) != 1:
            raise ValueError("model threshold cuts one measure: give one in `by`")
        return self


AnyRule = All | Median | Ordering | Monotone | Interval | Fisher | Auroc
RULES: Mapping[str, type[Frozen]] = {
    "all": All,
    "median": Median,
    "ordering": Ordering,
    "monotone": Monotone,
    "interval": Interval,
    "fisher": Fisher,
    "auroc": Auroc,
}


class Published(Frozen):
    """A number in print: the mean (with its standard error, if printed) or a count of runs."""

    measure: str
    where: Where = Field(default_factory=dict[str, Scalar])
    length: int | None = None
    value: float | None = None
    se: float | None = Field(None, ge=0)
    count: int | None = Field(None, ge=0)
    of: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check_numbers(self) -> Published:
        if (self.count is None) != (self.of is None):
            raise ValueError("count and of go together")
        if self.count is None and self.value is None:
            raise ValueError("give value, or count and of")
        if self.se is not None and self.value is None:
            raise ValueError("se is the standard error of value")
        return self


class Change(Frozen):
    """A rule that was changed after runs had been looked at."""

    date: str
    text: str


def listed(values: Mapping[str, Any]) -> str:
    """Settings as text, or `all runs`."""
    return ", ".join(f"{key} {value}" for key, value in values.items()) or "all runs"
