"""The driver: hands the stacks of a grid to an executor until all are done, by itself or by others."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from genlab.errors import UserError
from genlab.runs.execute import Ended, Executor
from genlab.runs.failures import Failure, forget, record
from genlab.runs.leases import is_held
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store, now
from genlab.runs.work import Job, is_complete

__all__ = ["drive", "interruptible"]

_WAIT, _LOOK_SECONDS = 0.2, 1.0
_DEATHS = 10
"""How often a stack may lose its worker before it is given up."""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that work ends in order; the second one ends it at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(_number: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def drive(
    store: Store,
    jobs: Sequence[Job],
    executor: Executor,
    report: Report,
    stop: threading.Event,
    tick: Callable[[], object] = lambda: None,
) -> bool:
    """Have all jobs done. Those that another driver works on are left to it, and taken over if it dies.

    A job that fails is recorded (`genlab.runs.failures`) and the others go on.

    Args:
        report: hears of every run; False asks to stop.
        stop: set from outside, it asks the same.
        tick: called again and again meanwhile.

    Returns:
        Whether all jobs were done or failed; False where it was asked to stop.

    Raises:
        UserError: no job can be done: the store cannot be written, or workers cannot set themselves up.
    """
    run = _Drive(store, jobs, executor, report, stop)
    try:
        run.to_the_end(tick)
    finally:
        executor.close()
    if run.faults:
        raise UserError(run.faults[0])
    return not stop.is_set()


class _Drive:
    def __init__(self, store: Store, jobs: Sequence[Job], executor: Executor, report: Report, stop: threading.Event):
        self._store, self._executor, self._report, self._stop = store, executor, report, stop
        self._waiting = deque(jobs)
        self._elsewhere: list[Job] = []
        self._running = 0
        self._deaths: Counter[str] = Counter()
        self._looked = 0.0
        self.faults: list[str] = []

    def to_the_end(self, tick: Callable[[], object]) -> None:
        stopping = False
        while self._running or not (stopping or self._nothing_left()):
            tick()
            if not stopping and (self._stop.is_set() or self.faults):
                self._executor.stop()
                stopping = True
            if not stopping:
                self._hand_out()
            for event in self._executor.events(_WAIT if self._running else 0.0):
                self._hear(event)
            if not self._running and not self._waiting and self._elsewhere and not stopping:
                self._stop.wait(_WAIT)

    def _nothing_left(self) -> bool:
        return not self._waiting and not self._elsewhere

    def _hand_out(self) -> None:
        """Give jobs out as long as there is room; those that another holds are looked at again later."""
        if self._elsewhere and time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._store.refresh()
            self._waiting.extend(job for job in self._elsewhere if job.again or not is_complete(self._store, job))
            self._elsewhere = []
        while self._waiting and self._executor.room():
            job = self._waiting.popleft()
            if is_held(self._store.path / "leases", job.stack):
                self._elsewhere.append(job)
                continue
            self._running += 1
            self._executor.start(job)

    def _hear(self, event: Progress | Ended) -> None:
        if isinstance(event, Progress):
            if not self._report(event):
                self._stop.set()
            return
        self._running -= 1
        job = event.job
        if event.how == "fault":
            self.faults.append(event.reason)
        elif event.how == "failed":
            self._failed(job, event.reason, event.trace)
        elif event.how == "done":
            forget(self._store.path, [spec.run_id for spec in job.specs])
        elif event.how == "stopped":
            self._stop.set()
        elif event.how == "busy":
            self._elsewhere.append(job)
        elif event.how == "died":
            self._deaths[job.stack] += 1
            if self._deaths[job.stack] < _DEATHS:
                self._waiting.appendleft(job)
            else:
                self._failed(job, f"lost its worker {_DEATHS} times: {event.reason}", "")

    def _failed(self, job: Job, reason: str, trace: str) -> None:
        ids, task = [spec.run_id for spec in job.specs], job.specs[0].task.name
        record(self._store.path, Failure(job.stack, ids, task, reason, trace, now()))
        for spec in job.specs:
            self._hear(Progress(spec.run_id, "failed", 0, spec.train.steps))
