"""The table of a grid: a row a run, with all that a forecast may use, and what it forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genlab.errors import UserError, unknown
from genlab.forecast.roles import frame_of
from genlab.runs.laws import laws_of, means_by, placed
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import fitted

if TYPE_CHECKING:
    from pathlib import Path

    from genlab.runs.store import Store
if TYPE_CHECKING:
    from genlab.runs.store import Store


# -- Rows of signals, as columns of a forecast table

SIGNAL_ROLES = ("metric", "confidence", "attention", "signal")
"""What a row of signals may be for a forecast; `signal` unless it says."""
_NEEDED = ("run_id", "name", "value")
_FAMILY_ROLES = {"confidence": "confidence", "sharpness": "attention", "training": "metric", "weights": "metric"}
"""Families of `genlab.probes` that a head signal has to add to -> their role; all others are signals."""


def read_at_the_end(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """Rows of the signals that a store holds of the last weights of runs."""
    from genlab.runs.parts import Signals

    rows = Signals(store.path).frame(run_ids)
    last = {run: store.entry(run)["step"] for run in run_ids}
    return rows[rows["step"] == rows["run_id"].map(last)]


def stored_signals(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """The signals that a store holds of runs, at the ends of their training, as rows for `signal_parts`.

    Of a signal read a head only the maximum over heads is taken, as it was stored; its null is left out. Of each
    signal the values of one version are taken, the newest that any of the runs has: others mean something else, and
    are missing.
    """
    from genlab.probes.signal import HALVES, all_signals

    rows = read_at_the_end(store, run_ids)
    declared = {one.name: one for one in all_signals()} if len(rows) else {}
    rows = rows[rows["signal"].isin(list(declared))]
    rows = rows[~rows["name"].str.endswith((".null", ".null_sd")) & (rows["head"] < 0)]
    rows = rows[rows["version"] == rows.groupby("signal")["version"].transform("max")]
    half = rows["name"].str.extract(r"\.half([12])$", expand=False)
    role = [_FAMILY_ROLES.get(declared[name].family, "signal") for name in rows["signal"]]
    layer = rows["layer"].where(rows["layer"] >= 0)
    admissible = [declared[name].admissible for name in rows["signal"]]
    exact = [declared[name].exact for name in rows["signal"]]
    name = rows["name"].str.replace("|".join(f"\\{end}$" for end in HALVES), "", regex=True)
    about = {"name": name, "layer": layer, "role": role, "admissible": admissible, "half": half, "exact": exact}
    return rows[["run_id", "value"]].assign(**about)


def signal_parts(rows: pd.DataFrame | None, index: pd.Index, inadmissible: bool) -> dict[str, pd.DataFrame]:
    """Role -> a column a signal, a row a run of `index` (missing where a run was not measured).

    A signal read a head is given as its largest value over the heads, `max NAME`; a signal read a layer as one column
    a layer, `NAME layer 0`.

    Args:
        rows: columns run_id, name, value and, where there are, layer, head, role, admissible, half (`1` or `2`: the
            value as read on that half of the examples) and exact (it is not read on a sample).
        inadmissible: also those that say that their inputs went beyond what the run was trained on.

    Raises:
        UserError: a column that is needed is missing, or a role that there is not.
    """
    if rows is None:
        return {}
    if missing := [name for name in _NEEDED if name not in rows]:
        raise UserError(f"signals have no column {missing[0]!r}; they need {', '.join(_NEEDED)}")
    found = rows[rows["run_id"].isin(index)].copy()
    if not inadmissible and "admissible" in found:
        found = found[found["admissible"].astype(bool)]
    found["role"] = found["role"].fillna("signal") if "role" in found else "signal"
    for role in found["role"].unique():
        if role not in SIGNAL_ROLES:
            raise unknown("role of a signal:", str(role), SIGNAL_ROLES)
    found["column"] = _column_names(found)
    half = found["half"] if "half" in found else pd.Series(None, found.index, dtype=object)
    known = found[half.isna() & found["value"].notna()]
    exact = known[known["exact"].fillna(False).astype(bool)] if "exact" in found else found[:0]
    parts = {
        str(role): _signal_columns(of_role, index) for role, of_role in found[half.isna()].groupby("role", sort=False)
    }
    more = {f"half{one}": found[half == one] for one in ("1", "2")} | {"exact": exact.assign(value=1.0)}
    parts |= {role: _signal_columns(rows, index) for role, rows in more.items() if len(rows)}
    return {role: parts[role] for role in (*SIGNAL_ROLES, *more) if role in parts}


def _signal_columns(rows: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """A column a signal, a row a run of `index`."""
    wide = rows.pivot_table(index="run_id", columns="column", values="value", aggfunc="max", sort=False)
    return wide.reindex(index).rename_axis(columns=None)


def _column_names(rows: pd.DataFrame) -> pd.Series:
    names = rows["name"].astype(str)
    if "layer" in rows:
        of_layer = rows["layer"].notna()
        names = names.where(~of_layer, names + " layer " + rows["layer"].fillna(0).astype(int).astype(str))
    if "head" in rows:
        names = names.where(rows["head"].isna(), "max " + rows["name"].astype(str))
    return names


# -- What RASP says of a task before any run of it: facts of a forecast table

_NAMES = ("rasp_expected", "rasp_legal", "rasp_operations", "rasp_depth")


def rasp_facts(settings: pd.DataFrame) -> pd.DataFrame:
    """Facts of the task of each row of `settings` (columns task, format and positions).

    Columns: `rasp_expected` (does the rule of `genlab.rasp.prediction` expect generalisation in length with these
    positions), `rasp_legal` (is the program that decides strictly legal), `rasp_operations`, `rasp_depth`. Each is
    missing where it is not known: the rule does not judge the positions, the examples have one length, there is no
    program, or neither a program nor a reason against one is known.
    """
    keys = list(zip(settings["task"], settings["format"], settings["positions"], strict=True))
    known = {key: _facts(*key) for key in dict.fromkeys(keys)}
    return pd.DataFrame([known[key] for key in keys], index=settings.index, columns=list(_NAMES))


def _facts(task: str, format: str, positions: str) -> tuple[float, ...]:
    from genlab.rasp.prediction import predict_task

    try:
        said = predict_task(task, format)
    except UserError:
        return (np.nan,) * len(_NAMES)
    answer = said.expects(positions)
    expected = np.nan if answer is None else float(answer)
    if not said.program:
        return (expected, np.nan, np.nan, np.nan)
    return (expected, float(said.rules == "strict"), float(said.length), float(said.depth))


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
    laws = laws_of(about[about["run_id"].isin(set(ids))], kept.spec)
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
