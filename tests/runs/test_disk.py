"""A full disk and a read-only one: a clear error, what was committed intact, and the grid resumes."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from small_grids import small_grid

from genlab.errors import UserError
from genlab.runs import Store, files, grid
from genlab.runs.files import StoreWriteError
from genlab.runs.maintain import check_store


def mount(folder: Path, options: str) -> bool:
    return (
        subprocess.run(["mount", "-o", options, "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode == 0
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB, or a skip where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "size=400k"):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_keeps_what_was_committed_and_the_grid_resumes(small_disk: Path, tmp_path: Path):
    _, found = small_grid(tmp_path)
    filler = small_disk / "filler"
    grid(found.plans[:1], store=small_disk / "s", workers=1)
    before = Store(small_disk / "s").run_ids()
    with suppress(OSError):  # as much as there is room for
        filler.write_bytes(bytes(10**6))
    with pytest.raises(UserError, match=r"No space left on device; what was committed before is intact"):
        grid(found, store=small_disk / "s", workers=1)
    kept = Store(small_disk / "s")
    assert set(before) <= set(kept.run_ids())
    assert check_store(kept)[0] == {}
    filler.unlink()
    assert len(grid(found, store=small_disk / "s", workers=1)) == 4
    assert check_store(Store(small_disk / "s")) == ({}, {})


def test_a_read_only_disk_says_so(small_disk: Path, tmp_path: Path):
    _, found = small_grid(tmp_path)
    grid(found.plans[:1], store=small_disk / "s", workers=1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UserError, match="cannot be written: Read-only file system"):
        grid(found, store=small_disk / "s", workers=1)
    assert len(Store(small_disk / "s").run_ids()) == 2
    assert check_store(Store(small_disk / "s"))[0] == {}


def test_a_disk_that_fills_in_the_middle_of_a_file_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreWriteError, match="No space left on device"):
        files.write_json(tmp_path / "x.json", {})
    assert list(tmp_path.iterdir()) == []
