"""Leases: one holder at a time; one that has died or gone silent loses it, and its successor keeps it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genlab.runs import leases
from genlab.runs.leases import active, is_held, lease, remove_expired


def held_by(folder: Path, **changed: object) -> Path:
    """A lease that somebody else holds, as a file."""
    folder.mkdir(exist_ok=True)
    alive = {"owner": "somebody", "host": leases.host(), "pid": os.getpid(), "born": leases.start_time(os.getpid())}
    (folder / "s.json").write_text(json.dumps({**alive, **changed}))
    return folder / "s.json"


def test_one_holder_at_a_time(tmp_path: Path):
    with lease(tmp_path, "s", runs=["a"]) as mine:
        assert mine is not None
        assert active(tmp_path)["s"]["runs"] == ["a"]
        with lease(tmp_path, "s") as second, lease(tmp_path, "t") as other:
            assert second is None
            assert other is not None
        assert is_held(tmp_path, "s")
    assert active(tmp_path) == {}
    assert list(tmp_path.glob("*")) == []


def test_a_holder_of_this_machine_that_died_loses_it_at_once(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    held_by(tmp_path, pid=gone.pid, born=leases.start_time(gone.pid))
    gone.wait()
    assert not is_held(tmp_path, "s")
    with lease(tmp_path, "s") as mine:
        assert mine is not None


def test_what_nobody_holds_is_free(tmp_path: Path):
    assert remove_expired(tmp_path / "s.json")


def test_a_number_used_again_by_another_process_is_no_holder(tmp_path: Path):
    held_by(tmp_path, born="1")
    assert not is_held(tmp_path, "s")


def test_a_holder_elsewhere_loses_it_when_it_is_silent(tmp_path: Path):
    path = held_by(tmp_path, host="elsewhere")
    assert is_held(tmp_path, "s")
    silent = time.time() - leases.SECONDS - 5
    os.utime(path, (silent, silent))
    assert not is_held(tmp_path, "s")


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "SECONDS", 0.2)
    with lease(tmp_path, "s"):
        before = (tmp_path / "s.json").stat().st_mtime_ns
        deadline = time.monotonic() + 30
        while (tmp_path / "s.json").stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / "s.json").stat().st_mtime_ns > before


def test_a_lease_that_a_successor_has_taken_is_not_released_or_told(tmp_path: Path):
    with lease(tmp_path, "s") as mine:
        assert mine is not None
        held_by(tmp_path)
        mine.record(step=3)
        assert "step" not in active(tmp_path)["s"]
    assert active(tmp_path)["s"]["owner"] == "somebody"


def test_a_lease_taken_meanwhile_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between the look at an expired lease and its removal another worker may have taken it."""
    path = held_by(tmp_path, owner="successor")
    seen = iter([{"owner": "the dead one", "host": "h", "pid": 1, "born": ""}])
    real = leases._read
    monkeypatch.setattr(leases, "_read", lambda file: next(seen, None) or real(file))
    monkeypatch.setattr(leases, "_expired", lambda _path, content: content["owner"] == "the dead one")
    assert not remove_expired(path)
    assert real(path)["owner"] == "successor"
    assert [p.name for p in tmp_path.glob("*")] == ["s.json"]
