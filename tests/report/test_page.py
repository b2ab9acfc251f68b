"""The page as a browser shows it: nothing amiss, nothing fetched, by keyboard, light and dark, narrow and wide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_browser

from genlab.report.charts import UNIT, Series, intervals, lines, pattern, points
from genlab.report.page import Bullets, Charts, Section, Table, Text, Tokens, page

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on the search path, and GENLAB_BROWSER names none: the page is not looked at"
)
WORD = "a_setting_with_a_name_that_is_far_longer_than_a_narrow_screen_is_wide"
EVIL = "<script>document.title = 'run'</script>"
"""A tag, task or token of this name must stay text."""
CELLS = [WORD, f"task {EVIL}"]
DRAWN = "report.all().then(views => views.length)"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of all that reports are made of: lines, points, intervals, a map, tables, two settings."""
    paths = [Series(f"run{i}", [2, 6, 10], [1, 0.5 + i / 10, i / 4], i % 2) for i in range(4)]
    paths.append(Series("median", [2, 6, 10], [1, 0.6, 0.3], 0, "median"))
    dots = [Series(f"run{i}", [i], [i / 4], i % 2, "point") for i in range(4)]
    about = "what it shows"
    rows = [("baselines", 0.6, 0.4, 0.8), (f"baselines + exact_match_at_temperature.max {EVIL}", 0.5, None, None)]
    weights = np.tril(np.full((4, 4), 0.25))
    drawn = [
        lines("exact match by length", about, ("length", "exact match"), paths, CELLS, UNIT, [(2, 4)]),
        points("in against out", about, ("in", "out"), dots, CELLS),
        intervals("AUROC of predictors", about, "AUROC", rows, 0.5),
        pattern(weights, ("7", "3", ">", EVIL), 3, "layer 0 head 0", ("3", "<end>")),
    ]
    table = Table(
        ("run", "setting", "tags", "value", *"abcdefgh"),
        [
            (f"run{i}", f"setting {i % 2}", EVIL if i == 3 else 'a, "b"', v, *["0.123"] * 8)
            for i, v in enumerate(VALUES)
        ],
        "a row per run",
        [0, 1, 0, 1],
        file="runs.csv",
        chosen=0,
    )
    folded = Table(("a", "b"), [("c", "d")], "folded", folded="as a table")
    parts = [
        Section(
            "figures", "Figures", [Charts(drawn[:3]), Tokens(f"run {EVIL}", ["7", ">"], [EVIL]), Charts(drawn[3:])]
        ),
        Section("runs", "Each run", [Text(EVIL), Bullets([EVIL]), table, folded]),
    ]
    made = tmp_path_factory.mktemp("page") / "page.html"
    made.write_text(page(f"Report of {WORD}", [("4", "runs")], [f"target {WORD}"], parts, CELLS))
    return made


VALUES, TAGS = ("0.9", "-", "10", "1e-3"), (*['a, "b"'] * 3, EVIL)


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_amiss_or_clipped_and_text_can_be_read(tab: Browser, file: Path, width: int, dark: bool):
    tab.open(file, width, dark=dark)
    assert tab.value(DRAWN) == 4
    assert tab.problems == []
    assert [address for address in tab.requests if not address.startswith(("file:", "data:"))] == []
    assert tab.value("document.documentElement.scrollWidth") <= width
    boxes = tab.value("[...document.querySelectorAll('canvas')].map(c => [c.clientWidth, c.clientHeight])")
    assert len(boxes) == 4
    assert all(60 < wide <= width - 20 and tall > 60 for wide, tall in boxes)
    assert tab.value(_CONTRAST) >= 4.5
    assert tab.value("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 24, 30)" if dark else "rgb(255, 255, 255)"
    )
    assert tab.value("report.need(0).then(view => view.background())") == ("#12181e" if dark else "#fff")
    assert tab.value("document.title").startswith("Report of")


_CONTRAST = """(() => {
  const light = color => color.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const inks = [...document.querySelectorAll('h1, p, figcaption, a, b, .run')];
  const of = inks.map(one => light(getComputedStyle(one).color));
  return Math.min(...of.map(ink => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)));
})()"""
"""The least contrast of words against the page, as WCAG 2 defines it."""


def test_markup_in_names_stays_text(tab: Browser, file: Path):
    tab.open(file)
    tab.value(DRAWN)
    assert tab.value("document.querySelectorAll('script').length") == 3
    assert tab.value("document.title").startswith("Report of")
    assert tab.value("document.querySelector('#cells option:last-child').textContent") == CELLS[1]
    assert EVIL in tab.value("document.querySelector('tbody').textContent")
    assert "&lt;script&gt;" in tab.value("report.need(3).then(view => view.toSVG())")


def test_axis_titles_do_not_overlap_labels(tab: Browser, file: Path):
    tab.open(file, 390)
    assert tab.value(_OVERLAPS) == [[], []]


_OVERLAPS = """Promise.all([0, 1].map(async i => {
  const box = document.createElement('div');
  box.innerHTML = await (await report.need(i)).toSVG();
  document.body.append(box);
  const at = one => one.getBoundingClientRect();
  const words = name => [...box.querySelectorAll('.role-axis-' + name + ' text')];
  const found = words('title').flatMap(t => words('label').filter(l =>
    at(t).left < at(l).right && at(l).left < at(t).right && at(t).top < at(l).bottom && at(l).top < at(t).bottom));
  const count = words('title').length;
  box.remove();
  return count === 2 ? found.map(one => one.textContent) : ['titles: ' + count];
}))"""
"""Labels that a title of their chart covers, for two charts."""


def test_the_pointer_is_told_run_setting_and_place(tab: Browser, file: Path):
    tab.open(file, 1280, 2000)
    tab.value(DRAWN)
    _hover(tab, 0, "[view.scale('x')(6), view.scale('y')(0.8)]")
    told = tab.value("document.getElementById('vg-tooltip-element').textContent")
    assert all(word in told for word in ("run3", EVIL, "length", "6", "0.8"))
    assert tab.value("document.querySelectorAll('#vg-tooltip-element script').length") == 0
    _hover(tab, 3, "[view.scale('x')(2) + 6, view.scale('y')(3) + 6]")
    told = tab.value("document.getElementById('vg-tooltip-element').textContent")
    assert "0.250" in told
    assert EVIL in told


def test_ctrl_and_wheel_zoom_and_the_wheel_alone_scrolls(tab: Browser, file: Path):
    tab.open(file, 1280, 900)
    tab.value(DRAWN)
    width = "report.need(0).then(view => { const [a, b] = view.scale('x').domain(); return b - a; })"
    before = tab.value(width)
    _hover(tab, 0, "[100, 100]")
    tab.wheel(*_place(tab, 0, "[100, 100]"), -300, ctrl=True)
    tab.value(_SOON)
    assert tab.value(width) < 0.9 * before
    assert tab.value("scrollY") == 0
    zoomed = tab.value(width)
    tab.wheel(*_place(tab, 0, "[100, 100]"), 300)
    tab.value(_SOON)
    assert tab.value(width) == zoomed
    assert tab.value("scrollY") > 0


_SOON = "new Promise(done => setTimeout(done, 400))"


def _place(tab: Browser, chart: int, place: str) -> tuple[float, float]:
    """Where in the window a place of a chart is, in pixels of its plot."""
    x, y = tab.value(
        f"report.need({chart}).then(view => {{ const box = view.container().querySelector('canvas')"
        f".getBoundingClientRect(), [x, y] = {place}, [a, b] = view.origin(), edge = view.padding();"
        " return [box.left + a + x + edge.left, box.top + b + y + edge.top]; })"
    )
    return x, y


def _hover(tab: Browser, chart: int, place: str) -> None:
    """Point at a place of a chart."""
    tab.point(0, 0)
    tab.point(*_place(tab, chart, place))
    tab.value(_SOON)


def test_the_filter_works_by_keyboard_and_says_what_it_did(tab: Browser, file: Path):
    tab.open(file)
    tab.value(DRAWN)
    marks = "report.need(1).then(view => (view.data('data_0') ?? []).length)"
    assert tab.value(marks) == 4
    for _ in range(10):
        tab.press("Tab")
        if tab.value("document.activeElement.id") == "cells":
            break
    assert tab.value("document.activeElement.labels[0].textContent").startswith("Setting shown")
    assert tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("ArrowDown")
    assert tab.value("document.getElementById('cells').value") == "0"
    assert tab.value(ROWS) == ["run0", "run2"]
    assert tab.value("document.getElementById('shown').textContent") == "one setting is shown"
    assert tab.value(marks) == 2
    tab.press("ArrowUp")
    assert tab.value(marks) == 4
    assert len(tab.value(ROWS)) == 4


ROWS = """[...document.querySelector('table').tBodies[0].rows].filter(row => row.offsetHeight)
  .map(row => row.cells[0].textContent)"""
"""Runs of the rows that are shown, in order."""


def test_rows_sort_by_number_are_filtered_and_downloaded(tab: Browser, file: Path):
    tab.open(file)
    click = "document.querySelectorAll('.sort')[3].click()"
    tab.value(click)
    assert tab.value(ROWS) == ["run3", "run0", "run2", "run1"]
    assert tab.value("document.querySelectorAll('thead th')[3].getAttribute('aria-sort')") == "ascending"
    tab.value(click)
    assert tab.value(ROWS) == ["run2", "run0", "run3", "run1"]
    tab.value("{ const f = document.querySelector('[type=search]'); f.value = '\"B\" 10'; "
              "f.dispatchEvent(new Event('input')); }")  # fmt: skip
    assert tab.value(ROWS) == ["run2"]
    assert tab.value("document.querySelector('.count').textContent") == "1 of 4 rows"
    name, text = tab.value(f"({_SAVED})('.csv')")
    assert name == "runs.csv"
    lines_ = text.split("\r\n")
    assert lines_[0] == "run,setting,tags,value,a,b,c,d,e,f,g,h"
    assert lines_[1].startswith('run2,setting 0,"a, ""b""",10,0.123')
    assert len(lines_) == 3


def test_every_chart_is_downloaded_as_svg(tab: Browser, file: Path):
    tab.open(file)
    tab.value(DRAWN)
    assert tab.value("document.querySelectorAll('.save button').length") == 4
    name, text = tab.value(f"({_SAVED})('.save button')")
    assert name == "exact-match-by-length.svg"
    assert text.startswith("<svg")
    assert "training lengths" in text
    assert re.search(r">length<", text)


_SAVED = """selector => new Promise(done => {
  const make = URL.createObjectURL, click = HTMLAnchorElement.prototype.click;
  let blob;
  URL.createObjectURL = one => { blob = one; return make.call(URL, one); };
  HTMLAnchorElement.prototype.click = function () {
    URL.createObjectURL = make;
    HTMLAnchorElement.prototype.click = click;
    blob.text().then(text => done([this.download, text]));
  };
  document.querySelector(selector).click();
})"""
"""Press a button, and give the name and the text of the file that it would save."""


def test_a_run_chosen_in_the_table_stands_out(tab: Browser, file: Path):
    tab.open(file)
    tab.value(DRAWN)
    width = 'report.need(0).then(async view => (await view.toSVG()).match(/stroke-width="3"/g)?.length ?? 0)'
    before = tab.value(width)
    tab.value("document.querySelector('.run').click()")
    assert tab.value("document.querySelector('.run').getAttribute('aria-pressed')") == "true"
    assert tab.value(width) == before + 1


def test_links_tables_and_details_are_reached_and_opened_by_keyboard(tab: Browser, file: Path):
    tab.open(file)
    reached: list[str] = []
    for _ in range(60):
        tab.press("Tab")
        reached.append(tab.value("document.activeElement.tagName"))
        if reached[-1] == "SUMMARY":
            tab.press("Enter")
            break
    assert reached[:3] == ["A", "A", "SELECT"]
    assert {"BUTTON", "INPUT", "DIV", "SUMMARY"} <= set(reached)
    assert tab.value("document.querySelector('details').open") is True


def test_an_error_of_the_page_is_noticed(tab: Browser, tmp_path: Path):
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><p>a<script>console.error('amiss'); missing();</script><img src='gone.png'>")
    tab.open(broken)
    assert any("amiss" in one for one in tab.problems)
    assert any("Uncaught" in one for one in tab.problems)
    assert any("ERR_FILE_NOT_FOUND" in one for one in tab.problems)


@pytest.mark.slow
def test_a_page_of_500_runs_is_small_and_drawn_soon(tab: Browser, tmp_path: Path):
    """Under 8 MB, and under 3 processor seconds until all that the window shows is drawn."""
    rng = np.random.default_rng(0)
    cells = [f"positions {name}" for name in ("rotary", "learned", "alibi", "none")]
    names = [f"{i:012x}" for i in rng.integers(2**40, size=500)]

    def curves(count: int) -> list[Series]:
        values = np.clip(
            1.3 - rng.random((500, 1)) * np.linspace(0, 1, count) + rng.normal(0, 0.03, (500, count)), 0, 1
        )
        made = [
            Series(run, range(1, count + 1), y.tolist(), i % 4)
            for i, (run, y) in enumerate(zip(names, values, strict=True))
        ]
        return made + [
            Series("median", range(1, count + 1), np.median(values, 0).tolist(), i, "median") for i in range(4)
        ]

    def dots() -> list[Series]:
        places = rng.random((500, 2))
        return [
            Series(run, [x], [y], i % 4, "point") for i, (run, (x, y)) in enumerate(zip(names, places, strict=True))
        ]

    axes = ("length", "exact match")
    by_length = [lines(f"exact match {i}", "", axes, curves(30), cells, UNIT, [(1, 10)]) for i in range(2)]
    training = [lines(f"over training {i}", "", ("step", "loss"), curves(50), cells) for i in range(3)]
    signals = [points(f"signal {i}", "", ("signal", "exact match"), dots(), cells) for i in range(7)]
    weights = np.tril(rng.random((40, 40)))
    maps = [pattern(weights, list("0123456789" * 4), 20, f"head {i}") for i in range(24)]
    rows = [(run, *[f"{v:.3f}" for v in rng.random(10)]) for run in names]
    table = Table(("run", *"abcdefghij"), rows, "a row per run", [i % 4 for i in range(500)], file="r.csv", chosen=0)
    parts = [
        Section("charts", "Charts", [Charts([*by_length, *signals, *training]), Charts(maps)]),
        Section("runs", "Each run", [table]),
    ]
    file = tmp_path / "large.html"
    file.write_text(page("500 runs", [("500", "runs")], [], parts, cells))
    assert file.stat().st_size < 8e6
    tab.open(file)
    tab.value("report.need(0)  .then(() => Promise.all(report.drawn.values())).then(views => views.length)")
    first, count = tab.seconds(), tab.value("report.drawn.size")
    assert tab.value(DRAWN) == 12 + 24
    print(f"{file.stat().st_size / 1e6:.1f} MB; {count} charts after {first:.1f} s, all after {tab.seconds():.1f} s")
    assert count >= 2
    assert first < 3
    assert tab.problems == []
