"""genlab: will a small transformer be right on inputs it has never seen, and could we have known?

import genlab

plan = genlab.plan("sort", train_len=20, test_len=50, seeds=range(4))
runs = genlab.train(plan)
runs[0].evals()
model, task = genlab.load(runs[0].run_id).model, runs[0].task
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genlab.runs.api import Run, load, train
    from genlab.runs.plan import Evals, plan

__version__ = "0.1.0"
__all__ = ["Evals", "Run", "load", "plan", "train"]


def __getattr__(name: str) -> Any:
    if name in ("Run", "load", "train"):  # these import torch
        from genlab.runs import api

        return getattr(api, name)
    if name in ("Evals", "plan"):
        from genlab import runs

        return getattr(runs, name)
    raise AttributeError(f"module 'genlab' has no attribute {name!r}")
