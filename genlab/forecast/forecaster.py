"""A forecaster: the runs it learns from and how it is fitted, kept in a store. Fitted anew, it is the same again."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from genlab.errors import UserError, unknown
from genlab.forecast.conformal import prediction_intervals
from genlab.forecast.judge import signal_column
from genlab.forecast.population import choose
from genlab.forecast.predictors import Model, Predictor, fit, main_predictor, make_predictors, matrix
from genlab.forecast.roles import KNOWN_BEFORE, columns, frame_of, part
from genlab.forecast.splits import Fold, settings_of, twins_of
from genlab.forecast.targets import Target, Values, parse_target, values_of
from genlab.runs.files import create_json, read_json, read_table, write_table
from genlab.runs.store import Store, now
from genlab.tasks import fitted

__all__ = ["Forecaster", "load_forecaster", "save_forecaster"]

_BETWEEN = "|"


@dataclass(frozen=True)
class Forecaster:
    """What forecasts new runs.

    Attributes:
        hash: of the training table and all options: what a sealed forecast names.
        table: the training runs.
        signal: the one that is asked about; forecasts are made with and without it.
    """

    name: str
    hash: str
    table: pd.DataFrame
    target: Target
    signal: str | None
    model: Model
    fit_only: bool
    seed: int

    def forecast(self, new: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
        """Predictor -> run -> [what it ranks by, what it expects], for runs of which no outcome is looked at.

        Raises:
            UserError: a run that was trained on, or a column of the training runs that none of the new runs has.
        """
        rows, values, fold, predictors = self._with(new)
        twins, yes_no = twins_of(rows), self.target.kind == "yes/no"
        found: dict[str, dict[str, list[float]]] = {}
        for one in predictors:
            said = fit(one, matrix(rows, one), values.value, fold.train, fold.test, twins, yes_no, self.seed)
            pairs = zip(new.index, said.rank.tolist(), said.mean.tolist(), strict=True)
            found[one.name] = {str(run): [rank, mean] for run, rank, mean in pairs}
        return found

    def intervals(self, new: pd.DataFrame) -> dict[str, Any]:
        """Prediction intervals of the forecasts that stand for all: `of`, and run -> [low, high] (None: no end).

        Empty for yes/no targets, whose forecasts are probabilities. Raises as `forecast`.
        """
        if self.target.kind == "yes/no":
            return {}
        rows, values, fold, predictors = self._with(new)
        main = main_predictor([one.name for one in predictors], self.signal)
        one = next(one for one in predictors if one.name == main)
        setting, twins = settings_of(rows), twins_of(rows)
        made = prediction_intervals(one, rows, matrix(rows, one), values, setting, twins, fold, self.seed)
        ends = np.stack([made.low, made.high], axis=1)
        finite: list[list[float | None]] = [[float(end) if np.isfinite(end) else None for end in p] for p in ends]
        return {"of": main, "runs": dict(zip(map(str, new.index), finite, strict=True))}

    def _with(self, new: pd.DataFrame) -> tuple[pd.DataFrame, Values, Fold, list[Predictor]]:
        """Training runs and new ones in one table, outcomes of the former, which is which, and the predictors."""
        if both := set(new.index) & set(self.table.index):
            raise UserError(f"forecaster {self.name!r} was trained on {len(both)} of these runs ({min(both)}, ...)")
        for column in columns(self.table, KNOWN_BEFORE):
            if column not in new.columns or new[column].isna().all() > self.table[column].isna().all():
                raise UserError(
                    f"forecaster {self.name!r} uses {column[1]!r}, which was measured of none of these runs "
                    "(lab probe measures signals; what only runs with an outcome have is a leak)"
                )
        count = len(self.table)
        known = [column for column in self.table.columns if column[0] in (*KNOWN_BEFORE, "seed")]
        rows = pd.concat([self.table[known], new.reindex(columns=known)])
        seen = values_of(self.table, self.target)
        value = np.concatenate([seen.value, np.full(len(new), np.nan)])
        values = Values(value, np.concatenate([seen.censored, np.zeros(len(new), bool)]))
        column = None if self.signal is None else signal_column(self.table, self.signal)
        fold = Fold("new runs", np.arange(count), np.arange(count, count + len(new)))
        return rows, values, fold, make_predictors(rows, column, self.model)

    @property
    def used(self) -> list[list[str]]:
        """The columns that forecasts are made from, as [role, name]."""
        return [list(column) for column in columns(self.table, KNOWN_BEFORE)]

    def fits(self, table: pd.DataFrame) -> pd.DataFrame:
        """The runs that it is for: those that learned their task, unless it was trained on all."""
        exact = part(table, "metric").get("exact_match")
        return table[fitted(exact)] if self.fit_only and exact is not None else table


def save_forecaster(
    store: Store,
    table: pd.DataFrame,
    target: Target,
    signal: str | None,
    model: Model,
    fit_only: bool,
    seed: int,
    name: str,
) -> Forecaster:
    """Keep a forecaster under a name: its training runs (with outcomes) and its options.

    Raises:
        UserError: a name that is taken or is none; what `judge` raises for a target, a signal or its runs.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"--save {name!r} is not allowed (letters, digits, . _ -)")
    chosen = choose(table, target, fit_only).table
    if signal is not None:
        signal_column(chosen, signal)
    kept = chosen[[column for column in chosen.columns if column[0] not in ("second", "earlier", "seen_at")]]
    flat = kept.copy()
    flat.columns = [_BETWEEN.join(column) for column in kept.columns]
    stored = pa.Table.from_pandas(flat.rename_axis("run_id").reset_index(), preserve_index=False)
    folder = store.path / "forecasters"
    store.ready()
    file = write_table(folder, name, stored)
    about = {"name": name, "at": now(), "target": target.text, "signal": signal, "model": model}
    about |= {"fit_only": fit_only, "seed": seed, "table": file}
    if not create_json(folder / f"{name}.json", about):
        raise UserError(f"a forecaster {name!r} is there already; it is not overwritten, since locks may name it")
    return load_forecaster(store, name)


def load_forecaster(store: Store, name: str) -> Forecaster:
    """A forecaster that `save_forecaster` kept.

    Raises:
        UserError: there is none of that name.
        DamagedFileError: its training table is not as it was written.
    """
    folder = store.path / "forecasters"
    if not (folder / f"{name}.json").is_file():
        raise unknown("forecaster", name, [path.stem for path in folder.glob("*.json")])
    about: dict[str, Any] = read_json(folder / f"{name}.json")
    flat = read_table(folder / about["table"]).to_pandas().set_index("run_id")
    roles = dict.fromkeys(str(column).partition(_BETWEEN)[0] for column in flat.columns)
    parts = {role: flat[[c for c in flat if str(c).startswith(role + _BETWEEN)]] for role in roles}
    parts = {r: p.rename(columns=lambda c: str(c).partition(_BETWEEN)[2]) for r, p in parts.items()}
    told = "\n".join(f"{key} {about[key]}" for key in sorted(about) if key not in ("name", "at"))
    made = hashlib.sha256(told.encode()).hexdigest()
    options = (about["signal"], about["model"], about["fit_only"], about["seed"])
    return Forecaster(name, made, frame_of(parts), parse_target(about["target"]), *options)
