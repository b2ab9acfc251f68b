"""Tasks for those who train elsewhere: batches, files, and the example of docs/elsewhere.md as printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

import genlab
from genlab.errors import UserError
from genlab.runs.elsewhere import export
from genlab.tasks import make
from genlab.training.batches import Stream

PAGE = Path(__file__).parents[2] / "docs" / "elsewhere.md"


def test_batches_are_those_that_a_run_is_trained_on():
    spec = genlab.plan("parity", 6, seeds=[3], format="running", batch_size=8).specs[0]
    stream = Stream(make(spec.task), spec.train)
    for step, batch in enumerate(genlab.batches("parity", 6, seed=3, format="running", batch_size=8, steps=3)):
        examples = stream.batch(step)
        assert np.array_equal(batch["tokens"], examples.tokens)
        assert np.array_equal(batch["targets"] != -100, examples.scored)
        assert np.array_equal(batch["targets"].numpy()[examples.scored], examples.targets[examples.scored])
        assert np.array_equal(batch["lengths"], examples.lengths)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than cores
def test_any_number_of_workers_gives_the_same_batches():
    data = genlab.batches("sort", 5, batch_size=4, steps=5)
    alone = [batch["tokens"] for batch in DataLoader(data, batch_size=None)]
    shared = [batch["tokens"] for batch in DataLoader(data, batch_size=None, num_workers=2)]
    assert len(alone) == 5
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_the_example_of_the_page_learns(tmp_path: Path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "train_elsewhere.py").write_text(code)
    done = subprocess.run([sys.executable, "train_elsewhere.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen, unseen = (float(line.split()[-1]) for line in done.stdout.splitlines())
    assert seen > 0.8
    assert unseen < seen


def test_a_file_holds_what_the_task_answers(lab, tmp_path: Path):
    file = tmp_path / "sort.parquet"
    status, out, _ = lab(
        "export", "sort", "--out", str(file), "--lengths", "1:5", "--split", "id,reversed", "-n", "40"
    )
    assert (status, out) == (0, f"80 rows: {file} (split id, lengths 1 to 4; split reversed, lengths 1 to 4)\n")
    rows = pd.read_parquet(file)
    assert list(rows) == ["prompt", "answer", "length", "split", "task"]
    assert rows["split"].value_counts().to_dict() == {"id": 40, "reversed": 40}
    task = make("sort", 4)
    for row in rows.to_dict("records"):
        assert tuple(row["answer"].split()) == task.solve(row["prompt"].split())
        assert len(row["answer"].split()) == row["length"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sort.parquet"]


def test_datasets_opens_the_file(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    file = export("sort", tmp_path / "sort.parquet", 20, splits=("id", "reversed"), lengths=range(1, 6)).file
    opened = datasets.load_dataset("parquet", data_files=str(file), cache_dir=str(tmp_path / "cache"))
    assert list(opened) == ["train"]
    rows = opened["train"]
    assert {name: of.dtype for name, of in rows.features.items()} == {
        "prompt": "string", "answer": "string", "length": "int64", "split": "string", "task": "string"
    }  # fmt: skip
    assert [dict(row) for row in rows] == pd.read_parquet(file).to_dict("records")


def test_the_same_seed_gives_the_same_file_and_usual_lengths_are_those_of_training(tmp_path: Path):
    files = [export("addition", tmp_path / f"{i}.parquet", 50, seed=seed).file for i, seed in enumerate((1, 1, 2))]
    first, same, other = (pd.read_parquet(file) for file in files)
    assert first.equals(same)
    assert not first.equals(other)
    plan = genlab.plan("addition")
    assert set(first["length"]) <= set(range(1, plan.specs[0].train.train_len + 1))
    assert set(" ".join(first["prompt"]).split()) <= set(plan.task.vocab.tokens)


BAD = [
    (["cpy", "--out", "x.parquet"], "did you mean 'copy'"),
    (["copy", "--out", "x.csv"], "names that end in .parquet"),
    (["copy", "--out", "x.parquet", "-n", "0"], "-n is 1 to 100,000,000"),
    (["copy", "--out", "x.parquet", "--split", "skewd"], "did you mean 'skewed'"),
    (["copy", "--out", "x.parquet", "--lengths", "4:1"], "not a valid range"),
    (["copy", "--out", "x.parquet", "--format", "plian"], "unknown format"),
    (["max-retrieval", "--out", "x.parquet", "--format", "values"], "real values, not tokens"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words)[-30:] for words, _ in BAD])
def test_bad_input_is_one_line_and_nothing_written(
    lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
):
    monkeypatch.chdir(tmp_path)
    status, out, err = lab("export", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_wrong_batches_are_refused():
    with pytest.raises(UserError, match="steps 0 is not allowed"):
        genlab.batches("sort", 5, steps=0)
    with pytest.raises(UserError, match="unknown option 'batchsize'"):
        genlab.batches("sort", 5, batchsize=3)
    with pytest.raises(UserError, match="real values"):
        next(iter(genlab.batches("max-retrieval", 5, format="values")))


def test_the_export_has_a_document(lab, tmp_path: Path):
    file = tmp_path / "c.parquet"
    told = json.loads(lab("export", "copy", "--out", str(file), "--lengths", "2:4", "-n", "5", "--json")[1])
    assert told == {"file": str(file), "rows": 5, "lengths": {"id": [2, 3]}}
