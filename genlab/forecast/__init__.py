"""Forecasts of generalization: tables of signals and outcomes, splits, predictors, scores, sealed forecasts."""

from __future__ import annotations

from genlab.forecast.roles import read_table
from genlab.forecast.tables import table
from genlab.forecast.targets import Target, parse_target

__all__ = ["Target", "parse_target", "read_table", "table"]
