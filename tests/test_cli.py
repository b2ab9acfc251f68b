"""The command line: what a user types, what comes out, and one clear line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genlab.runs import Store
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import check_task, make, task_class

TRAIN = ["train", "--task", "parity", "--train-len", "4", "--test-len", "8"]
TINY = [
    *TRAIN,
    "--steps",
    "4",
    "--d-model",
    "16",
    "--n-layers",
    "1",
    "--eval-n",
    "16",
    "--seeds",
    "0:2",
    "--workers",
    "1",
]


BAD = [
    (["train", "--task", "partiy", "--train-len", "4"], "unknown task 'partiy'; did you mean 'parity'"),
    (["train", "--task", "parity", "--train-len", "9", "--test-len", "8"], "--test-len 8 is below --train-len 9"),
    (["train", "--task", "copy", "--train-len", "9", "--param", "symbols=5"], "symbols"),
    ([*TRAIN, "--d-model", "65"], "d_model 65 is not divisible by n_heads 4"),
    ([*TRAIN, "--format", "runing"], "did you mean 'running'?"),
    ([*TRAIN, "--test-split", "spars"], "did you mean 'sparse'?"),
    ([*TRAIN, "--train-split", "spars"], "did you mean 'sparse'?"),
    ([*TRAIN, "--steps", "-1"], "steps: -1 is not allowed"),
    ([*TRAIN, "--steps", "many"], "--steps"),
    ([*TRAIN, "--max-len", "6"], "give --max-len 8"),
    ([*TRAIN, "--n-layer", "3"], "--n-layers"),
    ([*TRAIN, "--positions", "rotery"], "did you mean 'rotary'?"),
    ([*TRAIN, "--betas", "0.9,x"], "'x' is not a number"),
    ([*TRAIN, "--betas", "0.9"], "betas"),
    ([*TRAIN, "--seeds", "4:0"], "--seeds '4:0' is not a valid range"),
    ([*TRAIN, "--evals", "none"], "allowed: all, id"),
    ([*TRAIN, "--eval-n", "0"], "--eval-n must be at least 1"),
    ([*TRAIN, "--device", "tpu"], "allowed: auto, cpu, cuda, cuda:N"),
    ([*TRAIN, "--dtype", "tf32", "--device", "cpu"], "requires a CUDA device"),
    ([*TRAIN, "--param", "base"], "not NAME=VALUE"),
    ([*TRAIN, "--plugin", "gone.py"], "plugin 'gone.py' is not a file"),
    (["eval", "last", "--lengths", "5"], "has no groups yet"),
    (["eval", "abc", "--lengths", "5"], "no run or group 'abc'"),
    (["runs", "--task", "srt"], "did you mean 'sort'?"),
    (["show", "parity", "--length", "-3"], "length -3 on split 'id': its shortest has 1 bits"),
    (["show", "parity", "--split", "dens"], "did you mean 'dense'?"),
    (["show", "partiy"], "did you mean 'parity'"),
    (["trian"], "Did you mean 'train'?"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda x: x if isinstance(x, str) else " ".join(x[-2:]))
def test_bad_input_is_one_line_and_status_2(lab, tmp_path: Path, words: list[str], said: str):
    status, out, err = lab(*words)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "store").exists()


def test_a_store_that_is_a_file(lab, tmp_path: Path):
    (tmp_path / "store").write_text("mine")
    status, _, err = lab(*TRAIN)
    assert (status, (tmp_path / "store").read_text()) == (2, "mine")
    assert "is a file" in err


def test_a_plugin_that_does_not_import_shows_its_own_error(lab, tmp_path: Path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("import nothing_of_this_name\n")
    status, _, err = lab("tasks", "--plugin", str(plugin))
    assert status == 2
    assert "No module named 'nothing_of_this_name'" in err


def test_train_then_everything_else(lab, tmp_path: Path):
    status, out, err = lab(*TINY)
    assert status == 0
    assert "2 runs: 1 layer, d_model 16" in err
    assert "picked for you: positions, lr, curriculum=0.7 (each has a flag" in err
    assert "fit in distribution" in out
    assert "0/2" in out
    store = Store(tmp_path / "store")
    ids = store.run_ids()
    assert all(run in out for run in ids)
    figure = store.last_folder() / "exact_match_by_length.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert str(figure) in out

    status, out, _ = lab("runs", "--json")
    assert [row["run_id"] for row in json.loads(out)] == ids
    status, out, _ = lab("runs", "--task", "sort")
    assert "0 of 2 runs match" in out

    svg = tmp_path / "own.svg"
    status, out, _ = lab(
        "eval", "last", "--lengths", "3:8:2", "--split", "dense", "--eval-n", "8", "--figure", str(svg)
    )
    assert status == 0
    assert "split dense" in out
    assert svg.read_text().startswith("<?xml")
    status, _, err = lab("eval", ids[0][:6], "--lengths", "9")
    assert status == 2
    assert "--max-len" in err


def test_json_is_one_document_and_the_same_twice(lab):
    status, first, err = lab(*TINY, "--json")
    document = json.loads(first)
    assert status == 0
    assert [row["length"] for row in document["exact_match_by_length"]] == list(range(1, 9))
    assert document["fit_in_distribution"]["runs"] == 2
    assert "2 runs" in err
    assert lab(*TINY, "--json")[1] == first
    assert lab(*TINY, "--json", "--again")[1] == first


def test_id_looks_at_nothing_out_of_distribution(lab, tmp_path: Path):
    lab(*TINY, "--evals", "id")
    assert Store(tmp_path / "store").evals()["length"].max() == 4


def test_a_damaged_weights_file_is_one_line(lab, tmp_path: Path):
    lab(*TINY)
    file = next((tmp_path / "store/weights").glob("*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    status, out, err = lab("eval", "last", "--lengths", "3:5", "--split", "dense")
    assert (status, out) == (2, "")
    taken, why = err.splitlines()
    assert taken.startswith("last")
    assert "is damaged" in why


def test_an_ambiguous_prefix_names_the_runs(lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lab(*TINY)
    monkeypatch.setattr(Store, "groups", lambda _self: [])
    status, _, err = lab("eval", "", "--lengths", "3")
    assert status == 2
    assert "is a prefix of 2 runs" in err


def test_show_marks_prompt_and_answer(lab):
    _, out, _ = lab("show", "parity", "--length", "3", "--format", "scratchpad", "-n", "2", "--json")
    for pair in json.loads(out):
        assert pair["prompt"].endswith(">")
        assert pair["answer"].startswith("+")
    _, out, _ = lab("show", "parity", "--length", "3")
    assert "exact match by chance 0.5" in out


def test_tasks_lists_formats_and_splits(lab):
    _, out, _ = lab("tasks", "--json")
    parity = next(row for row in json.loads(out) if row["name"] == "parity")
    assert set(parity["formats"]) == {"plain", "running", "scratchpad"}
    assert "2310.16028" in parity["source"]


def test_a_task_that_needs_a_gpu_says_so_where_it_is_listed_and_trained(lab, monkeypatch: pytest.MonkeyPatch):
    told = "needs a GPU: not learned in ten minutes"
    assert told not in lab(*TINY, "--device", "cpu")[2]
    before = lab("tasks")[1].count(told)
    monkeypatch.setattr(task_class("parity"), "needs_gpu", True)
    assert f"parity {told}" in lab(*TINY, "--device", "cpu", "--again")[2]
    assert lab("tasks")[1].count(told) == before + 1
    assert next(row for row in json.loads(lab("tasks", "--json")[1]) if row["name"] == "parity")["needs_gpu"]


def test_every_field_of_the_specs_is_a_flag(lab):
    _, out, _ = lab("train", "--help")
    for name in [*ModelConfig.model_fields, *TrainConfig.model_fields]:
        if name not in ("d_vocab", "n_ctx", "d_values", "init_seed", "data_seed"):
            assert f"--{name.replace('_', '-')}" in out


def test_the_task_of_the_contributing_page_keeps_the_contract_and_trains_in_worker_processes(lab, tmp_path: Path):
    page = (Path(__file__).parents[1] / "docs" / "contributing" / "task.md").read_text("utf-8")
    plugin = tmp_path / "first_bit.py"
    plugin.write_text(page.split("```python\n# first_bit.py\n")[1].split("```")[0])
    words = ["train", "--task", "first-bit", "--train-len", "3", "--steps", "3", "--d-model", "16", "--eval-n", "8"]
    status, out, _ = lab(*words, "--seeds", "0:2", "--workers", "2", "--plugin", str(plugin))
    assert status == 0
    assert "bits" in out
    check_task(make("first-bit", max_len=8))
