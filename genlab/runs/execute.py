"""Executors and the driver: run the stacks of a grid in this process or in local worker processes.

On a CPU one run keeps one core busy, so runs are distributed over processes with one thread each, one run per stack.
On an accelerator kernel launches dominate, so many runs form one stack, and one process serves one device.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from genlab.errors import UserError
from genlab.runs.devices import cores
from genlab.runs.failures import Failure, forget, record
from genlab.runs.leases import is_held
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store, now
from genlab.runs.work import Job, Outcome, attempt, is_complete
from genlab.tasks import load_plugin, plugins

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""Malloc settings of workers. A training step allocates and frees the same megabytes repeatedly; by default glibc
would return them to the system and fault the pages in again each time, which costs 4 to 10 % of a step."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a job.

    Attributes:
        job: the job.
        how: an outcome; `died` (its worker was killed; it can be retried); `failed` (a retry would fail the same way;
            other jobs may succeed); or `fault` (no job can succeed).
        reason: for died, failed and fault, one line; trace: the traceback of the exception, or ''.
    """

    job: Job
    how: Outcome | Literal["died", "failed", "fault"]
    reason: str = ""
    trace: str = ""


class Executor(Protocol):
    """Runs jobs that `drive` assigns to it."""

    def room(self) -> bool:
        """Whether another job can be started now."""
        ...

    def start(self, job: Job) -> None:
        """Start a job."""
        ...

    def events(self, seconds: float) -> Iterable[Ended | Progress]:
        """Return new events; waits up to `seconds` for one."""
        ...

    def stop(self) -> None:
        """Ask all jobs to save their progress and end."""
        ...

    def close(self) -> None:
        """Shut down all workers."""
        ...


class InProcess:
    """Runs each job immediately, in this process."""

    def __init__(self, store: Store, device: torch.device, report: Report):
        self._store, self._device, self._report = store, device, report
        self._ended: deque[Ended] = deque()

    def room(self) -> bool:
        return not self._ended

    def start(self, job: Job) -> None:
        """Do the job now; it has ended when this returns."""
        self._ended.append(Ended(job, **attempt(self._store, job, self._device, self._report)))

    def events(self, seconds: float) -> Iterable[Ended]:
        del seconds
        while self._ended:
            yield self._ended.popleft()

    def stop(self) -> None:
        """Nothing runs between calls; a running job asks `report`."""

    def close(self) -> None:
        pass


class Processes:
    """Worker processes on this machine. One that dies is replaced."""

    def __init__(self, store: Store, devices: list[str]):
        """`devices`: one device per worker."""
        self._messages: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        threads = max(1, cores() // len(devices))
        shared = {"store": str(store.path), "threads": threads, "plugins": plugins()}
        self._setups = [{**shared, "device": device} for device in devices]
        self._workers: list[_Worker] = []
        self._stopping = False

    def room(self) -> bool:
        return not self._stopping and (len(self._workers) < len(self._setups) or any(w.idle for w in self._workers))

    def start(self, job: Job) -> None:
        idle = [worker for worker in self._workers if worker.idle]
        if not idle:
            used = [worker.setup for worker in self._workers]
            free = next(s for s in self._setups if used.count(s) < self._setups.count(s))
            idle = [_Worker(free, self._messages)]
            self._workers += idle
        idle[0].take(job)

    def events(self, seconds: float) -> Iterable[Ended | Progress]:
        try:
            worker, message = self._messages.get(timeout=seconds)
        except queue.Empty:
            return
        if message is None:
            yield from self._on_exit(worker)
        elif "ready" in message:
            worker.ready = True
        elif "progress" in message:
            yield Progress(**message["progress"])
        elif "fault" in message:
            worker.fault = message["fault"]
        else:
            yield Ended(worker.release(), **message)

    def _on_exit(self, worker: _Worker) -> Iterable[Ended]:
        """A worker has ended. One that was killed is replaced; one that could not set itself up is a fault."""
        status = worker.wait()
        self._workers.remove(worker)
        if worker.idle:
            return
        reason = worker.fault or f"a worker process ended with status {status}"
        if worker.fault or (status > 0 and not worker.ready):
            yield Ended(worker.release(), "fault", reason)
        elif status > 0:
            yield Ended(worker.release(), "failed", reason)
        else:
            reason = f"a worker process was ended by signal {-status} (out of memory?)" if status else reason
            yield Ended(worker.release(), "stopped" if self._stopping and status == 0 else "died", reason)

    def stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.close()

    def close(self) -> None:
        self.stop()
        for worker in self._workers:
            worker.wait()


class _Worker:
    """A worker process, and the thread that reads its messages into a shared queue.

    Attributes:
        ready: whether it has set itself up; fault: why it could not.
    """

    def __init__(self, setup: dict[str, Any], messages: queue.Queue[tuple[_Worker, dict[str, Any] | None]]):
        self.setup, self._messages = setup, messages
        self.ready, self.fault = False, ""
        self._job: Job | None = None
        threads = str(setup["threads"])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "genlab.runs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches only the driver, which closes the pipes of its workers
            env={**os.environ, **MALLOC, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
        self._send(setup)
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def idle(self) -> bool:
        return self._job is None

    def take(self, job: Job) -> None:
        self._job = job
        self._send(job.as_json())

    def release(self) -> Job:
        assert self._job is not None
        job, self._job = self._job, None
        return job

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._messages.put((self, json.loads(line)))
            except json.JSONDecodeError:
                break  # it was killed in the middle of a line
        self._messages.put((self, None))

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # a dead worker is detected by its closed output
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Close its input: it saves its progress and exits."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it may have exited already
            self._process.stdin.close()

    def wait(self) -> int:
        return self._process.wait()


# -- The driver

_WAIT, _CHECK_SECONDS = 0.2, 1.0
_DEATHS = 10
"""Number of times a stack may lose its worker before it counts as failed."""


@contextmanager
def interruptible(*more: signal.Signals) -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets, for an orderly shutdown; the second Ctrl-C ends the process.

    Args:
        more: other signals that do the same.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *more)}

    def on_interrupt(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, on_interrupt)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def do_job(
    job: dict[str, Any], store: str, device: str, plugin_files: list[str], threads: int = 1, *stops: signal.Signals
) -> dict[str, Any]:
    """Run a job on another machine, where Ray or Slurm started it: the result of `attempt`.

    Args:
        job: as JSON.
        store: its path, as all machines see it.
        device: where to train.
        plugin_files: plugins to load first.
        threads: of torch.
        stops: signals upon which progress is saved and the job ends, beside Ctrl-C.
    """
    torch.set_num_threads(threads)
    try:
        for file in plugin_files:
            load_plugin(file, check=False)  # the driver did
        kept, work = Store(store), Job.from_json(job)
    except UserError as error:
        return {"how": "fault", "reason": str(error)}
    with interruptible(*stops) as stop:
        return attempt(kept, work, torch.device(device), lambda _progress: not stop.is_set())


def drive(
    store: Store,
    jobs: Sequence[Job],
    executor: Executor,
    report: Report,
    stop: threading.Event,
    tick: Callable[[], object] = lambda: None,
) -> bool:
    """Run all jobs. Jobs that another driver works on are left to it, and taken over if it dies.

    A job that fails is recorded (`genlab.runs.failures`), and the others continue.

    Args:
        store: the store that holds the runs.
        jobs: what to train and evaluate.
        executor: runs the jobs; it is closed at the end.
        report: called with every `Progress`; returning False stops.
        stop: setting it stops, too.
        tick: called repeatedly meanwhile.

    Returns:
        Whether all jobs were done or failed; False if stopped.

    Raises:
        UserError: no job can be done: the store cannot be written, or workers cannot set themselves up.
    """
    driver, stopping = _Drive(store, jobs, executor, report, stop), False
    try:
        while driver.running or not (stopping or driver.nothing_left()):
            tick()
            if not stopping and (stop.is_set() or driver.faults):
                executor.stop()
                stopping = True
            while not stopping and (job := driver.next_job()) is not None:
                executor.start(job)
            for event in executor.events(_WAIT if driver.running else 0.0):
                driver.handle(event)
            if driver.waits_for_others() and not stopping:
                stop.wait(_WAIT)
    finally:
        executor.close()
    if driver.faults:
        raise UserError(driver.faults[0])
    return not stop.is_set()


class _Drive:
    """Which jobs wait, run, or are worked on elsewhere."""

    def __init__(self, store: Store, jobs: Sequence[Job], executor: Executor, report: Report, stop: threading.Event):
        self._store, self._executor, self._report, self._stop = store, executor, report, stop
        self._waiting = deque(jobs)
        self._elsewhere: list[Job] = []
        self.running = 0
        self._deaths: Counter[str] = Counter()
        self._checked = 0.0
        self.faults: list[str] = []

    def nothing_left(self) -> bool:
        return not self._waiting and not self._elsewhere

    def waits_for_others(self) -> bool:
        return not self.running and not self._waiting and bool(self._elsewhere)

    def next_job(self) -> Job | None:
        """The next job to start, if there is room; jobs that another process holds are checked again later."""
        if self._elsewhere and time.monotonic() - self._checked > _CHECK_SECONDS:
            self._checked = time.monotonic()
            self._store.refresh()
            self._waiting.extend(job for job in self._elsewhere if job.again or not is_complete(self._store, job))
            self._elsewhere = []
        while self._waiting and self._executor.room():
            job = self._waiting.popleft()
            if not is_held(self._store.path / "leases", job.stack):
                self.running += 1
                return job
            self._elsewhere.append(job)
        return None

    def handle(self, event: Progress | Ended) -> None:
        if isinstance(event, Progress):
            if not self._report(event):
                self._stop.set()
            return
        self.running -= 1
        job = event.job
        if event.how == "fault":
            self.faults.append(event.reason)
        elif event.how == "failed":
            self._record_failure(job, event.reason, event.trace)
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
                self._record_failure(job, f"lost its worker {_DEATHS} times: {event.reason}", "")

    def _record_failure(self, job: Job, reason: str, trace: str) -> None:
        ids, task = [spec.run_id for spec in job.specs], job.specs[0].task.name
        record(self._store.path, Failure(job.stack, ids, task, reason, trace, now()))
        for spec in job.specs:
            self.handle(Progress(spec.run_id, "failed", 0, spec.train.steps))
