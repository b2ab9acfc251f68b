"""Monitors: measures against slow twins and planted truths, written answers against loops, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import genlab
from genlab.errors import UserError
from genlab.outside.monitor import (
    excess_risk_coverage,
    measure,
    places_of,
    score_run,
    threshold,
    write,
)
from genlab.probes.families.confidence import risk_coverage
from genlab.probes.inputs import probe_batches
from genlab.probes.model import Stacked
from genlab.report.monitor import MEASURES, Monitors
from genlab.tasks import make
from genlab.training.batches import eval_offsets
from genlab.training.evaluate import eval_examples, evaluate

# -- Measures


def test_a_score_that_is_the_truth_is_perfect_and_its_opposite_is_worst():
    wrong = np.array([True, False, False, True, False])
    inside = np.zeros(20)
    told, opposite = measure(inside, wrong * 1.0, wrong), measure(inside, ~wrong * 1.0, wrong)
    assert (told["auroc"], told["aupr_wrong"], told["aupr_right"], told["fpr95"], told["autc"]) == (1, 1, 1, 0, 0)
    assert told["excess_aurc"] == pytest.approx(0)
    assert (told["coverage"], told["risk"]) == (0.6, 0.0)
    assert (opposite["auroc"], opposite["fpr95"], opposite["risk"]) == (0, 1, 1)
    assert opposite["excess_aurc"] > 0.2


def test_where_all_answers_are_right_or_all_are_wrong_nothing_can_be_told_apart():
    score, inside = np.arange(4.0), np.zeros(20)
    for wrong in (np.zeros(4, bool), np.ones(4, bool)):
        found = measure(inside, score, wrong)
        assert all(np.isnan(found[name]) for name in ("auroc", "aupr_wrong", "aupr_right", "fpr95", "autc"))
        assert found["excess_aurc"] == 0
        assert found["oddness"] == pytest.approx((1 + 1 + 1 + 0.5) / 4)


def test_the_excess_is_the_distance_from_the_best_of_all_orders():
    rng = np.random.default_rng(0)
    for _ in range(5):
        wrong, score = rng.random(6) < 0.5, rng.normal(size=6)
        areas = [risk_coverage(np.array(order, float), wrong) for order in permutations(range(6))]
        assert excess_risk_coverage(score, wrong) == pytest.approx(risk_coverage(score, wrong) - min(areas))


def test_the_threshold_is_the_lowest_that_lets_95_percent_pass():
    rng = np.random.default_rng(1)
    for n in (7, 20, 100, 333):
        inside = rng.normal(size=n).round(1)
        passing = [t for t in inside if np.mean(inside <= t) >= 0.95]
        assert threshold(inside) == min(passing)
    score, wrong = rng.normal(size=50), rng.random(50) < 0.5
    found, kept = measure(inside, score, wrong), score <= threshold(inside)
    assert (found["coverage"], found["risk"]) == (kept.mean(), wrong[kept].mean())


def test_a_score_that_is_no_number_has_no_measures():
    found = measure(np.zeros(20), np.array([0.0, np.nan]), np.array([True, False]))
    assert all(np.isnan(value) for value in found.values())


# -- Written answers and their scores


@pytest.fixture(scope="module")
def loaded(trained):
    run = genlab.load(trained[1][0], store=trained[0])
    return run.spec, run.model, run.task


def test_written_answers_are_wrong_where_exact_match_says_so(loaded):
    spec, model, task = loaded
    (split,) = places_of(spec, task, (), None, 64, 0)
    assert split.lengths == (3, 4, 5)
    seen = set()
    for result in evaluate(model, task, split):
        examples = eval_examples(task, split, result.length)
        written = write(model, task, examples, eval_offsets(task, examples, 0, spec.model))
        assert (written.wrong == ~result.correct[0]).all()
        seen |= set(written.wrong.tolist())
    assert seen == {True, False}


def test_what_is_written_does_not_depend_on_the_truth(loaded):
    spec, model, task = loaded
    (split,) = places_of(spec, task, (), [4], 32, 0)
    examples = eval_examples(task, split, 4)
    other = np.where(examples.scored, 7, examples.targets)
    tokens = examples.tokens.copy()
    tokens[:, 1:][examples.scored[:, :-1]] = 7
    offsets = eval_offsets(task, examples, 0, spec.model)
    first = write(model, task, examples, offsets)
    second = write(model, task, replace(examples, tokens=tokens, targets=other), offsets)
    for name in ("tokens", "chosen", "scored"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert second.wrong.all()


def _twin(model, tokens: list[int], offset: torch.Tensor, most: int) -> tuple[list[int], list[torch.Tensor]]:
    """Tokens that a loop writes, and the distribution that each is taken from."""
    written, seen = list(tokens), []
    while len(seen) < most and (not seen or written[-1] != 1):
        logits = model(torch.tensor([[written]]), offset[None, None])[0, 0, -1].double()
        seen.append(logits.softmax(-1))
        written.append(int(logits.argmax()))
    return written, seen


def test_scores_are_those_of_a_loop_over_the_written_tokens(loaded):
    spec, model, task = loaded
    (split,) = places_of(spec, task, (), [4], 12, 0)
    found = score_run(spec, model, task, [split], ("msp", "sequence_entropy", "sequence_nll", "knn"))
    scores, wrong = found.places["id", 4]
    examples = eval_examples(task, split, 4)
    offsets = torch.from_numpy(eval_offsets(task, examples, 0, spec.model))
    known = torch.cat([_features(model, batch) for batch in probe_batches(spec, torch.device("cpu"))])
    for row in range(12):
        prompt = examples.tokens[row, : examples.prompt_len(row)].tolist()
        whole, seen = _twin(model, prompt, offsets[row], task.reach(4) - len(prompt) + 1)
        entropy = [-(p * p.log()).sum() for p in seen]
        assert scores["msp"][row] == pytest.approx(max(float(1 - p.max()) for p in seen), abs=1e-5)
        assert scores["sequence_entropy"][row] == pytest.approx(float(sum(entropy)), abs=1e-4)
        assert scores["sequence_nll"][row] == pytest.approx(-sum(float(p.max().log()) for p in seen), abs=1e-4)
        own = _hidden(model, whole[:-1], offsets[row])[len(prompt) - 1 :]
        distances = [torch.sort((known - x).norm(dim=-1)).values[9] for x in own]
        assert scores["knn"][row] == pytest.approx(float(max(distances)), abs=1e-4)
        assert wrong[row] == (whole[len(prompt) :] != [*examples.targets[row][examples.scored[row]]])


def _last(model, tokens: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    kept = {}
    Stacked(model)(tokens, offsets, tap=lambda name, x: kept.setdefault(name, x))
    x = model.before_unembedding(kept["blocks.1.hook_resid_post"])[0]
    return (x / x.norm(dim=-1, keepdim=True)).double()


def _features(model, batch) -> torch.Tensor:
    return _last(model, batch.tokens, batch.offsets)[batch.scored]


def _hidden(model, tokens: list[int], offset: torch.Tensor) -> torch.Tensor:
    return _last(model, torch.tensor([tokens]), offset[None])[0]


def test_blood_is_read_on_request(loaded):
    spec, model, task = loaded
    (split,) = places_of(spec, task, (), [4], 16, 0)
    found = score_run(spec, model, task, [split], ("msp", "sequence_entropy", "blood", "blood_last"))
    scores, _ = found.places["id", 4]
    assert list(scores) == ["msp", "sequence_entropy", "blood", "blood_last"]
    assert (scores["blood"] > 0).all()
    assert (scores["blood"] == scores["blood_last"]).all()  # two layers: one Jacobian


def test_places_are_outside_what_a_run_was_trained_on():
    spec = genlab.plan("sort", train_len=4, test_len=20, seeds=[0]).specs[0]
    task = make(spec.task)
    unshifted, shifted = places_of(spec, task, ("id", "reversed"), None, 8, 0)
    assert unshifted.lengths == (5, 7, 9, 11, 14, 16, 18, 20)
    assert shifted.lengths[0] == 1
    with pytest.raises(UserError, match="it has 5 to 20 outside"):
        places_of(spec, task, ("id",), [4, 5], 8, 0)


# -- The table over runs


def _rows(values: dict[tuple[int, int, str], float]) -> pd.DataFrame:
    """(run, init_seed, score) -> AUROC at a place with 20 wrong answers of 40."""
    about = {"task": "sort", "data_seed": 0, "split": "id", "length": 9, "n": 40, "wrong": 20}
    return pd.DataFrame(
        [
            {**about, "run_id": f"r{run}", "init_seed": seed, "score": score}
            | {**dict.fromkeys(MEASURES, 0.5), "auroc": value}
            for (run, seed, score), value in values.items()
        ]
    )


def test_runs_that_share_seeds_are_one_unit_and_few_have_no_interval():
    values = {(0, 0, "msp"): 0.6, (1, 0, "msp"): 0.8, (2, 1, "msp"): 0.9}
    values |= {(run, seed, "knn"): value - 0.1 for (run, seed, _), value in values.items()}
    found = Monitors(_rows(values), pd.DataFrame(), {}, "").summary().set_index("score")
    assert found.loc["msp", "auroc"] == pytest.approx((0.7 + 0.9) / 2)
    assert (found.loc["msp", "seeds"], found.loc["msp", "runs"], found.loc["msp", "auroc_low"]) == (2, 3, None)
    assert found.loc["knn", "gain"] == pytest.approx(-0.1)
    assert (found.loc["knn", "better"], found.loc["msp", "better"]) == (0, 0)


def test_with_eight_seeds_there_is_an_interval_and_places_of_one_kind_are_counted():
    rng = np.random.default_rng(0)
    rows = _rows({(i, i, name): 0.7 + 0.01 * rng.normal() for i in range(8) for name in ("msp", "knn")})
    sure = rows.assign(length=10, wrong=0, auroc=np.nan)
    found = Monitors(pd.concat([rows, sure]), pd.DataFrame(), {}, "")
    row = found.summary().iloc[0]
    assert 0.68 < row["auroc_low"] < row["auroc"] < row["auroc_high"] < 0.72
    assert found.undefined().to_dict("records") == [
        {"task": "sort", "split": "id", "places": 16, "all_right": 8, "all_wrong": 0, "too_few": 8}
    ]


# -- The command


def test_the_command_gives_tables_json_and_a_figure(trained, lab, tmp_path: Path):
    words = ["monitor", *trained[1][:2], "--store", str(trained[0]), "--eval-n", "32", "--scores", "energy,knn"]
    status, out, err = lab(*words, "--figure", str(tmp_path / "m.png"))
    assert status == 0, err
    assert "wrong against right answers outside" in out
    assert (tmp_path / "m.png").stat().st_size > 10_000
    status, out, _ = lab(*words, "--json", "--lengths", "3,4")
    found = json.loads(out)
    assert {row["score"] for row in found["summary"]} == {"msp", "sequence_entropy", "energy", "knn"}
    assert {(row["run_id"], row["length"]) for row in found["rows"]} == {
        (r, n) for r in trained[1][:2] for n in (3, 4)
    }
    again = genlab.monitor(trained[1][:2], lengths=[3, 4], scores=["energy", "knn"], store=trained[0], n=32)
    assert [row["auroc"] for row in found["rows"]] == again.rows["auroc"].tolist()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "revresed"], "did you mean 'reversed'?"),
        (["--scores", "mps"], "did you mean 'msp'?"),
        (["--lengths", "2:5"], "it has 3 to 5 outside"),
        (["--lengths", "40"], "it has 3 to 5 outside"),
        (["--eval-n", "3"], "at least 10 answers"),
        (["--figure", "a.txt"], "names that end in"),
    ],
)
def test_wrong_inputs_are_one_line(trained, lab, words: list[str], said: str):
    status, out, err = lab("monitor", *trained[1], "--store", str(trained[0]), *words)
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_runs_that_read_no_tokens_are_left_out_with_the_reason(lab, tmp_path: Path):
    plan = genlab.plan("max-retrieval", format="values", train_len=4, test_len=8, steps=2, seeds=[0])
    genlab.train(plan, store=tmp_path / "set", device="cpu", workers=1)
    status, _, err = lab("monitor", "last", "--store", str(tmp_path / "set"))
    assert status == 2
    assert "real-valued items" in err
