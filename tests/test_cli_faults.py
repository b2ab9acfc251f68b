"""What is around a command may fail too: outputs that cannot be written, interrupts, prompts that nobody answers."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genlab.errors import UserError
from genlab.options import FIGURE, check_output

LAB = [sys.executable, "-m", "genlab.start"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder that is a store as far as the options can tell."""
    store = tmp_path / "store"
    for folder in ("evals", "groups/last-one"):
        (store / folder).mkdir(parents=True)
    (store / "store.json").write_text('{"genlab_store": 1}')
    (store / "evals" / "a.parquet").write_bytes(b"rows")
    return store


# -- Files to write


REFUSED = [
    (["runs", "--parquet", "STORE/evals/a.parquet"], "inside the store"),
    (["runs", "--parquet", "STORE/new.parquet"], "inside the store"),
    (["runs", "--parquet", "rows.csv"], "names that end in .parquet"),
    (["runs", "--by", "lr", "--figure", "x.txt"], "names that end in .png, .svg or .pdf"),
    (["train", "--task", "parity", "--figure", "STORE/evals/x.png"], "inside the store"),
    (["train", "--task", "parity", "--figure", "x.gif"], "names that end in"),
    (["eval", "last", "--lengths", "5", "--figure", "x"], "names that end in"),
    (["probe", "last", "--figure", "FILE/x.png"], "is not a folder"),
    (["show", "maze", "--png", "STORE/evals/maze.png"], "inside the store"),
    (["notebook", "last", "-o", "x.html"], "names that end in .ipynb"),
    (["report", "--grid", "last", "-o", "STORE/commits/x.html"], "inside the store"),
    (["report", "--grid", "last", "-o", "x.htm"], "names that end in .html"),
    (["rasp", "generate", "--out", "STORE/evals/x.py"], "inside the store"),
    (["export", "parity", "--out", "STORE/x.parquet", "-n", "4"], "inside the store"),
    (["export", "parity", "--out", "x.csv"], "names that end in .parquet"),
]


@pytest.mark.parametrize(("words", "why"), REFUSED, ids=lambda w: " ".join(w) if isinstance(w, list) else "")
def test_an_output_that_cannot_be_is_refused_before_any_work(made: Path, lab, words: list[str], why: str):
    file = made.parent / "file"
    file.write_text("")
    before = sorted(made.rglob("*"))
    words = [word.replace("STORE", str(made)).replace("FILE", str(file)) for word in words]
    status, out, err = lab(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert why in err
    assert sorted(made.rglob("*")) == before
    assert (made / "evals" / "a.parquet").read_bytes() == b"rows"


def test_a_link_into_a_store_is_seen_through(made: Path, tmp_path: Path):
    link = tmp_path / "rows.parquet"
    link.symlink_to(made / "evals" / "a.parquet")
    with pytest.raises(UserError, match="inside the store"):
        check_output(link, "--parquet", (".parquet",))


def test_an_output_beside_a_store_or_in_the_folder_of_a_group_is_allowed(made: Path, tmp_path: Path):
    check_output(tmp_path / "new" / "folder" / "x.png", "--figure", FIGURE)
    check_output(made / "groups" / "last-one" / "x.PNG", "--figure", FIGURE)
    check_output(made / "x.svg", "--figure", FIGURE)
    (tmp_path / "x.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_output(tmp_path / "x.png", "--figure", FIGURE)


# -- Standard output, interrupts, prompts


def run(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LAB, *words], stderr=subprocess.PIPE, text=True, timeout=60, **more)  # pyright: ignore


def test_a_full_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = run("tasks", "--json", stdout=full)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.endswith("No space left on device\n")


def test_a_reader_that_goes_away_ends_it_silently():
    read, write = os.pipe()
    os.close(read)
    done = run("tasks", "--json", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_closed_output_is_no_traceback():
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(LAB)} tasks >&-"], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1


def test_a_terminal_that_knows_ascii_only_is_enough():
    done = run("tasks", stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


@pytest.mark.parametrize("after", [0.05, 0.2, 0.5])
def test_ctrl_c_while_modules_are_imported_is_one_line(after: float):
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import genlab.start as s; "
    script += "print('up', flush=True); s.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) in ((130, "lab: stopped\n"), (0, ""))


def test_importing_genlab_imports_nothing_that_takes_long():
    script = "import sys, genlab.start; print([m for m in ('numpy', 'pydantic', 'typer') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


def test_a_file_that_cannot_be_read_is_one_line(lab, tmp_path: Path):
    status, _, err = lab("forecast", "evaluate", "--table", str(tmp_path), "--target", "x")
    assert (status in (1, 2), err.count("\n")) == (True, 1)


def test_ctrl_c_in_a_command_is_one_line(lab, monkeypatch: pytest.MonkeyPatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("genlab.report.listing.task_list", interrupt)
    status, _, err = lab("tasks")
    assert (status, err.strip()) == (130, "lab: stopped")


def test_a_system_error_is_one_line_that_names_the_file(lab, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr("genlab.report.listing.task_list", refuse)
    assert lab("tasks") == (1, "", "lab: /some/file: Permission denied\n")


def test_too_little_memory_is_one_line(lab, monkeypatch: pytest.MonkeyPatch):
    import numpy as np

    monkeypatch.setattr("genlab.report.listing.task_list", lambda: np.empty(10**15))
    status, out, err = lab("tasks")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("lab: out of memory: Unable to allocate")


# -- What a store that is not there, a grid file or an option may ask for


@pytest.mark.parametrize("command", ["check", "compact", "repair"])
def test_looking_after_a_store_that_is_not_there_creates_none(lab, tmp_path: Path, command: str):
    status, out, err = lab("store", command, "--store", str(tmp_path / "nothing"))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "there is no store at" in err
    assert not (tmp_path / "nothing").exists()


def test_a_question_that_nobody_answers_is_one_line(lab, made: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genlab.runs.store.Store.find", lambda *_: ["a"])
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    status, out, err = lab("delete", "a", "--store", str(made))
    assert (status, out) == (2, "permanently delete 1 run? [y/N]: \n")
    assert err == "lab: nothing was deleted: no confirmation was given (--yes deletes without asking)\n"


def test_an_answer_as_json_is_not_asked_for(lab, tmp_path: Path):
    status, out, err = lab("delete", "a", "--json")
    assert (status, out) == (2, "")
    assert err == "lab: --json requires --yes: it cannot ask for confirmation\n"


BASE = {"task": '"parity"', "train_len": "4", "n_layers": "1", "d_model": "16", "n_heads": "2", "steps": "4"}
THOUSAND = str([i / 1000 for i in range(1, 1001)])
GRIDS = [
    ({"d_model": "true"}, "", "d_model: True is not allowed (a number)"),
    ({"lr": '"1e-3"'}, "", "lr: '1e-3' is not allowed (a number)"),
    ({"n_heads": '"2"'}, "", "n_heads: '2' is not allowed"),
    ({"steps": "true"}, "", "steps: True is not allowed"),
    ({"weight_decay": "true"}, "", "weight_decay: True is not allowed"),
    ({"attn_only": "1"}, "", "attn_only: 1 is not allowed (true or false)"),
    ({"betas": "[0.9, true]"}, "", "betas: [0.9, True] is not allowed"),
    ({"d_model": "10_000_000"}, "", "weights is not allowed"),
    ({"n_layers": "100_000"}, "", "n_layers: 100000 is not allowed (at most 10,000)"),
    ({"d_mlp": "100_000_000_000"}, "", "weights is not allowed"),
    ({"batch_size": "1_000_000_000"}, "", "batch_size: 1000000000 is not allowed"),
    ({"batch_size": "9_000_000", "train_len": "1000", "test_len": "1000"}, "", "tokens are not allowed"),
    ({"warmup": "5"}, "", "warmup 5 is longer than training: it has 4 steps"),
    ({}, '[seeds]\ntogether = "0:1000000000"', "more than 1,000,000 numbers"),
    ({}, '[seeds]\ninit = "0:10000"\ndata = "0:10000"', "100,000,000 pairs of seeds are too many"),
    ({}, "[seeds]\ninit = true", "init True is not allowed"),
    ({}, "[evals]\nn = 1_000_000_000", "n: 1000000000 is not allowed (at most 10,000,000)"),
    ({}, f"[sweep]\nlr = {THOUSAND}\ngrad_clip = {THOUSAND}\nweight_decay = {THOUSAND}", "1,000,000,000 config"),
    ({}, f'[sweep]\nlr = {THOUSAND}\n[seeds]\ntogether = "0:10000"', "10,000,000 runs are too many"),
    ({}, "[sweep]\nlr = [0.1, 0.2]\n[zip]\nlr = [0.3, 0.4]\nd_mlp = [8, 16]", "lr is given twice"),
    ({}, f"[base.params]\nx = {'[' * 5000}{']' * 5000}", "nested too deeply"),
]


@pytest.mark.parametrize(("changed", "more", "why"), GRIDS, ids=[g[2] for g in GRIDS])
def test_a_grid_file_is_taken_literally_and_within_bounds(
    lab, tmp_path: Path, changed: dict[str, str], more: str, why: str
):
    lines = [f"{key} = {value}" for key, value in {**BASE, **changed}.items()]
    file = tmp_path / "g.toml"
    file.write_text("\n".join(["[base]", *lines, more]))
    start = time.monotonic()
    status, out, err = lab("grid", str(file), "--status")
    assert (status, out) == (2, "")
    assert why in err
    assert err.count("\n") <= 3
    assert time.monotonic() - start < 30
    assert not (tmp_path / "store").exists()


TRAIN = ["train", "--task", "parity", "--train-len", "4", "--n-layers", "1", "--d-model", "16"]
BEYOND = [
    ([*TRAIN, "--seeds", "0:1000000000"], "more than 1,000,000 numbers"),
    ([*TRAIN, "--eval-n", "10000000000"], "test examples per length are not allowed"),
    ([*TRAIN, "--batch-size", "1000000000000"], "batch_size: 1000000000000 is not allowed"),
    ([*TRAIN, "--pool", "100000000000"], "pool: 100000000000 is not allowed"),
    ([*TRAIN, "--steps", "10", "--warmup", "11"], "warmup 11 is longer than training: it has 10 steps"),
    ([*TRAIN, "--eval-every", "1" + "0" * 30], "is not allowed (at most 9223372036854775807)"),
    (["forecast", "evaluate", "--table", "x.csv", "--target", "x", "--seed", "-1"], "greater than or equal to 0"),
    (
        ["forecast", "fit", "--grid", "x", "--target", "x", "--save", "x", "--seed", "4294967296"],
        "less than or equal to 4294967295",
    ),
    ([*TRAIN, "--eval-seed", "1" + "0" * 30], "seed 1" + "0" * 30 + " is not allowed (0 to 9223372036854775807)"),
    ([*TRAIN, "--seeds", "1" + "0" * 30], "seed 1" + "0" * 30 + " is not allowed (0 to 9223372036854775807)"),
    (["show", "parity", "-n", "1000000000"], "the maximum is 10,000 examples"),
    (["eval", "last", "--lengths", "1:100000000000"], "more than 1,000,000 numbers"),
    (["probe", "last", "--probe-n", "1000000000000"], "at most 10,000,000"),
    (["rasp", "generate", "--out", "new.py", "--pairs", "1000000000"], "at most 1,000"),
    (["rasp", "list", "--check", "-n", "1000000000000"], "1 to 1,000,000 inputs per length"),
    (["export", "parity", "--out", "new.parquet", "-n", "1000000000000"], "-n is 1 to 100,000,000"),
    (["export", "parity", "--out", "new.parquet", "-n", "1" + "0" * 30], "-n is 1 to 100,000,000"),
]


@pytest.mark.parametrize(("words", "why"), BEYOND, ids=lambda w: " ".join(w) if isinstance(w, list) else "")
def test_what_no_memory_could_hold_is_refused_at_once(lab, tmp_path: Path, words: list[str], why: str):
    status, out, err = lab(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert why in err
    assert not (tmp_path / "store").exists()


def test_an_evaluation_that_no_memory_or_table_could_hold_is_refused_at_once(tmp_path: Path):
    from genlab.runs import Store, evaluate
    from genlab.tasks import make

    split = make("parity", max_len=5).split("id").at((3,), 10**12, 0)
    with pytest.raises(UserError, match="1000000000000 test examples per length are not allowed"):
        evaluate([], [split], Store(tmp_path / "store"))
    evaluate([], [split.at((3,), 10**7, 2**63 - 1)], Store(tmp_path / "store"))  # the most that is allowed
    with pytest.raises(UserError, match=r"seed 9223372036854775808 is not allowed"):
        evaluate([], [split.at((3,), 1, 2**63)], Store(tmp_path / "store"))


def test_a_warm_up_that_nobody_asked_for_is_shorter_than_training():
    import genlab

    for steps in (0, 4, 50):
        train = genlab.plan("parity", 4, steps=steps).specs[0].train
        assert train.warmup <= train.steps == steps


FAULTY = [
    ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
    ("x = 1\n\ny = x / 0\n", "line 3: ZeroDivisionError: division by zero"),
    ("def f(:\n", "line 1: SyntaxError"),
    ("raise ValueError('two\\nlines')\n", "line 1: ValueError: two"),
]


@pytest.mark.parametrize(("text", "why"), FAULTY, ids=[f[1] for f in FAULTY])
def test_an_error_of_a_plugin_is_its_own_with_file_and_line(lab, tmp_path: Path, text: str, why: str):
    file = tmp_path / "faulty.py"
    file.write_text(text)
    status, out, err = lab("tasks", "--plugin", str(file))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"faulty.py' cannot be imported: {why}" in err
