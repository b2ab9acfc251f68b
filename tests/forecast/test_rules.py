"""Which rule a run learned: runs whose answers are planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import genlab
from genlab.errors import UserError
from genlab.forecast.commands import Rules
from genlab.forecast.rules import clusters, in_and_out, rules_learned
from genlab.runs import Evals, grid
from genlab.runs.store import Store, now


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six runs of brackets; four always say False on `matched-unnested`, two follow the number of brackets."""
    kept = Store(tmp_path_factory.mktemp("rules") / "store")
    small = {"n_layers": 1, "d_model": 8, "steps": 2, "eval_every": 1, "batch_size": 4, "lengths_per_batch": 2}
    evals = Evals(test_len=8, splits=("matched-unnested",), n=4)
    plan = genlab.plan("brackets", 8, 8, seeds=range(6), evals=evals, max_len=8, **small)
    grid([plan], name="six", store=kept, workers=1)
    rng = np.random.default_rng(0)
    rows = []
    for i, run in enumerate(kept.find("six")):
        nested = np.where(np.arange(200) < (190 if i < 4 else 10), 1, 0)
        answers = np.where(rng.random(200) < 0.02, 1 - nested, nested).astype(np.uint64)
        shared = {"run_id": run, "step": 2, "split": "planted", "length": 8, "n": 200, "seed": 0, "at": now()}
        hits = {"correct": np.packbits(answers > 0).tobytes(), "answers": answers.tobytes()}
        rows.append({**shared, "metric": "exact_match", "value": float(answers.mean()), **hits})
        rows += [
            {**shared, "metric": f"rule|{rule}", "value": float(value)}
            for rule, value in (("NESTED", answers.mean()), ("EQUAL-COUNT", 1 - answers.mean()))
        ]
    kept.add_evals(rows)
    return kept


def test_runs_that_answer_alike_are_one_cluster_and_its_rule_is_told(store: Store):
    found = rules_learned(store, store.find("six"), "planted")
    assert found.runs["cluster"].tolist() == [0, 0, 0, 0, 1, 1]
    assert found.examples == 200
    by_cluster = found.by_cluster()
    assert by_cluster["runs"].tolist() == [4, 2]
    assert by_cluster.loc[0, "rule|NESTED"] > 0.9 > 0.1 > by_cluster.loc[1, "rule|NESTED"]
    assert by_cluster.loc[1, "rule|EQUAL-COUNT"] > 0.9


def test_the_table_has_a_column_for_each_rule(store: Store):
    title, head, *rows = Rules(rules_learned(store, store.find("six"), "planted"), "planted").lines()
    assert title.startswith("6 runs, 200 examples")
    assert sorted(head.split()) == ["EQUAL-COUNT", "NESTED", "cluster", "exact_match", "runs"]
    assert [row.split()[:2] for row in rows] == [["0", "4"], ["1", "2"]]
    assert all(len(row.split()) == 5 for row in rows)


def test_evaluated_splits_are_read_from_the_store(store: Store):
    found = rules_learned(store, store.find("six"), "matched-unnested")
    evals = store.evals(store.find("six"), metric="exact_match")
    own = evals[evals["split"] == "matched-unnested"].groupby("run_id")["value"].mean()
    np.testing.assert_allclose(found.runs["exact_match"], own.loc[found.runs.index])


def test_all_runs_that_differ_are_clusters_of_their_own():
    assert sorted(clusters(np.eye(4)).tolist()) == [0, 1, 2, 3]
    assert clusters(np.ones((4, 4))).tolist() == [0] * 4
    assert clusters(np.ones((1, 1))).tolist() == [0]


def test_in_and_out_over_training(store: Store):
    found = in_and_out(store, store.find("six"), "matched-unnested")
    assert set(found.columns) == {"run_id", "step", "inside", "outside"}
    assert sorted(found["step"].unique().tolist()) == [1, 2]
    assert found[["inside", "outside"]].notna().all().all()


def test_what_cannot_be_told_is_told(store: Store, tmp_path: Path):
    ids = store.find("six")
    with pytest.raises(UserError, match="no evaluation of split 'longer' in common"):
        rules_learned(store, ids, "longer")
    small = {"n_layers": 1, "d_model": 8, "steps": 1, "batch_size": 4, "lengths_per_batch": 2}
    other = genlab.plan("brackets", 8, 8, seeds=[0], max_len=10, **small)
    grid([other], name="other", store=store, workers=1)
    with pytest.raises(UserError, match="rules belong to one task"):
        rules_learned(store, [*ids, *store.find("other")], "planted")
