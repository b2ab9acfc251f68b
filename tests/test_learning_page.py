"""docs/learning.md is what its command writes from the rows that are kept; none is of a seed kept for claims."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import learning
import learning_judged
import learning_page


def test_the_tables_are_written_from_the_rows_that_are_kept():
    text = learning_page.PAGE.read_text()
    assert text == learning_page.page(text, pd.read_csv(learning_page.ROWS)), (
        "run: python benchmarks/learning.py --page"
    )


def test_rows_name_cases_and_recipes_that_there_are_and_no_seed_that_is_kept_for_claims():
    rows = pd.read_csv(learning_page.ROWS)
    assert set(rows["case"]) <= set(learning.CASES)
    assert rows["seed"].max() < 100
    for name in rows["recipe"].unique():
        assert learning.Recipe().changed([] if name == "plain" else name.split()).name == name


def test_steps_are_those_of_the_first_check_and_scores_those_of_the_end():
    columns = ["case", "recipe", "seed", "step", "loss", "in_distribution", "longer", "twice"]
    seen = [(50, 2.0, 0.1), (100, 1.0, 0.6), (150, 0.5, 0.99), (200, 0.4, 0.98), (1500, 0.3, 1.0)]
    name = learning.Recipe().changed(["lab", "start=off"]).name
    rows = [("copy-10", name, 3, step, loss, inside, inside / 2, 0.25) for step, loss, inside in seen]
    interrupted = [("copy-10", "plain", 3, *rest, 0.0, 0.0) for rest in seen[:4]]
    table = learning_page.tables(pd.DataFrame([*rows, *interrupted], columns=columns))
    assert table.splitlines()[4:] == ["| `lab start=off` | 3 | 100 | 150 | 0.30 | 1.00 | 0.50 | 0.25 |"]


def test_the_table_of_judged_seeds_is_written_from_the_committed_rows():
    text, rows = learning_judged.PAGE.read_text("utf-8"), pd.read_csv(learning_judged.ROWS)
    assert learning_judged.page(text, rows) == text, "run: python benchmarks/learning_judged.py STORE"
    copies = rows[rows["task"] == "copy"]
    (lowest,) = copies.nsmallest(1, "exact_match").to_dict("records")
    told = f"Seed {lowest['seed']} falls to {lowest['exact_match']:.3f} at {lowest['length']} symbols".replace(
        "0.", "."
    )
    assert told in " ".join(text.split())
    others = copies[(copies["seed"] != lowest["seed"]) & (copies["length"] > 50)]
    assert others["exact_match"].min() >= 0.98
    assert copies.groupby("seed")["to_0.5"].first().max() <= 1500
