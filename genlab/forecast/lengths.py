"""A row a (run, length): the table that small lengths are trained on, and larger ones forecast from."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd

from genlab.errors import UserError
from genlab.forecast.roles import frame_of, part
from genlab.forecast.targets import Target

__all__ = ["LENGTH_OUTCOME", "by_length"]

LENGTH_OUTCOME = "outcome at the length"


_OF_PLACES = ("outcome", "second", "earlier", "seen_at", "weight")


def by_length(table: pd.DataFrame, target: Target) -> pd.DataFrame:
    """The table once for each length of the target's metric and split, with the setting `length`.

    The outcome is in the column `LENGTH_OUTCOME`; `Target.text` without place then asks for it.

    Raises:
        UserError: the target is no metric of a split, or was evaluated at one length only.
    """
    if target.split is None or target.furthest is not None:
        raise UserError(f"target {target.text!r} has no lengths to go from small to large: METRIC@split=S is needed")
    pattern = re.compile(rf"{re.escape(target.metric)}@split={re.escape(target.split)},length=(\d+)")
    outcomes = part(table, "outcome")
    lengths = sorted((int(m[1]), str(name)) for name in outcomes if (m := pattern.fullmatch(str(name))))
    if len(lengths) < 2:
        raise UserError(
            f"target {target.text!r} has outcomes at {len(lengths)} lengths; from small to large takes two"
        )
    rows = [_at(table, length, outcomes[name]) for length, name in lengths]
    return pd.concat(rows)


def _at(table: pd.DataFrame, length: int, outcome: pd.Series) -> pd.DataFrame:
    roles = dict.fromkeys(table.columns.get_level_values(0))
    parts = {role: part(table, role) for role in roles if role not in _OF_PLACES}
    parts["setting"] = part(table, "setting").assign(length=length)
    parts["outcome"] = pd.DataFrame({LENGTH_OUTCOME: outcome})
    found = frame_of(parts)
    found.index = pd.Index([f"{run} at {length}" for run in table.index])
    return found


def at_length(target: Target) -> Target:
    """The target of such a table."""
    return replace(target, metric=LENGTH_OUTCOME, split=None, length=None)
