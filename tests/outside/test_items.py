"""Item response models: planted populations are recovered, fits against a slow twin, stored answers, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import genlab
import genlab.outside.items as items_module
from genlab.outside.items import (
    Fitted,
    Responses,
    axis_tells,
    fit,
    fit_items,
    fit_runs,
    held_out_cells,
    held_out_items,
    held_out_runs,
    log_losses,
    main_axis,
    objective,
    rates,
)
from genlab.report.items import answers_of_items
from genlab.runs.store import Store
from genlab.training.evaluate import eval_examples, evaluate


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(model: Fitted, seed: int = 0) -> Responses:
    """Responses of a population that follows a model, on items of four places."""
    logits = model.logits()
    right = np.random.default_rng(seed).random(logits.shape) < 1 / (1 + np.exp(-logits))
    return Responses(right.astype(float), np.ones(right.shape, bool), 4 * np.arange(right.shape[1]) // right.shape[1])


def population(kind, runs: int, count: int) -> Fitted:
    rng = np.random.default_rng(1)
    if kind == "vectors":  # two kinds of items at right angles, runs that are good at one of them
        side = np.arange(count) % 2
        norm = rng.uniform(0.5, 2.5, size=count)
        items = np.stack([norm * (side == 0), norm * (side == 1)], axis=1) + 0.05 * rng.normal(size=(count, 2))
        abilities = np.stack([np.linspace(-3, 5, runs), np.linspace(5, -3, runs)], axis=1)
    else:
        items = rng.normal(size=(count, 2 if kind == "2pl" else 1))
        abilities = 2 * rng.normal(size=(runs, 1))
    return Fitted(kind, abilities, items, items.mean(0), 1.0)


@pytest.mark.parametrize("kind", ["1pl", "2pl"])
def test_abilities_and_difficulties_of_a_planted_population_are_recovered(kind):
    truth = population(kind, 60, 60)
    found = fit(kind, drawn(truth), generator(), spread=1.0)
    assert np.corrcoef(found.abilities[:, 0], truth.abilities[:, 0])[0, 1] > 0.95
    assert np.corrcoef(found.difficulty(), truth.difficulty())[0, 1] > (0.9 if kind == "1pl" else 0.75)


def test_kinds_and_difficulties_of_planted_vectors_are_recovered_without_being_told():
    truth = population("vectors", 24, 80)
    found = fit("vectors", drawn(truth), generator(), spread=1.0)
    kinds = {"first": np.arange(80) % 2 == 0, "all": np.ones(80, bool)}
    told = axis_tells(main_axis(found.directions()), kinds)
    assert list(told) == ["first"]
    assert told["first"] > 0.95
    assert np.corrcoef(found.difficulty(), truth.difficulty())[0, 1] > 0.4


@pytest.mark.slow
def test_vectors_predict_hidden_answers_of_such_a_population_and_one_ability_does_not():
    rng = np.random.default_rng(0)
    losses = held_out_cells(drawn(population("vectors", 20, 40)), 2, rng, folds=2)
    mean = {kind: float(np.mean(of_runs)) for kind, of_runs in losses.items()}
    assert mean["vectors"] < mean["1pl"] - 0.05
    assert mean["vectors"] < mean["rates"] - 0.05


def test_a_fit_is_the_minimum_that_another_optimizer_finds():
    data = drawn(population("1pl", 5, 8))

    def twin(numbers: np.ndarray) -> float:
        abilities, mean, offsets = numbers[:5], numbers[5], numbers[6:]
        total = 0.0
        for run in range(5):
            for item in range(8):
                logit = abilities[run] - mean - offsets[item]
                p = 1 / (1 + np.exp(-logit))
                total -= np.log(p if data.right[run, item] else 1 - p)
        squares = np.sum(abilities**2) / 9 + np.sum(offsets**2) / 0.25 + mean**2 / 100
        return total + squares / 2

    found = fit("1pl", data, generator(), spread=0.5)
    best = minimize(twin, np.zeros(14))
    assert found.loss == pytest.approx(best.fun, abs=1e-4)
    assert found.difficulty() == pytest.approx(best.x[5] + best.x[6:], abs=1e-2)


@pytest.mark.parametrize("kind", ["1pl", "2pl", "vectors"])
def test_derivatives_are_those_of_automatic_differentiation(kind):
    rng = np.random.default_rng(7)
    truth = population(kind, 5, 8)
    data = replace(drawn(truth), known=rng.random((5, 8)) < 0.8)
    at = replace(truth, items=truth.items + rng.normal(size=truth.items.shape), spread=0.7)
    value, slopes = objective(at, data)
    a, mean, offsets = (
        torch.from_numpy(x).requires_grad_() for x in (at.abilities.copy(), at.mean.copy(), at.items - at.mean)
    )
    v = mean + offsets
    if kind == "1pl":
        logits = a - v[:, 0]
    elif kind == "2pl":
        logits = v[:, 1].exp() * (a - v[:, 0])
    else:
        logits = a @ (v / v.norm(dim=1, keepdim=True)).T - v.norm(dim=1)
    likelihood = torch.distributions.Bernoulli(logits=logits).log_prob(torch.from_numpy(data.right))
    widths = torch.tensor([0.7, 0.35] if kind == "2pl" else [0.7], dtype=torch.float64)
    priors = (a / 3).square().sum() + (offsets / widths).square().sum() + (mean / 10).square().sum()
    loss = -likelihood[torch.from_numpy(data.known)].sum() + priors / 2
    loss.backward()
    assert value == pytest.approx(float(loss))
    told = {"abilities": a.grad, "items": offsets.grad, "mean": mean.grad}
    for name, slope in told.items():
        assert slope is not None
        own = slice(1) if (kind, name) == ("2pl", "mean") else slice(None)  # the mean of ln d is fixed
        assert slopes[name][own] == pytest.approx(slope.numpy()[own], abs=1e-9), name


def test_hidden_answers_do_not_matter():
    data = drawn(population("2pl", 8, 20))
    cells = np.random.default_rng(3).random(data.right.shape) < 0.3
    other = replace(data, right=np.where(cells, 1 - data.right, data.right))
    for kind in ("1pl", "2pl", "vectors"):
        one, two = (fit(kind, x.hidden(cells), generator(), spread=1.0).logits() for x in (data, other))
        assert np.array_equal(one, two)
    assert np.array_equal(rates(data.hidden(cells)), rates(other.hidden(cells)))


def test_new_runs_and_new_items_get_the_numbers_that_they_had():
    truth = population("1pl", 30, 50)
    data = drawn(truth)
    again = fit_runs(truth, data, generator())
    assert np.corrcoef(again.abilities[:, 0], truth.abilities[:, 0])[0, 1] > 0.97
    new = fit_items(truth, data, generator())
    assert np.corrcoef(new.difficulty(), truth.difficulty())[0, 1] > 0.85


def test_what_is_held_out_is_predicted_from_nothing_but_the_rest(few_steps):
    data = drawn(population("1pl", 6, 12))
    rng = np.random.default_rng(0)
    by_run = held_out_runs(data, 1, rng, known=6)
    features = np.arange(12.0)[:, None]
    by_features, by_runs = held_out_items(data, features, 1, np.random.default_rng(0), shown=3, folds=2)
    for losses in (by_run, by_features, by_runs):
        assert set(losses) == {"rates", "1pl", "2pl", "vectors"}
    told = np.concatenate([np.stack(list(losses.values())) for losses in (by_run, by_features)])
    assert np.isfinite(told).all()
    assert (told > 0.05).all()  # a model that had seen the answers would do better than that


def test_difficulty_that_follows_a_feature_is_predicted_for_new_items(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(items_module, "SPREADS", (3.0,))
    monkeypatch.setattr(items_module, "_ITERATIONS", 40)
    rng = np.random.default_rng(2)
    feature = rng.normal(size=60)
    truth = Fitted("1pl", np.linspace(-2, 2, 20)[:, None], 3 * feature[:, None], np.zeros(1), 1.0)
    data = drawn(truth)
    told, _ = held_out_items(data, feature[:, None], 1, np.random.default_rng(0), shown=4, folds=2)
    blind, _ = held_out_items(data, rng.normal(size=(60, 1)), 1, np.random.default_rng(0), shown=4, folds=2)
    assert np.mean(told["1pl"]) < np.mean(blind["1pl"]) - 0.1


def test_log_losses_and_rates_are_those_of_loops():
    rng = np.random.default_rng(0)
    data = Responses((rng.random((3, 8)) < 0.5).astype(float), rng.random((3, 8)) < 0.7, np.arange(8) // 4)
    logits, cells = rng.normal(size=(3, 8)), rng.random((3, 8)) < 0.5
    of_rates = 1 / (1 + np.exp(-rates(data)))
    for run in range(3):
        p = 1 / (1 + np.exp(-logits[run]))
        each = [
            -np.log(p[i] if data.right[run, i] else 1 - p[i]) for i in range(8) if cells[run, i] & data.known[run, i]
        ]
        assert log_losses(logits, data, cells)[run] == pytest.approx(np.mean(each))
        known = [data.right[run, i] for i in range(8) if data.known[run, i]]
        whole = (sum(known) + 0.5) / (len(known) + 1)
        for item in range(8):
            near = [data.right[run, i] for i in range(8) if i // 4 == item // 4 and data.known[run, i]]
            assert of_rates[run, item] == pytest.approx((sum(near) + 2 * whole) / (len(near) + 2))


# -- Stored answers


def test_stored_answers_are_those_of_the_examples(trained):
    store = Store(trained[0])
    table, right = answers_of_items(store, trained[1], (), 8)
    assert sorted(table["length"].unique()) == [1, 2, 3, 4, 5]
    run = genlab.load(trained[1][2], store=store)
    for length in (3, 4):
        rows = table[table["length"] == length]
        split = run.task.split("id").at((length,), 32, 0)
        (result,) = evaluate(run.model, run.task, split)
        assert right[2, rows.index].tolist() == result.correct[0, :8].tolist()
        assert len(eval_examples(run.task, split, length)) == rows["n"].iloc[0]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch):
    """Few steps of each fit, one spread: what a command shows, not how well it fits."""
    monkeypatch.setattr(items_module, "SPREADS", (1.0,))
    monkeypatch.setattr(items_module, "_ITERATIONS", 4)


def test_the_command_gives_tables_json_and_a_figure(trained, lab, tmp_path: Path, few_steps):
    words = ["items", *trained[1], "--store", str(trained[0]), "--per-length", "4"]
    status, out, err = lab(*words, "--figure", str(tmp_path / "items.png"))
    assert status == 0, err
    assert "sort: 4 runs, 20 items" in out
    assert "items, by features" in out
    assert (tmp_path / "items.png").stat().st_size > 10_000
    found = json.loads(lab(*words, "--json", "--dims", "1")[1])
    assert {row["model"] for row in found["judged"]} == {"rates", "1pl", "2pl", "vectors"}
    assert len(found["items"]) == 20
    assert [row["property"] for row in found["difficulty"]] == ["length, split unshifted"]
    assert found["difficulty"][0]["difficulty"] > 0.5  # longer inputs are harder
    again = genlab.items(trained[1], store=trained[0], per_length=4, dims=1)
    assert again.items["difficulty"].tolist() == [row["difficulty"] for row in found["items"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "reversed"], "no evaluation in common on split reversed (splits: id)"),
        (["--dims", "0"], "allowed: 1 to 8"),
        (["--per-length", "1"], "at least 2 items"),
    ],
)
def test_wrong_inputs_are_one_line(trained, lab, words: list[str], said: str):
    status, out, err = lab("items", *trained[1], "--store", str(trained[0]), *words)
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_too_few_runs_are_refused(trained, lab):
    status, _, err = lab("items", *trained[1][:3], "--store", str(trained[0]))
    assert status == 2
    assert "3 runs are too few" in err
