"""How far a grid is: read from the store, so that any terminal can ask, and so that nothing is lost with a driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from genlab.runs.leases import active
from genlab.runs.store import Store

__all__ = ["GridStatus", "grid_status"]


@dataclass(frozen=True, slots=True)
class GridStatus:
    """Runs of a grid by what they do.

    Attributes:
        finished, reached, diverged: runs that have ended, by how (`reached`: by `until`).
        running: runs that somebody works on; waiting: the others that have not ended.
        per_hour: runs that ended an hour, over the last ones; None before there are two.
        hours_left: at that rate.
    """

    runs: int
    finished: int
    reached: int
    diverged: int
    running: int
    waiting: int
    per_hour: float | None
    hours_left: float | None

    @property
    def done(self) -> int:
        return self.finished + self.reached + self.diverged

    def line(self) -> str:
        """All of it in one line."""
        ended = [f"{self.done} of {self.runs} runs done"]
        ended += [f"{n} {what}" for n, what in ((self.reached, "reached"), (self.diverged, "diverged")) if n]
        now = [f"{self.running} running", f"{self.waiting} waiting"] if self.done < self.runs else []
        rate = [f"{self.per_hour:,.0f} seeds an hour"] if self.per_hour else []
        left = [f"{_spoken(self.hours_left)} left"] if self.hours_left else []
        return ", ".join([*ended, *now, *rate, *left])

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "done": self.done}


def grid_status(store: Store, run_ids: Sequence[str], last: int = 50) -> GridStatus:
    """The status of a grid's runs; the rate is that of the `last` runs that ended."""
    store.refresh()
    there = [run for run in run_ids if run in store]
    by_status = [store.index.status(run) for run in there]
    counts = {name: by_status.count(name) for name in ("finished", "reached", "diverged")}
    worked_on = {run for content in active(store.path / "leases").values() for run in content.get("runs", [])}
    running = sum(run in worked_on and run not in store for run in run_ids)
    waiting = len(run_ids) - len(there) - running
    per_hour = _rate(sorted(store.index.at(run) for run in there)[-last:]) if running else None
    hours_left = (running + waiting) / per_hour if per_hour else None
    return GridStatus(
        len(run_ids), **counts, running=running, waiting=waiting, per_hour=per_hour, hours_left=hours_left
    )


def _rate(ended: Sequence[str]) -> float | None:
    """Runs an hour, from when the last ones ended."""
    if len(ended) < 2:
        return None
    hours = (datetime.now(UTC) - datetime.fromisoformat(ended[0])).total_seconds() / 3600
    return (len(ended) - 1) / hours if hours > 0 else None


def _spoken(hours: float) -> str:
    """
    >>> _spoken(0.01), _spoken(0.5), _spoken(30)
    ('36 s', '30 min', '30 h')
    """
    if hours * 3600 < 100:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours * 60 < 100 else f"{hours:,.0f} h"
