"""A worker process: reads jobs from standard input, writes events to standard output, as JSON lines.

In: a `setup`, then one job at a time. Out: `ready` or why it cannot work (`fault`), then `progress`, and the result
of each job (`genlab.runs.work.attempt`). When its input closes (the driver stopped or died), a worker saves its
progress and exits.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict
from typing import Any, TextIO

from genlab.errors import UserError
from genlab.runs.progress import Progress


def main() -> None:
    """Work until the input closes."""
    out = sys.stdout
    sys.stdout = sys.stderr  # standard output carries only the protocol
    stop, jobs = threading.Event(), queue.Queue[dict[str, Any] | None]()
    threading.Thread(target=_listen, args=(jobs, stop), daemon=True).start()
    setup = jobs.get()
    if setup is None:
        return
    try:
        _set_up(setup)
    except UserError as error:
        _send(out, {"fault": str(error)})
        return
    _send(out, {"ready": True})
    while (job := jobs.get()) is not None:
        result = _do(job, setup, out, stop)
        _send(out, result)
        if result["how"] == "failed" and setup["device"] != "cpu":
            return  # the accelerator may be in an undefined state: the next stack gets a new process


def _listen(jobs: queue.Queue[dict[str, Any] | None], stop: threading.Event) -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    stop.set()
    jobs.put(None)


def _set_up(setup: dict[str, Any]) -> None:
    """Load plugins and set this worker's number of threads."""
    import torch

    from genlab.tasks import load_plugin

    torch.set_num_threads(setup["threads"])
    for file in setup["plugins"]:
        load_plugin(file, check=False)  # the driver did


def _do(job: dict[str, Any], setup: dict[str, Any], out: TextIO, stop: threading.Event) -> dict[str, Any]:
    import torch

    from genlab.runs.store import Store
    from genlab.runs.work import Job, attempt

    def report(progress: Progress) -> bool:
        _send(out, {"progress": asdict(progress)})
        return not stop.is_set()

    store = _STORES.setdefault(setup["store"], Store(setup["store"]))
    return attempt(store, Job.from_json(job), torch.device(setup["device"]), report)


_STORES: dict[str, Any] = {}
"""Open stores by path, reused between jobs so that they need not be read again."""


def _send(out: TextIO, message: dict[str, Any]) -> None:
    try:
        out.write(json.dumps(message) + "\n")
        out.flush()
    except BrokenPipeError:  # the driver is gone; the closed input will end this worker
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


if __name__ == "__main__":
    main()
