"""Build the forecast table of a grid: one row per run, with the inputs and outcomes of forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genlab.errors import UserError, unknown
from genlab.forecast.roles import frame_of
from genlab.runs.index import SETTINGS, TAGGED
from genlab.runs.laws import laws_of, means_by, placed
from genlab.tasks import fitted

if TYPE_CHECKING:
    from pathlib import Path

    from genlab.runs.store import Store

# -- Signals

SIGNAL_ROLES = ("metric", "confidence", "attention", "signal")
"""Allowed roles of a signal; the default is `signal`."""
_NEEDED = ("run_id", "name", "value")
_FAMILY_ROLES = {"confidence": "confidence", "sharpness": "attention", "training": "metric", "weights": "metric"}
"""Families of `genlab.probes` that head signals must improve on -> their role; all others are signals."""


def read_at_the_end(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """Return the stored signals of the final weights of runs."""
    rows = store.signals.frame(run_ids)
    last = {run: store.entry(run)["step"] for run in run_ids}
    return rows[rows["step"] == rows["run_id"].map(last)]


def stored_signals(store: Store, run_ids: Sequence[str]) -> pd.DataFrame:
    """Return the stored signals of the final weights of runs, as rows for `signal_parts`.

    Of head signals, only the stored maximum over heads is used, without its null. Of each signal only values of its
    newest version are used; runs that have only older versions get missing values.
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
    """Return role -> one column per signal, one row per run of `index` (missing if not measured).

    A head signal becomes its maximum over heads, `max NAME`; a layer signal one column per layer, `NAME layer 0`.

    Args:
        rows: columns run_id, name, value and, optionally, layer, head, role, admissible, half (`1` or `2`: measured
            on that half of the examples) and exact (without sampling noise).
        index: the runs.
        inadmissible: include signals whose inputs exceed what the run was trained on.

    Raises:
        UserError: a required column is missing, or an unknown role.
    """
    if rows is None:
        return {}
    if missing := [name for name in _NEEDED if name not in rows]:
        raise UserError(f"signals have no column {missing[0]!r}; required are {', '.join(_NEEDED)}")
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
    """One column per signal, one row per run of `index`."""
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


# -- RASP facts

_NAMES = ("rasp_expected", "rasp_legal", "rasp_operations", "rasp_depth")


def rasp_facts(settings: pd.DataFrame) -> pd.DataFrame:
    """Return RASP facts about the task of each row of `settings` (columns task, format and positions).

    Columns: `rasp_expected` (whether the rule of `genlab.rasp.prediction` expects length generalization with these
    positions), `rasp_legal` (whether the decisive program is strictly legal), `rasp_operations`, `rasp_depth`. A fact
    is missing where unknown: the rule does not judge the positions, all examples have one length, there is no
    program, or neither a program nor an argument against one is known.
    """
    keys = list(zip(settings["task"], settings["format"], settings["positions"], strict=True))
    known = {key: _facts(*key) for key in dict.fromkeys(keys)}
    return pd.DataFrame([known[key] for key in keys], index=settings.index, columns=list(_NAMES))


def _facts(task: str, format: str, positions: str) -> tuple[float, ...]:
    from genlab.rasp.prediction import predict_task

    try:
        prediction = predict_task(task, format)
    except UserError:
        return (np.nan,) * len(_NAMES)
    answer = prediction.expects(positions)
    expected = np.nan if answer is None else float(answer)
    if not prediction.program:
        return (expected, np.nan, np.nan, np.nan)
    return (expected, float(prediction.rules == "strict"), float(prediction.length), float(prediction.depth))


_SEEDS = ("init_seed", "data_seed")
_FOLLOWS = ("d_vocab", "n_ctx", "eval_every")
"""Fields that follow from others, or do not affect what is learned."""
_PLACE = ["split", "length"]


def table(
    store: Store | str | Path | None,
    runs: str | Sequence[str],
    signals: pd.DataFrame | None = None,
    inadmissible: bool = False,
) -> pd.DataFrame:
    """Return one row per run: settings, ID metrics, signals, RASP facts, outcomes, and when those were measured.

    Columns are pairs (role, name); see `genlab.forecast.roles.ROLES`. An outcome is named `METRIC@split=S,length=L`
    and has the role `outcome` (the first evaluation set), `second` (another one) or `earlier` (the last evaluation
    during training before the end). `seen_at` holds, for each `split=S,length=L`, when it was first evaluated,
    including during training; `weight` the relative training frequency of the length (maximum 1; missing for other
    lengths), which weights means over lengths.

    Args:
        store: a store or its directory.
        runs: a grid, group, tag or run id, without its diverged runs; or run ids, all of which are used.
        signals: rows of (run_id, name, value) and, optionally, layer, head, role and admissible; default: those in
            the store.
        inadmissible: include signals whose inputs exceed what the run was trained on.

    Raises:
        UserError: no such runs, or some without a record.
    """
    from genlab.runs.diverged import set_aside
    from genlab.runs.store import Store as Opened

    kept = store if isinstance(store, Opened) else Opened(store)
    ids, diverged = set_aside(kept, kept.find(runs)) if isinstance(runs, str) else (list(runs), [])
    if not ids:
        raise UserError(
            f"all {len(diverged)} runs of {runs!r} diverged" if diverged else f"{runs!r} has no completed runs"
        )
    about = kept.runs()
    if lost := sorted(set(ids) - set(about["run_id"])):
        raise UserError(f"{len(lost)} of {len(ids)} runs have no record in the store: {', '.join(lost[:3])}")
    laws = laws_of(about[about["run_id"].isin(set(ids))], kept.spec)
    about = about.set_index("run_id").loc[ids]
    evals, trace = placed(kept.evals(ids), laws), placed(kept.trace(ids), laws)
    evaluated = placed(kept.evaluations.table(ids).to_pandas(), laws)
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
            "seen_at": _seen_at(about, evaluated, trace),
            "weight": _weights(pd.concat([evals, trace]), about.index),
        }
    )


def place_name(split: str, length: int) -> str:
    """Return `split=S,length=L`."""
    return f"split={split},length={length}"


def outcome_name(metric: str, split: str, length: int) -> str:
    """Return `METRIC@split=S,length=L`."""
    return f"{metric}@{place_name(split, length)}"


def _settings(about: pd.DataFrame) -> pd.DataFrame:
    fields = SETTINGS | {name for name in about if name.startswith(TAGGED)}
    # Columns without values belong to other runs of the store.
    return about[[c for c in about if c in fields and c not in (*_SEEDS, *_FOLLOWS)]].dropna(axis=1, how="all")


def _metrics(about: pd.DataFrame, evals: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """ID metrics: mean of each metric over tested lengths, final loss, and the first step at which the run fitted."""
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
    """Relative training frequency of the lengths at which shifted splits were tested."""
    rows = rows[rows["outside"] & rows["relative"].notna()]
    wide = rows.pivot_table(index="run_id", columns=_PLACE, values="relative", aggfunc="first").sort_index(axis=1)
    wide.columns = [place_name(str(split), int(length)) for split, length in wide.columns]
    return wide.reindex(index)


def _seen_at(about: pd.DataFrame, later: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """When each OOD split and length was first evaluated, including during training."""
    evaluated = trace.assign(at=about["at"].loc[trace["run_id"]].to_numpy())
    rows = pd.concat([later, evaluated])
    rows = rows[rows["outside"]]
    wide = rows.pivot_table(index="run_id", columns=_PLACE, values="at", aggfunc="min").sort_index(axis=1)
    wide.columns = [place_name(str(split), int(length)) for split, length in wide.columns]
    return wide.reindex(about.index).replace({np.nan: None})
