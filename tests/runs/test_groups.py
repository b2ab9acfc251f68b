"""Groups of runs: a command knows its own, whatever another one does meanwhile; `last` says what it took."""

from __future__ import annotations

from pathlib import Path

import pytest

import genlab
from genlab.errors import UserError
from genlab.report.grid import RunList
from genlab.report.output import show
from genlab.report.tables import filtered
from genlab.report.train import train_plan
from genlab.report.upkeep import delete_named
from genlab.runs import Store
from genlab.runs.failures import Failure, read_failures, record


def test_a_command_knows_its_own_group(tmp_path: Path):
    store, other = Store(tmp_path / "store"), Store(tmp_path / "store")
    plan = genlab.plan("parity", 4, 6, steps=2, n_layers=1, d_model=8, n_heads=2, evals=genlab.Evals(6, n=8))

    def meanwhile(_progress: object) -> bool:
        other.save_group("of-another", [], {}, "grid")
        return True

    done = train_plan(plan, store, device="cpu", workers=1, again=False, figure=None, report=meanwhile)
    assert store.named.last() == "of-another"
    assert store.named.last("last-train") == done.group != "of-another"
    assert done.figure == store.named.folder(done.group) / "exact_match_by_length.png"
    assert done.figure is not None
    assert done.figure.is_file()
    assert [p.name for p in (tmp_path / "store/groups/of-another").iterdir()] == ["group.json"]


def test_last_says_what_it_took(lab, tmp_path: Path):
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match="has no group of `lab grid` yet; `lab grid` creates one"):
        store.find("last-grid")
    store.ready()
    store.save_group("small", [], {}, "train")
    store.save_group("large", [], {}, "grid")
    for name, group in (("last", "large of lab grid"), ("last-train", "small of lab train")):
        for words in (["--by", "task"], ["--where", "lr > 1", "--sort", "lr"], ["--json"]):
            assert lab("runs", "--grid", name, *words)[0] == 0  # of a group that has no run yet
        _, _, err = lab("runs", "--grid", name)
        assert err.count(f"{name}: group {group}\n") == 1
    assert store.named.damage() == {}
    (tmp_path / "store/groups/small/group.json").unlink()
    assert list(store.named.damage()) == [tmp_path / "store/groups/last-train"]


def test_deleting_last_looks_it_up_once(tmp_path: Path):
    """A group that appears while `lab delete last` asks is not touched."""
    store = Store(tmp_path / "store")
    store.ready()
    never = {"first": "1" * 16, "second": "2" * 16}
    for name, run in never.items():
        record(store.path, Failure(run, [run], "parity", "planted", "", "2026-01-01T00:00:00"))
        store.save_group(name, [run], {})
    store.save_group("first", [never["first"]], {})

    def meanwhile(_count: int) -> bool:
        store.save_group("second", [never["second"]], {})
        return True

    assert delete_named(store, ["last"], meanwhile).runs == []
    assert [failure.runs for failure in read_failures(store.path)] == [[never["second"]]]


def test_a_report_held_out_by_what_is_not_there_is_refused(lab, tmp_path: Path):
    status, out, err = lab("report", "--grid", "last", "-o", str(tmp_path / "x.html"), "--by", "nonsense")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "unknown --by 'nonsense'" in err
    assert not (tmp_path / "x.html").exists()


def test_a_condition_that_nothing_meets_says_so(capsys: pytest.CaptureFixture[str]):
    import pandas as pd

    runs = pd.DataFrame({"run_id": ["a", "b"], "positions": ["none", "alibi"], "bias": [True, False]})
    assert list(filtered(runs, "positions == alibi and bias == false")["run_id"]) == ["b"]
    show(RunList(filtered(runs, "positions == rotary"), [], of=2))
    assert capsys.readouterr().out == "0 of 2 runs match\n"
