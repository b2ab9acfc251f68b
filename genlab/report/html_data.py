"""What the report of a grid is made of: read from the store once, and nothing from anywhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.forecast.judge import By, Judgement, judge
from genlab.forecast.ledger import Ledger, check_not_fed_back
from genlab.forecast.roles import part
from genlab.forecast.rules import in_and_out
from genlab.forecast.splits import settings_of
from genlab.forecast.tables import table as grid_table
from genlab.forecast.targets import Target, parse_target, target_in_words, values_of
from genlab.runs.store import Store
from genlab.tasks import TrainingLaw, place_in_words

__all__ = ["ReportData", "read_report"]


@dataclass(frozen=True)
class ReportData:
    """The runs of a grid.

    Attributes:
        table: `genlab.forecast.table`.
        cells: names of the settings; cell: the number of each run's.
        exact: exact match, a row a (run, split, length), the latest.
        target: what is forecast; value: its number for each run, before any `>=` (NaN: no evaluation).
        judgement: forecasts of it, or why there are none.
    """

    name: str
    store: Store
    table: pd.DataFrame
    cells: list[str]
    cell: dict[str, int]
    exact: pd.DataFrame
    history: pd.DataFrame
    trace: pd.DataFrame
    target: Target
    value: np.ndarray
    judgement: Judgement | str

    @property
    def measured(self) -> str:
        """What `value` is, in words."""
        return target_in_words(replace(self.target, least=None), self.table)

    @property
    def laws(self) -> list[TrainingLaw]:
        """Of the training lengths of the runs."""
        return [self.store.law(str(run)) for run in self.table.index]

    @property
    def traced(self) -> str:
        """What `trace` has of the runs while they trained, out of distribution, in words."""
        return f"exact match{place_in_words(self.target.split or 'id', self.trace.attrs['lengths'], self.laws)}"

    @property
    def inside(self) -> np.ndarray:
        """float[run]: exact match in distribution."""
        metric = part(self.table, "metric")
        return metric["exact_match"].to_numpy(float) if "exact_match" in metric else np.full(len(self.table), np.nan)


def read_report(
    store: Store, grid: str, text: str | None, signal: str | None, by: By, fit_only: bool = True
) -> ReportData:
    """Read all of a grid.

    Args:
        text: a target; default: exact match on the first split out of distribution, over all its lengths.
        signal: the signal that is asked about; default: none.
        fit_only: forecasts are of runs that learned their task alone.

    Raises:
        UserError: no such grid, a target that is none, outcomes of sealed runs that are not scored yet.
    """
    table = grid_table(store, grid)
    ids = list(table.index)
    target = parse_target(text) if text else _default_target(table)
    value = values_of(table, replace(target, least=None)).value
    check_not_fed_back(Ledger(store), table, target)
    names = settings_of(table)
    cells = list(dict.fromkeys(names.tolist()))
    exact = store.evals(ids, metric="exact_match").drop_duplicates(["run_id", "split", "length"], keep="last")
    try:
        found: Judgement | str = judge(table, target, by, signal=signal, fit_only=fit_only)
    except UserError as error:
        if signal is not None:
            raise
        found = str(error)
    return ReportData(
        grid,
        store,
        table,
        cells,
        {run: cells.index(name) for run, name in zip(ids, names, strict=True)},
        exact,
        store.history(ids),
        in_and_out(store, ids, target.split or "id"),
        target,
        value,
        found,
    )


def _default_target(table: pd.DataFrame) -> Target:
    names = [str(name) for name in part(table, "outcome") if str(name).startswith("exact_match@")]
    if not names:
        raise UserError("no run of the grid was evaluated out of distribution yet; lab eval does that")
    splits = list(dict.fromkeys(name.split("split=")[1].rpartition(",length=")[0] for name in names))
    return parse_target(f"exact_match@split={next((s for s in splits if s != 'id'), 'id')}")
