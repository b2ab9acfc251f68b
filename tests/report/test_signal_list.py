"""`lab signals` on a terminal of eighty columns, which is also what a pipe is given."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from genlab.probes.signal import all_signals, chosen


def test_the_list_is_read_at_eighty_columns(lab, monkeypatch: pytest.MonkeyPatch):
    """Families as headings, a paragraph a signal that says all that was declared, no line beyond the width."""
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = lab("signals", "copying,random_induction_prefix")
    assert status == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    names = ["copying", "copying_eigenvalues", "copying_logits", "induction", "random_induction_prefix"]
    assert [line for line in lines if line and not line.startswith((" ", "slow"))] == names
    said = " ".join(out.split())
    for s in chosen(["copying", "random_induction_prefix"]):
        for words in (s.about, s.formula, s.unit, s.source, s.why_not):
            assert " ".join(words.split()) in said
    assert "admissible yes" in said
    assert "admissible no: reads repeated random tokens" in said


def test_every_measured_signal_has_a_picture_and_still_exists():
    docs = Path(__file__).parents[2] / "docs"
    measured = set(pd.read_csv(docs / "signals.csv").dropna(subset=["value"])["signal"])
    assert measured == {path.stem for path in (docs / "figures" / "signals").glob("*.png")}
    assert measured <= {s.name for s in all_signals()}
    fast = {s.name for s in all_signals() if s.per == "head" and not s.slow}
    assert {"previous_token", "bracket_neg", "rasp_select", "positional"} <= measured & fast


def test_every_signal_of_the_package_states_its_blind_spots_and_has_a_reference():
    """A reader must learn from the list itself what a signal misses; a reference by name must exist."""
    names = {s.name for s in all_signals()}
    for s in all_signals():
        assert len(s.blind) > 20, s.name
        same = re.match(r"Same as (\w+)", s.blind)
        assert same is None or same[1] in names - {s.name}, s.name
