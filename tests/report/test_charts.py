"""Charts as specifications: what they are given, and what of it they leave out."""

from __future__ import annotations

import numpy as np

from genlab.report.charts import UNIT, Series, intervals, lines, pattern, points


def test_points_that_are_no_numbers_are_left_out_and_numbers_are_short():
    nan = float("nan")
    series = [Series("a", [1.0, 2.0, 3.0], [0.123456, nan, 1 / 3], 0), Series("gone", [1.0], [nan], 0)]
    drawn = lines("t", "c", ("x", "y"), series, ["one"], UNIT)
    assert drawn.data["series"] == [{"name": "a", "cell": 0, "kind": "run", "x": [1, 3], "y": [0.1235, 0.3333]}]


def test_one_setting_needs_no_legend_and_many_have_none():
    def legend(count: int) -> object:
        drawn = points("t", "c", ("x", "y"), [Series("a", [1.0], [1.0], 0, "point")], [str(i) for i in range(count)])
        return drawn.spec["layer"][0]["encoding"]["color"]["legend"]

    assert legend(1) is None
    assert legend(2) == {"title": None}
    assert legend(13) is None


def test_an_axis_holds_its_data_and_the_training_lengths():
    drawn = lines("t", "c", ("x", "y"), [Series("a", [5, 9], [0, 1], 0)], ["one"], None, [(2, 4)])
    shade, name, line, *_ = drawn.spec["layer"]
    assert shade["data"]["values"] == [{"low": 1.5, "high": 4.5}]
    low, high = line["encoding"]["x"]["scale"]["domain"]
    assert low <= 1.5
    assert high >= 9
    assert name["encoding"]["text"]["value"] == "training lengths"


def test_a_logarithmic_axis_stays_positive_and_its_layers_agree():
    series = [Series("a", [1, 2, 16384], [1, 1, 0], 0)]
    drawn = lines("t", "c", ("length", "y"), series, ["one"], None, [(1, 16)], whole=True, log=True)
    scales = [layer["encoding"]["x"]["scale"] for layer in drawn.spec["layer"]]
    assert all(scale == scales[0] for scale in scales)
    assert (scales[0]["type"], scales[0]["domain"]) == ("log", [0.5, 16384])
    assert "zero" not in scales[0]


def test_tooltips_say_what_groups_are():
    drawn = lines(
        "t", "c", ("x", "y"), [Series("a", [0, 1], [0, 1], group="baselines")], ["baselines"], group="predictor"
    )
    shown = [layer["encoding"]["tooltip"] for layer in drawn.spec["layer"] if "tooltip" in layer["encoding"]]
    assert shown
    assert all([field["title"] for field in one] == ["predictor", "x", "y"] for one in shown)


def test_an_interval_that_is_unknown_is_none():
    drawn = intervals("t", "c", "AUROC", [("a", float("nan"), None, None), ("b", 0.5, 0.25, 0.75)], 0.5)
    assert drawn.data["rows"][0] == {"name": "a", "value": None, "low": None, "high": None}
    assert drawn.data["rows"][1] == {"name": "b", "value": 0.5, "low": 0.25, "high": 0.75}


def test_a_pattern_keeps_tokens_weights_and_the_place_of_the_answer():
    drawn = pattern(np.array([[1.0, 0.0], [0.25, 0.75]]), ("7", "datum.value"), 1, "layer 0 head 0", ("3",))
    assert drawn.data["weights"] == [[1000, 0], [250, 750]]
    assert drawn.data["causal"] is True
    assert drawn.spec["params"] == [{"name": "tokens", "value": ["7", "datum.value"]}]
    assert drawn.spec["layer"][1]["encoding"]["x"]["datum"] == 1
    both = pattern(np.full((2, 2), 0.5), ("a", "b"), 2, "t")
    assert both.data["causal"] is False
    assert len(both.spec["layer"]) == 1  # no answer, no line
