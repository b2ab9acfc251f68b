"""The pages on monitors, lines, items and constants are what their command writes from the committed measurements."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import outside_pages as outside


@pytest.mark.parametrize("name", outside.PAGES)
def test_tables_are_written_from_the_committed_measurements(name: str):
    text = (outside.DOCS / f"{name}.md").read_text("utf-8")
    assert text == outside.page(name, text), "run: python benchmarks/outside_pages.py page"
    assert len(outside.TABLES[name]().splitlines()) > 5


def test_numbers_of_the_text_are_those_of_the_measurements():
    text = " ".join((outside.DOCS / "monitors.md").read_text("utf-8").split())
    summary = {
        (name, row["split"], row["score"]): row
        for name, rows in outside.monitors().groupby("population")
        for row in outside.summary_of(rows).to_dict("records")
    }
    knn = summary["sort 8", "id", "knn"]
    assert f"AUROC {knn['oddness']:.2f}".replace("0.", ".") in text
    assert f"with {knn['auroc']:.2f}".replace("0.", ".") in text
    msp = summary["sort 8", "id", "msp"]
    assert f"`msp` lets {msp['coverage']:.0%}".replace("%", " %") in text
    vim = summary["brackets, published", "first-symbol", "vim"]
    assert f"has {vim['oddness']:.3f} and {vim['auroc']:.2f} on `first-symbol`".replace("0.", ".") in text
    for split, most in (("matched-unnested", 0.7), ("first-symbol", 0.63)):  # two kinds of runs under a threshold
        rows = outside.monitors().query("population == 'brackets, published' and score == 'msp'")
        own = rows[rows["split"] == split]
        own = own[(own["wrong"] >= 5) & (own["n"] - own["wrong"] >= 5)].groupby("run_id")[["coverage", "risk"]].mean()
        good = own["coverage"] > 0.5
        assert (good.sum(), (~good).sum()) == (3, 3)
        assert own["coverage"][good].max() < most + 0.01
        assert own["risk"][good].max() < 0.04
        assert own["coverage"][~good].max() < 0.105
        assert own["risk"][~good].min() > 0.85
    others = [row for (name, _, score), row in summary.items() if name == "sort 8" and score not in ("msp", "margin")]
    assert all(row["better"] == 0 for row in others)


def test_numbers_of_the_other_texts_are_those_of_the_measurements():
    texts = {name: (outside.DOCS / f"{name}.md").read_text("utf-8") for name in outside.PAGES}
    items, constants, lines = (outside.kept(name) for name in ("items", "constants", "lines"))
    assert f"AUROC {items['compiled']['axis']['EQUAL-COUNT']:.3f}" in texts["items"]
    assert f"has {items['brackets']['axis']['EQUAL-COUNT']:.2f}:".replace("0.", ".") in " ".join(
        texts["items"].split()
    )
    (sort,) = constants["sort-8"]["summary"]
    assert f"Spearman {sort['within']:.2f} on sort".replace("0.", ".") in texts["constants"]
    assert f"has {sort['auroc']:.2f} on sort, where `msp` has {sort['auroc_msp']:.2f}".replace("0.", ".") in " ".join(
        texts["constants"].split()
    )
    (of_sort,) = [one for name, one in lines.items() if name.startswith("sort-8")]
    told = f"ALine-D is off by {of_sort['agreement']['aline_d'][0]:.2f}".replace("0.", ".")
    assert told in " ".join(texts["lines"].split())


def test_numbers_of_the_text_on_dispersion_are_those_of_the_measurements():
    text = " ".join((outside.DOCS / "dispersion.md").read_text("utf-8").split())
    found = {
        (name, row["measure"]): row for name, one in outside.kept("dispersion").items() for row in one["summary"]
    }

    def short(value: float) -> str:
        return f"{value:.2f}".replace("0.", ".")

    spread, largest = ([found[name, kind] for name in ("sort-20", "max-retrieval")] for kind in ("spread", "largest"))
    inside, outside_ = ([short(row[x]) for row in spread] for x in ("inside", "outside"))
    assert f"slope {inside[0]} on sort, {inside[1]} on max retrieval" in text
    assert f"it hardly does ({outside_[0]} and {outside_[1]})" in text
    assert all(
        row["better"] == 0
        for name in ("sort-20", "sort-10", "sort-8", "max-retrieval")
        for row in [found[name, "spread"]]
    )
    slopes = [short(row[x]) for row in largest for x in ("outside", "inside")]
    assert "slope {} against {} on sort, {} against {} on max retrieval".format(*slopes) in text
    errors = [short(largest[1]["error"]), f"{largest[1]['error_last']:.2f}"]
    assert "error of {} in ln where no change has {}".format(*errors) in text
    majority = found["majority", "effective"]
    assert f"inside ({majority['inside']:.2f}) and outside ({majority['outside']:.2f})" in text
    between = [outside.kept("dispersion")[name]["accuracies"][0] for name in ("sort-20", "max-retrieval")]
    assert f"Spearman {short(between[0]['between'])} on sort (5 runs)" in text
    assert f"{short(between[1]['between'])} on max retrieval (10 runs, p = {short(between[1]['between_p'])})" in text


def test_numbers_of_the_text_on_noise_are_those_of_the_measurements():
    text = " ".join((outside.DOCS / "constants.md").read_text("utf-8").split())
    rows = {row["noise"]: row for row in outside.kept("constants")["sort-20-noise"]["curve"]}
    half, four = rows[0.5], rows[4.0]
    told = f"size {half['accuracy']:.2f} of the answers are right, and outputs are at {half['relative']:.2f}"
    assert told.replace("0.", ".") in text
    assert four["accuracy"] == 0
    assert f"none is right, at {four['relative']:.2f}".replace("0.", ".") in text
