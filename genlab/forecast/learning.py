"""How many labelled runs a forecast needs: the score after training on few of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genlab.forecast.compare import overall
from genlab.forecast.judge import signal_column
from genlab.forecast.population import choose
from genlab.forecast.predictions import predict
from genlab.forecast.predictors import make_predictors
from genlab.forecast.splits import few_runs, settings_of, twins_of
from genlab.forecast.targets import Target

__all__ = ["SIZES", "learning_curve"]

SIZES = (5, 10, 20, 50, 100)


def learning_curve(
    table: pd.DataFrame,
    target: Target,
    *,
    signal: str | None = None,
    sizes: Sequence[int] = SIZES,
    draws: int = 10,
    fit_only: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """A row a (number of labelled runs, predictor): its score on the other runs, within settings.

    Columns: runs, predictor, mean, low, high (the range over draws), draws. Draws overlap: the range is no interval.

    Raises:
        UserError: as `judge`; too few runs for the smallest size.
    """
    population = choose(table, target, fit_only)
    chosen, rng = population.table, np.random.default_rng(seed)
    column = None if signal is None else signal_column(chosen, signal)
    predictors = [p for p in make_predictors(chosen, column) if p.model in ("linear", "threshold")]
    setting, twins = settings_of(chosen), twins_of(chosen)
    rows: list[dict[str, object]] = []
    for size, folds in few_runs(chosen, rng, sizes, draws).items():
        drawn = [predict(chosen, population.kind, population.values, predictors, [f], setting, twins) for f in folds]
        for predictor in predictors:
            scores = np.array([overall(one.blocks, one.rank[predictor.name])[0] for one in drawn if one.blocks])
            spread = (scores.mean(), scores.min(), scores.max()) if len(scores) else (np.nan,) * 3
            named = dict(zip(("mean", "low", "high"), map(float, spread), strict=True))
            rows.append({"runs": size, "predictor": predictor.name, **named, "draws": len(scores)})
    return pd.DataFrame(rows)
