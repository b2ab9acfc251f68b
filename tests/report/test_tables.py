"""Tables over all seeds: medians, ranges, shares with their intervals; nothing is best-of."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from genlab.errors import UserError
from genlab.report.figures import save_figure
from genlab.report.tables import by_factor, by_length, by_rule, fit_fraction, wilson
from genlab.tasks import TrainingLaw


def law(train_len: int, min_len: int = 1, split: str = "id") -> TrainingLaw:
    """Training lengths that are all equally likely."""
    return TrainingLaw(split, split, min_len, train_len, (min_len,), (1.0,)).flat()


def rows(values: dict[tuple[str, int], list[float]], metric: str = "exact_match", n: int = 100) -> pd.DataFrame:
    """(split, length) -> a value a run."""
    return pd.DataFrame(
        {"run_id": f"run{i}", "split": split, "length": length, "metric": metric, "value": value, "n": n}
        for (split, length), column in values.items()
        for i, value in enumerate(column)
    )


def test_by_length_speaks_of_all_runs():
    table = by_length(rows({("id", 10): [1.0, 0.99, 0.2], ("id", 11): [0.0, 0.5, 0.98]}), law(10))
    inside, outside = table.to_dict("records")
    assert (inside["trained"], outside["trained"]) == (True, False)
    assert (inside["median"], inside["low"], inside["high"], inside["runs"]) == (0.99, 0.2, 1.0, 3)
    assert inside["fraction"] == pytest.approx(2 / 3)
    assert (inside["fraction_low"], inside["fraction_high"]) == wilson(2, 3)
    assert outside["fraction"] == 0


def test_wilson_against_its_formula():
    # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), at z = 1.959964, 15 of 20
    assert wilson(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)
    assert wilson(0, 4)[0] == 0.0
    assert wilson(4, 4)[1] == 1.0


def test_fit_is_the_mean_over_training_lengths_of_each_run():
    evals = rows({("id", 5): [1.0, 1.0], ("id", 10): [0.99, 0.9], ("id", 20): [0.0, 1.0], ("dense", 5): [0.0, 0.0]})
    fit = fit_fraction(evals, law(10))
    assert fit is not None
    assert (fit["runs"], fit["fraction"]) == (2, 0.5)
    assert (fit["low"], fit["high"]) == wilson(1, 2)


def test_factors_weigh_examples_not_lengths():
    few = rows({("id", 5): [1.0]}, "exact_match|carry_chain=2", n=10)
    many = rows({("id", 6): [0.0]}, "exact_match|carry_chain=2", n=90)
    beyond = rows({("id", 12): [0.25]}, "exact_match|carry_chain=2", n=4)
    (row,) = by_factor(pd.concat([few, many, beyond], ignore_index=True), law(10)).to_dict("records")
    assert (row["factor"], row["value"]) == ("carry_chain", 2)
    assert (row["within"], row["n_within"]) == (pytest.approx(0.1), 100)
    assert (row["beyond"], row["n_beyond"]) == (0.25, 4)


def test_no_factors_no_rows():
    assert by_factor(rows({("id", 5): [1.0]}), law(5)).empty


def test_rules_are_told_by_split_over_all_runs():
    """Lengths weigh by their examples; the median run stands beside the lowest and the highest."""
    short = rows({("matched", 4): [1.0, 0.0, 0.5]}, "rule|NESTED", n=10)
    long = rows({("matched", 8): [0.0, 0.0, 0.5]}, "rule|NESTED", n=30)
    beyond = rows({("deeper", 12): [0.25, 0.5, 1.0]}, "rule|none")
    nested, none = by_rule(pd.concat([short, long, beyond, rows({("id", 4): [1.0]})]), law(8)).to_dict("records")
    assert (nested["split"], nested["rule"], nested["within"]) == ("matched", "NESTED", 0.25)
    assert (nested["within_low"], nested["within_high"]) == (0.0, 0.5)
    assert (none["split"], none["rule"], none["beyond"]) == ("deeper", "none", 0.5)
    assert (none["beyond_low"], none["beyond_high"]) == (0.25, 1.0)
    assert pd.isna(none["within"])
    assert by_rule(rows({("id", 5): [1.0]}), law(5)).empty


def test_a_figure_in_a_format_that_matplotlib_does_not_write_is_one_line(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"x\.xyz' is not allowed \(allowed: names that end in .*pdf.*, svg"
    ) as raised:
        save_figure(Figure(), tmp_path / "of" / "x.xyz")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
    save_figure(Figure(), tmp_path / "of" / "x.svg")
    assert (tmp_path / "of" / "x.svg").is_file()
