"""Stacks that failed: which, when and why, kept in the store until they are done. No torch here.

    failures/STACK.json        stack, runs, task, reason (one line), trace (of the exception, or ''), at

A record is written by the driver that saw the stack fail and taken away by the one that sees its runs done; it keeps
nobody from trying again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from genlab.errors import DamagedFileError
from genlab.runs.files import read_json, write_json

_FOLDER = "failures"
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Failure:
    """A stack that failed.

    Attributes:
        runs: ids of the runs that are not done because of it.
        task: the name of their task.
        reason: one line.
        trace: the exception's traceback; '' where a worker was killed.
        at: when, UTC as ISO text.
    """

    stack: str
    runs: list[str]
    task: str
    reason: str
    trace: str
    at: str

    def line(self) -> str:
        """All but the trace, in one line."""
        count = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"failed: {count} of {self.task} ({_listed(self.runs)}): {self.reason}"


def record(store: Path, failure: Failure) -> None:
    """Keep a failure, in place of an earlier one of its stack. Raises `StoreWriteError` where it cannot be kept."""
    write_json(store / _FOLDER / f"{failure.stack}.json", asdict(failure))


def read_failures(store: Path, run_ids: Iterable[str] | None = None) -> list[Failure]:
    """What failed and is not done since, by time; of these runs (default: of all)."""
    wanted = None if run_ids is None else set(run_ids)
    found: list[Failure] = []
    for path in (store / _FOLDER).glob("[!.]*.json"):
        failure = _read(path)
        runs = [] if failure is None else [run for run in failure.runs if wanted is None or run in wanted]
        if failure and runs:
            found.append(Failure(failure.stack, runs, failure.task, failure.reason, failure.trace, failure.at))
    return sorted(found, key=lambda failure: (failure.at, failure.stack))


def forget(store: Path, run_ids: Iterable[str]) -> None:
    """Take runs that are done, or gone, out of all failures; a failure of no runs goes."""
    gone = set(run_ids)
    for path in (store / _FOLDER).glob("[!.]*.json"):
        failure = _read(path)
        if failure is None or gone.isdisjoint(failure.runs):
            continue
        if left := [run for run in failure.runs if run not in gone]:
            write_json(path, {**asdict(failure), "runs": left})
        else:
            path.unlink(missing_ok=True)


def summarize(found: Sequence[Failure]) -> str:
    """Which runs failed and why, in one line.

    >>> one = Failure("s", ["a1", "b2"], "sort", "ValueError: no", "", "")
    >>> summarize([one, Failure("t", ["c3"], "sort", "killed", "", "")])
    'a1, b2 (ValueError: no); c3 (killed)'
    """
    by_reason: dict[str, list[str]] = {}
    for failure in found:
        by_reason.setdefault(failure.reason, []).extend(failure.runs)
    parts = [f"{_listed(runs)} ({reason})" for reason, runs in list(by_reason.items())[:_SHOWN]]
    more = len(by_reason) - _SHOWN
    return "; ".join(parts) + (f"; and {more} other reasons (lab runs lists them)" if more > 0 else "")


def _listed(runs: Sequence[str]) -> str:
    more = len(runs) - _SHOWN
    return ", ".join(runs[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _read(path: Path) -> Failure | None:
    try:
        return Failure(**read_json(path))
    except (FileNotFoundError, DamagedFileError, TypeError):  # gone meanwhile; `lab store check` names a damaged one
        return None
