"""Runs that diverged go through every command: named and counted, and no number is theirs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import genlab
from genlab.models.normalisers import entmax15
from genlab.probes.probing import probe
from genlab.probes.signal import chosen
from genlab.report.notebook import notebook_of
from genlab.report.tables import run_table, summary
from genlab.report.train import outcome
from genlab.runs import Store, grid
from genlab.runs.diverged import set_aside
from genlab.runs.files import read_json, write_json
from genlab.runs.parts import Signals
from genlab.runs.plan import Evals

SOFT, SPARSE = "softmax", ("entmax15", "scalable-entmax")
SHARED: dict[str, Any] = {
    "steps": 20, "eval_every": 10, "n_layers": 2, "d_model": 16, "n_heads": 2, "batch_size": 8, "warmup": 0,
}  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs that trained and six that diverged, of three kinds of attention weights, two seeds each, in stacks."""
    store = tmp_path_factory.mktemp("diverged") / "store"
    plans = [
        genlab.plan("parity", 4, 6, seeds=range(2), evals=Evals(6, n=32), attn_weights=kind, lr=lr, **SHARED)
        for kind in (SOFT, *SPARSE)
        for lr in (1e-3, 1e30)
    ]
    grid(plans, name="g", store=store, workers=1, stack=2)
    return store


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Store:
    """A store of its own, where the `lab` fixture looks."""
    shutil.copytree(trained, tmp_path / "store")
    return Store(tmp_path / "store")


def sides(store: Store) -> tuple[list[str], list[str]]:
    counted, diverged = set_aside(store, store.find("g"))
    assert (len(counted), len(diverged)) == (6, 6)
    return counted, diverged


def test_a_grid_names_them_and_goes_on(lab, store: Store, tmp_path: Path):
    _, diverged = sides(store)
    status, out, err = lab("grid", str(grid_file(tmp_path)), "--workers", "1")
    said = " ".join(out.split())
    assert status == 0, err
    assert "6 of 12 runs diverged and are left out: " in said
    assert all(run in said for run in diverged)


ONE: dict[str, list[str]] = {
    "runs": ["--grid", "three", "--by", "task"],
    "compare": ["three", "--by", "attn_weights"],
    "eval": ["three", "--lengths", "4,6", "--eval-n", "8"],
    "probe": ["three", "--signals", "weight_norm"],
    "report": ["--grid", "three", "-o", "page.html", "--all-runs"],
    "forecast evaluate": ["--grid", "three", "--target", "loss@length=6", "--all-runs", "--by", "random"],
    "forecast fit": ["--grid", "three", "--target", "loss@length=6", "--all-runs", "--save", "own"],
    "forecast seal": ["--grid", "three", "--with", "own"],
    "forecast causal": [
        "--grid",
        "three",
        "--target",
        "loss@length=6",
        "--all-runs",
        "--signal",
        "start_token.max",
    ],
    "forecast rules": ["--grid", "three", "--split", "id"],
    "constants": ["three", "--lengths", "4,6", "--eval-n", "8"],
    "dispersion": ["three", "--lengths", "5,6", "--eval-n", "8"],
    "ensemble": ["three", "--split", "id", "--sizes", "2"],
    "items": ["three", "--split", "id"],
    "lines": ["three", "--split", "id"],
    "monitor": ["three", "--lengths", "5,6", "--eval-n", "10"],
}
"""A call of each command that reads a grid."""


def readers() -> set[str]:
    """All commands that take a grid, group or tag, as the command line knows them; but those that compute nothing."""
    import typer

    from genlab.cli import app

    found: set[str] = set()

    def visit(command: Any, words: tuple[str, ...]) -> None:
        for name, below in getattr(command, "commands", {}).items():
            visit(below, (*words, name))
        if {p.name for p in getattr(command, "params", [])} & {"grid", "runs"} and not getattr(
            command, "commands", None
        ):
            found.add(" ".join(words))

    visit(typer.main.get_command(app), ())
    return found - {"tag", "delete"}


def test_every_command_counts_one_among_three(lab, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert readers() == set(ONE)
    soft, one, sparse = sides(store)[0][:3]
    store = call_diverged(store, one)
    store.named.tag("three", [soft, one, sparse])
    probe(store, [soft, sparse], chosen(["start_token"]), n=16)
    too_few = {
        "forecast evaluate": "2 runs with an outcome",
        "forecast seal": "was seen for all 2 runs",
        "items": "2 runs are too few",
    }
    for command, words in ONE.items():
        status, out, err = lab(*command.split(), *words)
        said = " ".join((out + err).split())
        of = 2 if command in ("compare", "eval") else 3  # by configuration
        assert f"1 of {of} runs diverged and is left out: {one}" in said, (command, said)
        assert (status, too_few.get(command, "") in said) == (2 if command in too_few else 0, True), (command, said)


def call_diverged(store: Store, run: str) -> Store:
    """Enter in the record of a run that it diverged."""
    (record,) = [p for p in (store.path / "commits").glob("*.json") if run in p.read_text()]
    content = read_json(record)
    for entry in content["runs"]:
        entry["status"] = "diverged" if entry["run_id"] == run else entry["status"]
    write_json(record, content)
    return Store(store.path)


def grid_file(folder: Path) -> Path:
    """The grid of `trained`, as a file."""
    file = folder / "g.toml"
    base = {"task": "parity", "train_len": 4, "test_len": 6, **SHARED}
    lines = [f"{name} = {json.dumps(value)}" for name, value in base.items()]
    swept = ['attn_weights = ["softmax", "entmax15", "scalable-entmax"]', "lr = [1e-3, 1e30]"]
    seeds = ["[seeds]", 'together = "0:2"', "[evals]", "n = 32"]
    file.write_text("\n".join(["[base]", *lines, "[sweep]", *swept, *seeds]))
    return file


def test_the_grid_file_names_the_runs_of_the_store(store: Store, tmp_path: Path):
    from genlab.runs import read_grid
    from genlab.runs.api import wanted_runs

    assert sorted(spec.run_id for spec, _ in wanted_runs(read_grid(grid_file(tmp_path)))) == sorted(store.find("g"))


def test_tables_are_those_of_the_others_alone(store: Store):
    counted, diverged = sides(store)
    both, alone = (summary(run_table(store, runs), ["attn_weights"]) for runs in ([*counted, *diverged], counted))
    assert both["diverged"].tolist() == [2, 2, 2]
    pd.testing.assert_frame_equal(both.drop(columns=["runs", "diverged"]), alone.drop(columns=["runs", "diverged"]))
    forecast, own = genlab.forecast.table(store, "g"), genlab.forecast.table(store, counted)
    assert set(forecast.index) == set(counted)
    pd.testing.assert_frame_equal(forecast.sort_index(), own.sort_index())
    assert set(genlab.forecast.table(store, diverged).index) == set(diverged)  # asked for one by one: a sealed set


def test_an_outcome_of_one_configuration_counts_the_others(store: Store, tmp_path: Path):
    counted, _ = sides(store)
    first, second = counted[:2]
    store = call_diverged(store, second)
    found = outcome(store, [first, second])
    assert found.diverged == [second]
    assert found.fit is not None
    assert found.fit["runs"] == 1
    assert set(found.lengths["runs"]) == {1}
    assert set(found.evals["run_id"]) == {first}
    assert found.as_json()["left_out"] == [second]


def test_lab_train_of_nothing_but_diverged_runs(lab, tmp_path: Path):
    words = ["train", "--task", "parity", "--train-len", "4", "--d-model", "16", "--steps", "20", "--warmup", "0"]
    words += ["--lr", "1e30", "--seeds", "0:2", "--workers", "1", "--eval-n", "8"]
    status, out, _ = lab(*words)
    assert (status, "2 of 2 runs diverged and are left out" in out, "figure" in out) == (0, True, False)
    told = json.loads(lab(*words, "--json")[1])
    assert (len(told["left_out"]), told["figure"], told["fit_in_distribution"]) == (2, None, None)
    status, _, err = lab("report", "--grid", "last", "-o", str(tmp_path / "r.html"))
    name = Store(tmp_path / "store").named.last()
    assert (status, err.splitlines()[-1]) == (2, f"lab: all 2 runs of {name!r} diverged")
    status, _, err = lab("forecast", "rules", "--grid", "last", "--split", "id")
    assert (status, "none has completed without diverging" in err) == (2, True)


def test_signals_are_read_of_the_others_alone(store: Store):
    counted, diverged = sides(store)
    done = probe(store, [*diverged, *counted], chosen(["attention_entropy", "linear_probe"]), null=False)
    assert done.diverged == diverged
    assert set(Signals(store.path).frame(store.run_ids())["run_id"]) == set(counted)


@pytest.mark.parametrize("command", ["probe", "eval", "compare"])
def test_one_that_is_asked_for_by_name(lab, store: Store, command: str, tmp_path: Path):
    counted, diverged = sides(store)
    run = diverged[-1]
    more = {
        "probe": ["--figure", str(tmp_path / "f.png")],
        "eval": ["--lengths", "4", "--figure", str(tmp_path / "f.png"), "--eval-n", "8"],
        "compare": [counted[0]],
    }
    status, out, err = lab(command, run, *more[command])
    assert (status, "1 of 1 runs diverged and is left out" in out + err) == (0, True)


def test_a_notebook_says_it_first(store: Store):
    run = sides(store)[1][0]
    for diverged in (False, True):
        cells = notebook_of(run, store, store.spec(run), diverged).cells
        assert ("It diverged" in cells[0]["source"]) == diverged


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_rows_that_hold_no_number_have_no_weights(kind: torch.dtype):
    nan, inf = math.nan, math.inf
    bad = torch.tensor([[nan, nan, nan], [1.0, nan, -inf], [-inf, -inf, -inf], [inf, 0.0, -inf]], dtype=kind)
    fine = torch.tensor([[1.0, 0.5, -inf]], dtype=kind)
    rows = torch.cat([bad, fine]).requires_grad_()
    weights = entmax15(rows)
    assert weights[:4].isnan().all()
    assert torch.equal(weights[4:], entmax15(fine))
    (weights[4] ** 2).sum().backward()
    assert rows.grad is not None
    assert rows.grad[4].isfinite().all()
