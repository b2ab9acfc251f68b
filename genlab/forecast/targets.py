"""Targets of forecasts, written as text, and their value for each run of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from genlab.errors import UserError, nearest
from genlab.forecast.roles import frame_of, part
from genlab.tasks import lengths_in_words, mean_over_lengths

Kind = Literal["yes/no", "number", "furthest"]
_NUMBER = r"[0-9]*\.?[0-9]+"
_TEXT = re.compile(rf"(?P<name>[^@>]+?)(@(?P<place>[^>]*?))?(\s*>=\s*(?P<least>{_NUMBER}))?")
_FORMS = (
    "METRIC@length=L, METRIC@split=S, METRIC@split=S,length=L, furthest@0.9[,split=S], each with >=X for yes or no"
)


@dataclass(frozen=True)
class Target:
    """What is forecast.

    Attributes:
        text: as written by the user.
        metric: the metric, or the name of a column of a user's table.
        split: the split, `id` by default; None: a column of a user's table.
        length: one length, or None: the mean over all lengths tested out of distribution, with training lengths of a
            shifted split weighted as training draws them (`genlab.tasks.mean_over_lengths`).
        least: threshold of a yes/no target: is the value at least this? None: the value itself.
        furthest: threshold on exact match of a furthest-length target, or None.
    """

    text: str
    metric: str
    split: str | None = "id"
    length: int | None = None
    least: float | None = None
    furthest: float | None = None

    @property
    def kind(self) -> Kind:
        """Kind of its values."""
        if self.furthest is not None and self.least is None:
            return "furthest"
        return "number" if self.least is None else "yes/no"


@dataclass(frozen=True)
class Values:
    """Values of a target.

    Attributes:
        value: float[run]; 0 or 1 for yes/no; NaN without an evaluation.
        censored: bool[run]: the furthest length is at least this (correct up to the longest tested length).
    """

    value: np.ndarray
    censored: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """bool[run]: whether there is an evaluation."""
        return ~np.isnan(self.value)


def parse_target(text: str) -> Target:
    """Parse a target.

    >>> parse_target("exact_match@length=50").length, parse_target("exact_match@split=longer>=0.5").least
    (50, 0.5)
    >>> parse_target("furthest@0.9").kind, parse_target("ood_accuracy>=0.5").kind
    ('furthest', 'yes/no')

    Raises:
        UserError: the text does not have one of the allowed forms.
    """
    found = _TEXT.fullmatch(text.strip())
    if not found:
        raise UserError(f"target {text!r} is not allowed ({_FORMS})")
    name, least = found["name"].strip(), None if found["least"] is None else float(found["least"])
    if found["place"] is None:
        return Target(text, name, None, least=least)
    furthest, places = None, found["place"].split(",")
    if name == "furthest":
        if not re.fullmatch(_NUMBER, places[0]):
            raise UserError(f"target {text!r}: furthest takes a threshold on exact match: furthest@0.9")
        furthest, places = float(places[0]), places[1:]
    keys = {key: value for key, _, value in (pair.partition("=") for pair in places)}
    length = keys.pop("length", None)
    split = keys.pop("split", "id")
    if keys or (length is not None and not length.isdecimal()) or (furthest and length):
        raise UserError(f"target {text!r} is not allowed ({_FORMS})")
    metric = "exact_match" if furthest else name
    return Target(text, metric, split, None if length is None else int(length), least, furthest)


def values_of(table: pd.DataFrame, target: Target, role: str = "outcome") -> Values:
    """Return the value of a target for each run of a table.

    Args:
        table: a forecast table.
        target: what to look up.
        role: `outcome`, or `second` and `earlier` for repeated measurements of the target.

    Raises:
        UserError: the table has no evaluation of it (in the role `outcome`).
    """
    places = places_of(table, target, role)
    if not places:
        if role == "outcome":
            raise _no_evaluation(table, target)
        return Values(np.full(len(table), np.nan), np.zeros(len(table), bool))
    found = part(table, role)[list(places)].to_numpy(float)
    censored = np.zeros(len(table), bool)
    if target.furthest is not None:
        value, censored = _furthest(found, list(places.values()), target.furthest)
    else:
        value = mean_over_lengths(found, _weights(table, target, places))
    if target.least is not None:
        # A furthest length that is censored below the threshold may be a yes or a no: unknown.
        unclear = np.isnan(value) | (censored & (value < target.least))
        value = np.where(unclear, np.nan, value >= target.least)
        censored = np.zeros(len(table), bool)
    return Values(value, censored)


def _weights(table: pd.DataFrame, target: Target, places: Iterable[str]) -> np.ndarray:
    """float[run, place]: relative training frequency of the length of each column; NaN for other lengths."""
    known = part(table, "weight")
    names = [place.removeprefix(f"{target.metric}@") for place in places]
    return known.reindex(columns=names).to_numpy(float)


def target_in_words(target: Target, table: pd.DataFrame | None = None) -> str:
    """Describe a target for a reader: what is measured, and at which lengths.

    >>> outcomes = pd.DataFrame({f"exact_match@split=id,length={n}": [0.5] for n in (21, 35, 50)})
    >>> target_in_words(parse_target("exact_match@split=id>=0.5"), pd.concat({"outcome": outcomes}, axis=1))
    'exact match, lengths 21 to 50, at least 0.5'
    >>> target_in_words(parse_target("furthest@0.9,split=deeper"))
    'furthest length with exact match 0.9 or more on split deeper'
    """
    if target.split is None:
        return target.text
    name = target.metric.replace("_", " ")
    said = f"furthest length with {name} {target.furthest:g} or more" if target.furthest is not None else name
    lengths = [] if target.length is None else [target.length]
    shifted, trained = target.split != "id", list[tuple[int, int]]()
    if table is not None:
        lengths = lengths or _lengths(table, target)
        settings = part(table, "setting")
        if {"min_len", "train_len"} <= set(settings):
            trained = list(zip(settings["min_len"], settings["train_len"], strict=True))
        # If `id` is not the training distribution, it was tested at training lengths, too.
        own = [name for name in part(table, "weight") if name.startswith("split=id,")]
        said += " on the task's own split" if own and not shifted else ""
    said += f" on split {target.split}" if shifted else ""
    if lengths:
        said += f", {lengths_in_words(lengths, trained)}"
    elif target.furthest is None:
        said += ", all lengths" if shifted else " beyond the training lengths"
    return said if target.least is None else f"{said}, at least {target.least:g}"


def _lengths(table: pd.DataFrame, target: Target) -> list[int]:
    """Lengths of a target: those of its outcomes, or of the rows if each row has one length."""
    settings = part(table, "setting")
    return list(places_of(table, target).values()) or (list(settings["length"]) if "length" in settings else [])


def places_of(table: pd.DataFrame, target: Target, role: str = "outcome") -> dict[str, int]:
    """Return the outcome columns of a target with their lengths, in increasing order."""
    names = [str(name) for name in part(table, role).columns]
    if target.split is None:
        return {name: 0 for name in names if name == target.metric}
    pattern = re.compile(rf"{re.escape(target.metric)}@split={re.escape(target.split)},length=(\d+)")
    found = {name: int(m[1]) for name in names if (m := pattern.fullmatch(name))}
    if target.length is not None:
        found = {name: length for name, length in found.items() if length == target.length}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _furthest(exact: np.ndarray, lengths: list[int], least: float) -> tuple[np.ndarray, np.ndarray]:
    """The last tested length before the first failure; one less than the first length if that fails."""
    tested = ~np.isnan(exact)
    steps = np.array(lengths, float)
    wrong = tested & (exact < least)
    first_wrong = np.where(wrong.any(axis=1), wrong.argmax(axis=1), len(lengths))
    before = tested & (np.arange(len(lengths)) < first_wrong[:, None])
    value = np.where(before, steps, -np.inf).max(axis=1)
    value = np.where(before.any(axis=1), value, steps[tested.argmax(axis=1)] - 1)
    some = np.any(tested, axis=1)
    return np.where(some, value, np.nan), np.logical_and(some, ~np.any(wrong, axis=1))


def _no_evaluation(table: pd.DataFrame, target: Target) -> UserError:
    names = [str(name) for name in part(table, "outcome").columns]
    wanted = target.text.partition(">=")[0]
    near = nearest(wanted, names)
    shown = f"; did you mean {near}?" if near else ""
    if not names:
        shown = "; there is no evaluation out of distribution yet (run lab eval)"
    return UserError(f"target {target.text!r} has no evaluation yet{shown}")


# -- Tables with one row per (run, length)

LENGTH_OUTCOME = "outcome at the length"
_OF_PLACES = ("outcome", "second", "earlier", "seen_at", "weight")


def by_length(table: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Repeat the table for each length of the target's metric and split, with the additional setting `length`.

    The outcome is in the column `LENGTH_OUTCOME`; its target is `at_length(target)`.

    Raises:
        UserError: the target is not a metric on a split, or was evaluated at one length only.
    """
    if target.split is None or target.furthest is not None:
        raise UserError(f"target {target.text!r} has no lengths: a split by length needs METRIC@split=S")
    pattern = re.compile(rf"{re.escape(target.metric)}@split={re.escape(target.split)},length=(\d+)")
    outcomes = part(table, "outcome")
    lengths = sorted((int(m[1]), str(name)) for name in outcomes if (m := pattern.fullmatch(str(name))))
    if len(lengths) < 2:
        raise UserError(
            f"target {target.text!r} has outcomes at {len(lengths)} lengths; a split by length needs at least two"
        )
    rows = [_rows_at(table, length, outcomes[name]) for length, name in lengths]
    return pd.concat(rows)


def _rows_at(table: pd.DataFrame, length: int, outcome: pd.Series) -> pd.DataFrame:
    roles = dict.fromkeys(table.columns.get_level_values(0))
    parts = {role: part(table, role) for role in roles if role not in _OF_PLACES}
    parts["setting"] = part(table, "setting").assign(length=length)
    parts["outcome"] = pd.DataFrame({LENGTH_OUTCOME: outcome})
    found = frame_of(parts)
    found.index = pd.Index([f"{run} at {length}" for run in table.index])
    return found


def at_length(target: Target) -> Target:
    """Return the corresponding target of a table made by `by_length`."""
    return replace(target, metric=LENGTH_OUTCOME, split=None, length=None)
