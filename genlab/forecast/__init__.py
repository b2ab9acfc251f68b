"""Will it generalise? Tables of signals and outcomes, honest splits, predictors, scores, and forecasts under lock."""

from __future__ import annotations

from genlab.forecast.roles import read_table
from genlab.forecast.tables import table
from genlab.forecast.targets import Target, parse_target

__all__ = ["Target", "parse_target", "read_table", "table"]
