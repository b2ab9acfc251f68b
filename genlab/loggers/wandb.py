"""Weights & Biases: a wandb run per run, offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from genlab.loggers.record import LoggedRun

PACKAGE = "wandb"


def write(runs: Iterator[LoggedRun], folder: Path) -> str:
    """Write runs below a folder, in place of offline ones that an earlier call wrote of them.

    The axis of `training/` is the training step; that of `by_length/` is the length.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE", "offline")
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        for earlier in folder.glob(f"wandb/offline-run-*-{run.run_id}"):
            shutil.rmtree(earlier)
        with wandb.init(
            project="genlab",
            id=run.run_id,
            name=run.run_id,
            group=run.group,
            config=run.options,
            dir=folder,
            mode=mode,  # pyright: ignore[reportArgumentType]
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True),
        ) as logged:
            logged.define_metric("training/*", step_metric="step")
            logged.define_metric("by_length/*", step_metric="length")
            for name, step, value in run.curves():
                logged.log({f"training/{name}": value, "step": step})
            for name, length, value in run.by_length():
                logged.log({f"by_length/{name}": value, "length": length})
            if run.figure is not None:
                logged.log({"exact_match_by_length": wandb.Image(str(run.figure))})
    return f"wandb: {folder / 'wandb'}" + ("; wandb sync sends it" if mode == "offline" else "")
