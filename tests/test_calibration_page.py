"""docs/calibration.md is what its command writes from the rows that the package ships."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import calibration_page

from genlab.probes.calibrated import shipped, verdicts


def test_the_page_is_written_from_the_rows():
    assert calibration_page.PAGE.read_text() == calibration_page.page(shipped()), (
        "run: python benchmarks/calibration_page.py"
    )


def test_a_line_per_value_and_construction():
    text = calibration_page.page(shipped())
    for one in verdicts(shipped()):
        assert f"| {one.mechanism} | `{one.value}` | {one.text} |" in text
        for program in (*one.found, *one.missed):
            assert f"| `{one.value}` | `{program}` |" in text
