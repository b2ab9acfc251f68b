"""Failed stacks: which, when and why, stored until their runs are done. No torch here.

    failures/STACK.json        stack, runs, task, reason (one line), trace (of the exception, or ''), at

A record is written by the driver that saw the stack fail and removed by the one that completes its runs; it does not
prevent a retry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from genlab.errors import DamagedFileError
from genlab.runs.files import read_json, write_json
from genlab.text import counted

_FOLDER = "failures"
_SHOWN = 4
_NEEDED = {"stack": str, "runs": list, "task": str, "reason": str, "trace": str, "at": str}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed stack.

    Attributes:
        stack: its name.
        runs: ids of the runs that are not done because of it.
        task: name of their task.
        reason: one line.
        trace: traceback of the exception; '' if a worker was killed.
        at: time of the failure, UTC as ISO text.
    """

    stack: str
    runs: list[str]
    task: str
    reason: str
    trace: str
    at: str

    def line(self) -> str:
        """Summarize everything except the trace in one line."""
        count = counted(len(self.runs), "run")
        return f"failed: {count} of {self.task} ({_listed(self.runs)}): {self.reason}"


def record(store: Path, failure: Failure) -> None:
    """Store a failure, replacing an earlier one of its stack. Raises `StoreWriteError` if that is impossible."""
    write_json(store / _FOLDER / f"{failure.stack}.json", asdict(failure))


def read_failures(store: Path, run_ids: Iterable[str] | None = None) -> list[Failure]:
    """Return failures of runs that are still not done, by time; of these runs (default: of all)."""
    wanted = None if run_ids is None else set(run_ids)
    found: list[Failure] = []
    for path in (store / _FOLDER).glob("[!.]*.json"):
        failure = _read(path)
        runs = [] if failure is None else [run for run in failure.runs if wanted is None or run in wanted]
        if failure and runs:
            found.append(Failure(failure.stack, runs, failure.task, failure.reason, failure.trace, failure.at))
    return sorted(found, key=lambda failure: (failure.at, failure.stack))


def forget(store: Path, run_ids: Iterable[str]) -> None:
    """Remove runs that are done or deleted from all failures, and failures without runs."""
    gone = set(run_ids)
    for path in (store / _FOLDER).glob("[!.]*.json"):
        failure = _read(path)
        if failure is None or gone.isdisjoint(failure.runs):
            continue
        if left := [run for run in failure.runs if run not in gone]:
            write_json(path, {**asdict(failure), "runs": left})
        else:
            path.unlink(missing_ok=True)


def summarize(failures: Sequence[Failure]) -> str:
    """Summarize which runs failed and why, in one line.

    >>> one = Failure("s", ["a1", "b2"], "sort", "ValueError: no", "", "")
    >>> summarize([one, Failure("t", ["c3"], "sort", "killed", "", "")])
    'a1, b2 (ValueError: no); c3 (killed)'
    """
    by_reason: dict[str, list[str]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).extend(failure.runs)
    parts = [f"{_listed(runs)} ({reason})" for reason, runs in list(by_reason.items())[:_SHOWN]]
    more = len(by_reason) - _SHOWN
    return "; ".join(parts) + (f"; and {more} other reasons (lab runs lists them)" if more > 0 else "")


def _listed(runs: Sequence[str]) -> str:
    more = len(runs) - _SHOWN
    return ", ".join(runs[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _read(path: Path) -> Failure | None:
    try:
        return Failure(**read_json(path, **_NEEDED))
    except (FileNotFoundError, DamagedFileError, TypeError):  # removed meanwhile, or damaged (`lab store check`)
        return None
