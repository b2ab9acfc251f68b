"""Columns of a forecast table: each has a role, which says what it may be used for."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from genlab.errors import UserError, unknown

__all__ = ["BASELINE", "KNOWN_BEFORE", "ROLES", "columns", "frame_of", "part", "varying"]

ROLES = {
    "setting": "a hyper-parameter or a choice of task: what leave-one-setting-out leaves out",
    "seed": "init_seed, data_seed: runs that share one are twins, and never on both sides of a split",
    "metric": "measured in distribution: loss, exact match, time to fit, weight norms",
    "confidence": "how sure the outputs are in distribution: margin, largest probability, energy",
    "attention": "generic statistics of attention: entropy, largest weight",
    "signal": "read inside the model, on in-distribution inputs",
    "fact": "known of the task without any run: what RASP says",
    "outcome": "out of distribution: never an input of a forecast",
    "second": "the same outcome on a second evaluation set",
    "earlier": "the same outcome at the checkpoint before",
    "half1": "a signal as it was read on the first half of the probe examples: how well it is known, never an input",
    "half2": "the same on the second half",
    "exact": "1 for a signal that is not read on a sample (weights, history, all pairs): it has no reading noise",
    "seen_at": "when an outcome was first measured (UTC, ISO 8601)",
    "weight": "how often training draws a length of a shifted split, the likeliest being 1: for means over lengths",
}
"""Role -> what it means."""

BASELINE = ("setting", "metric", "confidence", "attention")
"""What a signal has to add to."""
KNOWN_BEFORE = (*BASELINE, "fact", "signal")
"""What may enter a forecast."""


def frame_of(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One table of role -> columns, with columns (role, name); empty parts are left out."""
    found = {role: part for role, part in parts.items() if part.shape[1]}
    return pd.concat(found, axis=1, names=["role", "name"])


def part(table: pd.DataFrame, role: str) -> pd.DataFrame:
    """The columns of one role by their names; a frame without columns if there are none."""
    if role not in table.columns.get_level_values(0):
        return pd.DataFrame(index=table.index)
    return table[role]


def columns(table: pd.DataFrame, roles: Iterable[str]) -> list[tuple[str, str]]:
    """All columns of some roles, in the order of the table."""
    wanted = set(roles)
    return [column for column in table.columns if column[0] in wanted]


def varying(table: pd.DataFrame, factors: Iterable[str] | None = None) -> list[str]:
    """Names of the settings that take more than one value, or `factors`, checked.

    Raises:
        UserError: a factor that is no setting of the table.
    """
    settings = part(table, "setting")
    if factors is None:
        found = [name for name in settings if settings[name].nunique(dropna=False) > 1]
        # Encodings without a table have no offsets: with `positions` at hand the field says nothing of its own.
        if {"offsets", "positions"} <= set(found) and (settings.groupby("positions")["offsets"].nunique() <= 1).all():
            found.remove("offsets")
        return found
    chosen = list(factors)
    for name in chosen:
        if name not in settings:
            raise unknown("setting", name, settings.columns)
    if not chosen:
        raise UserError("no setting was named")
    return chosen
