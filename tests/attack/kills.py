"""Kills: a small grid that is interrupted at random moments ends like one that nobody disturbed, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

from .harness import Case

sys.path.append(str(Path(__file__).parents[1] / "runs"))  # the helpers of the tests of grids are found there

from small_grids import SMALL, assert_undisturbed

_SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
_MOST = 3
"""Interruptions of one grid; then it is left to end."""
_CALM: list[tuple[Path, float]] = []
"""The undisturbed store and how long it took, made once per process."""


def run(case: Case) -> None:
    """Interrupt a grid again and again until it is done, and compare its store."""
    file = case.here / "small.toml"
    file.write_text(SMALL.format(steps=40, seeds=2) + 'keep_steps = "10:40:20"\n')
    words = ("grid", "small.toml", "--workers", "1", "--device", "cpu", "--checkpoint-minutes", "0.0005")
    if not _CALM:
        ended = case.call(*words, limit=300)
        kept = case.root.with_name("calm")
        shutil.move(case.store, kept)
        _CALM.append((kept, ended.seconds))
    calm, seconds = _CALM[0]
    told: list[str] = []
    for _ in range(_MOST):
        name = case.rng.choice(list(_SIGNALS))
        moment = case.rng.uniform(0.0, seconds)
        told.append(f"{name} after {moment:.2f} s")
        ended = case.call(*words, limit=300, after=(moment, _SIGNALS[name]))
        if ended.status == 0:
            break
        case.disturbed += 1
    ended = case.call(*words, limit=300)
    if ended.status != 0:
        case.fault("harmed", f"after {', '.join(told)} the grid does not end: {ended.err[-300:]}")
    elif why := _difference(case.store, calm, case.root / "difference"):
        case.fault("harmed", f"after {', '.join(told)}: {why}")


def _difference(store: Path, calm: Path, log: Path) -> str:
    """How two stores differ, as a child of this process sees it; '' if they do not."""
    child = os.fork()
    if child == 0:
        status = 0
        try:
            assert_undisturbed(store, calm)
        except BaseException:
            log.write_text(traceback.format_exc())
            status = 1
        finally:
            os._exit(status)
    return log.read_text()[-600:] if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) else ""
