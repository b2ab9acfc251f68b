"""Views for notebooks: `genlab.view.attention(run, prompt)` draws attention with tokens on the axes, offline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

from genlab.report.ask import AskedRun, run_of
from genlab.report.attention import Attention, read_attention
from genlab.report.page import Charts, Tokens, fragment
from genlab.runs.api import Run
from genlab.runs.store import Store

_WIDTH = 900
"""Width of a notebook's output in pixels, for the height of the frame."""


@dataclass(frozen=True)
class View:
    """Attention of a run on a prompt; a notebook shows it as charts, one per head.

    Attributes:
        attention: the tokens and the weights, float[layer, head, query, key].
    """

    attention: Attention

    @cached_property
    def html(self) -> str:
        """The page that is shown: complete, and without any request to a network."""
        seen = self.attention
        title = f"attention of run {seen.run_id}"
        return fragment(title, [Tokens(title, seen.prompt, seen.answer), Charts(seen.charts())])

    def _repr_html_(self) -> str:
        charts = self.attention.charts()
        across = max(1, _WIDTH // (charts[0].size + 22))
        height = 130 + -(-len(charts) // across) * (charts[0].size + 60)
        return (
            f'<iframe title="attention of run {self.attention.run_id}" srcdoc="{escape(self.html, quote=True)}" '
            f'style="width: 100%; height: {height}px; border: 0"></iframe>'
        )


def attention(run: Run | str, prompt: str, *, store: Store | str | Path | None = None, offset: int = 0) -> View:
    """Attention of a run on a prompt and on the answer that it writes.

    Args:
        run: a run, its id, or a unique prefix of it.
        prompt: space-separated tokens up to where the answer begins, or further, into the answer.
        store: where the run is, if it is named.
        offset: the position of the first token.

    Raises:
        UserError: no such run, a token that the task does not have, a prompt longer than the model, no attention.

    Example:
        >>> attention("3fa2", "7 3 5 >").attention.weights.shape  # doctest: +SKIP
        (2, 4, 7, 7)
    """
    asked = AskedRun(run_of(run, store), offset, None)
    return View(read_attention(asked, asked.read(prompt)[0]))
