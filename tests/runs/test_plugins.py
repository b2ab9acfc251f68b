"""Plugins: their source is part of a run, stores are read without them, and what they bring is checked."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

import genlab
from genlab.errors import UserError
from genlab.probes.signal import chosen
from genlab.report.probe import probe_runs
from genlab.report.train import outcome
from genlab.runs import Store
from genlab.runs.sources import edited, unavailable
from genlab.spec import RunSpec, canonical_json
from genlab.tasks import load_plugin, plugin_sources, registry

PAGE = Path(__file__).parents[2] / "docs/contributing/task.md"
SMALL = ("--train-len", "4", "--test-len", "6", "--steps", "4", "--n-layers", "1", "--d-model", "8", "--n-heads", "2")
TRAIN = ("train", "--task", "first-bit", *SMALL, "--seeds", "0:2", "--workers", "1", "--eval-n", "8")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The task of docs/contributing/task.md."""
    found = re.search(r"```python\n(# first_bit.py\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    (tmp_path / "first_bit.py").write_text(found.group(1))
    return tmp_path / "first_bit.py"


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch):
    """Start as a new process does: without plugins."""

    def empty() -> None:
        for name in ("_added", "_plugins", "_sources"):
            monkeypatch.setattr(registry, name, {})

    return empty


def wrong(file: Path) -> Path:
    """The same task with a `solve` that gives the last bit."""
    file.write_text(file.read_text().replace("return (prompt[0],)", "return (prompt[-2],)"))
    return file


def test_two_plugins_of_one_name_are_two_modules(file: Path, tmp_path: Path):
    """Each class finds its own module."""
    text = file.read_text()
    for name in ("one-bit", "other-bit"):
        (tmp_path / name).mkdir()
        copy = tmp_path / name / "mine.py"
        copy.write_text(text.replace('"first-bit"', f'"{name}"') + f"\nPLACE = {name!r}\n")
        load_plugin(copy)
    for name in ("one-bit", "other-bit"):
        assert name == sys.modules[registry.task_class(name).__module__].PLACE


# -- The source is part of a run


def test_an_edited_plugin_trains_anew_and_says_so(lab, file: Path, forget, tmp_path: Path):
    status, _, err = lab(*TRAIN, "--plugin", str(file))
    assert status == 0
    assert "trained anew" not in err
    forget()
    file.write_text(file.read_text() + "\n# an edit\n")
    status, _, err = lab(*TRAIN, "--plugin", str(file))
    assert status == 0
    assert "first-bit: the plugin's source is another than that of 2 stored runs; they are trained anew" in err
    store = Store(tmp_path / "store")
    codes = store.runs()["code"]
    assert len(codes) == 4
    assert codes.nunique() == 2
    assert edited(store, store.run_ids()) == (
        "first-bit: its plugin was edited since 2 runs were trained; this uses it as it is now"
    )
    (one, _) = [run for run in store.run_ids() if edited(store, [run])]
    assert "since 1 run was trained" in edited(store, [one])
    kept = store.entry(store.run_ids()[-1])
    assert kept["environment"]["plugins"] == {str(file): plugin_sources()[str(file)]}
    assert kept["spec"]["code"] == f"first-bit:{plugin_sources()[str(file)]}"
    _, _, err = lab(*TRAIN, "--plugin", str(file))
    assert "trained anew" not in err
    assert len(Store(tmp_path / "store").run_ids()) == 4


def test_a_run_without_a_plugin_has_the_id_it_had():
    spec = genlab.plan("parity", 5, 10).specs[0]
    assert spec.code == ""
    assert "code" not in json.loads(canonical_json(spec))
    old = spec.model_dump(mode="json")
    del old["code"]
    assert RunSpec.model_validate(old).run_id == spec.run_id


def test_an_encoding_of_a_plugin_is_part_of_the_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from genlab import spec as spec_module
    from genlab.models import positions

    monkeypatch.setattr(spec_module, "_registered", {k: set(v) for k, v in spec_module._registered.items()})
    monkeypatch.setattr(positions, "_ENCODINGS", dict(positions._ENCODINGS))
    name = "from genlab.models.positions import Positions, position_encoding\n"
    body = "@position_encoding('nowhere')\nclass Nowhere(Positions):\n    pass\n"
    (tmp_path / "nowhere.py").write_text(name + body)
    load_plugin(tmp_path / "nowhere.py")
    (source,) = plugin_sources().values()
    assert genlab.plan("parity", 5, 10, positions="nowhere").specs[0].code == f"nowhere:{source}"
    assert genlab.plan("parity", 5, 10, positions="rotary").specs[0].code == ""


def test_a_file_edited_after_it_was_loaded_is_refused(file: Path):
    load_plugin(file)
    load_plugin(file)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    load_plugin(file)  # other line ends are no edit
    file.write_text(file.read_text() + "\n# an edit\n")
    with pytest.raises(UserError, match="was edited since it was loaded; start a new process"):
        load_plugin(file)


def test_a_worker_with_another_source_does_not_train(
    lab, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    load_plugin(file)
    plan = genlab.plan("first-bit", 4, 6, steps=4, n_layers=1, d_model=8, n_heads=2)
    monkeypatch.setitem(registry._sources, "first-bit", "0" * 12)
    from genlab.errors import FailedRuns

    with pytest.raises(FailedRuns, match="a plugin was edited since these runs were planned"):
        genlab.train(plan, store=tmp_path / "store", device="cpu", workers=1)
    assert not Store(tmp_path / "store").run_ids()


# -- A store is read without the plugin


@pytest.fixture
def mixed(lab, file: Path, forget, tmp_path: Path) -> Store:
    """A store with runs of the plugin's task and of another, tagged `all`, with a signal read; then no plugin."""
    assert lab(*TRAIN, "--plugin", str(file))[0] == 0
    assert lab("train", "--task", "parity", *TRAIN[3:])[0] == 0
    store = Store(tmp_path / "store")
    ids = store.run_ids()
    store.named.tag("all", ids)
    store.named.tag("own", ids[:2])
    store.named.tag("one", ids[:1])
    store.named.tag("two", ids[1:2])
    probe_runs(["own"], chosen(["weight_norm"]), None, store)
    forget()
    return store


READS = [
    ["runs"],
    ["runs", "--task", "first-bit"],
    ["runs", "--by", "task"],
    ["runs", "--json"],
    ["compare", "one", "two"],
    ["report", "--grid", "own", "-o", "own.html"],
    ["report", "--grid", "all", "-o", "all.html", "--all-runs"],
    ["probe", "own", "--signals", "weight_norm"],
    ["probe", "all", "--signals", "weight_norm"],
    ["forecast", "evaluate", "--grid", "all", "--target", "exact_match@length=6", "--all-runs"],
    ["forecast", "rules", "--grid", "own", "--split", "id"],
    ["store", "check"],
    ["tag", "mine", "own"],
]


def test_a_store_is_read_without_the_plugin(lab, mixed: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    for words in READS:
        status, out, err = lab(*words)
        assert status == 0, (words, err)
        assert out
        assert "Warning" not in err
    status, out, _ = lab("probe", "all", "--signals", "weight_norm")
    assert "weight_norm" in out
    told = outcome(mixed, mixed.find("own"))
    assert told.task is None
    assert len(told.lengths) == 6
    assert not any(told.baselines.values())
    told.draw(tmp_path / "own.png")
    assert (tmp_path / "own.png").stat().st_size > 0


def test_what_needs_the_plugin_names_its_file(lab, mixed: Store, file: Path):
    run = mixed.find("one")[0]
    for words in (["eval", "own", "--lengths", "2"], ["probe", "own", "--signals", "confidence_msp"], ["ask", run]):
        status, _, err = lab(*words)
        assert (status, err.count("\n")) == (2, 1), words
        assert f"run {run} was trained with the plugin {file} (--plugin FILE loads one)" in err
    file.unlink()
    assert f"{file}, which is not there now" in unavailable(mixed, run)
    status, out, err = lab("probe", "all", "--signals", "confidence_msp")
    assert status == 0, err
    assert "skipped confidence_msp (2 of 4 runs): unknown task 'first-bit'" in out


# -- How plugins are loaded


def test_plugins_of_the_environment_and_before_any_command(lab, file: Path, forget, monkeypatch: pytest.MonkeyPatch):
    assert "first-bit" in lab("--plugin", str(file), "tasks")[1]
    forget()
    assert "first-bit" not in lab("tasks")[1]
    monkeypatch.setenv("GENLAB_PLUGINS", os.pathsep.join([str(file), ""]))
    assert "first-bit" in lab("tasks")[1]
    monkeypatch.setenv("GENLAB_PLUGINS", "gone.py")
    assert lab("tasks")[::2] == (2, "lab: plugin 'gone.py' is not a file\n")


def test_a_task_whose_solve_and_sample_disagree_is_refused(lab, file: Path):
    status, out, err = lab("tasks", "--plugin", str(wrong(file)))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.search(
        r"task 'first-bit', format 'plain', breaks its contract: .*sampled with answer .* `solve` gives", err
    )
    assert "first-bit" not in lab("tasks")[1]  # and nothing of it stays


NAMES = ["../out", "a/b", "a b", "", "-x", "a" * 65, "naïve", "a,b", "a\n"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_name_is_refused(lab, file: Path, tmp_path: Path, name: str):
    text = file.read_text()
    for old, new in (('"first-bit"', repr(name)), ('"plain"', repr(name)), ('name="dense"', f"name={name!r}")):
        file.write_text(text.replace(old, new))
        status, out, err = lab("tasks", "--plugin", str(file))
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "of a task is not allowed (up to 64 letters, digits" in err


@pytest.mark.parametrize("name", ["../out", "a/b", "", "-x", "a,b", "a\n", "a b", "last", "last-grid"])
def test_a_group_does_not_leave_its_store(tmp_path: Path, name: str):
    with pytest.raises(UserError, match=r"group .* is not allowed"):
        Store(tmp_path / "store").save_group(name, [], {})
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return length + 3", "width is not a whole number: 'x'"),
        ("return 0.5", "TypeError: '<=' not supported between instances of 'int' and 'str'"),
        ('return ("0", "1")', "ValueError: a vocabulary cannot contain a token twice"),
        ("bits = Vocab.first", "line 30: SystemExit: 3"),
    ],
)
def test_a_task_that_fails_is_refused_with_its_error(lab, file: Path, body: str, why: str):
    worse = {
        "return length + 3": "return 'x'",
        "return 0.5": "return '0.5'",
        'return ("0", "1")': 'return ("0", "0")',
        "bits = Vocab.first": "raise SystemExit(3); bits = Vocab.first",
    }
    text = file.read_text()
    assert body in text
    file.write_text(text.replace(body, worse[body]))
    status, out, err = lab("show", "first-bit", "--plugin", str(file))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "task 'first-bit', format 'plain'" in err
    assert why in err


def test_an_error_at_a_length_that_was_not_checked_is_the_plugins_own(lab, file: Path):
    text = file.read_text().replace("bits = Vocab.first", "bits = 1 // (longest != 6) * Vocab.first")
    file.write_text(text)
    status, out, err = lab("show", "first-bit", "--length", "6", "--plugin", str(file))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "first_bit.py' failed: line 30: ZeroDivisionError" in err
