"""Pairs of runs of one architecture, right in distribution, that differ by seed alone and split outside it.

They are kept as a small store of their own, so that every command reads them: `lab probe pair-1 --store
benchmarks/pairs/store`, `lab notebook RUN --store benchmarks/pairs/store`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from genlab.forecast.roles import part
from genlab.forecast.tables import table
from genlab.forecast.targets import parse_target, values_of
from genlab.runs.store import Store
from genlab.tasks import fitted
from genlab.training import RunState

__all__ = ["keep_pairs"]

_PAIRS = 3
_HISTORY = ["step", "loss", "lr", "exact_match", "seconds"]


def keep_pairs(store: Store, grids: Sequence[str], target: str, folder: Path) -> None:
    """Keep the lowest and the highest runs by a target, side by side, among those that fit: tags `pair-1`, ...

    `pairs.csv` says which goes with which, and what each does in and out of distribution.
    """
    about = table(store, [run for grid in grids for run in store.find(grid)])
    exact = part(about, "metric")["exact_match"]
    rows = pd.DataFrame({"exact_match": exact, "outside": values_of(about, parse_target(target)).value})
    order = rows[fitted(rows["exact_match"])].sort_values("outside")
    pairs = list(zip(order.index[:_PAIRS], order.index[::-1][:_PAIRS], strict=True))
    kept, found = Store(folder / "store"), []
    kept.ready()
    for number, pair in enumerate(pairs, start=1):
        for run in map(str, pair):
            if run not in kept:
                kept.commit([_state(store, run)], store.entry(run)["environment"])
                evals = store.evals([run], answers=True)
                kept.add_evals(evals.astype(object).where(evals.notna(), None).to_dict("records"))
            seeds = store.spec(run).train
            seeds = {"init_seed": seeds.init_seed, "data_seed": seeds.data_seed}
            found.append({"pair": number, "run_id": run, **seeds, **rows.loc[run].round(4)})
        kept.named.tag(f"pair-{number}", [str(run) for run in pair])
    pd.DataFrame(found).to_csv(folder / "pairs.csv", index=False)
    print(pd.DataFrame(found).to_string(index=False))


def _state(store: Store, run: str) -> RunState:
    """A run as it was committed, without what only going on with it would need."""
    entry, weights = store.entry(run), store.weights([run])[0]
    history = store.history([run])[_HISTORY].to_dict("records")
    nothing = torch.zeros(0)
    return RunState(store.spec(run), int(entry["step"]), entry["status"], weights, nothing, nothing, history)
