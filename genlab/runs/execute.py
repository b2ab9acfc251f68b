"""Where stacks are trained: in this process, or in local processes with one thread each.

On a CPU a core is busy with one run, so runs go to processes, one run a stack. On an accelerator launches dominate,
so all runs of one shape are one stack in this process.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from genlab.errors import UserError
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store
from genlab.runs.work import is_complete, train_and_evaluate
from genlab.spec import RunSpec, Split
from genlab.tasks import plugins

__all__ = ["cores", "execute", "interruptible", "pick_device"]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda[:i]` as a device. Raises `UserError` where there is none of the kind."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r} (allowed: auto, cpu, cuda, cuda:N)") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r} (allowed: auto, cpu, cuda, cuda:N)")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} was asked for, but torch {torch.__version__} finds no CUDA device here")
    return device


def execute(
    store: Store,
    specs: Sequence[RunSpec],
    splits: Sequence[Split],
    device: torch.device,
    report: Report,
    workers: int = 0,
    again: bool = False,
) -> bool:
    """Train and evaluate runs of one configuration; what is there already is not done again.

    Args:
        workers: processes on a CPU; 0 takes one a core, as far as there are runs.
        again: train and evaluate anew what is there already.

    Returns:
        Whether all was done; False where it was interrupted.
    """
    specs = [spec for spec in specs if again or not is_complete(store, spec, splits)]
    if not specs:
        return True
    processes = min(workers or cores(), len(specs)) if device.type == "cpu" else 1
    with interruptible() as stop:

        def heard(progress: Progress) -> bool:
            return report(progress) and not stop.is_set()

        if processes == 1:
            stacks = [[spec] for spec in specs] if device.type == "cpu" else [list(specs)]
            finished = all(train_and_evaluate(store, stack, splits, device, heard, again) for stack in stacks)
        else:
            finished = _in_processes(store, _jobs(specs, splits, again), processes, heard)
    store.refresh()
    return finished


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


class _Worker:
    """A worker process and the thread that reads what it says into a common queue."""

    def __init__(self, number: int, heard: queue.Queue[tuple[int, dict[str, Any] | None]], setup: dict[str, Any]):
        self.number, self._heard = number, heard
        threads = str(setup["threads"])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "genlab.runs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the driver alone; its closing the pipe tells the workers
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
        self.send(setup)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put((self.number, json.loads(line)))
        self._heard.put((self.number, None))

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; its closed output says so

    def close(self) -> None:
        """End its input: it keeps what it reached and leaves."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()

    def wait(self) -> int:
        return self._process.wait()


def _jobs(specs: Sequence[RunSpec], splits: Sequence[Split], again: bool) -> list[dict[str, Any]]:
    looked_at = [split.model_dump(mode="json") for split in splits]
    return [{"specs": [s.model_dump(mode="json")], "splits": looked_at, "again": again} for s in specs]


def _in_processes(store: Store, jobs: list[dict[str, Any]], processes: int, report: Report) -> bool:
    """Hand out the jobs, one at a time a worker; whether all were done."""
    waiting = jobs[::-1]
    threads = max(1, cores() // processes)
    setup = {"store": str(store.path), "device": "cpu", "threads": threads, "plugins": plugins()}
    heard: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
    workers = [_Worker(i, heard, setup) for i in range(processes)]
    running, finished, faults = len(workers), True, list[str]()
    for worker in workers:
        worker.send(waiting.pop())
    try:
        while running:
            number, message = heard.get()
            worker = workers[number]
            if message is None:
                running -= 1
                if worker.wait():
                    faults.append(f"a worker process ended with status {worker.wait()}; what it had kept is kept")
            elif "progress" in message:
                finished &= report(Progress(**message["progress"]))
            else:
                finished &= message.get("done", False)
                faults += [message["error"]] if "error" in message else []
                if waiting and finished:
                    worker.send(waiting.pop())
                else:
                    worker.close()
            if faults or not finished:
                for worker in workers:
                    worker.close()
    finally:
        for worker in workers:
            worker.close()
    if faults:
        raise UserError(faults[0])
    return finished
