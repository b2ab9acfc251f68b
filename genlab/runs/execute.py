"""Where stacks are worked on: in this process, or in local processes.

On a CPU a core is busy with one run, so runs go to processes with one thread each, one run a stack. On an accelerator
launches dominate, so many runs are one stack, and one process serves one device.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from genlab.runs.devices import cores
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store
from genlab.runs.work import Job, Outcome, attempt
from genlab.tasks import plugins

__all__ = ["Ended", "Executor", "InProcess", "Processes"]


MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""A step allocates and frees the same megabytes again and again. glibc would give them back to the system each time,
and the pages would have to be made anew: 4 to 10 % of a step."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job.

    Attributes:
        how: an outcome; `died` (its worker was killed; it can be tried again); `failed` (trying again at once would
            come to the same; other jobs may be done); or `fault` (no job can be done).
        reason: of one that died, failed or is a fault, in one line; trace: the exception's traceback, or ''.
    """

    job: Job
    how: Outcome | Literal["died", "failed", "fault"]
    reason: str = ""
    trace: str = ""


class Executor(Protocol):
    """Does jobs somewhere. `drive` hands them out."""

    def room(self) -> bool:
        """Whether another job can be started now."""
        ...

    def start(self, job: Job) -> None:
        """Take a job."""
        ...

    def events(self, seconds: float) -> Iterable[Ended | Progress]:
        """What has happened; waits that long for something to happen."""
        ...

    def stop(self) -> None:
        """Have all jobs keep what they reached and end."""
        ...

    def close(self) -> None:
        """End all workers, in order if there is time."""
        ...


class InProcess:
    """Does a job at once, here."""

    def __init__(self, store: Store, device: torch.device, report: Report):
        self._store, self._device, self._report = store, device, report
        self._ended: deque[Ended] = deque()

    def room(self) -> bool:
        return not self._ended

    def start(self, job: Job) -> None:
        self._ended.append(Ended(job, **attempt(self._store, job, self._device, self._report)))

    def events(self, seconds: float) -> Iterable[Ended]:
        del seconds
        while self._ended:
            yield self._ended.popleft()

    def stop(self) -> None:
        """Nothing runs between calls; a job that runs asks `report`."""

    def close(self) -> None:
        pass


class Processes:
    """Worker processes on this machine. One that dies is replaced."""

    def __init__(self, store: Store, devices: list[str]):
        """`devices`: one a worker."""
        self._heard: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
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
            idle = [_Worker(free, self._heard)]
            self._workers += idle
        idle[0].take(job)

    def events(self, seconds: float) -> Iterable[Ended | Progress]:
        try:
            worker, message = self._heard.get(timeout=seconds)
        except queue.Empty:
            return
        if message is None:
            yield from self._lost(worker)
        elif "ready" in message:
            worker.ready = True
        elif "progress" in message:
            yield Progress(**message["progress"])
        elif "fault" in message:
            worker.fault = message["fault"]
        else:
            yield Ended(worker.give_back(), **message)

    def _lost(self, worker: _Worker) -> Iterable[Ended]:
        """A worker has ended. One that was killed is replaced; one that could not even begin is everybody's fault."""
        status = worker.wait()
        self._workers.remove(worker)
        if worker.idle:
            return
        reason = worker.fault or f"a worker process ended with status {status}"
        if worker.fault or (status > 0 and not worker.ready):
            yield Ended(worker.give_back(), "fault", reason)
        elif status > 0:
            yield Ended(worker.give_back(), "failed", reason)
        else:
            reason = f"a worker process was ended by signal {-status} (out of memory?)" if status else reason
            yield Ended(worker.give_back(), "stopped" if self._stopping and status == 0 else "died", reason)

    def stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.close()

    def close(self) -> None:
        self.stop()
        for worker in self._workers:
            worker.wait()


class _Worker:
    """A worker process and the thread that reads what it says into a common queue.

    Attributes:
        ready: whether it has set itself up; fault: why it could not.
    """

    def __init__(self, setup: dict[str, Any], heard: queue.Queue[tuple[_Worker, dict[str, Any] | None]]):
        self.setup, self._heard = setup, heard
        self.ready, self.fault = False, ""
        self._job: Job | None = None
        threads = str(setup["threads"])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "genlab.runs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the driver alone; its closing the pipe tells the workers
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

    def give_back(self) -> Job:
        assert self._job is not None
        job, self._job = self._job, None
        return job

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._heard.put((self, json.loads(line)))
            except json.JSONDecodeError:
                break  # it was killed in the middle of a line
        self._heard.put((self, None))

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # if it died, its closed output says so
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End its input: it keeps what it reached and leaves."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it may be gone already
            self._process.stdin.close()

    def wait(self) -> int:
        return self._process.wait()
