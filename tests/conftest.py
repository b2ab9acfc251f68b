"""For all tests: folders of their own for whatever writes to a home, and the shapes in signatures checked."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from jaxtyping import config, install_import_hook

_scratch = Path(tempfile.mkdtemp(prefix="genlab-tests-"))
atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
for _variable in ("HOME", "TMPDIR", "MPLCONFIGDIR", "GENLAB_CACHE"):
    (_scratch / _variable.lower()).mkdir()
    os.environ[_variable] = str(_scratch / _variable.lower())
tempfile.tempdir = None  # or the folder that was found first stays

# Before anything imports these rooms: every array in and out of them is checked against its signature, in their own
# tests and in those of probes, which call them in unusual ways. Elsewhere the same calls would be checked again, and
# checks are half of what training a tiny model costs.
install_import_hook(["genlab.models", "genlab.training"], "beartype.beartype")
_CHECKED = tuple(Path(__file__).parent / room for room in ("models", "training", "probes", "cuda"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the fixtures of a test, so that they are as it is."""
    config.update("jaxtyping_disable", not any(item.path.is_relative_to(room) for room in _CHECKED))


@pytest.fixture(autouse=True)
def tasks_of_a_test_end_with_it(monkeypatch: pytest.MonkeyPatch):
    """What a test registers or loads, the next test does not find."""
    from genlab.tasks import registry

    monkeypatch.setattr(registry, "_added", dict(registry._added))
    monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
    monkeypatch.setattr(registry, "_sources", dict(registry._sources))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Type a command; gives exit status, standard output and standard error."""
    monkeypatch.setenv("GENLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "160")

    from genlab.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lab", *words])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        code = left.value.code
        return (int(code) if code else 0), out, err

    return run
