"""Lines and curves: fits against planted shapes and slow twins, clusters, agreement, the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

import genlab
from genlab.outside.lines import (
    Answered,
    equal_weights,
    fit,
    left_out_errors,
    predicted_accuracy,
    probit,
    slope_over_runs,
)
from genlab.report.html import write_report
from genlab.report.lines import line_cells, measured_points
from genlab.runs.store import Store

ONES = np.ones(40)


@pytest.fixture
def x():
    return np.sort(np.random.default_rng(0).normal(size=40))


def test_planted_shapes_are_found(x):
    knot = float(np.quantile(x, 0.3))
    bent = fit("piecewise", x, 1 + 0.5 * x + 2 * np.maximum(0, x - knot), ONES)
    assert (bent.level, bent.slope, bent.bend, bent.knot) == pytest.approx((1, 0.5, 2, knot))
    falling, rising = fit("inverse", x, 1 - 2 * x, ONES), fit("inverse", x, 1 + 2 * x, ONES)
    assert (falling.level, falling.slope) == pytest.approx((1, -2))
    assert (rising.level, rising.slope) == pytest.approx((np.mean(1 + 2 * x), 0))


def test_weighted_fits_are_those_of_repeated_points(x):
    rng = np.random.default_rng(1)
    y, count = rng.normal(size=40), rng.integers(1, 4, size=40)
    far, long = np.repeat(x, count), np.repeat(y, count)
    for kind in ("constant", "linear", "inverse"):
        own, twin = fit(kind, x, y, count.astype(float)), fit(kind, far, long, np.ones(len(far)))
        assert (own.level, own.slope) == pytest.approx((twin.level, twin.slope))
    slope, level = np.polyfit(x, y, 1, w=np.sqrt(count))
    assert (own.level, own.slope) != (level, slope) or slope <= 0
    line = fit("linear", x, y, count.astype(float))
    assert (line.level, line.slope) == pytest.approx((level, slope))


def test_the_error_of_a_run_is_under_the_fit_of_the_others(x):
    rng = np.random.default_rng(2)
    runs, y = np.array([f"r{i}" for i in rng.integers(0, 5, 40)]), 2 * x + rng.normal(size=40)
    found = left_out_errors("linear", x, y, runs)
    for own, run in zip(found, sorted(set(runs)), strict=True):
        others = runs != run
        weight = [1 / np.sum(runs == other) for other in runs[others]]
        slope, level = np.polyfit(x[others], y[others], 1, w=np.sqrt(weight))
        assert own == pytest.approx(np.mean((y[~others] - level - slope * x[~others]) ** 2))


def test_a_bent_population_is_better_fitted_by_a_bent_line_and_a_straight_one_is_not():
    rng = np.random.default_rng(3)
    runs = np.repeat([f"r{i:02}" for i in range(20)], 5)
    x = rng.normal(size=100)
    noise = 0.2 * rng.normal(size=100)
    bent = 2 * np.maximum(0, x) + noise
    assert left_out_errors("piecewise", x, bent, runs).mean() < 0.6 * left_out_errors("linear", x, bent, runs).mean()
    straight = x + noise
    ratio = (
        left_out_errors("piecewise", x, straight, runs).mean() / left_out_errors("linear", x, straight, runs).mean()
    )
    assert 0.95 < ratio < 1.2


def test_more_evaluations_of_the_same_runs_do_not_narrow_the_interval():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=10), rng.normal(size=10)
    runs = np.array([f"r{i}" for i in range(10)])
    few = slope_over_runs(x, y, runs, np.random.default_rng(0)).slope
    long = [np.repeat(a, 50) for a in (x, y, runs)]
    many = slope_over_runs(long[0], long[1], long[2], np.random.default_rng(0)).slope
    assert (many.value, many.low, many.high) == pytest.approx((few.value, few.low, few.high))
    assert few.low is not None
    assert few.high is not None
    assert few.low < 0 < few.high
    assert equal_weights(np.array(["a", "a", "b"])).tolist() == [0.5, 0.5, 1.0]


def test_probits_of_no_and_all_right_answers_are_finite():
    assert probit(np.array([0.0, 64.0]), np.array([64.0, 64.0])) == pytest.approx(norm.ppf([0.5 / 65, 64.5 / 65]))


def test_accuracy_is_predicted_exactly_where_agreement_is_on_the_same_line():
    rng = np.random.default_rng(5)
    runs, n = 6, 10**9
    x = rng.normal(1, 0.5, size=runs)
    agree = np.triu(rng.normal(1, 0.5, size=(runs, runs)), 1)
    agree += agree.T
    slope, level = 0.7, -0.4
    given = Answered(norm.cdf(x), norm.cdf(level + slope * x), norm.cdf(agree), norm.cdf(level + slope * agree), n, n)
    found = predicted_accuracy(given)
    assert found["aline_s"] == pytest.approx(given.outside, abs=1e-6)
    assert found["aline_d"] == pytest.approx(given.outside, abs=1e-6)
    others = [np.mean([given.agree_outside[i, j] for j in range(runs) if j != i]) for i in range(runs)]
    assert found["agreement"] == pytest.approx(others)
    assert found["inside"] == pytest.approx(given.inside)


# -- Runs of a store


def test_points_are_those_that_loops_over_the_store_find(trained):
    store, ids = Store(trained[0]), trained[1]
    points = measured_points(store, ids, {run: store.law(run) for run in ids})
    assert sorted(points["step"].unique()) == [50, 100, 150, 200]
    assert points.groupby("run_id")["final"].sum().tolist() == [1] * 4
    for row in points.to_dict("records"):
        source = store.evals([row["run_id"]]) if row["final"] else store.trace([row["run_id"]])
        of = source[(source["metric"] == "exact_match") & (source["step"] == row["step"])]
        inside, outside = of[of["length"] <= 2], of[of["length"] > 2]
        assert row["inside"] == pytest.approx(inside["value"].mean())
        assert row["outside"] == pytest.approx(outside["value"].mean())
        assert (row["n_inside"], row["n_outside"]) == (inside["n"].sum(), outside["n"].sum())
        assert row["y"] == pytest.approx(norm.ppf((row["outside"] * row["n_outside"] + 0.5) / (row["n_outside"] + 1)))


def test_the_command_gives_lines_json_and_a_figure(trained, lab, tmp_path: Path):
    words = ["lines", *trained[1], "--store", str(trained[0])]
    status, out, err = lab(*words, "--figure", str(tmp_path / "lines.png"))
    assert status == 0, err
    assert "sort, lengths 3 to 5: 4 runs, 16 evaluations" in out
    assert "predicted without labels" in out
    assert (tmp_path / "lines.png").stat().st_size > 10_000
    (one,) = json.loads(lab(*words, "--json", "--at", "3")[1])["populations"]
    assert one["place"] == "sort, length 3"
    assert {line["over"] for line in one["lines"]} | set(one["why_not"]) == {"runs", "training"}
    assert "training" in {line["over"] for line in one["lines"]}
    assert set(one["agreement"]) == {"inside", "agreement", "aline_s", "aline_d"}
    again = genlab.lines(trained[1], store=trained[0], at=3)
    assert again.populations[0].as_json()["agreement"]["aline_d"][0] == one["agreement"]["aline_d"][0]


def test_wrong_inputs_are_one_line(trained, lab):
    for words, said in (
        (["--split", "reversed"], "evaluated both inside its training distribution and outside on split reversed"),
        (["--at", "2"], "outside at length 2"),
    ):
        status, out, err = lab("lines", *trained[1], "--store", str(trained[0]), *words)
        assert (status, out) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) == 1
    assert lab("lines", "nothing", "--store", str(trained[0]))[0] == 2


def test_the_report_has_the_lines_of_the_command(trained, tmp_path: Path):
    path = tmp_path / "report.html"
    write_report(Store(trained[0]), "last", path, None, None, "random", False)
    text = path.read_text()
    (one,) = genlab.lines(trained[1], store=trained[0]).populations
    assert [line.over for line in one.lines] == ["training"]
    cells = line_cells(one.lines[0])
    assert float(cells[1].split()[0]) == pytest.approx(one.lines[0].slope.slope.value, abs=0.005)
    found = re.search(r'id="line".*?</section>', text, re.DOTALL)
    assert found is not None
    assert all(f">{cell}<" in found[0] for cell in cells[:2])
    assert f"No line for {one.place}, over runs: all have the same accuracy inside" in found[0]
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    (chart,) = [chart for chart in json.loads(data[1])["charts"] if chart["title"] == one.place]
    kinds = [series["kind"] for series in chart["data"]["series"]]
    assert kinds == [*["point"] * 4, "median"]
