"""docs/models.md is what its command writes: every seed, what is missing, and every variant that there is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pandas as pd

from genlab.runs.gridfile import read_grid
from genlab.runs.plan import eval_splits
from genlab.spec import ModelConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import models
import models_page


def test_the_page_is_written_from_the_rows_that_are_kept():
    rows = pd.read_csv(models_page.ROWS)
    assert models_page.PAGE.read_text("utf-8") == models_page.page(rows), "run: python benchmarks/models.py --page"


def test_the_grid_has_every_encoding_under_softmax_and_every_normaliser_under_learned_positions_at_three_seeds():
    grid = read_grid(models.RECIPE)
    cells = {(plan.task.name, *models_page.label(plan.specs[0].model)) for plan in grid.plans}
    assert len(cells) == len(grid.plans)
    for task in models_page.TASKS:
        for group, names in models_page.GROUPS.items():
            wanted = {name for name in names if models_page._gives(task, name) and name != "softmax"}
            assert {variant for name, kind, variant in cells if (name, kind) == (task, group)} == wanted
    encodings, normalisers = (get_args(ModelConfig.model_fields[f].annotation) for f in ("positions", "attn_weights"))
    assert set(encodings) <= set(models_page.ENCODINGS)
    assert set(normalisers) <= set(models_page.NORMALISERS)
    assert all([s.train.init_seed for s in plan.specs] == [0, 1, 2] for plan in grid.plans)
    for plan in grid.plans:
        looked_at = eval_splits(plan.task, plan.specs[0].train, plan.evals)
        lengths = models_page.wanted(plan.task.name)
        assert set(lengths.values()) <= {length for split in looked_at for length in split.lengths}
        assert plan.specs[0].train.train_len == lengths[1]


def test_a_page_shows_every_seed_and_says_what_is_missing():
    rows = pd.DataFrame(
        [
            {
                "task": "sort",
                "group": "positions",
                "variant": "learned",
                "seed": seed,
                "length": n,
                "exact_match": value,
                "steps": 5,
                "run": f"r{seed}",
            }
            for seed, value in ((0, 0.25), (2, 0.75))
            for n in models_page.wanted("sort").values()
        ]
    )
    text = models_page.page(rows)
    assert "**169 of 171 runs have not been trained yet.**" in text
    line = "| 0.25 - 0.75 | 0.25 - 0.75 | 0.25 - 0.75 | 0.25 - 0.75 |"
    assert text.count(f"| learned {line}") == 1
    assert text.count(f"| softmax {line}") == 1  # learned positions under softmax stand in both tables
