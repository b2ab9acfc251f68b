"""The commands for many runs, as a user types them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

GRID = """
[base]
task = "parity"
train_len = 4
test_len = 6
n_layers = 1
d_model = 16
steps = 6
[sweep]
weight_decay = [0.0, 0.01]
[seeds]
together = "0:2"
[evals]
n = 16
"""


@pytest.fixture(autouse=True)
def _grid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Commands run where `two.toml` is."""
    (tmp_path / "two.toml").write_text(GRID)
    monkeypatch.chdir(tmp_path)


BAD = [
    (["grid", "gone.toml"], "cannot be read"),
    (["grid"], "lab grid --example"),
    (["grid", "two.toml", "--executor", "slrum"], "did you mean 'slurm'? (allowed: local, ray, slurm)"),
    (["grid", "two.toml", "--slurm-partition", "gpu"], "requires --executor slurm"),
    (["grid", "two.toml", "--executor", "slurm", "--slurm", "time"], "--slurm 'time' is not NAME=VALUE"),
    (["grid", "two.toml", "--logger", "tensorbord"], "unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
    (["grid", "two.toml", "--address", "auto"], "--executor ray"),
    (["grid", "two.toml", "--device", "tpu"], "allowed: auto, cpu, cuda, cuda:N"),
    (["runs", "--grid", "gone"], "no run or group 'gone'"),
    (["eval", "--lengths", "3"], "takes either a run or --grid NAME"),
    (["compare", "last"], "two or more runs"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_line_and_status_2(lab, tmp_path: Path, words: list[str], said: str):
    status, out, err = lab(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "store").exists()


def test_every_fault_of_a_file_is_told_and_nothing_started(lab, tmp_path: Path):
    (tmp_path / "bad.toml").write_text(GRID.replace("steps", "step") + "m = 2\n")
    status, out, err = lab("grid", "bad.toml")
    assert (status, out) == (2, "")
    assert "2 errors, nothing was started" in err
    assert "line 8: unknown field 'step'; did you mean 'steps'?" in err
    assert not (tmp_path / "store").exists()


def test_dry_run_and_status_start_nothing(lab, tmp_path: Path):
    status, out, _ = lab("grid", "two.toml", "--dry-run", "--workers", "1", "--json")
    told = json.loads(out)
    assert (status, told["runs"], told["stacks"], told["done"]) == (0, 4, 4, 0)
    assert told["hours"] > 0
    assert told["shapes"][0]["memory_mb"] > 0
    named = told["configurations"]
    assert [row["weight_decay"] for row in named] == [0.0, 0.01]
    assert sum(row["minutes"] for row in named) == pytest.approx(60 * told["hours"])
    assert told["shapes"][0]["seconds_a_step_in_bfloat16"] > 0
    assert lab("grid", "two.toml", "--status")[1] == "two: 0 of 4 runs done, 0 running, 4 waiting\n"
    assert not (tmp_path / "store").exists()


def test_a_dry_run_of_two_tasks_has_a_column_for_the_parameters_of_each(lab, tmp_path: Path):
    tasks = GRID.replace("[base]", '[[zip]]\ntask = ["sort", "needle"]\nmin_len = [1, 4]\n[base]')
    (tmp_path / "tasks.toml").write_text(tasks.replace('task = "parity"', ""))
    status, out, err = lab("grid", "tasks.toml", "--dry-run", "--workers", "1")
    assert status == 0, err
    assert "params.symbols" in out
    assert "params.numbers" in out


def test_a_grid_and_all_that_is_done_with_it(lab, tmp_path: Path):
    status, out, err = lab("grid", "two.toml", "--workers", "1")
    assert status == 0
    assert "grid two: 2 configurations, 4 runs" in err
    assert "4 of 4 runs done" in out
    assert json.loads(lab("grid", "two.toml", "--status", "--json")[1])["done"] == 4
    listed = pd.read_csv(io.StringIO(lab("runs", "--grid", "two", "--where", "weight_decay = 0.01", "--csv")[1]))
    assert listed.columns[0] == "run_id"
    assert set(listed["weight_decay"]) == {0.01}
    assert len(listed) == 2
    exported = json.loads(lab("runs", "--grid", "two", "--parquet", "all.parquet", "--json")[1])
    assert exported == {"file": "all.parquet", "rows": 4}
    assert len(pd.read_parquet(tmp_path / "all.parquet")) == 4
    _, out, err = lab("runs", "--grid", "two", "--by", "weight_decay,n_layers")
    assert "out median" in out
    assert Path(err.partition("figure: ")[2].strip()).read_bytes().startswith(b"\x89PNG")
    assert lab("eval", "--grid", "two", "--lengths", "5:6", "--split", "dense", "--eval-n", "8")[0] == 0
    assert lab("tag", "good", *listed["run_id"])[1] == "good: 2 runs\n"
    assert json.loads(lab("tag", "good", "good", "--json")[1]) == {"tag": "good", "runs": listed["run_id"].tolist()}
    _, out, _ = lab("compare", "good", "two", "--json")
    assert json.loads(out)["settings"]["weight_decay"] == {"good": "0.01", "two": "0.0, 0.01"}
    before, after = re.findall(r"\d+", lab("store", "compact")[1])
    assert int(after) < int(before)
    assert json.loads(lab("store", "compact", "--json")[1]) == {"before": int(after), "after": int(after)}
    assert lab("store", "check")[1].startswith("clean: 4 runs")
    assert lab("delete", listed["run_id"][0], "--yes")[1] == "deleted 1 run\n"
    assert json.loads(lab("delete", "good", "--yes", "--json")[1]) == {"deleted": [listed["run_id"][1]]}
    assert lab("grid", "two.toml", "--status")[1] == "two: 2 of 4 runs done, 0 running, 2 waiting\n"


def test_check_ends_with_status_1_where_a_file_is_damaged(lab, tmp_path: Path):
    lab("grid", "two.toml", "--workers", "1")
    file = next((tmp_path / "store/weights").iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    status, out, _ = lab("store", "check")
    assert status == 1
    assert out.startswith(f"damaged: {tmp_path / 'store' / 'weights'}")
