"""Plans, the store, and training of runs. Modules that need torch are imported on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genlab.runs.gridfile import Grid, read_grid
from genlab.runs.plan import Evals, Plan, plan

if TYPE_CHECKING:
    from genlab.runs.api import Run, evaluate, grid, load, train
    from genlab.runs.store import Store

__all__ = ["Evals", "Grid", "Plan", "Run", "Store", "evaluate", "grid", "load", "plan", "read_grid", "train"]


def __getattr__(name: str) -> Any:
    if name in ("Run", "evaluate", "grid", "load", "train"):
        from genlab.runs import api

        return getattr(api, name)
    if name == "Store":
        from genlab.runs.store import Store

        return Store
    raise AttributeError(f"module 'genlab.runs' has no attribute {name!r}")
