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
    from genlab import view
    from genlab.report.ask import ask
    from genlab.report.constant import constants
    from genlab.report.dispersion import dispersion
    from genlab.report.ensemble import ensemble
    from genlab.report.items import items
    from genlab.report.lines import lines
    from genlab.report.monitor import monitor
    from genlab.report.tables import results, signals
    from genlab.runs.api import Run, load, train
    from genlab.runs.elsewhere import batches
    from genlab.runs.plan import Evals, plan

__version__ = "0.1.0"
__all__ = [
    "Evals",
    "Run",
    "ask",
    "batches",
    "constants",
    "dispersion",
    "ensemble",
    "items",
    "lines",
    "load",
    "monitor",
    "plan",
    "results",
    "signals",
    "train",
    "view",
]

_LATER = {
    **dict.fromkeys(("Evals", "plan"), "runs.plan"),
    **dict.fromkeys(("Run", "load", "train"), "runs.api"),
    "ask": "report.ask",
    "constants": "report.constant",
    "dispersion": "report.dispersion",
    "ensemble": "report.ensemble",
    "items": "report.items",
    "lines": "report.lines",
    "monitor": "report.monitor",
    "batches": "runs.elsewhere",
    **dict.fromkeys(("results", "signals"), "report.tables"),
}
"""Name -> the module it is imported from when it is first used: most import torch, which `lab --help` should not."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "view":
        return import_module("genlab.view")
    if name not in _LATER:
        raise AttributeError(f"module 'genlab' has no attribute {name!r}")
    return getattr(import_module(f"genlab.{_LATER[name]}"), name)
