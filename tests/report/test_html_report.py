"""The page of a grid: self-contained, whole, and readable by more than eyes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import genlab
from genlab.errors import UserError
from genlab.report.html import write_report
from genlab.report.page import Series, chart, pattern_image
from genlab.runs import Evals, grid
from genlab.runs.parts import SIGNAL_COLUMNS, Signals
from genlab.runs.store import Store

SECTIONS = ("trained", "lengths", "inside-outside", "signals", "forecast", "training", "runs", "attention")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two settings of sorting at eight seeds, with one signal."""
    kept = Store(tmp_path_factory.mktemp("report") / "store")
    small = {"n_layers": 1, "d_model": 8, "n_heads": 2, "steps": 2, "eval_every": 1, "batch_size": 4}
    plans = [
        genlab.plan("sort", 2, 4, seeds=range(8), evals=Evals(test_len=4, n=8), positions=positions, **small)
        for positions in ("learned", "none")
    ]
    grid(plans, name="two", store=kept, workers=1)
    ids = kept.find("two")
    rows = {name: [None] * len(ids) for name in SIGNAL_COLUMNS} | {"run_id": ids, "step": [2] * len(ids)}
    rows |= {"signal": ["induction_prefix"] * len(ids), "name": ["induction_prefix.max"] * len(ids)}
    rows |= {"version": [1] * len(ids), "layer": [-1] * len(ids), "head": [-1] * len(ids)}
    Signals(kept.path).add(rows | {"value": np.linspace(0, 1, len(ids)).tolist()}, "signals")
    return kept


@pytest.fixture(scope="module")
def text(store: Store) -> str:
    path = store.path.parent / "report.html"
    assert "16 runs" in write_report(store, "two", path, "loss@split=id", "induction_prefix.max", "random", False)
    return path.read_text()


class Checker(HTMLParser):
    """Open elements, ids, and what every drawing says to a screen reader."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.unnamed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        if (tag == "svg" and not found.get("aria-label")) or (tag == "img" and not found.get("alt")):
            self.unnamed.append(tag)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs  # paths and circles, which close themselves

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_every_drawing_has_a_name(text: str):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.unnamed == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(SECTIONS) <= set(checker.ids)
    # By length, in against out (2), a signal, the predictors, over training (loss, exact match in and out).
    assert text.count("<svg") == 1 + 2 + 1 + 1 + 3
    assert text.count('class="pattern"') == 3 * 2


def test_nothing_is_fetched(text: str):
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:)?//""", text)
    assert "import(" not in text
    assert "fetch(" not in text


def test_each_setting_can_be_picked_and_its_marks_are_told_apart(text: str):
    assert '<option value="0">positions learned</option><option value="1">positions none</option>' in text
    assert {"0", "1"} == set(re.findall(r'data-cell="(\d+)"', text))
    assert "induction_prefix.max: z" in text


def test_every_run_has_a_row_with_its_forecast_and_interval(text: str):
    assert text.count('<th scope="row"><span class="swatch"></span>positions none') == 1 + 8 + text.count(
        "none</th><td>unshifted"
    )
    assert '<th scope="col">forecast (baselines + induction_prefix.max)</th>' in text
    assert "no 90 % prediction intervals of baselines + induction_prefix.max" in text
    assert text.count("<td>unbounded</td>") == 2 * 16


def test_over_training_each_run_is_a_path_that_ends_in_its_point(text: str):
    (drawn,) = re.findall(r'<svg[^>]*aria-label="in against out of distribution over training".*?</svg>', text)
    assert len(re.findall(r'<path class="run"', drawn)) == 16
    for path, x, y in re.findall(
        r'd="M([^"]+)"><title>\w+</title></path><g[^>]*><circle cx="([\d.]+)" cy="([\d.]+)"', drawn
    ):
        assert path.split("L")[-1] == f"{x} {y}"


def test_marks_stand_where_their_values_say():
    drawn = chart("t", "x", "y", [Series("one", [0.0, 10.0, float("nan")], [0.0, 1.0, 2.0])], (0.0, 1.0))
    (path,) = re.findall(r'class="run"[^>]* d="M([^"]+)"', drawn)
    (x0, y0), (x1, y1) = (tuple(map(float, point.split())) for point in path.split("L"))
    assert (y0, y1) == (270.0, 12.0)
    assert 64 < x0 < x1 < 546
    assert "nothing was measured" in chart("t", "x", "y", [], None)
    always = chart("x", "x", "y", [Series("one", [0.0], [0.0], cell=-1)], None)
    assert "data-cell" not in always
    assert "&lt;b&gt;" in chart("<b>", "x", "y", [Series("<b>", [0.0], [0.0], kind="point")], None)


def test_one_value_alone_has_an_axis_near_it():
    drawn = chart("t", "x", "y", [Series("all", [1.0, 1.0], [0.2, 0.4], kind="point")], None)
    assert not re.findall(r">(0.5|0.6|1.5)</text>", drawn)


def test_a_pattern_is_an_image_of_its_size():
    import base64
    import io

    from PIL import Image

    source = re.search(r"base64,([^\"]+)", pattern_image(np.array([[1.0, 0.0, 0.5]]), "a"))
    assert source is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))
    assert pixels.tolist() == [[0, 255, 127]]


@pytest.mark.parametrize(
    ("name", "file", "target", "signal", "said"),
    [
        ("gone", "r.html", None, None, "no run or group 'gone'"),
        ("two", "r.pdf", None, None, "ends in .html"),
        ("two", "r.html", "loss@length=99", None, "no evaluation yet"),
        ("two", "r.html", "loss@split=id", "heat", "unknown signal 'heat'"),
    ],
)
def test_bad_input_writes_nothing(
    store: Store, tmp_path: Path, name: str, file: str, target: str | None, signal: str | None, said: str
):
    with pytest.raises(UserError, match=re.escape(said)):
        write_report(store, name, tmp_path / file, target, signal, "random", False)
    assert list(tmp_path.iterdir()) == []


def test_without_anything_to_forecast_the_page_says_so(store: Store, tmp_path: Path):
    write_report(store, store.find("two")[0], tmp_path / "one.html", None, None, "random")
    assert "Nothing can be forecast" in (tmp_path / "one.html").read_text()
