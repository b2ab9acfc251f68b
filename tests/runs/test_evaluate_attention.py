"""Evaluations with other attention weights: the same parameters, stored apart from the runs' own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import genlab
from genlab.errors import UserError
from genlab.models import count, with_attention
from genlab.runs.api import evaluate
from genlab.runs.maintain import compact_store
from genlab.runs.store import Store
from genlab.spec import Split, build

SMALL = {"d_model": 32, "d_mlp": 32, "n_heads": 1, "steps": 80, "batch_size": 32, "eval_every": 40, "lr": 0.01}
SMALL |= {"init_std": 0.2, "warmup": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("adaptive") / "store")
    plan = genlab.plan("max-retrieval", 8, format="values", max_len=64, seeds=[100], **SMALL)
    genlab.train(plan, store=store, device="cpu", workers=1)
    return store


def at(weights: str) -> Split:
    return Split(name="id").at((64,), 128, attn_weights=weights)


def test_they_are_stored_apart_and_are_of_the_same_parameters(trained: Store):
    run = trained.run_ids()[0]
    evaluate([run], [at(""), at("adaptive")], trained, "cpu")
    own, all_of_them = trained.evals([run]), trained.evals([run], attn_weights=None)
    assert set(own["attn_weights"]) == {""}
    adaptive = trained.evals([run], answers=True, metric="loss", attn_weights="adaptive")
    plain = own[(own["metric"] == "loss") & (own["length"] == 64)]
    assert len(adaptive) == len(plain) == 1
    assert adaptive["value"].iloc[0] != plain["value"].iloc[0]
    compact_store(trained)
    again = Store(trained.path)
    assert again.evals([run], attn_weights=None).equals(all_of_them)
    assert again.evals([run], answers=True, metric="exact_match", attn_weights="adaptive")["correct"].notna().all()


def test_what_is_there_is_not_evaluated_again(trained: Store):
    run = trained.run_ids()[0]
    evaluate([run], [at("entmax15")], trained, "cpu")
    before = trained.evaluations.files()
    evaluate([run], [at("entmax15")], trained, "cpu")
    assert trained.evaluations.files() == before


def test_a_run_trained_with_them_gives_the_same_numbers(tmp_path: Path, trained: Store):
    """Adaptive weights are idle in training: evaluated as softmax, such a run is a softmax run."""
    plan = genlab.plan("max-retrieval", 8, format="values", max_len=64, seeds=[100], attn_weights="adaptive", **SMALL)
    run = genlab.train(plan, store=tmp_path / "other", device="cpu", workers=1)[0]
    evaluate([run.run_id], [at(""), at("softmax")], run.store, "cpu")
    own = trained.run_ids()[0]
    evaluate([own], [at(""), at("adaptive")], trained, "cpu")
    for theirs, ours in [("", "adaptive"), ("softmax", "")]:
        values = [
            store.evals([name], metric="loss", attn_weights=weights).query("length == 64")["value"].iloc[0]
            for store, name, weights in [(run.store, run.run_id, theirs), (trained, own, ours)]
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_weights_with_parameters_of_their_own_are_refused(trained: Store):
    spec = trained.spec(trained.run_ids()[0])
    with pytest.raises(UserError, match="attn_weights 'scalable' has trained parameters"):
        evaluate([spec.run_id], [at("scalable")], trained, "cpu")
    scaled = build(type(spec.model), {**spec.model.model_dump(), "attn_weights": "scalable"})
    with pytest.raises(UserError, match="'scalable' has trained parameters"):
        with_attention(scaled, "softmax")
    with pytest.raises(UserError, match="did you mean 'adaptive'"):
        with_attention(spec.model, "adaptve")
    lstm = genlab.plan("parity", 4, architecture="lstm").specs[0].model
    with pytest.raises(UserError, match="an LSTM has no attention"):
        with_attention(lstm, "adaptive")
    assert count(with_attention(spec.model, "adaptive")) == count(spec.model)


def test_on_the_command_line(lab, tmp_path: Path):
    small = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    train = ["train", "--task", "max-retrieval", "--format", "values", "--train-len", "8", "--test-len", "8"]
    assert lab(*train, "--max-len", "64", "--seeds", "100", "--workers", "1", "--device", "cpu", *small)[0] == 0
    words = ["eval", "last", "--lengths", "64", "--eval-n", "256", "--device", "cpu", "--json"]
    numbers = [
        json.loads(lab(*words, *more)[1])[0]["exact_match_by_length"][0]["median"]
        for more in ([], ["--attn-weights", "adaptive"], [])
    ]
    assert numbers[0] == numbers[2] != numbers[1]
    status, out, err = lab(*words, "--attn-weights", "selective")
    assert (status, out) == (2, "")
    taken, why = err.splitlines()
    assert taken.startswith("last")
    assert "applies to sequences, not to sets of items" in why
