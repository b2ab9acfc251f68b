"""Loggers: what they write is read back, and is what the store has."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from genlab.loggers.record import log_runs
from genlab.runs.store import Store

TRAIN = "train --task sort --train-len 3 --test-len 4 --seeds 0:2 --steps 4 --eval-every 2 --d-model 16 --n-layers 1"
BRIEF = [*TRAIN.split(), "--eval-n", "8", "--device", "cpu", "--workers", "1"]


def _expected(store: Store, run: str) -> dict[str, dict[int, float]]:
    history, evals = store.history([run]), store.evals([run])
    found = {
        f"training/{name}": dict(zip(history["step"], history[name], strict=True))
        for name in ("loss", "lr", "exact_match")
    }
    for (metric, split), own in evals.groupby(["metric", "split"]):
        found[f"by_length/{metric}/{split}"] = dict(zip(own["length"], own["value"], strict=True))
    return found


def test_tensorboard_holds_what_the_store_holds(lab, tmp_path: Path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # the second time nothing is trained, and what is written replaces what was
        status, _, err = lab(*BRIEF, "--logger", "tensorboard")
        assert status == 0, err
        assert "tensorboard --logdir" in err
    store = Store(tmp_path / "store")
    for run in store.run_ids():
        read = event_accumulator.EventAccumulator(
            str(store.last_folder() / "tensorboard" / run), size_guidance={"scalars": 0, "images": 0}
        )
        read.Reload()
        for name, values in _expected(store, run).items():
            got = {event.step: event.value for event in read.Scalars(name)}
            assert got.keys() == values.keys(), name
            np.testing.assert_allclose([got[at] for at in values], list(values.values()), rtol=1e-6, equal_nan=True)
        (image,) = read.Images("exact_match_by_length")
        assert image.width > 100
        assert "_hparams_/experiment" in read.summary_metadata


def test_runs_are_logged_below_their_own_group(lab, tmp_path: Path):
    """Another command may have made a group in the meantime."""
    pytest.importorskip("tensorboard")
    assert lab(*BRIEF)[0] == 0
    store = Store(tmp_path / "store")
    (own,) = store.groups()
    other = store.save_group("other", [], {})
    (line,) = log_runs(["tensorboard"], store, own, store.run_ids())
    assert {path.name for path in (store.named.folder(own) / "tensorboard").iterdir()} == set(store.run_ids())
    assert own in line
    assert not (other / "tensorboard").exists()


def _entries_of(file: Path) -> Iterator[bytes]:
    """The entries of a .wandb file: a log as LevelDB writes it, in blocks of 32 KiB, after 7 bytes that name it."""
    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:  # no room for the head of an entry
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]  # after a checksum
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@pytest.mark.slow
def test_wandb_holds_what_the_store_holds_and_sends_nothing(lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    status, _, err = lab(*BRIEF, "--logger", "wandb")
    assert status == 0, err
    store = Store(tmp_path / "store")
    for run in store.run_ids():
        (file,) = (store.last_folder() / "wandb" / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb")
        rows: list[dict[str, str]] = []
        for raw in _entries_of(file):
            record = messages.Record.FromString(raw)
            if record.WhichOneof("record_type") == "history":
                rows.append({"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item})
        for name, values in _expected(store, run).items():
            axis = "step" if name.startswith("training/") else "length"
            got = {int(row[axis]): float(row[name]) for row in rows if name in row}
            there = {at: value for at, value in values.items() if value == value}
            assert got == pytest.approx(there), name
        (figure,) = file.parent.glob("files/media/images/exact_match_by_length*.png")
        assert figure.stat().st_size > 5_000


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_a_logger_without_its_package_is_one_line(lab, tmp_path, monkeypatch, name: str, package: str):
    from genlab.loggers import record

    real = record.find_spec
    monkeypatch.setattr(record, "find_spec", lambda wanted: None if wanted == package else real(wanted))
    status, out, err = lab(*BRIEF, "--logger", name)
    assert (status, out) == (2, "")
    assert err == f"lab: --logger {name} needs {package}: pip install 'genlab[{name}]'\n"
    assert not (tmp_path / "store").exists()


def test_naming_loggers_imports_none():
    from genlab.loggers.record import chosen_loggers

    before = set(sys.modules)
    assert chosen_loggers("tensorboard,wandb,tensorboard") == ["tensorboard", "wandb"]
    assert not {name.partition(".")[0] for name in set(sys.modules) - before} & {"tensorboard", "wandb", "torch"}
