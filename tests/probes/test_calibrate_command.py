"""`lab calibrate` and `lab signals`: what they print, write, and refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

FEW = ["--mechanism", "v-composition", "--seeds", "0:1", "--noise", "0.001", "--width", "", "--length", ""]


def test_what_it_prints_and_writes(lab, tmp_path: Path):
    rows, figure = tmp_path / "rows.csv", tmp_path / "figure.png"
    status, out, err = lab("calibrate", *FEW, "--csv", str(rows), "--figure", str(figure))
    assert status == 0
    assert "v_composition: detects v-composition (AUROC 1.00" in out
    assert str(rows) in err
    assert figure.stat().st_size > 1000
    with rows.open() as file:
        read = list(csv.DictReader(file))
    assert {row["has"] for row in read} == {"reverse_unique", "reverse_by_shifted_place"}
    assert {(row["axis"], row["level"]) for row in read} == {("reference", "2"), ("noise", "0.001"), ("decoys", "6")}


def test_rows_of_other_mechanisms_are_kept(lab, tmp_path: Path):
    rows = tmp_path / "rows.csv"
    less = [*FEW, "--noise", "", "--decoys", "2", "--csv", str(rows)]
    assert lab("calibrate", *less)[0] == 0
    before = rows.read_text()
    assert lab("calibrate", *less, "--mechanism", "end-of-prompt")[0] == 0
    assert set(before.splitlines()) < set(rows.read_text().splitlines())
    assert lab("calibrate", *less)[0] == 0  # its own rows are replaced
    assert len(rows.read_text().splitlines()) == len(set(rows.read_text().splitlines()))


def test_json(lab):
    status, out, _ = lab("calibrate", *FEW, "--noise", "", "--decoys", "2", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["verdicts"][0]["found"] == {"reverse_unique": 1.0, "reverse_by_shifted_place": 1.0}
    assert len(found["models"]) == 4


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--mechanism", "inducton"], "did you mean 'induction'"),
        (["--mechanism", "induction", "--signals", "weight_norm"], "no mechanism for signals weight_norm"),
        (["--signals", "previous_tokn"], "did you mean 'previous_token'"),
        (["--noise", "0,much"], "--noise '0,much' is not allowed"),
        (["--width", "2"], "--width '2' is not allowed (numbers from 0.01 to 1)"),
        (["--decoys", "-1"], "--decoys '-1' is not allowed"),
        (["--csv", "rows.txt"], "names that end in .csv"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_wrong_inputs_are_refused_in_one_line(lab, words: list[str], why: str):
    status, out, err = lab("calibrate", *words)
    assert (status, out) == (2, "")
    assert why in err
    assert len(err.strip().splitlines()) == 1


def test_a_file_of_other_rows_is_not_overwritten(lab, tmp_path: Path):
    file = tmp_path / "mine.csv"
    file.write_text("a,b\n1,2\n")
    status, _, err = lab("calibrate", *FEW, "--noise", "", "--decoys", "2", "--csv", str(file))
    assert status == 2
    assert "is no table of `lab calibrate --csv`" in err
    assert file.read_text() == "a,b\n1,2\n"


def test_signals_say_what_they_were_found_to_detect(lab):
    status, out, _ = lab("signals", "previous_token,weight_norm")
    assert status == 0
    words = " ".join(out.split())
    assert "calibrated detects previous-token (AUROC" in words
    assert "calibrated no: names no mechanism: the size of weights" in words
    assert json.loads(lab("signals", "previous_token", "--json")[1])[0]["calibrated"][0].startswith("detects")
