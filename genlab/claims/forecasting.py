"""How well an outcome of runs is ranked from measures or settings of theirs, by the lab's own forecasts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genlab.claims.measuring import RunValues
from genlab.claims.rules import Auroc
from genlab.errors import UserError
from genlab.forecast.compare import over_runs, overall, per_setting
from genlab.forecast.predictions import predict
from genlab.forecast.predictors import Predictor
from genlab.forecast.roles import frame_of
from genlab.forecast.scores import Interval, setting_interval
from genlab.forecast.splits import leave_one_out, random_runs, settings_of, twins_of
from genlab.forecast.targets import Values

_SEED = 17
"""Of the folds, of trees and of the bootstrap: a verdict is the same each time it is computed."""


def auroc_of(rule: Auroc, runs: Sequence[RunValues]) -> Interval:
    """AUROC of the forecasts that a rule describes, with its 95 % interval.

    With runs held out it is over all settings, as it is published: bootstrap over runs. With settings held out it is
    the mean of those within settings where both outcomes occur: Student's t over settings.

    Args:
        rule: the rule.
        runs: with values of its measures.

    Raises:
        UserError: the runs cannot be split as the rule asks.
    """
    rng = np.random.default_rng(_SEED)
    names = list(rule.by)
    columns = {name: [run.values[name, None] for run in runs] for name in names}
    table = frame_of(
        {
            "setting": pd.DataFrame([run.settings for run in runs]),
            "seed": pd.DataFrame([run.seeds for run in runs]),
            "signal": pd.DataFrame(columns),
        }
    )
    yes = np.array([run.values[rule.measure, None] >= rule.at_least for run in runs], float)
    values = Values(yes, np.zeros(len(runs), bool))
    setting = settings_of(table)
    by_run = rule.held_out == "runs"
    folds = random_runs(table, rng) if by_run else leave_one_out(table, setting, rng)
    inputs = [("signal", name) for name in names] or [column for column in table if column[0] == "setting"]
    predictor = Predictor("forecast", tuple(inputs), rule.model, cells=not names)
    found = predict(table, "yes/no", values, [predictor], folds, setting, twins_of(table), _SEED)
    rank = found.rank[predictor.name]
    if by_run:
        blocks = found.across()
        return over_runs(found, lambda drawn: overall(blocks, rank, drawn), rng)
    if not found.blocks:
        raise UserError("no setting has both outcomes")
    return setting_interval(np.array([value for value, _ in per_setting(found.blocks, rank).values()]))
