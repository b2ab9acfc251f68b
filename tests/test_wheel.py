"""The wheel holds all that its commands need: it is installed where no repository is, and used."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of the wheel, and nothing else of the repository."""
    place = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(place), str(ROOT)]
    subprocess.run(words, check=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place / "site")
    return place / "site"


def lab(installed: Path, folder: Path, *words: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "genlab.start", *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_has_types_recipes_and_claims(installed: Path):
    package = installed / "genlab"
    assert (package / "py.typed").is_file()
    for kind in ("*.toml", "claims/*.toml"):
        here, there = ({p.name for p in at.glob(kind)} for at in (ROOT / "recipes", package / "recipes"))
        assert here == there


def test_its_commands_run_without_the_repository(installed: Path, tmp_path: Path):
    size = ["--steps", "2", "--d-model", "16", "--seeds", "0:1", "--eval-n", "4", "--device", "cpu", "--workers", "1"]
    assert "exact match" in lab(installed, tmp_path, "train", "--task", "sort", "--train-len", "3", *size)
    assert "smoke" in lab(installed, tmp_path, "grid", "recipes/smoke.toml", "--status")
    assert "and-fixed-bits" in lab(installed, tmp_path, "reproduce")
    code = "import genlab, pathlib; print(pathlib.Path(genlab.__file__).parents[1])"
    env = {**os.environ, "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert Path(where.stdout.strip()) == installed
