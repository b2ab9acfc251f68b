"""Variants of the model on the command line and in grid files: what trains, and one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genlab.runs.plan import plan
from genlab.spec import ModelConfig, RunSpec, canonical_json

TINY = ["--train-len", "3", "--steps", "2", "--d-model", "8", "--n-heads", "2", "--n-layers", "1", "--eval-n", "4"]
SORT = ["train", "--task", "sort", *TINY]
ONE = ["--seeds", "0:1", "--workers", "1", "--json"]

BAD = [
    (["--positions", "abacus"], "task 'sort' gives no position ids for positions 'abacus' (it gives none)"),
    (["--positions", "coupled"], "task 'sort' gives no position ids for positions 'coupled'"),
    (["--attn-weights", "entmax15,sigmoid"], "unknown attn_weights 'entmax15,sigmoid'; did you mean 'entmax15'?"),
    (["--attn-weights", "entmax"], "did you mean 'entmax15'?"),
    (["--loops", "0"], "loops: 0 is not allowed"),
    (["--loop-growth", "-1"], "loop_growth: -1.0 is not allowed"),
    (["--attn-temperature", "0"], "attn_temperature: 0.0 is not allowed"),
    (["--random-positions", "3"], "random_positions 3 is less than n_ctx 8"),
    (["--random-positions", "30", "--positions", "none"], "random_positions needs a position encoding"),
    (["--adaptive-training"], "adaptive_training needs attn_weights 'adaptive', not 'softmax'"),
    (["--no-unembed-bias", "--no-bias"], "omit unembed_bias: bias is already False"),
    (["--no-unembed-bias", "--tie-word-embeddings"], "omit unembed_bias: a tied unembedding has no bias"),
    (["--act-fn", "gelu-new"], "did you mean 'gelu_new'"),
    (["--architecture", "lstm", "--positions", "t5"], "positions t5 is a transformer option; an LSTM requires none"),
    (["--architecture", "gru"], "unknown architecture 'gru'"),
    (["--positions", "aliby"], "did you mean 'alibi'?"),
    (["--mix", "0.5"], "mix adds longer or shifted examples: set mix, and also mix_len or mix_split"),
    (["--mix-len", "5"], "set mix, and also mix_len or mix_split"),
    (["--mix", "0.5", "--mix-len", "3"], "mix_len 3 is not greater than train_len 3"),
    (["--mix", "0.5", "--mix-len", "9"], "cannot make length 4 on split 'id': allowed are 1 to 3"),
    (["--mix", "0.5", "--mix-split", "windw"], "did you mean 'window'?"),
    (["--average-steps", "5"], "average_steps 5 is greater than steps 2"),
    (["--average-steps", "1", "--until", "0.9"], "which leaves the last step unknown"),
    (["--head-diversity", "1", "--n-heads", "1"], "head_diversity compares heads"),
    (["--head-diversity", "1", "--architecture", "lstm"], "head_diversity compares heads"),
    (["--spectral-decoupling", "-1"], "spectral_decoupling: -1.0 is not allowed"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_cannot_be_gets_one_line_and_status_2(lab, tmp_path: Path, words: list[str], said: str):
    code, out, err = lab(*SORT, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_a_forward_sum_without_leading_zeros_has_no_places(lab, tmp_path: Path):
    words = ["train", "--task", "addition", *TINY, "--param", "leading_zero=false", "--positions", "abacus"]
    code, _, err = lab(*words)
    assert code == 2
    assert "depends on the answer; set leading_zero=true or use a reversed format" in err
    assert not (tmp_path / "store").exists()


def test_a_grid_file_with_two_normalisers_in_one_model_is_refused_with_its_line(lab, tmp_path: Path):
    path = tmp_path / "two.toml"
    path.write_text('[base]\ntask = "sort"\ntrain_len = 3\nattn_weights = ["entmax15", "sigmoid"]\n')
    code, _, err = lab("grid", str(path), "--status")
    assert code == 2
    assert "line 4: attn_weights" in err


@pytest.mark.parametrize(
    "words",
    [
        ["--task", "copy", "--positions", "coupled", "--random-positions", "40"],
        ["--task", "addition", "--format", "reversed-hints", "--positions", "abacus"],
        ["--task", "sort", "--attn-weights", "scalable-entmax", "--loops", "2", "--positions", "fire"],
        ["--task", "copy", "--architecture", "lstm"],
        ["--task", "sort", "--act-fn", "gelu_new", "--no-unembed-bias"],
        ["--task", "sort", "--mix", "0.5", "--mix-len", "5", "--max-len", "6", "--mix-split", "window"],
        ["--task", "sort", "--spectral-decoupling", "0.1", "--average-steps", "2"],
        ["--task", "sort", "--loop-growth", "0.5", "--attn-weights", "adaptive", "--attn-temperature", "0.8"],
    ],
    ids=" ".join,
)
def test_variants_train_and_their_runs_evaluate_again(lab, words: list[str]):
    code, out, err = lab("train", *TINY, *words, *ONE)
    assert code == 0, err
    assert len(json.loads(out)["runs"]) == 1
    code, out, err = lab("eval", "last", "--lengths", "2", "--eval-n", "4", "--json")
    assert code == 0, err


def test_ids_of_runs_kept_before_there_were_variants_stay():
    """A later field is part of a run's id only where it says something."""
    before = {"offsets": "batch", "grad_clip": 1.0, "init_std": 0.05, "lengths_per_batch": 2, "start_token": False}
    spec = plan("sort", 20, 50, steps=2500, **before).specs[0]
    model = json.loads(canonical_json(spec))["model"]
    assert not ModelConfig.later & set(model)
    assert "unembed_bias" in ModelConfig.later
    assert model["positions"] == "learned"
    assert spec.run_id == "b53ab3a67fba"
    looped = RunSpec(task=spec.task, model=spec.model.model_copy(update={"loops": 2}), train=spec.train)
    assert json.loads(canonical_json(looped))["model"]["loops"] == 2
    assert looped.run_id != spec.run_id
    assert RunSpec.model_validate_json(canonical_json(looped)) == looped
    assert RunSpec.model_validate_json(canonical_json(spec)) == spec
