"""Columns of a table as numbers: what predictors are fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genlab.forecast.splits import settings_of

__all__ = ["features"]


def features(table: pd.DataFrame, columns: Sequence[tuple[str, str]], cells: bool = False) -> np.ndarray:
    """float[run, feature]: numbers as they are (NaN where missing), words as one column a word.

    Columns that say nothing (one value throughout) are left out. No outcome is looked at here, and nothing is
    filled in: that is for the training folds.

    Args:
        cells: also one column for each combination of settings, so that a setting's own mean can be learned.
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
