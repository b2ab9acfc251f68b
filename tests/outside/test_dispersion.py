"""Dispersion: sharpness against loops, lines against planted laws, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import genlab
from genlab.models import model_of
from genlab.outside.dispersion import FITTED, Sharpness, foretold, line, sharpness
from genlab.report.dispersion import _lines
from genlab.runs.store import Store
from genlab.training.batches import eval_offsets
from genlab.training.evaluate import eval_examples
from genlab.training.state import first_weights


def loop(weights: list[np.ndarray], scores: list[np.ndarray]) -> dict[str, float]:
    """Means over queries; each has its own keys."""
    found: dict[str, list[float]] = {"largest": [], "effective": [], "spread": []}
    for w, z in zip(weights, scores, strict=True):
        found["largest"].append(w.max())
        found["effective"].append(np.exp(-sum(p * np.log(p) for p in w if p > 0)))
        found["spread"].append(z.max() - z.min())
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_sharpness_is_that_of_a_loop_over_single_examples(trained):
    run = genlab.load(trained[1][0], store=trained[0])
    split = run.task.split("id").at((4,), 10, 0)
    found = sharpness(run.spec, run.model, run.task, split, 4)
    examples = eval_examples(run.task, split, 4)
    offsets = torch.from_numpy(eval_offsets(run.task, examples, 0, run.spec.model))
    weights: dict[tuple[int, int], list[np.ndarray]] = {}
    scores: dict[tuple[int, int], list[np.ndarray]] = {}
    keys, right = [], []
    for row in range(10):
        kept: dict[str, torch.Tensor] = {}

        def tap(name: str, x: torch.Tensor, kept=kept) -> torch.Tensor:
            kept[name] = x
            return x

        tokens = torch.from_numpy(examples.tokens[[row]])
        logits = run.model(tokens[None], offsets[[row]][None], tap=tap)[0, 0]
        at = np.flatnonzero(examples.scored[row])
        right.append((logits.argmax(-1).numpy()[at] == examples.targets[row, at]).all())
        for pos in at:
            keys.append(pos + 1)
            for layer, head in np.ndindex(2, 2):
                for name, into in (("hook_pattern", weights), ("hook_attn_scores", scores)):
                    x = kept[f"blocks.{layer}.attn.{name}"][0, 0, head, pos, : pos + 1]
                    into.setdefault((layer, head), []).append(x.detach().numpy())
    assert found.keys == np.mean(keys)
    assert found.right.tolist() == right
    for layer, head in np.ndindex(2, 2):
        for name, value in loop(weights[layer, head], scores[layer, head]).items():
            assert found.values[name][layer, head] == pytest.approx(value, rel=1e-4), name


def test_sharpness_of_a_set_model_is_that_of_a_loop():
    size = {"d_model": 16, "d_mlp": 16, "n_heads": 1, "steps": 1, "max_len": 40, "params": {"classes": 3}}
    spec = genlab.plan("max-retrieval", 8, format="values", seeds=[0], **size).specs[0]
    task = genlab.plan("max-retrieval", 8, format="values", seeds=[0], **size).task
    model = model_of(spec.model, first_weights(spec))
    split = task.split("id").at((20,), 12, 0)
    found = sharpness(spec, model, task, split, 20)
    examples, weights, scores, right = eval_examples(task, split, 20), [], [], []
    for row in range(12):
        kept: dict[str, torch.Tensor] = {}

        def tap(name: str, x: torch.Tensor, kept=kept) -> torch.Tensor:
            kept[name] = x
            return x

        logits = model(torch.from_numpy(examples.inputs[[row]])[None], tap=tap)
        right.append(int(logits.argmax()) == examples.targets[row, examples.scored[row]][0])
        for name, into in (("hook_pattern", weights), ("hook_attn_scores", scores)):
            into.append(kept[f"blocks.0.attn.{name}"].detach().numpy().ravel())
    assert all(len(w) == 20 for w in weights)
    assert found.keys == 20
    assert found.right.tolist() == right
    for name, value in loop(weights, scores).items():
        assert found.values[name] == pytest.approx(np.full((1, 1), value), rel=1e-4), name


def planted(keys: float, law) -> Sharpness:
    return Sharpness(keys, {name: np.array([[law[name](keys)]]) for name in FITTED}, np.ones(4, bool))


def test_a_power_law_that_goes_on_is_foretold_and_a_break_is_not():
    law = {"largest": lambda n: 2 / n, "effective": lambda n: n / 2, "spread": lambda n: n**0.5}
    trained, there = ({n: planted(n, law) for n in lengths} for lengths in ((4, 6, 8), (16, 32)))
    broken = {n: planted(n, law | {"spread": lambda n: 8**0.5}) for n in (16, 32)}
    rows = {row["measure"]: row for row in _lines({}, trained, there)}
    assert {name: row["inside"] for name, row in rows.items()} == pytest.approx(
        {"largest": -1, "effective": 1, "spread": 0.5}
    )
    assert all(row["error"] < 1e-9 for row in rows.values())
    assert rows["largest"]["error_last"] == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert np.isnan(rows["spread"]["outside"])  # two lengths make no line
    (spread,) = [row for row in _lines({}, trained, broken) if row["measure"] == "spread"]
    assert spread["error"] == pytest.approx((np.log(2) + np.log(4)) / 4)
    assert spread["error_last"] == pytest.approx(0)


def test_a_line_stays_within_what_is_possible():
    slope, start = line([2, 4, 8], np.array([[0.25], [0.5], [1.0]]))
    assert foretold("largest", slope, start, 64).tolist() == [1.0]
    assert foretold("spread", slope, start, 64) == pytest.approx([8.0])
    assert foretold("effective", slope, start, 4).tolist() == [1.0]
    assert foretold("effective", slope, start + 9, 4).tolist() == [4.0]
    assert np.isnan(line([3, 3, 3], np.ones((3, 1)))[0]).all()


def test_the_command_gives_curve_lines_json_and_a_figure(trained, lab, tmp_path: Path):
    words = ["dispersion", *trained[1], "--store", str(trained[0]), "--eval-n", "32"]
    status, out, err = lab(*words, "--figure", str(tmp_path / "d.png"))
    assert status == 0, err
    assert "largest weight of the sharpest head and accuracy outside: sort, split id" in out
    assert (tmp_path / "d.png").stat().st_size > 10_000
    found = json.loads(lab(*words, "--json")[1])
    lengths = [(row["length"], row["outside"], row["runs"]) for row in found["curve"]]
    assert lengths == [(1, False, 4), (2, False, 4), (3, True, 4), (4, True, 4), (5, True, 4)]
    evals = Store(trained[0]).evals(trained[1], metric="exact_match").query("length == 4 and split == 'id'")
    (own,) = [row for row in found["curve"] if row["length"] == 4]
    assert own["accuracy"] == pytest.approx(evals["value"].mean())  # the same 32 examples as `lab train` evaluates
    sharpest = max(
        {(row["layer"], row["head"]) for row in found["rows"]},
        key=lambda at: sum(
            row["largest"]
            for row in found["rows"]
            if (row["layer"], row["head"]) == at and row["run_id"] == trained[1][0] and not row["outside"]
        ),
    )
    again = genlab.dispersion(trained[1][0], store=trained[0], n=32)
    of_it = again.rows[(again.rows["layer"] == sharpest[0]) & (again.rows["head"] == sharpest[1])]
    assert again.curve()["sharpest"].tolist() == pytest.approx(of_it["largest"].tolist())


def test_what_is_named_twice_counts_once(trained, lab):
    words = ("dispersion", *trained[1], "--store", str(trained[0]), "--json")
    once = lab(*words, "--split", "id", "--lengths", "4,5")
    assert once[0] == 0
    assert lab(*words, "--split", "id, id", "--lengths", "4,5,4") == once
    run, given = trained[1][0], {"store": trained[0], "n": 32}
    twice = genlab.dispersion(run, splits=["id", "id"], **given)
    assert twice.rows.equals(genlab.dispersion(run, splits=["id"], **given).rows)


def test_wrong_inputs_are_one_line(trained, lab):
    for words, said in (
        (["--split", "revers"], "did you mean 'reversed'?"),
        (["--lengths", "2"], "nothing outside on split 'id' at lengths 2"),
        (["--eval-n", "0"], "at least 1"),
    ):
        status, out, err = lab("dispersion", *trained[1], "--store", str(trained[0]), *words)
        assert (status, out) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) == 1
