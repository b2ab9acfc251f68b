"""Pools of mazes: drawn once, the same for all, checked when read; the library's randomness kept inside."""

import random
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from genlab.errors import DamagedFileError, UserError
from genlab.tasks import make, maze_making
from genlab.tasks import maze_making as maze_pool
from genlab.tasks.maze_making import Recipe, draw_mazes, library_version


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path))
    return tmp_path


def recipe(**options) -> Recipe:
    return Recipe.model_validate({"side": 3, "generator": "kruskal", "library": library_version()} | options)


def same(a, b) -> bool:
    return np.array_equal(a.is_open, b.is_open) and np.array_equal(a.path, b.path)


def test_a_block_is_drawn_once_and_read_ever_after(cache, monkeypatch):
    drawn = maze_pool.block(recipe(), 0)
    assert [file.suffix for file in cache.rglob("*.*")] == [".npz"]
    monkeypatch.setattr(maze_pool, "draw_mazes", None)
    assert same(maze_pool.block(recipe(), 0), drawn)
    assert len(drawn.path) == 256


def test_blocks_depend_on_recipe_and_number_alone(cache):
    random.seed(1)
    first = maze_pool.block(recipe(), 0)
    shutil.rmtree(cache)
    random.seed(2)
    np.random.seed(3)  # noqa: NPY002
    others = [
        maze_pool.block(recipe(), 1),
        maze_pool.block(recipe(seed=1), 0),
        maze_pool.block(recipe(held_out=True), 0),
    ]
    assert same(maze_pool.block(recipe(), 0), first)
    assert not any(same(other, first) for other in others)


@pytest.mark.parametrize(
    "generator", ["dfs", "wilson", "percolation", "dfs-percolation", "prim", "recursive-division"]
)
def test_every_generator_draws_the_same_from_one_seed(generator):
    wanted = recipe(generator=generator, p=0.5 if "percolation" in generator else 0.0)
    drawn = []
    for outside, seed in enumerate((1, 1, 2)):
        random.seed(outside)
        np.random.seed(outside)  # noqa: NPY002
        drawn.append(draw_mazes(wanted, 20, [seed]))
    first, again, other = drawn
    assert same(first, again)
    assert not same(first, other)


def test_damaged_files_are_found(cache):
    maze_pool.block(recipe(), 0)
    (file,) = cache.rglob("*.npz")
    whole = file.read_bytes()
    damages = [whole[:n] for n in (0, 10, len(whole) // 2, len(whole) - 1)]
    for at in range(40, len(whole) - 40, len(whole) // 25):
        damages.append(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
    outcomes = Counter(outcome(file, damaged, recipe()) for damaged in damages)
    assert outcomes["wrong"] == 0
    assert outcomes["refused"] >= len(damages) - 3  # the rest: bytes that zip does not read


def outcome(file, content, wanted) -> str:
    """What reading this content in place of the file's own comes to."""
    whole, mazes = file.read_bytes(), maze_pool.block(wanted, 0)
    file.write_bytes(content)
    try:
        return "right" if same(maze_pool.block(wanted, 0), mazes) else "wrong"
    except DamagedFileError as error:
        return "refused" if "delete it and its mazes are regenerated" in str(error) else "wrong"
    finally:
        file.write_bytes(whole)


def test_a_block_of_another_pool_is_not_taken(cache):
    maze_pool.block(recipe(), 0)
    maze_pool.block(recipe(), 1)
    first, second = sorted(cache.rglob("*.npz"))
    shutil.copy(second, first)
    with pytest.raises(DamagedFileError, match=r"0000\.npz"):
        maze_pool.block(recipe(), 0)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot cache mazes in .*; set GENLAB_CACHE"):
        maze_pool.block(recipe(), 0)


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_CACHE", "")
    monkeypatch.setenv("GENLAB_STORE", str(tmp_path))
    assert maze_pool.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("GENLAB_STORE")
    assert str(maze_pool.cache_folder()) == "runs/cache"
    maze_pool.use_cache(tmp_path / "mine")
    assert maze_pool.cache_folder() == tmp_path / "mine"


def test_mazes_of_another_version_are_read_but_not_drawn(cache, monkeypatch):
    wanted = recipe()
    drawn = maze_pool.block(wanted, 0)
    monkeypatch.setattr(maze_making, "version", lambda name: "9.9")
    assert same(maze_pool.block(wanted, 0), drawn)
    with pytest.raises(UserError, match=r"need maze-dataset .*, but 9\.9 is installed"):
        maze_pool.block(wanted, 1)


def test_walled_in_starts_are_drawn_again_and_counted(cache):
    mazes = draw_mazes(recipe(generator="percolation", p=0.1), 20, [0])
    assert (mazes.path[:, 1] >= 0).all()
    with pytest.raises(UserError, match=r"only 0 of \d+ generated mazes have suitable end points.* p 0\.0"):
        draw_mazes(recipe(generator="percolation", p=0.0), 20, [0])


def test_a_missing_library_is_said(monkeypatch):
    def missing(name):
        raise maze_making.PackageNotFoundError(name)

    monkeypatch.setattr(maze_making, "version", missing)
    with pytest.raises(UserError, match=r"pip install 'genlab\[mazes\]'"):
        make("maze", 4)


def test_global_randomness_is_left_alone_and_the_library_unimported_until_needed(tmp_path):
    code = (
        "import os, random, sys; import numpy as np\n"
        "from genlab.tasks import make\n"
        "task = make('maze', 3, params={'generator': 'prim', 'train_blocks': 1})\n"
        "assert 'maze_dataset' not in sys.modules\n"
        "def states(): return random.getstate(), str(np.random.get_state())\n"
        "before = states()\n"
        "examples = task.sample(np.random.default_rng(0), 'train', [3] * 200)\n"
        "assert 'maze_dataset' in sys.modules\n"
        "assert states() == before\n"
        "print(examples.tokens.sum(axis=1).tolist())\n"
    )
    environment = {"GENLAB_CACHE": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, env=environment
    )
    assert not done.stderr
    # A process that has imported the library before draws the same.
    task = make("maze", 3, params={"generator": "prim", "train_blocks": 1})
    examples = task.sample(np.random.default_rng(0), "train", [3] * 200)
    assert done.stdout.strip() == str(examples.tokens.sum(axis=1).tolist())
