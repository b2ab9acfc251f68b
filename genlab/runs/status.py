"""How far a grid is: read from the store, so that any terminal can ask, and so that nothing is lost with a driver."""

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
    """Runs of a grid by what they do.

    Attributes:
        finished, reached, diverged: runs that have ended, by how (`reached`: by `until`).
        failed: runs of stacks that failed and that nobody works on now; one that is trained and lacks its
            evaluations counts here, not above.
        running: runs that somebody works on; waiting: the others that have not ended.
        per_hour: runs that ended an hour, over the last ones; None before there are two.
        hours_left: at that rate.
        failures: why runs failed, a stack each.
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
        """All of it in one line."""
        ended = [f"{self.done} of {self.runs} runs done"]
        ways = ((self.reached, "reached"), (self.diverged, "diverged"), (self.failed, "failed"))
        ended += [f"{n} {what}" for n, what in ways if n]
        now = [f"{self.running} running", f"{self.waiting} waiting"] if self.running or self.waiting else []
        rate = [f"{self.per_hour:,.0f} seeds an hour"] if self.per_hour else []
        left = [f"{_spoken(self.hours_left)} left"] if self.hours_left else []
        return ", ".join([*ended, *now, *rate, *left])

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "done": self.done}


def grid_status(store: Store, run_ids: Sequence[str], last: int = 50) -> GridStatus:
    """The status of a grid's runs; the rate is that of the `last` runs that ended."""
    store.refresh()
    there = [run for run in run_ids if run in store]
    worked_on = {run for content in active(store.path / "leases").values() for run in content.get("runs", [])}
    failures = read_failures(store.path, set(run_ids) - worked_on)
    failed = {run for failure in failures for run in failure.runs}
    by_status = [store.index.status(run) for run in there if run not in failed]
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
