"""TensorBoard: an event file per run, with its options as hyperparameters."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from genlab.loggers.record import LoggedRun

PACKAGE = "tensorboard"


def write(runs: Iterator[LoggedRun], folder: Path) -> str:
    """Write runs below a folder, in place of what an earlier call wrote of them.

    The axis of `training/` is the training step; that of `by_length/` is the length.
    """
    from matplotlib.image import imread
    from torch.utils.tensorboard.summary import hparams
    from torch.utils.tensorboard.writer import SummaryWriter

    for run in runs:
        shutil.rmtree(folder / run.run_id, ignore_errors=True)
        with SummaryWriter(str(folder / run.run_id)) as writer:
            for name, step, value in run.curves():
                writer.add_scalar(f"training/{name}", value, step)
            for name, length, value in run.by_length():
                writer.add_scalar(f"by_length/{name}", value, length)
            if run.figure is not None:
                writer.add_image("exact_match_by_length", imread(run.figure)[..., :3], dataformats="HWC")
            options = {
                key: value if isinstance(value, bool | int | float | str) else str(value)
                for key, value in run.options.items()
            }
            last = {f"training/{name}": value for name, _, value in run.curves()}
            assert writer.file_writer is not None
            for summary in hparams(options, last):
                writer.file_writer.add_summary(summary)
    return f"tensorboard --logdir {folder}"
