"""Attention of one run: of what it read and wrote, as numbers and as a notebook shows it."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_browser

import genlab
from genlab.errors import UserError
from genlab.runs import Run

PROGRAM = find_browser()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A sorting run of two layers, hardly trained."""
    plan = genlab.plan("sort", 3, 6, n_layers=2, d_model=8, n_heads=2, steps=2, batch_size=4)
    return genlab.train(plan, store=tmp_path_factory.mktemp("view") / "store", workers=1)[0]


def test_weights_are_those_of_the_model_on_prompt_and_answer(run: Run):
    seen = genlab.view.attention(run, "7 3 5 >").attention
    assert seen.prompt == ("<start>", "7", "3", "5", ">")
    assert seen.answer == genlab.ask(run, "7 3 5 >").answers[0].written
    count = len(seen.tokens)
    assert seen.weights.shape == (2, 2, count, count)
    assert np.allclose(seen.weights.sum(-1), 1, atol=1e-5)
    assert not np.triu(seen.weights[0, 0], 1).any()


def test_a_view_is_a_frame_that_holds_all_it_needs(run: Run):
    view = genlab.view.attention(run, "7 3 5 >")
    shown = view._repr_html_()
    assert shown.startswith("<iframe")
    assert unescape(shown.split('srcdoc="')[1].split('" style=')[0]) == view.html
    assert "cdn" not in view.html[:2000]
    assert "default-src 'none'" in view.html


@pytest.mark.parametrize(
    ("prompt", "offset", "said"),
    [("7 q >", 0, "'q'"), ("7 3", 0, "no `>`"), ("7 3 5 >" + " 1" * 99, 0, "reads"), ("7 >", 999, "--offset 999")],
)
def test_bad_input_is_one_line(run: Run, prompt: str, offset: int, said: str):
    with pytest.raises(UserError) as raised:
        genlab.view.attention(run, prompt, offset=offset)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_model_without_attention_says_so(tmp_path: Path):
    plan = genlab.plan("parity", 3, 6, architecture="lstm", n_layers=1, d_model=8, steps=1, batch_size=4)
    (run,) = genlab.train(plan, store=tmp_path / "store", workers=1)
    with pytest.raises(UserError, match="no attention"):
        genlab.view.attention(run, "1 0 1 >")


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on the search path, and GENLAB_BROWSER names none")
def test_a_frame_draws_without_a_network(run: Run, tmp_path: Path):
    assert PROGRAM is not None
    file = tmp_path / "notebook.html"
    file.write_text("<!doctype html><title>cell</title>" + genlab.view.attention(run, "7 3 5 >")._repr_html_())
    with Browser(PROGRAM) as tab:
        tab.open(file, 1000)
        inner = "document.querySelector('iframe').contentWindow"
        assert tab.value(f"{inner}.report.all().then(views => views.length)") == 4
        assert tab.value(f"{inner}.document.scrollingElement.scrollHeight") <= tab.value(f"{inner}.innerHeight") + 1
        assert tab.problems == []
        assert [one for one in tab.requests if not one.startswith(("file:", "data:", "about:"))] == []
