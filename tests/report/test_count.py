"""Progress of equal pieces of work: a line every ten seconds where there is no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from genlab.report import display
from genlab.report.display import Count


def test_a_line_every_ten_seconds_without_a_terminal(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now)
    out = io.StringIO()
    with Count("models", Console(file=out)) as count:
        for done in range(1, 31):
            now += 1.0
            count(done, 30)
    assert out.getvalue().splitlines() == ["models: 10 of 30", "models: 20 of 30", "models: 30 of 30"]
