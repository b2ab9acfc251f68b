"""Diverged runs are listed as such and left out of everything that is computed over runs.

Their weights are those of the last step with finite loss and gradient, which says nothing about what the
configuration
learns: medians, fractions of runs, signals, tables and figures use the other runs, and report who is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genlab.runs.store import Store

_SHOWN = 8


def set_aside(store: Store, run_ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split committed runs into those that count and those that diverged, keeping their order."""
    counted: list[str] = []
    diverged: list[str] = []
    for run in run_ids:
        (diverged if store.index.status(run) == "diverged" else counted).append(run)
    return counted, diverged


def left_out(diverged: Sequence[str], runs: int) -> str:
    """Return a line that reports which of `runs` runs are left out, or ''.

    >>> left_out(["a1", "b2"], 8)
    '2 of 8 runs diverged and are left out: a1, b2'
    """
    if not diverged:
        return ""
    more = len(diverged) - _SHOWN
    names = ", ".join(diverged[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    verb = "is" if len(diverged) == 1 else "are"
    return f"{len(diverged)} of {runs} runs diverged and {verb} left out: {names}"
