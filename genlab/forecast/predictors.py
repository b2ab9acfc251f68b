"""Predictors, from hyperparameters alone to tree ensembles on all inputs, each tuned inside its training fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from genlab.errors import UserError, unknown
from genlab.forecast.roles import BASELINE, KNOWN_BEFORE, columns, part
from genlab.forecast.splits import settings_of

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


# -- Features


def features(table: pd.DataFrame, columns: Sequence[tuple[str, str]], cells: bool = False) -> np.ndarray:
    """Return features, float[run, feature]: numbers unchanged (NaN if missing), text one-hot encoded.

    Constant columns are left out. Outcomes are not used, and nothing is imputed here: that happens inside the
    training folds.

    Args:
        table: a forecast table.
        columns: the columns to use.
        cells: also one-hot encode the combination of settings, so that the mean of each setting can be learned.
    """
    parts = [_column(table[column]) for column in columns]
    if cells:
        setting = pd.Series(settings_of(table), index=table.index)
        if setting.nunique() > 1:
            parts.append(_one_hot(setting))
    kept = [p for p in parts if p.shape[1]]
    return np.concatenate(kept, axis=1) if kept else np.zeros((len(table), 0))


def _column(values: pd.Series) -> np.ndarray:
    if values.nunique(dropna=False) < 2:
        return np.zeros((len(values), 0))
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.to_numpy(float, na_value=np.nan)[:, None]
    return _one_hot(values)


def _one_hot(values: pd.Series) -> np.ndarray:
    return pd.get_dummies(values.astype(str), dtype=float).to_numpy()


Model = Literal["linear", "forest", "boosting", "threshold"] | str
"""What a predictor is fitted with; a name that is none of these was registered by `estimator`."""
_INNER_FOLDS = 3
_EDGE = 2.0
"""With n training runs, probabilities are clipped to [1 / (n + 2), 1 - 1 / (n + 2)]."""


@dataclass(frozen=True)
class Predictor:
    """A method of forecasting.

    Attributes:
        name: as displayed.
        columns: its inputs, as (role, name).
        model: `linear` (logistic regression for yes/no, ridge for numbers), `forest`, `boosting`, or `threshold` (one
            column, cut where it separates the training runs best; runs are ranked by the column itself).
        cells: whether the combination of settings is an input, too.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    model: Model
    cells: bool = False


@dataclass(frozen=True)
class Fitted:
    """A fitted predictor: `rank` orders runs; `mean` is the probability of yes, or the expected value."""

    rank: np.ndarray
    mean: np.ndarray


def make_predictors(table: pd.DataFrame, signal: tuple[str, str] | None, model: Model = "linear") -> list[Predictor]:
    """Return the predictors for which a table has columns; `signal` is the column of interest.

    `baselines` and `baselines + SIGNAL` use the same `model`, so they differ only in the signal; a metric that is the
    signal is not a baseline.

    Raises:
        UserError: an unknown model.
    """
    if model not in _GRIDS:
        raise unknown("model", model, _GRIDS)
    base = tuple(column for column in columns(table, BASELINE) if column != signal)
    every = tuple(columns(table, KNOWN_BEFORE))

    def of(role: str) -> tuple[tuple[str, str], ...]:
        return tuple(column for column in base if column[0] == role)

    wanted = [
        Predictor("hyper-parameters", of("setting"), model, cells=True),
        Predictor("in-distribution metrics", of("metric"), model),
        Predictor("output confidence", of("confidence"), model),
        Predictor("attention statistics", of("attention"), model),
    ]
    if "rasp_expected" in part(table, "fact"):
        wanted.append(Predictor("RASP rule", (("fact", "rasp_expected"),), "threshold"))
    wanted.append(Predictor("baselines", base, model, cells=True))
    if signal is not None:
        wanted.append(Predictor(f"{signal[1]} alone", (signal,), "threshold"))
        wanted.append(Predictor(f"baselines + {signal[1]}", (*base, signal), model, cells=True))
    if len(every) > 1:
        names: tuple[tuple[str, Model], ...] = (
            ("everything, linear", "linear"),
            ("everything, forest", "forest"),
            ("everything, boosting", "boosting"),
        )
        wanted += [Predictor(name, every, kind) for name, kind in names]
    wanted += [one for one in (make(table, signal) for make in _added) if one is not None]
    return [p for p in wanted if p.columns]


Maker = Callable[[pd.DataFrame, tuple[str, str] | None], Predictor | None]
"""From a table and the column that is asked about, a further predictor, or None if the table lacks its columns."""

_added: list[Maker] = []


def predictor(make: Maker) -> Maker:
    """Register the function below as one that gives a further predictor."""
    known = [(one.__module__, one.__qualname__) for one in _added]
    if (make.__module__, make.__qualname__) in known:
        del _added[known.index((make.__module__, make.__qualname__))]
    _added.append(make)
    return make


def main_predictor(names: Iterable[str], signal: str | None) -> str:
    """Return the main predictor: baselines, with the signal of interest if there is one."""
    found = list(names)
    wanted = "baselines" if signal is None else f"baselines + {signal}"
    return wanted if wanted in found else found[0]


def matrix(table: pd.DataFrame, predictor: Predictor) -> np.ndarray:
    """Return the features of a predictor, float[run, feature]."""
    return features(table, predictor.columns, predictor.cells)


def fit(
    predictor: Predictor,
    x: np.ndarray,
    value: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    twins: np.ndarray,
    yes_no: bool,
    seed: int = 0,
) -> Fitted:
    """Fit to the training rows, including tuning, and forecast the test rows.

    Args:
        predictor: what to fit.
        x, value, twins: of all rows; of test rows, only `x` is used.
        train, test: indices of rows.
        yes_no: whether the target is binary.
        seed: of the trees.
    """
    y = value[train]
    edge = 1 / (len(train) + _EDGE)
    if not x.shape[1] or len(np.unique(y)) < 2:
        mean = np.full(len(test), y.mean())
        return Fitted(np.zeros(len(test)), np.clip(mean, edge, 1 - edge) if yes_no else mean)
    if predictor.model == "threshold":
        rank, mean = _threshold(x[train, 0], y, x[test, 0], yes_no)
    else:
        fitted = _fit_tuned(predictor.model, yes_no, x[train], y, twins[train], seed)
        rank = mean = _expected(fitted, x[test], yes_no)
    return Fitted(rank, np.clip(mean, edge, 1 - edge) if yes_no else mean)


# -- One signal with a threshold


def _threshold(x: np.ndarray, y: np.ndarray, new: np.ndarray, yes_no: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rank by the column (negated if it falls with the outcome); predict the mean outcome on each side of the cut.

    Missing values are replaced by the median of the training runs.
    """
    fill = float(np.nanmedian(x)) if not np.isnan(x).all() else 0.0
    x, new = np.where(np.isnan(x), fill, x), np.where(np.isnan(new), fill, new)
    sign = -1.0 if np.cov(_ranks(x), _ranks(y))[0, 1] < 0 else 1.0
    cut = _best_cut(x * sign, y)
    above, shrink = x * sign >= cut, 1.0 if yes_no else 0.0
    counts = [side.sum() + shrink for side in (~above, above)]
    totals = [y[side].sum() + shrink * y.mean() for side in (~above, above)]
    sides = [total / count if count else y.mean() for total, count in zip(totals, counts, strict=True)]
    return new * sign, np.where(new * sign >= cut, sides[1], sides[0])


def _ranks(x: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(x)


def _best_cut(x: np.ndarray, y: np.ndarray) -> float:
    """The cut with the least squared error about the means of both sides."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    n, sums = np.arange(1, len(x)), np.cumsum(y)[:-1]
    gain = sums**2 / n + (y.sum() - sums) ** 2 / (len(x) - n)
    gain[x[1:] == x[:-1]] = -np.inf
    at = int(gain.argmax())
    return float((x[at] + x[at + 1]) / 2) if np.isfinite(gain[at]) else float(x[0])


# -- Models of scikit-learn


def _pipeline(model: Model, yes_no: bool, name: str, choice: float, seed: int) -> Pipeline:
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        GradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    last: Any
    if model in _ESTIMATORS:
        last = _ESTIMATORS[model](yes_no, choice, seed)
    elif model == "linear":
        last = LogisticRegression(C=choice, solver="newton-cholesky") if yes_no else Ridge(alpha=1 / choice)
    elif model == "forest":
        kind = RandomForestClassifier if yes_no else RandomForestRegressor
        last = kind(60, random_state=seed, **{name: choice})
    else:
        kind = GradientBoostingClassifier if yes_no else GradientBoostingRegressor
        last = kind(n_estimators=60, subsample=0.8, random_state=seed, **{name: choice})
    filled = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_pipeline(filled, StandardScaler(), last)


_GRIDS: dict[Model, tuple[str, Sequence[float]]] = {
    "linear": ("C", (0.01, 0.1, 1.0)),
    "forest": ("min_samples_leaf", (2, 8)),
    "boosting": ("max_depth", (1, 3)),
}
"""Hyperparameter tuned inside the training folds, and its values; ridge has `alpha`, which is 1 / C."""


Estimator = Callable[[bool, float, int], Any]
_ESTIMATORS: dict[str, Estimator] = {}
"""Name -> what makes the estimator of a registered model."""


def estimator(name: str, tuned: str, choices: Sequence[float]) -> Callable[[Estimator], Estimator]:
    """Register the function below as the model `name` of predictors.

    The function gives an unfitted scikit-learn estimator: a classifier with `predict_proba` if its first argument
    (yes/no target) is true, else a regressor. Its second argument is one of `choices`, tuned inside the training
    folds, its third a seed.

    Args:
        tuned: the name of what `choices` are values of.

    Raises:
        UserError: a model of this name is built in.
    """
    if (name in _GRIDS and name not in _ESTIMATORS) or name == "threshold":
        raise UserError(f"model {name!r} exists already; choose another name")

    def register(make: Estimator) -> Estimator:
        _GRIDS[name], _ESTIMATORS[name] = (tuned, choices), make
        return make

    return register


def _fit_tuned(model: Model, yes_no: bool, x: np.ndarray, y: np.ndarray, twins: np.ndarray, seed: int) -> Pipeline:
    """Fit with the hyperparameter of least squared error over inner folds that keep twins together.

    With too few runs for inner folds with both outcomes, the middle value is used.
    """
    name, choices = _GRIDS[model]
    inner, errors = _inner_folds(yes_no, y, twins), np.zeros(len(choices))
    for i, choice in enumerate(choices if inner else ()):
        for train, held in inner:
            tried = _pipeline(model, yes_no, name, choice, seed).fit(x[train], y[train])
            errors[i] += np.sum((_expected(tried, x[held], yes_no) - y[held]) ** 2)
    best = int(errors.argmin()) if inner else len(choices) // 2
    return _pipeline(model, yes_no, name, choices[best], seed).fit(x, y)


def _expected(fitted: Pipeline, x: np.ndarray, yes_no: bool) -> np.ndarray:
    return fitted.predict_proba(x)[:, 1] if yes_no else fitted.predict(x)


def _inner_folds(yes_no: bool, y: np.ndarray, twins: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    count = min(_INNER_FOLDS, len(np.unique(twins)))
    if count < 2 or len(y) < 2 * _INNER_FOLDS or (yes_no and min(np.sum(y == 0), np.sum(y == 1)) < _INNER_FOLDS):
        return []
    folds = (StratifiedGroupKFold if yes_no else GroupKFold)(count)
    inner = list(folds.split(np.zeros(len(y)), y, twins))
    return [] if yes_no and any(len(np.unique(y[train])) < 2 for train, _ in inner) else inner
