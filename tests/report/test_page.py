"""The page as a browser shows it: nothing amiss, nothing fetched, by keyboard, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_browser

from genlab.report.page import UNIT, Series, bars_of_intervals, chart, figure, page, table_of

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on the search path, and GENLAB_BROWSER names none: the page is not looked at"
)
SHOWN = "[...document.querySelectorAll('[data-cell]')].filter(mark => getComputedStyle(mark).display !== 'none')"
WORD = "a_setting_with_a_name_that_is_far_longer_than_a_narrow_screen_is_wide"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of all that reports are made of: lines, points, bars, tables, two settings."""
    series = [Series(f"run {i}", [0, 1, 2], [1, 0.5 + i / 10, i / 4], i % 2) for i in range(4)]
    points = [Series(f"run {i}", [i], [i / 4], i % 2, "point") for i in range(4)]
    drawn = [
        chart("exact match by length", "length", "exact match", series, UNIT),
        chart("in against out", "in", "out", points, None),
        bars_of_intervals(
            "AUROC of predictors",
            [("baselines", 0.6, 0.4, 0.8), ("baselines + exact_match_at_temperature.max", 0.5, None, None)],
            0.5,
        ),
    ]
    figures = "".join(figure(one, "what it shows") for one in drawn)
    rows = [(f"setting {i % 2}", f"run {i}", *["0.123"] * 12) for i in range(4)]
    table = table_of(["setting", "run", *"abcdefghijkl"], rows, "a row a run", [0, 1, 0, 1])
    parts = [
        ("figures", "Figures", f'<div class="figures">{figures}</div>'),
        ("runs", "Each run", f"<details><summary>as a table</summary>{table}</details>"),
    ]
    made = tmp_path_factory.mktemp("page") / "page.html"
    made.write_text(page(f"Report of {WORD}", f"<p>target {WORD}</p>", parts, ["setting 0", WORD]))
    return made


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [380, 1400])
def test_nothing_is_amiss_or_clipped_and_text_can_be_read(tab: Browser, file: Path, width: int, dark: bool):
    tab.open(file, width, dark=dark)
    assert tab.problems == []
    assert [address for address in tab.requests if not address.startswith(("file:", "data:"))] == []
    assert tab.value("document.documentElement.scrollWidth") <= width
    sizes = tab.value("[...document.querySelectorAll('svg')].map(one => one.getBoundingClientRect().height)")
    assert len(sizes) == 3
    assert min(sizes) > 60
    assert tab.value(_OUTSIDE) == []
    assert tab.value(_SMALLEST) >= 9
    assert tab.value(_CONTRAST) >= 4.5


_OUTSIDE = """[...document.querySelectorAll('svg text')].filter(text => {
  const own = text.getBoundingClientRect(), all = text.closest('svg').getBoundingClientRect();
  return own.left < all.left - 1 || own.bottom > all.bottom + 1 || own.top < all.top - 1 ||
    own.right > all.right + 1;
}).map(text => text.textContent)"""
"""Words that stick out of their drawing."""
_SMALLEST = """Math.min(...[...document.querySelectorAll('svg')].map(one =>
  parseFloat(getComputedStyle(one.querySelector('text')).fontSize) * one.getBoundingClientRect().width / 560))"""
"""The size of the smallest words of drawings, in pixels of the screen."""
_CONTRAST = """(() => {
  const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const inks = [...document.querySelectorAll('h1, p, figcaption')].map(one => light(getComputedStyle(one).color));
  return Math.min(...inks.map(ink => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)));
})()"""
"""The least contrast of words against the page, as WCAG 2 defines it."""


def test_the_filter_works_by_keyboard_and_says_what_it_did(tab: Browser, file: Path):
    tab.open(file)
    assert tab.value(f"{SHOWN}.length") == tab.value("document.querySelectorAll('[data-cell]').length")
    for _ in range(10):
        tab.press("Tab")
        if tab.value("document.activeElement.id") == "cells":
            break
    assert tab.value("document.activeElement.id") == "cells"
    assert tab.value("document.activeElement.labels[0].textContent").startswith("setting shown")
    assert tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("ArrowDown")
    assert tab.value("document.getElementById('cells').value") == "0"
    assert set(tab.value(f"{SHOWN}.map(mark => mark.dataset.cell)")) == {"0"}
    assert tab.value("document.getElementById('shown').textContent").startswith("one setting is shown")
    tab.press("ArrowUp")
    assert set(tab.value(f"{SHOWN}.map(mark => mark.dataset.cell)")) == {"0", "1"}


def test_links_tables_and_details_are_reached_and_opened_by_keyboard(tab: Browser, file: Path):
    tab.open(file)
    reached: list[str] = []
    for _ in range(5):
        tab.press("Tab")
        name = tab.value("document.activeElement.tagName")
        reached.append(name)
        if name == "SUMMARY":
            tab.press("Enter")
    assert reached == ["A", "A", "SELECT", "SUMMARY", "DIV"]
    assert tab.value("document.querySelector('details').open") is True
    assert tab.value("document.activeElement.getAttribute('aria-label')") == "a row a run"


def test_light_and_dark_differ(tab: Browser, file: Path):
    papers = []
    for dark in (False, True):
        tab.open(file, dark=dark)
        papers.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(255, 255, 255)", "rgb(18, 24, 30)"]


def test_an_error_of_the_page_is_noticed(tab: Browser, tmp_path: Path):
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><p>a<script>console.error('amiss'); missing();</script><img src='gone.png'>")
    tab.open(broken)
    assert any("amiss" in one for one in tab.problems)
    assert any("Uncaught" in one for one in tab.problems)
    assert any("ERR_FILE_NOT_FOUND" in one for one in tab.problems)
