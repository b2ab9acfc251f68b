"""Taking a head out: which head, against which others, and what is said of it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import genlab
from genlab.errors import UserError
from genlab.forecast import table
from genlab.forecast.causal import Removal, removal_lines, remove_head
from genlab.forecast.scores import Interval
from genlab.forecast.targets import parse_target
from genlab.models import model_of
from genlab.runs.devices import environment
from genlab.runs.parts import SIGNAL_COLUMNS, Signals
from genlab.runs.store import Store
from genlab.runs.work import evaluate_runs
from genlab.tasks import make
from genlab.training import eval_examples, fresh

TARGET = "loss@split=matched-unnested"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Four untrained runs, whose signal `bracket_ambi` is largest at another head in each."""
    store = Store(tmp_path_factory.mktemp("causal") / "store")
    shape = {"n_heads": 2, "d_model": 16, "positions": "none"}
    specs = genlab.plan("brackets", 20, 20, min_len=10, seeds=range(4), steps=0, **shape).specs
    store.ready()
    about = environment(torch.device("cpu"))
    for state in fresh(specs):
        store.commit([dataclasses.replace(state, status="finished")], about)
    ids = [spec.run_id for spec in specs]
    splits = [make(specs[0].task).split("matched-unnested").at((10, 20), 32, 0)]
    evaluate_runs(store, ids, splits, torch.device("cpu"), lambda _progress: True)
    rows = {name: [] for name in SIGNAL_COLUMNS}
    for i, run in enumerate(ids):
        for place in range(4):
            values = (
                run,
                0,
                "bracket_ambi",
                1,
                "bracket_ambi",
                place // 2,
                place % 2,
                float(place == i) + i,
                "",
                "",
                0,
            )
            for name, value in zip(SIGNAL_COLUMNS, values, strict=True):
                rows[name].append(value)
    Signals(store.path).add(rows, "signals")
    return store, ids


def removed(kept, kind="zero", signal="bracket_ambi.max", target=TARGET):
    store, ids = kept
    return remove_head(
        store, table(store, ids), parse_target(target), signal, kind, np.random.default_rng(0), fit_only=False
    )


def by_hand(store, run, layer, head):
    """The loss on the target's examples of one run whose head writes nothing: its rows of W_O are zero.

    The two lengths count as often as training draws them.
    """
    spec = store.spec(run)
    model = model_of(spec.model, store.weights([run]).clone())
    if layer is not None:
        size = spec.model.d_head
        model.params[f"blocks.{layer}.attn.W_O"][:, head * size : (head + 1) * size] = 0
    task, losses = make(spec.task), []
    for length in (10, 20):
        examples = eval_examples(task, task.split("matched-unnested").at((length,), 32, 0), length)
        logits = model(torch.from_numpy(examples.inputs)).double().log_softmax(-1)
        gold = logits.gather(-1, torch.from_numpy(examples.targets)[..., None])[..., 0].numpy()
        losses.append(float((-(gold * examples.scored).sum(1) / examples.scored.sum(1)).mean()))
    lengths, law = task.length_law("id", 10, 20)
    return float(np.average(losses, weights=[law[lengths == 10].item(), law[lengths == 20].item()]))


def test_the_head_with_the_largest_value_is_taken_out(kept):
    store, ids = kept
    found = removed(kept).runs.set_index("run_id")
    assert list(found.index) == ids
    for place, run in enumerate(ids):
        row = found.loc[run]
        assert (row["layer"], row["head"]) == (place // 2, place % 2)
        each = [by_hand(store, run, at // 2, at % 2) for at in range(4)]
        assert row["before"] == pytest.approx(by_hand(store, run, None, None), abs=1e-5)
        assert row["after"] == pytest.approx(each[place], abs=1e-5)
        assert row["others"] == pytest.approx((sum(each) - each[place]) / 3, abs=1e-5)


def test_what_is_implied_is_the_rank_correlation(kept):
    found = removed(kept)
    ranks = found.runs[["signal", "before"]].rank()
    assert found.implied == pytest.approx(ranks.corr().iloc[0, 1])
    assert found.change.value == pytest.approx((found.runs["after"] - found.runs["before"]).mean())


@pytest.mark.parametrize(
    ("implied", "low", "high", "verdict"),
    [
        (0.5, -0.2, -0.1, "as the forecast implies"),
        (0.5, 0.1, 0.2, "against what the forecast implies"),
        (-0.5, 0.1, 0.2, "as the forecast implies"),
        (0.5, -0.1, 0.1, "no more than taking out another head does"),
        (0.5, None, None, "cannot be said"),
    ],
)
def test_verdicts(implied, low, high, verdict):
    some = Interval(0.0, low, high, "")
    found = Removal("mean", parse_target(TARGET), "s", pd.DataFrame(), implied, some, some, some, "loss")
    assert found.verdict == verdict
    assert verdict in removal_lines([found])[-1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"signal": "bracket_amby"}, "did you mean 'bracket_ambi'"),
        ({"kind": "uniformly"}, "did you mean 'uniform'"),
        ({"target": "furthest@0.9"}, "needs METRIC@split=S"),
    ],
)
def test_bad_input(kept, given, said):
    with pytest.raises(UserError, match=said):
        removed(kept, **given)


def test_no_correlation_is_said_in_words():
    some = Interval(0.0, -0.1, 0.1, "")
    found = Removal("mean", parse_target(TARGET), "s", pd.DataFrame(), float("nan"), some, some, some, "loss")
    assert "no correlation within settings" in removal_lines([found])[1]
    assert "nan" not in " ".join(removal_lines([found]))
