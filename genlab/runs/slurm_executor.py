"""Executor for Slurm: one job per stack, submitted by submitit. All machines share the store and have genlab"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from genlab.errors import UserError, unknown
from genlab.runs.execute import Ended, do_job
from genlab.runs.store import Store
from genlab.runs.work import Job
from genlab.tasks import plugins

QUEUED = 64
"""How many jobs are in the queue at a time, unless the user says otherwise."""
_GENERIC = ("cpus_per_task", "gpus_per_node", "mem_gb", "name", "nodes", "tasks_per_node", "timeout_min")
"""Parameters that submitit takes for every cluster; the others are Slurm's."""
_MINUTES = 240
_CANCEL_SECONDS = 60.0


class SlurmJobs:
    """One Slurm job per stack. A job that is killed goes on from its checkpoint in another job."""

    def __init__(self, store: Store, folder: Path, options: Mapping[str, Any], workers: int):
        """Args:
            store: a store that all machines see.
            folder: where submitit writes the logs of the jobs.
            options: parameters of submitit (`time`, `cpus_per_task`, `account`, ...); `cluster` is `slurm`, or
                `local` for processes of this machine.
            workers: jobs in the queue at a time; 0: `QUEUED`.

        Raises:
            UserError: submitit is not installed, there is no Slurm here, or submitit has no such parameter.
        """
        self._executor = _submitit(folder.resolve(), options)
        self._store, self._room = str(store.path.resolve()), workers or QUEUED
        self._threads = int(options.get("cpus_per_task", 1))
        self._device = "cuda" if any(key.startswith(("gpus", "gres")) for key in options) else "cpu"
        self._running: dict[str, tuple[Any, Job]] = {}
        self._stopping = False

    def room(self) -> bool:
        return not self._stopping and len(self._running) < self._room

    def start(self, job: Job) -> None:
        """Submit a job. Slurm asks it to end by SIGUSR2 (its time is over) or SIGTERM (it was cancelled).

        Raises:
            UserError: Slurm refuses it.
        """
        given = (job.as_json(), self._store, self._device, plugins(), self._threads, signal.SIGUSR2, signal.SIGTERM)
        try:
            submitted = self._executor.submit(do_job, *given)
        except Exception as error:  # submitit's own, with what sbatch printed
            raise UserError(f"Slurm refused a job: {_line(error)}") from None
        self._running[str(submitted.job_id)] = (submitted, job)

    def events(self, seconds: float) -> Iterable[Ended]:
        ended = [name for name, (submitted, _) in self._running.items() if submitted.done()]
        if not ended:
            time.sleep(seconds)
        for name in ended:
            yield self._ended(*self._running.pop(name))

    def _ended(self, submitted: Any, job: Job) -> Ended:
        error = submitted.exception()
        if error is None:
            result = submitted.result()
            if result["how"] == "stopped" and not self._stopping:
                return Ended(job, "busy")  # its time was over, or it was preempted: it goes on in another job
            return Ended(job, **result)
        if type(error).__name__ == "FailedJobError":  # outside `attempt`, which raises nothing
            return Ended(job, "failed", f"a Slurm job failed: {_line(error, -4)}", str(error))
        return Ended(job, "stopped" if self._stopping else "died", f"a Slurm job was lost (state {submitted.state})")

    def stop(self) -> None:
        self._stopping = True
        for submitted, _ in self._running.values():
            submitted.cancel(check=False)

    def close(self) -> None:
        if self._running:
            self.stop()
        end = time.monotonic() + _CANCEL_SECONDS
        while any(not s.done() for s, _ in self._running.values()) and time.monotonic() < end:
            time.sleep(0.2)


def check_slurm(options: Mapping[str, Any]) -> None:
    """Check that jobs could be submitted. Raises `UserError` as `SlurmJobs` does; nothing is written."""
    with TemporaryDirectory() as scratch:  # submitit makes its folder at once
        _submitit(Path(scratch) / "slurm", options)


def _submitit(folder: Path, options: Mapping[str, Any]) -> Any:
    """A submitit executor with these parameters."""
    try:
        submitit: Any = import_module("submitit")
    except ImportError:
        raise UserError("--executor slurm needs submitit: pip install 'genlab[slurm]'") from None
    cluster = options.get("cluster", "slurm")
    if cluster not in ("slurm", "local"):
        raise unknown("cluster", str(cluster), ("slurm", "local"))
    given = {key if key in _GENERIC else f"slurm_{key}": v for key, v in options.items() if key != "cluster"}
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"timeout_min": _MINUTES, "cpus_per_task": 1, "name": "genlab", **given})
    except NameError as error:
        found = re.search(r"Unknown argument '(\w+)'.*Valid arguments: (.*)", str(error))
        name, allowed = (found[1], found[2].split(", ")) if found else ("", [])
        raise unknown("Slurm option", name, [*_GENERIC, *allowed], "sbatch --help") from None
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        hint = "; --slurm cluster=local tries a grid without it" if isinstance(error, RuntimeError) else ""
        raise UserError(f"--executor slurm: {_line(error)}{hint}") from None
    return executor


def _line(error: Exception, number: int = 0) -> str:
    """A line of what an error says."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[max(number, -len(lines))]
