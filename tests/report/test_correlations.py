"""Correlations with accuracy outside: within runs and between them, planted."""

import numpy as np
import pandas as pd
import pytest

from genlab.report.correlations import ends, told, with_accuracy


def rows(run: str, values: list[float], accuracy: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"run_id": run, "x": values, "accuracy": accuracy})


def test_within_and_between_runs_are_told_apart():
    """In every run the number rises with accuracy; over runs, the higher number has the lower accuracy."""
    runs = [rows(str(i), [i, i + 1, i + 2, i + 3], [0.5 - i / 10 + j / 100 for j in range(4)]) for i in range(5)]
    outside = pd.concat(runs, ignore_index=True)
    inside = pd.Series({str(i): float(i) for i in range(5)})
    found = with_accuracy(outside, "x", inside)
    assert (found["correlated"], found["within"]) == (5, pytest.approx(1))
    assert (found["within_low"], found["within_high"]) == (pytest.approx(1), pytest.approx(1))
    assert found["between"] == pytest.approx(-1)
    assert [line[:9] for line in told(found, "one", "other")] == ["one: Spea", "other: Sp"]
    assert ends(found, "within") == " (+1.00 to +1.00)"


def test_runs_with_few_places_or_one_value_are_not_correlated():
    outside = pd.concat([rows("a", [1, 2, 3], [0.1, 0.2, 0.3]), rows("b", [1, 2, 3, 4], [0.5] * 4)])
    found = with_accuracy(outside, "x", pd.Series({"a": 1.0, "b": 2.0}))
    assert found["correlated"] == 0
    assert np.isnan([found["within"], found["between"], found["between_p"]]).all()
    assert told(found, "one", "other") == []
