"""docs/tasks.md is what its command writes, and a run's first fit is the one that stayed."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

import genlab
from genlab.runs.plan import defaults_of
from genlab.tasks import names, task_class

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import learnability
import learnability_table

MEASURED = sorted(names())


@pytest.mark.parametrize(
    ("exact", "step"),
    [([0.5, 0.99, 1.0], 200), ([1.0, 0.5, 0.99], 300), ([0.99, 0.98], None), ([0.0], None), ([1.0], 100)],
)
def test_a_fit_has_to_stay(exact: list[float], step: int | None):
    history = pd.DataFrame({"step": [100 * (i + 1) for i in range(len(exact))], "exact_match": exact})
    assert learnability.fit_step(history) == step


def test_the_page_is_written_from_the_rows_and_the_defaults_as_they_are():
    assert learnability_table.TABLE.read_text("utf-8") == learnability_table.table(), (
        "run: python benchmarks/learnability.py --table"
    )


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_task_trains_with_all_the_steps_of_its_defaults(name: str):
    (spec,) = genlab.plan(name).specs
    assert spec.train.steps == defaults_of(name)["steps"]  # the budget of a silent user cuts none of them


def test_another_configuration_drops_parameters_as_training_does():
    defaults = defaults_of("maze")
    assert learnability.configuration("maze", "cells", []) == defaults
    kept = learnability.configuration("maze", "cells", ["pool_seed=1", "lr=0.5"])
    assert kept == {**defaults, "lr": 0.5, "params": {**defaults["params"], "pool_seed": 1}}
    assert learnability.configuration("maze", "cells", ["generator=dfs"])["params"] == {"generator": "dfs"}


@pytest.mark.parametrize("name", MEASURED)
def test_a_task_was_learned_or_says_that_it_needs_a_gpu(name: str):
    rows = pd.read_csv(learnability_table.ROWS).query("task == @name")
    tried = rows[rows["minutes"] >= 20]  # processor minutes: ten on two cores
    learned, honest = bool((rows["result"] == "reached").any()), tried["options"].nunique()
    assert learned or honest >= 3, f"{name}: {honest} configurations of ten minutes on two cores"
    assert task_class(name).needs_gpu == (not learned)
