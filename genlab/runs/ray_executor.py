"""Executor for a Ray cluster: one task per stack. All machines share the store and have genlab installed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from genlab.errors import UserError
from genlab.runs.execute import Ended, do_job
from genlab.runs.store import Store
from genlab.runs.work import Job
from genlab.tasks import plugins

_CHECK_SECONDS = 5.0
_END_SECONDS = 60.0


class RayTasks:
    """One task per stack, one core or one GPU per task. A task that is lost with its node is restarted elsewhere."""

    def __init__(self, store: Store, address: str | None):
        """Args:
            store: a store that all machines see.
            address: address of a cluster, or `auto` for one that runs on this machine; None starts one here.

        Raises:
            UserError: Ray is not installed, or there is no such cluster.
        """
        try:
            ray: Any = import_module("ray")
        except ImportError:
            raise UserError("--executor ray needs Ray: pip install 'genlab[ray]'") from None
        self._ray = ray
        self._store = Path(store.path).resolve()
        try:
            ray.init(address=address, log_to_driver=False, ignore_reinit_error=True, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}") from None
        gpus = ray.cluster_resources().get("GPU", 0)
        self._resource = "GPU" if gpus else "CPU"
        self._task = self._ray.remote(max_retries=0, **{"num_gpus" if gpus else "num_cpus": 1})(do_job)
        self._running: dict[Any, Job] = {}
        self._slots, self._checked = 0, -_CHECK_SECONDS

    def room(self) -> bool:
        if time.monotonic() - self._checked > _CHECK_SECONDS:  # nodes come and go
            self._slots, self._checked = int(self._ray.cluster_resources().get(self._resource, 0)), time.monotonic()
        return len(self._running) < self._slots

    def start(self, job: Job) -> None:
        device = "cuda" if self._resource == "GPU" else "cpu"
        self._running[self._task.remote(job.as_json(), str(self._store), device, plugins())] = job

    def events(self, seconds: float) -> Iterable[Ended]:
        if not self._running:
            return
        ready, _ = self._ray.wait(list(self._running), timeout=seconds)
        for task in ready:
            yield self._ended(task, self._running.pop(task))

    def _ended(self, task: Any, job: Job) -> Ended:
        faults = self._ray.exceptions
        try:
            return Ended(job, **self._ray.get(task))
        except faults.TaskCancelledError:
            return Ended(job, "stopped")
        except faults.RayTaskError as error:  # outside `attempt`, which raises nothing
            return Ended(job, "failed", f"a Ray task failed: {_last_line(error)}", str(error))
        except faults.RayError as error:  # its worker or its node was lost
            return Ended(job, "died", f"a Ray worker was lost: {_last_line(error)}")

    def stop(self) -> None:
        for task in self._running:
            self._ray.cancel(task)

    def close(self) -> None:
        if self._running:
            self.stop()
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_END_SECONDS)
        self._ray.shutdown()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
