"""A worker process: reads stacks to train from standard input, writes what happens to standard output.

One JSON document a line. In: a `setup`, then a job at a time. Out: `ready` or why it cannot work (`fault`), then
`progress`, and at the end of a job what became of it (`genlab.runs.work.attempt`). When its input ends (the driver
stopped, or died), a worker keeps what it reached and leaves.
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
    """Work until the input ends."""
    out = sys.stdout
    sys.stdout = sys.stderr  # the pipe is for the protocol alone
    stop, jobs = threading.Event(), queue.Queue[dict[str, Any] | None]()
    threading.Thread(target=_listen, args=(jobs, stop), daemon=True).start()
    setup = jobs.get()
    if setup is None:
        return
    try:
        _set_up(setup)
    except UserError as error:
        _say(out, {"fault": str(error)})
        return
    _say(out, {"ready": True})
    while (job := jobs.get()) is not None:
        told = _do(job, setup, out, stop)
        _say(out, told)
        if told["how"] == "failed" and setup["device"] != "cpu":
            return  # an accelerator may be left in any state: the next stack gets a new process


def _listen(jobs: queue.Queue[dict[str, Any] | None], stop: threading.Event) -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    stop.set()
    jobs.put(None)


def _set_up(setup: dict[str, Any]) -> None:
    """Load plugins and take this worker's share of the cores."""
    import torch

    from genlab.tasks import load_plugin

    torch.set_num_threads(setup["threads"])
    for file in setup["plugins"]:
        load_plugin(file)


def _do(job: dict[str, Any], setup: dict[str, Any], out: TextIO, stop: threading.Event) -> dict[str, Any]:
    import torch

    from genlab.runs.store import Store
    from genlab.runs.work import Job, attempt

    def report(progress: Progress) -> bool:
        _say(out, {"progress": asdict(progress)})
        return not stop.is_set()

    store = _STORES.setdefault(setup["store"], Store(setup["store"]))
    return attempt(store, Job.from_json(job), torch.device(setup["device"]), report)


_STORES: dict[str, Any] = {}
"""Stores by path, open between jobs: what was read of them need not be read again."""


def _say(out: TextIO, message: dict[str, Any]) -> None:
    try:
        out.write(json.dumps(message) + "\n")
        out.flush()
    except BrokenPipeError:  # the driver is gone; its closed input says so too
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


if __name__ == "__main__":
    main()
