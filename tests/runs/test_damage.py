"""No damage to a store goes unnoticed, makes a command hang, or ends in a traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from genlab.errors import DamagedFileError, UserError
from genlab.forecast.ledger import Ledger
from genlab.report.upkeep import store_check
from genlab.runs import Store
from genlab.runs.files import create_json, read_json, short_sha, write_json
from genlab.runs.maintain import check_store, compact_store, delete_runs
from genlab.runs.repair import repair_store


@contextmanager
def seconds(limit: int) -> Iterator[None]:
    """Raise in the block if it takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {limit} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# -- Checksums of JSON files


def flips(path: Path) -> Iterator[tuple[int, int]]:
    """Flip each bit of a file in turn; yields its place while it is flipped."""
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            yield place, bit
    path.write_bytes(whole)


@pytest.mark.parametrize("value", [{}, {"name": "x", "lr": 0.4, "runs": ["a", 1, None, {"b": 1e-05}]}])
def test_every_flipped_bit_of_a_json_file_is_noticed(tmp_path: Path, value: dict[str, object]):
    path = tmp_path / "some.json"
    write_json(path, value)
    assert read_json(path) == value
    assert json.loads(path.read_text()).keys() - {"sha256"} == value.keys()
    for place in flips(path):
        with pytest.raises(DamagedFileError, match=r"some\.json is damaged"):
            print(place, read_json(path))
    assert read_json(path) == value


def test_a_json_file_that_was_cut_off_or_continued_is_noticed(tmp_path: Path):
    path = tmp_path / "some.json"
    write_json(path, {"name": "x"})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFileError):
            read_json(path)
    path.write_bytes(whole + b" ")
    with pytest.raises(DamagedFileError):
        read_json(path)


def test_json_files_without_a_checksum_are_read(tmp_path: Path):
    path = tmp_path / "old.json"
    path.write_text('{\n "lr": 0.4\n}\n')
    assert read_json(path) == {"lr": 0.4}
    assert not create_json(path, {"lr": 0.5})


def test_a_json_file_that_a_program_rewrote_is_noticed(tmp_path: Path):
    path = tmp_path / "some.json"
    write_json(path, {"lr": 0.4})
    path.write_text(json.dumps(json.loads(path.read_text())))
    with pytest.raises(DamagedFileError, match="something rewrote it"):
        read_json(path)


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null", '"x"', "{}", '{"run_ids": 7}', "[" * 100_000])
def test_json_of_another_shape_is_a_damaged_file(tmp_path: Path, text: str):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DamagedFileError, match=r"x\.json is damaged"):
        read_json(path, run_ids=list)


SHAPED = ["store.json", "groups/last", "groups/*/group.json", "tags/good.json", "commits/*.json"]


def find_all(path: Path) -> list[list[str]]:
    fresh = Store(path)
    return [fresh.find("good"), fresh.find("last")]


@pytest.mark.parametrize("pattern", SHAPED)
def test_a_store_says_which_of_its_files_has_another_shape(store: Store, pattern: str):
    store.named.tag("good", store.run_ids())
    path = next(store.path.glob(pattern))
    for text in ("[]", "{}", '{"name": 3, "run_ids": 3, "genlab_store": "x", "runs": [3]}'):
        path.write_text(text)
        with pytest.raises(DamagedFileError) as raised:
            find_all(store.path)
        assert str(path) in str(raised.value)
        if pattern != "store.json":
            assert path in store_check(Store(store.path)).damaged


def rewrite(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Change a JSON file as one who also mends its checksum."""
    content = read_json(path)
    change(content)
    path.unlink()
    write_json(path, content)


def test_a_spec_that_is_not_that_of_its_run_is_noticed(store: Store):
    record = next((store.path / "commits").glob("*.json"))
    run = read_json(record)["runs"][0]["run_id"]

    def faster(content: dict[str, object]) -> None:
        for entry in content["runs"]:  # pyright: ignore
            entry["spec"]["train"]["lr"] = 0.41  # pyright: ignore

    rewrite(record, faster)
    with pytest.raises(DamagedFileError, match=f"record of run {run} is damaged: its spec is that of run"):
        Store(store.path).spec(run)
    assert list(check_store(Store(store.path))[0]) == [store.path / "commits"]


# -- What `lab store check` verifies


def test_check_reads_groups_and_tags(store: Store):
    assert store_check(store).damaged == {}
    group = next(store.path.glob("groups/*/group.json"))
    shutil.copytree(group.parent, group.parent.with_name("other"))
    other = group.parent.with_name("other") / "group.json"
    assert "named" in store_check(store).damaged[other]
    shutil.rmtree(other.parent)
    shutil.rmtree(group.parent)
    assert "does not exist" in store_check(store).damaged[store.path / "groups" / "last"]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_check_notices_a_missing_entry_of_the_ledger(store: Store, which: int):
    ledger = Ledger(store)
    for number in range(3):
        ledger.append("plan", {"number of the test": number})
    assert store_check(store).damaged == {}
    sorted((store.path / "forecasts").glob("[0-9]*.json"))[which].unlink()
    assert list(store_check(store).damaged) == [store.path / "forecasts"]
    with pytest.raises(DamagedFileError):
        ledger.append("plan", {})


def test_check_verifies_the_chain_of_the_ledger(store: Store):
    ledger = Ledger(store)
    ledger.append("plan", {"claim": "much"})
    ledger.append("plan", {"claim": "more"})
    rewrite(store.path / "forecasts" / "0002.json", lambda content: content.update(claim="less"))
    assert "changed after it was sealed" in store_check(store).damaged[store.path / "forecasts"]


def append_signal(store: Store, run: str, value: float) -> None:
    row = {"run_id": run, "step": 12, "signal": "s", "version": 1, "name": "s", "layer": -1, "head": -1}
    row |= {"value": value, "unit": "", "at": "2026", "n": 8}
    store.signals.add({name: [known] for name, known in row.items()}, "stem")


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("folder", ["evals", "answers", "signals"])
def test_check_notices_deleted_parts(store: Store, folder: str, compacted: bool):
    for value in (0.5, 0.6):
        append_signal(store, store.run_ids()[0], value)
    if compacted:
        compact_store(store)
    assert check_store(Store(store.path)) == ({}, {})
    for part in sorted((store.path / folder).glob("*.parquet"))[:1]:
        data = part.read_bytes()
        part.unlink()
        assert check_store(Store(store.path))[0] == {part: "missing, although it was written"}
        part.write_bytes(data)
        assert check_store(Store(store.path)) == ({}, {})
    assert bool(list((store.path / folder).glob("*.parquet"))) == (folder != "answers" or compacted)


def test_parts_that_genlab_removes_are_not_missed(store: Store):
    runs = store.run_ids()
    append_signal(store, runs[0], 0.5)
    delete_runs(store, runs[:1])
    assert check_store(Store(store.path))[0] == {}
    delete_runs(store, runs[1:])
    assert check_store(Store(store.path))[0] == {}
    assert not list((store.path / "parts").glob("*/*"))


def test_parts_that_were_set_aside_and_came_back_are_not_missed(store: Store):
    record = next((store.path / "commits").glob("*.json"))
    run, kept = read_json(record)["runs"][0]["run_id"], record.read_bytes()
    weights = store.path / "weights" / store.entry(run)["weights"]
    away = weights.with_name("away")
    record.unlink()
    weights.rename(away)
    assert repair_store(Store(store.path)).aside
    assert check_store(Store(store.path))[0].keys() == {store.path / "commits"}  # not: a part is missing
    record.write_bytes(kept)
    away.rename(weights)
    repair_store(Store(store.path))
    assert check_store(Store(store.path))[0] == {}
    part = next((store.path / "evals").glob("*.parquet"))
    part.unlink()
    assert part in check_store(Store(store.path))[0]


# -- Links and folders


@pytest.mark.parametrize("name", ["commits/x.json", "commits/table-0123456789abcdef.parquet"])
def test_a_dangling_link_to_a_record_is_named(store: Store, name: str):
    link = store.path / name
    link.symlink_to(store.path / "nothing")
    with seconds(20), pytest.raises(DamagedFileError, match=name):
        Store(store.path).run_ids()
    with seconds(20):
        assert check_store(Store(store.path))[0] == {link: "a link to a file that does not exist"}


@pytest.mark.parametrize("folder", ["evals", "signals", "answers"])
def test_a_dangling_link_to_a_part_is_named(store: Store, folder: str):
    append_signal(store, store.run_ids()[0], 0.5)
    link = store.path / folder / "x-0123456789abcdef.parquet"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(store.path / "nothing")
    with seconds(20), pytest.raises(DamagedFileError, match=link.name):
        (store.signals.frame() if folder == "signals" else Store(store.path).evals(answers=True))
    with seconds(20), pytest.raises(UserError):
        compact_store(Store(store.path))
    with seconds(20):
        assert check_store(Store(store.path))[0] == {link: "a link to a file that does not exist"}


def test_check_follows_a_linked_folder_and_no_circle(store: Store, tmp_path: Path):
    (store.path / "weights").rename(tmp_path / "disk")
    (store.path / "weights").symlink_to(tmp_path / "disk")
    (store.path / "groups" / "all").symlink_to(store.path)
    assert check_store(Store(store.path))[0] == {}
    weights = next((store.path / "weights").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with seconds(20):
        assert list(check_store(Store(store.path))[0]) == [weights]


def test_check_says_what_it_cannot_read(store: Store, monkeypatch: pytest.MonkeyPatch):
    part, folder = next((store.path / "evals").glob("*.parquet")), store.path / "weights"
    scandir = os.scandir

    def locked(path: object = ".") -> object:
        if Path(str(path)) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # pyright: ignore

    def no_table(path: Path) -> pd.DataFrame:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", locked)
    monkeypatch.setattr("genlab.runs.maintain.read_table", no_table)
    damaged, _ = check_store(Store(store.path))
    assert damaged[folder] == damaged[part] == "cannot be read: Permission denied"


def test_the_checksum_of_a_json_file_is_that_of_what_follows_it(tmp_path: Path):
    write_json(tmp_path / "a.json", {"b": [1]})
    text = (tmp_path / "a.json").read_text()
    digest = text.split('"')[3]
    assert digest == short_sha(text.split(digest)[1].encode())


def test_what_was_set_aside_of_a_run_is_deleted_with_it(store: Store):
    """A run whose record was lost was set aside, and trained again later."""
    gone, kept = store.run_ids()
    for name in ("weights", "evals"):
        part = next((store.path / name).glob("*"))
        (store.path / "lost" / name).mkdir(parents=True)
        shutil.copy2(part, store.path / "lost" / name / part.name)
    delete_runs(store, [gone, kept])
    assert check_store(Store(store.path))[0] == {}
    assert not [path for path in (store.path / "lost").rglob("*") if path.is_file()]


@pytest.mark.parametrize("pattern", ["answers/*", "weights/*", "history/*", "groups/*/how.json"])
def test_a_folder_in_the_place_of_a_file_is_no_file(store: Store, pattern: str):
    compact_store(store)
    path = next(store.path.glob(pattern))
    path.unlink()
    path.mkdir()
    assert path in check_store(Store(store.path))[0]
