"""Which runs a judgement is about, with their outcomes: those that learned their task, and were looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.forecast.compare import overall
from genlab.forecast.lengths import LENGTH_OUTCOME, at_length
from genlab.forecast.roles import KNOWN_BEFORE, columns, part
from genlab.forecast.scores import blocks_of
from genlab.forecast.targets import Kind, Target, Values, target_in_words, values_of
from genlab.tasks import FIT, fitted

__all__ = ["Population", "choose"]


@dataclass(frozen=True)
class Population:
    """The runs of a judgement.

    Attributes:
        table, values: the runs, and their outcomes.
        runs: how many the table had.
        unfit: how many had not learned their task (in-distribution exact match below 0.99).
        unseen: how many have no evaluation of the target.
        missing: column -> values that are missing; they are filled inside the training folds.
    """

    target: Target
    table: pd.DataFrame
    values: Values
    runs: int
    unfit: int
    unseen: int
    missing: dict[str, int]

    @property
    def kind(self) -> Kind:
        """Of the target."""
        return self.target.kind

    def ceiling(self, setting: np.ndarray) -> dict[str, float]:
        """How well the same target measured again ranks the runs within settings; no signal can be asked for more."""
        found: dict[str, float] = {}
        blocks = blocks_of(self.kind, self.values.value, self.values.censored, setting, np.zeros(len(setting)))
        plain = replace(self.target, least=None)
        for name, role in (("second set", "second"), ("checkpoint before", "earlier")):
            again = values_of(self.table, plain, role).value
            if len(again) and not np.isnan(again).any() and blocks:
                found[name] = float(overall(blocks, again)[0])
        return found


def choose(table: pd.DataFrame, target: Target, fit_only: bool = True) -> Population:
    """The runs of a table that a judgement of a target is about.

    Raises:
        UserError: no evaluation of the target, no run that fits, or one outcome throughout.
    """
    runs = len(table)
    asked = at_length(target) if ("outcome", LENGTH_OUTCOME) in table.columns else target
    values_of(table, asked)  # no evaluation at all is told first
    exact = part(table, "metric").get("exact_match")
    fits = fitted(exact) if fit_only and exact is not None else np.ones(runs, bool)
    if not fits.any():
        raise UserError(f"none of {runs} runs learned its task (exact match {FIT} in distribution); see --all-runs")
    known = values_of(table, asked).known
    chosen = table[fits & known]
    if chosen.empty:
        said = target_in_words(target, table)
        raise UserError(f"target ({said}) has no evaluation yet of the {int(fits.sum())} runs that fit")
    values = values_of(chosen, asked)
    if len(np.unique(values.value)) < 2:
        said = target_in_words(target, table)
        raise UserError(
            f"target ({said}) is {values.value[0]:g} for all {len(chosen)} runs: there is nothing to forecast"
        )
    used = chosen[columns(chosen, KNOWN_BEFORE)]
    missing = {name: int(n) for (_, name), n in used.isna().sum().items() if n}
    return Population(asked, chosen, values, runs, int((~fits).sum()), int((fits & ~known).sum()), missing)
