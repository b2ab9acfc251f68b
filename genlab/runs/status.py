"""Progress of a grid, read from the store, so that any terminal can show it and it survives a killed driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from genlab.runs.failures import Failure, read_failures
from genlab.runs.leases import active
from genlab.runs.store import Store


@dataclass(frozen=True, slots=True)
class GridStatus:
    """Counts of a grid's runs by state.

    Attributes:
        finished, reached, diverged: completed runs, by how they ended (`reached`: stopped early by `until`); compiled
            ones count as finished.
        failed: runs of failed stacks that nobody works on now, including trained runs without evaluations.
        running: runs that a worker is training or evaluating; waiting: the remaining ones.
        per_hour: completed runs per hour, over the latest ones; None if fewer than two have completed.
        hours_left: remaining hours at that rate.
        failures: one entry per failed stack.
    """

    runs: int
    finished: int
    reached: int
    diverged: int
    failed: int
    running: int
    waiting: int
    per_hour: float | None
    hours_left: float | None
    failures: list[Failure]

    @property
    def done(self) -> int:
        return self.finished + self.reached + self.diverged

    def line(self) -> str:
        """Summarize the status in one line."""
        ended = [f"{self.done} of {self.runs} runs done"]
        ways = ((self.reached, "reached"), (self.diverged, "diverged"), (self.failed, "failed"))
        ended += [f"{n} {what}" for n, what in ways if n]
        now = [f"{self.running} running", f"{self.waiting} waiting"] if self.running or self.waiting else []
        rate = [f"{self.per_hour:,.0f} runs per hour"] if self.per_hour else []
        left = [f"{_format_hours(self.hours_left)} left"] if self.hours_left else []
        return ", ".join([*ended, *now, *rate, *left])

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "done": self.done}


def grid_status(store: Store, run_ids: Sequence[str], last: int = 50) -> GridStatus:
    """Return the status of a grid; the rate is that of the `last` completed runs."""
    store.refresh()
    there = [run for run in run_ids if run in store]
    worked_on = {run for content in active(store.path / "leases").values() for run in content.get("runs", [])}
    failures = read_failures(store.path, set(run_ids) - worked_on)
    failed = {run for failure in failures for run in failure.runs}
    by_status = [store.index.status(run) for run in there if run not in failed]
    by_status = ["finished" if status == "compiled" else status for status in by_status]
    counts = {name: by_status.count(name) for name in ("finished", "reached", "diverged")}
    running = sum(run in worked_on and run not in store for run in run_ids)
    waiting = len(run_ids) - len(by_status) - len(failed) - running
    per_hour = _rate(sorted(store.index.at(run) for run in there)[-last:]) if running else None
    hours_left = (running + waiting) / per_hour if per_hour else None
    return GridStatus(
        len(run_ids),
        **counts,
        failed=len(failed),
        running=running,
        waiting=waiting,
        per_hour=per_hour,
        hours_left=hours_left,
        failures=failures,
    )


def _rate(ended: Sequence[str]) -> float | None:
    """Completed runs per hour since the first of these end times."""
    if len(ended) < 2:
        return None
    hours = (datetime.now(UTC) - datetime.fromisoformat(ended[0])).total_seconds() / 3600
    return (len(ended) - 1) / hours if hours > 0 else None


def _format_hours(hours: float) -> str:
    """
    >>> _format_hours(0.01), _format_hours(0.5), _format_hours(30)
    ('36 s', '30 min', '30 h')
    """
    if hours * 3600 < 100:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours * 60 < 100 else f"{hours:,.0f} h"
