"""Runs that diverged. They are listed as what they are, and left out of whatever is computed over runs.

Their weights are those of the last step whose loss and gradient were finite, which says nothing of what the
configuration learns: medians, shares of runs, signals, tables and figures are of the others, and say who is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genlab.runs.store import Store

_SHOWN = 8


def set_aside(store: Store, run_ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """The committed runs that count, and those that diverged; each in the order given."""
    counted: list[str] = []
    diverged: list[str] = []
    for run in run_ids:
        (diverged if store.index.status(run) == "diverged" else counted).append(run)
    return counted, diverged


def left_out(diverged: Sequence[str], runs: int) -> str:
    """A line that says which of so many runs are left out, or ''.

    >>> left_out(["a1", "b2"], 8)
    '2 of 8 runs diverged and are left out: a1, b2'
    """
    if not diverged:
        return ""
    more = len(diverged) - _SHOWN
    names = ", ".join(diverged[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    verb = "is" if len(diverged) == 1 else "are"
    return f"{len(diverged)} of {runs} runs diverged and {verb} left out: {names}"
