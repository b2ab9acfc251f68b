"""`lab report`: one self-contained page about a grid: what was trained, how far it generalises, what predicts it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from genlab.errors import UserError
from genlab.forecast.judge import By
from genlab.forecast.targets import target_in_words
from genlab.report.html_data import ReportData, read_report
from genlab.report.html_forecast import each_run, predictors
from genlab.report.html_patterns import patterns
from genlab.report.html_scatter import in_against_out, signals_against_outcome
from genlab.report.html_training import by_length, over_training, trained
from genlab.report.page import page
from genlab.runs.diverged import left_out, set_aside
from genlab.runs.store import Store

__all__ = ["write_report"]


def write_report(
    store: Store, grid: str, path: Path, target: str | None, signal: str | None, by: By, fit_only: bool = True
) -> str:
    """Write the page; returns a line that says what it holds. Arguments are those of `read_report`.

    Raises:
        UserError: as `read_report`; a path that is no `.html` file.
    """
    if path.suffix != ".html":
        raise UserError(f"-o {str(path)!r} is not allowed (a file that ends in .html)")
    data = read_report(store, grid, target, signal, by, fit_only)
    sections: list[tuple[str, str, Callable[[ReportData], str]]] = [
        ("trained", "What was trained", trained),
        ("lengths", "Exact match by length", by_length),
        ("inside-outside", "In against out of distribution", in_against_out),
        ("signals", "Signals against the outcome", signals_against_outcome),
        ("forecast", "What predicts it", predictors),
        ("training", "Over training", over_training),
        ("runs", "Each run", each_run),
        ("attention", "Attention of the best, median and worst run", patterns),
    ]
    runs = store.find(grid)
    missing = left_out(set_aside(store, runs)[1], len(runs))
    said = target_in_words(data.target, data.table)
    intro = f"<p>{escape(missing)}</p>" if missing else ""
    intro += f"<p>{len(data.table)} runs, {len(data.cells)} settings; target: {escape(said)}</p>"
    made = [(name, heading, draw(data)) for name, heading, draw in sections]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(f"Report of {grid}", intro, made, data.cells), encoding="utf-8")
    told = f"{path}: {len(data.table)} runs, {path.stat().st_size / 1e6:.1f} MB"
    return f"{told}; {missing}" if missing else told
