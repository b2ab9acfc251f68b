"""The table of a grid: a row a run, with all that a forecast may use, and what it forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.forecast.facts import rasp_facts
from genlab.forecast.roles import frame_of
from genlab.forecast.signals import signal_parts, stored_signals
from genlab.runs.laws import laws_of, means_by, placed
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import fitted

if TYPE_CHECKING:
    from pathlib import Path

    from genlab.runs.store import Store

__all__ = ["outcome_name", "place_name", "table"]

_SEEDS = ("init_seed", "data_seed")
_FOLLOWS = ("d_vocab", "n_ctx", "eval_every")
"""Fields that follow from others, or do not change what is learned."""
_PLACE = ["split", "length"]


def table(
    store: Store | str | Path | None,
    runs: str | Sequence[str],
    signals: pd.DataFrame | None = None,
    inadmissible: bool = False,
) -> pd.DataFrame:
    """A row a run: settings, in-distribution metrics, signals, RASP facts, outcomes, and when those were measured.

    Columns are pairs (role, name); `genlab.forecast.roles.ROLES` says what each role is. An outcome is named
    `METRIC@split=S,length=L`; it is in the role `outcome` (the first evaluation set), `second` (another one) and
    `earlier` (the last evaluation while training before the end). `seen_at` holds, for each `split=S,length=L`, when
    it was first looked at, while training included; `weight` how often training draws the length, the likeliest being
    1, missing where it is no training length: what means over lengths go by.

    Args:
        runs: a grid, group, tag or run id, whose runs that diverged are left out; or run ids, all of which are taken.
        signals: rows of (run_id, name, value) and, where there are, layer, head, role and admissible; by default
            those that the store holds.
        inadmissible: also signals whose inputs go beyond what the run was trained on.

    Raises:
        UserError: no such runs.
    """
    from genlab.runs.diverged import set_aside
    from genlab.runs.store import Store as Opened

    kept = store if isinstance(store, Opened) else Opened(store)
    ids, diverged = set_aside(kept, kept.find(runs)) if isinstance(runs, str) else (list(runs), [])
    if not ids:
        raise UserError(
            f"all {len(diverged)} runs of {runs!r} diverged" if diverged else f"{runs!r} has no runs that have ended"
        )
    about = kept.runs()
    laws = laws_of(kept, about[about["run_id"].isin(set(ids))])
    about = about.set_index("run_id").loc[ids]
    evals, trace = placed(kept.evals(ids), laws), placed(kept.trace(ids), laws)
    looked = placed(kept.evaluations.table(ids).to_pandas(), laws)
    rows = stored_signals(kept, ids) if signals is None else signals
    read = signal_parts(rows, about.index, inadmissible)
    metrics = _metrics(about, evals, kept.history(ids))
    more = read.pop("metric", pd.DataFrame(index=about.index)).drop(columns=metrics.columns, errors="ignore")
    return frame_of(
        {
            "setting": _settings(about),
            "seed": about[[name for name in _SEEDS if name in about]],
            "metric": metrics.join(more),
            **read,
            "fact": rasp_facts(about),
            **_outcomes(about, evals, trace),
            "seen_at": _seen_at(about, looked, trace),
            "weight": _weights(pd.concat([evals, trace]), about.index),
        }
    )


def place_name(split: str, length: int) -> str:
    """`split=S,length=L`."""
    return f"split={split},length={length}"


def outcome_name(metric: str, split: str, length: int) -> str:
    """`METRIC@split=S,length=L`."""
    return f"{metric}@{place_name(split, length)}"


def _settings(about: pd.DataFrame) -> pd.DataFrame:
    fields = {*ModelConfig.model_fields, *TrainConfig.model_fields, "task", "format", "max_len"}
    fields |= {name for name in about if name.startswith("params.")}
    # A column that none of the runs has is of other runs of the store.
    return about[[c for c in about if c in fields and c not in (*_SEEDS, *_FOLLOWS)]].dropna(axis=1, how="all")


def _metrics(about: pd.DataFrame, evals: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """In distribution: mean of each metric over the tested lengths; last loss, and when the run first fitted."""
    inside = evals[evals["inside"] & ~evals["metric"].str.contains("|", regex=False)]
    means = means_by(inside, ["run_id", "metric"]).unstack("metric").reindex(about.index)
    ordered = history.sort_values(["run_id", "step"])
    fit_step = ordered[fitted(ordered["exact_match"])].groupby("run_id")["step"].min()
    last = ordered.dropna(subset=["loss"]).groupby("run_id")["loss"].last()
    means["training_loss"] = last.reindex(about.index)
    means["fit_step"] = fit_step.reindex(about.index).astype(float)
    return means.rename_axis(columns=None)


def _outcomes(about: pd.DataFrame, evals: pd.DataFrame, trace: pd.DataFrame) -> dict[str, pd.DataFrame]:
    beyond = evals[evals["outside"] & ~evals["metric"].str.contains("|", regex=False)]
    order = beyond.groupby(["run_id", *_PLACE, "metric"])["seed"].rank(method="dense")
    before = trace[trace["outside"] & (trace["step"] < about["step"].loc[trace["run_id"]].to_numpy())]
    before = before[before["step"] == before.groupby("run_id")["step"].transform("max")]
    rows = {"outcome": beyond[order == 1], "second": beyond[order == 2], "earlier": before}
    return {role: _outcome_columns(found, about.index) for role, found in rows.items()}


def _outcome_columns(rows: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    wide = rows.pivot_table(index="run_id", columns=["metric", *_PLACE], values="value", aggfunc="last")
    wide = wide.sort_index(axis=1)
    wide.columns = [outcome_name(str(m), str(s), int(n)) for m, s, n in wide.columns]
    return wide.reindex(index)


def _weights(rows: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """How often training draws the lengths at which shifted splits were tested."""
    rows = rows[rows["outside"] & rows["relative"].notna()]
    wide = rows.pivot_table(index="run_id", columns=_PLACE, values="relative", aggfunc="first").sort_index(axis=1)
    wide.columns = [place_name(str(split), int(length)) for split, length in wide.columns]
    return wide.reindex(index)


def _seen_at(about: pd.DataFrame, made: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """When each place out of distribution was first looked at: an evaluation, or a look while training."""
    looked = trace.assign(at=about["at"].loc[trace["run_id"]].to_numpy())
    rows = pd.concat([made, looked])
    rows = rows[rows["outside"]]
    wide = rows.pivot_table(index="run_id", columns=_PLACE, values="at", aggfunc="min").sort_index(axis=1)
    wide.columns = [place_name(str(split), int(length)) for split, length in wide.columns]
    return wide.reindex(about.index).replace({np.nan: None})
