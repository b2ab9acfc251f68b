"""The list of signals for the terminal. No torch is imported."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from genlab.probes.signal import Signal

__all__ = ["paragraph", "show_signals"]

_WIDEST, _NAMES = 100, 12


def show_signals(signals: Sequence[Signal], as_json: bool) -> None:
    """Print signals family by family, a paragraph each, no wider than the terminal (piped: 80 columns)."""
    if as_json:
        print(json.dumps([_as_json(s) for s in signals], indent=1))
        return
    console = Console(highlight=False)
    width = min(console.width, _WIDEST)
    for family, members in groupby(signals, key=lambda s: s.family):
        console.print(Text(family, style="bold underline"))
        for s in members:
            console.print()
            console.print(Text(s.name, style="bold"))
            for line in paragraph(s, width):
                console.print(Text(line), soft_wrap=True)
        console.print()
    console.print(
        Text("slow ones are read when they are named: lab probe RUNS --signals NAME,FAMILY,..."), soft_wrap=True
    )


def paragraph(s: Signal, width: int) -> list[str]:
    """What there is to say of a signal below its name, in lines of at most `width` characters."""
    entries = {
        "measures": s.about,
        "formula": s.formula,
        "range": f"{_end(s.low)} to {_end(s.high)}",
        "unit": s.unit,
        "one a": f"{s.per} (slow: read when named)" if s.slow else s.per,
        "source": s.source,
        "read from": f"{s.reads} (no reading noise)" if s.exact else s.reads,
        "admissible": "yes" if s.admissible else f"no: {s.why_not}",
    }
    found: list[str] = []
    for name, text in entries.items():
        start = f"  {name:<{_NAMES}}"
        found += textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start))
    return found


def _as_json(s: Signal) -> dict[str, Any]:
    names = (
        "name",
        "family",
        "per",
        "about",
        "formula",
        "unit",
        "source",
        "admissible",
        "why_not",
        "slow",
        "version",
        "reads",
        "exact",
    )
    ends = {"low": s.low if math.isfinite(s.low) else None, "high": s.high if math.isfinite(s.high) else None}
    return {**{name: getattr(s, name) for name in names}, **ends}


def _end(value: float) -> str:
    return "any" if math.isinf(value) else f"{value:g}"
