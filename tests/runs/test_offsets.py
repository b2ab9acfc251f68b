"""Where examples of an evaluation stand is asked for and kept; runs made before the option are what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from genlab.errors import UserError
from genlab.runs.api import evaluate
from genlab.runs.plan import Plan, plan
from genlab.runs.store import Store
from genlab.spec import ModelConfig, canonical_json
from genlab.tasks import make

PAIRS = Path(__file__).parents[2] / "benchmarks/pairs/store"
OLD = ("c6e82597e33d", "9d197121ef7e", "dc36e2f66a0b", "4143d0c41d68", "b93bdf464993", "1ab5b0f21f4b")


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A store written before models had the option `offsets`."""
    shutil.copytree(PAIRS, tmp_path / "store")
    return Store(tmp_path / "store")


def test_runs_of_a_store_made_before_keep_their_ids_and_stand_as_they_did(old: Store):
    assert set(old.index.runs) == set(OLD)
    for run in OLD:
        spec = old.spec(run)
        assert spec.run_id == run
        assert spec.model.offsets == "batch"
    assert (old.evals(metric="exact_match")["offsets"] == "").all()


def test_an_evaluation_elsewhere_in_the_context_is_kept_apart(old: Store):
    run = OLD[0]
    task = make(old.spec(run).task)
    before = old.evals([run])
    at = task.split("matched-unnested").at((10,), 200, 7)
    for split in (at, at.model_copy(update={"offsets": "zero"})):
        evaluate([run], [split], old)
        evaluate([run], [split], old)  # there already
    rows = old.evals([run], metric="exact_match", offsets=None).query("seed == 7")
    assert sorted(rows["offsets"]) == ["", "zero"]
    assert rows["value"].nunique() == 2  # this run is another one at the beginning of its context
    kept = old.evals([run]).query("seed == 0").reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before.query("seed == 0").reset_index(drop=True))


def test_plans_name_the_law_where_positions_stand_in_a_table_and_nowhere_else():
    assert plan("sort", 4).specs[0].model.offsets == "random"
    assert plan("sort", 4, offsets="zero").specs[0].model.offsets == "zero"
    rotary = plan("sort", 4, positions="rotary").specs[0]
    assert rotary.run_id == plan("sort", 4, positions="rotary", offsets="zero").specs[0].run_id
    assert "offsets" not in canonical_json(rotary.model)
    assert ModelConfig(d_vocab=5, n_ctx=4).offsets == "batch"  # what a record without the field means


def test_a_law_that_there_is_not_is_one_line(small_plan: Plan):
    with pytest.raises(UserError, match="unknown offsets 'zer'; did you mean 'zero'"):
        small_plan.task.split("id").at((3,), 4, 0, "zer")
    with pytest.raises(UserError, match="offsets"):
        plan("sort", 4, offsets="none")
