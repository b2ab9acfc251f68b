"""The page of a grid: self-contained, whole, and readable by more than eyes."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genlab
from genlab.errors import UserError
from genlab.report import html
from genlab.report.html import write_report
from genlab.report.page import color
from genlab.runs import Evals, grid
from genlab.runs.parts import SIGNAL_COLUMNS, Signals
from genlab.runs.store import Store

SECTIONS = ("trained", "lengths", "inside-outside", "line", "signals", "forecast", "training", "runs", "attention")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two settings of sorting at eight seeds, with one signal."""
    kept = Store(tmp_path_factory.mktemp("report") / "store")
    small: dict[str, Any] = {"n_layers": 1, "d_model": 8, "n_heads": 2, "steps": 2, "eval_every": 1, "batch_size": 4}
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
    written = write_report(store, "two", path, "loss@split=id", "induction_prefix.max", "random", False)
    assert written.runs == store.find("two")
    assert written.as_json() | {"runs": 16} == {
        "report": str(path),
        "bytes": path.stat().st_size,
        "runs": 16,
        "left_out": [],
    }
    return path.read_text()


class Checker(HTMLParser):
    """Open elements, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def charts(text: str) -> dict[str, dict]:
    """The charts of a page, by title."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return {chart["title"]: chart for chart in json.loads(found[1])["charts"]}


def test_the_page_is_whole_and_every_drawing_has_a_name(text: str):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(SECTIONS) <= set(checker.ids)
    found = charts(text)
    # By length, in against out (2), the line, a signal, the predictors, over training (loss, exact match in and out).
    assert sum(not chart["size"] for chart in found.values()) == 1 + 2 + 1 + 1 + 1 + 3
    assert sum("weights" in chart["data"] for chart in found.values()) == 3 * 2
    assert all(chart["spec"]["description"] for chart in found.values())
    assert text.count('<div class="chart"') == len(found)


def test_nothing_is_fetched_and_the_page_may_not(text: str):
    assert not re.search(r"""<[^>]*(src|href)\s*=\s*["']?(https?:)?//""", text)
    assert "default-src 'none'" in text
    assert "connect-src" not in text


def test_each_setting_can_be_picked_and_its_marks_are_told_apart(text: str):
    assert re.findall(r'<option value="(-?\d)">([^<]*)', text) == [
        ("-1", "all"), ("0", "positions learned"), ("1", "positions none"),
    ]  # fmt: skip
    found = charts(text).values()
    (lengths,) = (chart for chart in found if chart["spec"]["layer"][0]["mark"].get("style") == "shade")
    assert {s["cell"] for s in lengths["data"]["series"]} == {0, 1}
    assert len({color(i) for i in range(40)}) == 40
    assert "induction_prefix.max: z" in text


def test_training_lengths_are_shaded(text: str):
    (shade,) = (
        layer
        for chart in charts(text).values()
        for layer in chart["spec"]["layer"]
        if layer["mark"].get("style") == "shade"
    )
    assert shade["data"]["values"] == [{"low": 0.5, "high": 2.5}]


def test_every_run_has_a_row_with_its_forecast_and_interval(store: Store, text: str):
    rows = re.findall(r'<button type="button" class="run"[^>]*>(\w+)</button>', text)
    assert sorted(rows) == sorted(store.find("two"))
    assert "forecast (baselines + induction_prefix.max)</button>" in text
    assert "no 90 % prediction intervals of baselines + induction_prefix.max" in text
    assert text.count("<td>unbounded</td>") == 2 * 16


def test_a_page_about_last_is_about_one_group(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another group may appear while it is made."""
    kept = Store(shutil.copytree(store.path, tmp_path / "store"))
    read = html.read_report

    def meanwhile(*asked: Any) -> Any:
        data = read(*asked)
        kept.save_group("other", kept.find("two")[:1], {})
        return data

    monkeypatch.setattr(html, "read_report", meanwhile)
    written = write_report(kept, "last", tmp_path / "r.html", "loss@split=id", None, "random", False)
    assert kept.named.last() == "other"
    assert written.runs == kept.find("two")
    assert "<title>Report of two</title>" in written.path.read_text()


def test_tags_stand_in_the_table(store: Store, tmp_path: Path):
    run = store.find("two")[3]
    store.named.tag("the-odd-one", [run])
    write_report(store, "two", tmp_path / "r.html", "loss@split=id", None, "random", False)
    store.named.tag("the-odd-one", [run], remove=True)
    (row,) = re.findall(rf"<tr[^>]*>[^\n]*>{run}</button>.*?</tr>", (tmp_path / "r.html").read_text())
    assert "<td>the-odd-one</td>" in row


def test_over_training_each_run_is_a_path_that_ends_in_its_point(text: str):
    drawn = charts(text)["ID against OOD accuracy over training"]["data"]["series"]
    assert len(drawn) == 2 * 16
    for path, end in zip(drawn[::2], drawn[1::2], strict=True):
        assert (path["kind"], end["kind"], path["name"]) == ("run", "point", end["name"])
        assert (path["x"][-1:], path["y"][-1:]) == (end["x"], end["y"])


def test_the_same_rows_give_the_same_bytes(store: Store, text: str, tmp_path: Path):
    write_report(store, "two", tmp_path / "r.html", "loss@split=id", "induction_prefix.max", "random", False)
    assert (tmp_path / "r.html").read_text() == text


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
