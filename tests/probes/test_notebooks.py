"""Notebooks: those of the repository run at small scale, and `lab notebook` writes one about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import genlab
from genlab.errors import UserError
from genlab.runs import Store

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

from genlab.report.notebook import execute, notebook_of  # noqa: E402

BOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def figures(notebook: Any) -> int:
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    return sum("image/png" in out.get("data", {}) for out in outputs)


def test_there_are_five_and_they_are_committed_executed():
    names = {"attention_patterns", "induction_over_training", "softmax_dispersion", "bracket_heads", "your_own_model"}
    assert {path.stem for path in BOOKS} == names
    for path in BOOKS:
        notebook = nbformat.read(path, as_version=4)
        counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1)), path.stem
        assert figures(notebook) >= 2, path.stem


def params() -> list[Any]:
    """One of them by default."""
    return [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem != "softmax_dispersion")) for p in BOOKS]


@pytest.mark.parametrize("path", params())
def test_it_executes(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GENLAB_SMALL", "1")
    notebook = nbformat.read(path, as_version=4)
    execute(notebook, tmp_path)
    assert figures(notebook) >= 2


def test_a_notebook_about_a_run(lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan = genlab.plan("parity", 4, 4, seeds=[0], evals=genlab.Evals(0, n=16), steps=4, n_layers=1, d_model=16)
    genlab.train(plan, store=tmp_path / "store", workers=1)
    run = plan.specs[0].run_id
    status, out, err = lab("notebook", run[:8], "-o", str(tmp_path / "of" / "run.ipynb"))
    assert (status, err) == (0, "")
    assert out.strip().endswith("run.ipynb")
    written = nbformat.read(tmp_path / "of" / "run.ipynb", as_version=4)
    assert figures(written) == 4
    assert run in written.cells[0].source

    monkeypatch.setattr("genlab.report.notebook.execute", lambda *_: None)  # as above; what follows is about the file
    for words, said in (
        (("notebook", "nothing"), "no run or group 'nothing'"),
        (("notebook", run, "-o", str(tmp_path / "store" / "store.json" / "x.ipynb")), "is inside the store"),
    ):
        status, _, err = lab(*words)
        assert status == 2
        assert said in err
        assert err.count("\n") == 1


def test_a_cell_that_fails_is_one_line(tmp_path: Path):
    plan = genlab.plan("parity", 4, 4, seeds=[0], steps=0)
    broken = notebook_of("abc", Store(tmp_path), plan.specs[0])
    broken.cells = [broken.cells[0], nbformat.v4.new_code_cell("1 / 0")]
    with pytest.raises(UserError, match="a cell of the notebook failed: ZeroDivisionError: division by zero"):
        execute(broken, tmp_path)


_PORTS = """\
import os
sockets = set()
for name in os.listdir("/proc/self/fd"):
    try:
        link = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue
    if link.startswith("socket:["):
        sockets.add(link[8:-1])
rows = [line.split() for net in ("tcp", "tcp6") for line in list(open(f"/proc/self/net/{net}"))[1:]]
print(sum(row[3] == "0A" and row[9] in sockets for row in rows), "ports")"""


def test_the_kernel_of_a_notebook_listens_on_no_port(tmp_path: Path):
    from nbformat.v4 import new_code_cell, new_notebook

    from genlab.report.notebook import execute

    made = new_notebook(cells=[new_code_cell(_PORTS)])
    execute(made, tmp_path)
    assert made.cells[0].outputs[0]["text"] == "0 ports\n"
