"""Ensembles: votes against counting by hand, the interval, the command."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import genlab
from genlab.outside.ensemble import MOST, jackknife, member_sets, plurality, votes
from genlab.outside.ensemble import pairs as compared
from genlab.runs.store import Store


def by_hand(answers: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The chance that a vote is right, one example at a time."""
    found = []
    for said, good in zip(answers.T, right.T, strict=True):
        counted = Counter(said.tolist())
        first = [answer for answer, count in counted.items() if count == max(counted.values())]
        good_ones = {answer for answer, ok in zip(said.tolist(), good, strict=True) if ok}
        found.append(sum(answer in good_ones for answer in first) / len(first))
    return np.array(found)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 4, size=(6, 200)).astype(np.uint64)
    return answers, answers == 0, np.array([0.9, 0.8, 0.9, 0.5, 0.6, 0.7])


def test_a_vote_is_counted_as_by_hand(drawn):
    answers, right, _ = drawn
    for members in (2, 3, 6):
        wanted = by_hand(answers[:members], right[:members])
        assert plurality(answers[:members], right[:members]) == pytest.approx(wanted)
        assert 0 < np.mean(wanted) < 1


def test_measures_of_sets_are_those_of_loops(drawn):
    answers, right, inside = drawn
    sets = member_sets(6, 3)
    assert sets.tolist() == [list(one) for one in combinations(range(6), 3)]
    vote, single, best, oracle, differ, same = [], [], [], [], [], []
    for members in sets.tolist():
        vote.append(by_hand(answers[members], right[members]).mean())
        single.append(np.mean([right[m].mean() for m in members]))
        top = max(inside[m] for m in members)
        best.append(np.mean([right[m].mean() for m in members if inside[m] == top]))
        oracle.append(np.mean([any(right[m, i] for m in members) for i in range(200)]))
        pairs = list(combinations(members, 2))
        differ.append(np.mean([(answers[a] != answers[b]).mean() for a, b in pairs]))
        wrong = [(a, b, i) for a, b in pairs for i in range(200) if not right[a, i] and not right[b, i]]
        same.append(np.mean([answers[a, i] == answers[b, i] for a, b, i in wrong]))
    found = votes(answers, right, inside, sets, compared(answers, right))
    wanted = [np.mean(x) for x in (vote, single, best, oracle, differ, same)]
    assert [
        found.vote,
        found.single,
        found.best,
        found.oracle,
        found.disagreement,
        found.same_error,
    ] == pytest.approx(wanted)


def test_many_sets_are_sampled_without_repeating_a_member():
    sets = member_sets(20, 5)
    assert sets.shape == (MOST, 5)
    assert all(len(set(one)) == 5 for one in sets.tolist())
    assert member_sets(20, 5).tolist() == sets.tolist()


def test_the_jackknife_of_a_mean_is_its_t_interval():
    from scipy.stats import sem, t

    values = np.random.default_rng(1).normal(size=9)
    without = np.array([np.delete(values, i).mean() for i in range(9)])
    half = t.ppf(0.975, 8) * sem(values)
    assert jackknife(without, values.mean()) == pytest.approx((values.mean() - half, values.mean() + half))
    assert jackknife(without[:4], 0.0) is None


def test_the_command_votes_on_stored_answers(trained, lab, tmp_path: Path):
    words = ["ensemble", *trained[1], "--store", str(trained[0])]
    status, out, err = lab(*words, "--figure", str(tmp_path / "e.png"))
    assert status == 0, err
    assert "fraction of right answers" in out
    assert (tmp_path / "e.png").stat().st_size > 10_000
    found = json.loads(lab(*words, "--json", "--sizes", "3,4")[1])
    rows = {(row["length"], row["size"]): row for row in found["rows"]}
    evals = Store(trained[0]).evals(trained[1], answers=True, metric="exact_match")
    own = evals[evals["length"] == 4].drop_duplicates("run_id", keep="last").set_index("run_id").loc[trained[1]]
    answers = np.stack([np.frombuffer(x, np.uint64) for x in own["answers"]])
    right = np.stack([np.unpackbits(np.frombuffer(x, np.uint8), count=32) for x in own["correct"]]).astype(bool)
    assert rows[4, 4]["vote"] == pytest.approx(by_hand(answers, right).mean())
    assert rows[4, 4]["single"] == pytest.approx(own["value"].mean())
    assert (rows[2, 4]["outside"], rows[3, 4]["outside"], rows[4, 3]["sets"]) == (False, True, 4)
    (beyond,) = [row for row in found["summary"] if row["outside"] and row["size"] == 4]
    assert beyond["vote"] == pytest.approx(np.mean([rows[n, 4]["vote"] for n in (3, 4, 5)]))
    assert genlab.ensemble(trained[1], sizes=[4], store=trained[0]).rows["vote"].tolist() == pytest.approx(
        [rows[n, 4]["vote"] for n in (1, 2, 3, 4, 5)]
    )


def test_runs_with_another_training_distribution_vote_apart(trained, tmp_path: Path):
    """The summary does not average over what was trained on: each line is that of its runs alone."""
    store = tmp_path / "store"
    groups = []
    for train_len in (2, 3):
        evals = genlab.Evals(test_len=5, n=32)
        plan = genlab.plan("sort", train_len=train_len, test_len=5, steps=20, seeds=range(3), evals=evals, d_model=16)
        genlab.train(plan, store=store, device="cpu", workers=1)
        groups.append([spec.run_id for spec in plan.specs])
    both = genlab.ensemble([*groups[0], *groups[1]], sizes=[3], store=store).summary()
    assert both["trained"].unique().tolist() == ["1 to 2", "1 to 3"]
    for runs, words in zip(groups, ("1 to 2", "1 to 3"), strict=True):
        own = genlab.ensemble(runs, sizes=[3], store=store).summary()
        assert both[both["trained"] == words]["vote"].tolist() == own["vote"].tolist()
        assert both[both["trained"] == words]["lengths"].tolist() == own["lengths"].tolist()


def test_wrong_inputs_are_one_line(trained, lab):
    for words, said in (
        (["--sizes", "1"], "at least 2 members"),
        (["--sizes", "5"], "sort has 4 runs here"),
        (["--split", "reversed"], "on split reversed"),
    ):
        status, out, err = lab("ensemble", *trained[1], "--store", str(trained[0]), *words)
        assert (status, out) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) == 1
