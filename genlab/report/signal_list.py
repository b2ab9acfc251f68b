"""The list of signals for the terminal. No torch is imported."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from genlab.probes.signal import Signal

__all__ = ["show_signals"]


def show_signals(signals: Sequence[Signal], as_json: bool) -> None:
    """Print signals, family by family."""
    if as_json:
        print(json.dumps([_as_json(s) for s in signals], indent=1))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("signal", "a", "measures", "formula", "unit", "range", "forecasts", "source"):
        table.add_column(column, overflow="fold")
    family = ""
    for s in signals:
        if s.family != family:
            family = s.family
            table.add_row(Text(family, style="bold"))
        name = f"{s.name} (slow)" if s.slow else s.name
        use = "yes" if s.admissible else f"no: {s.why_not}"
        table.add_row(name, s.per, s.about, s.formula, s.unit, f"{_end(s.low)} to {_end(s.high)}", use, s.source)
    Console().print(table)
    print("slow ones are read when they are named: lab probe RUNS --signals NAME,FAMILY,...")


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
    )
    ends = {"low": s.low if math.isfinite(s.low) else None, "high": s.high if math.isfinite(s.high) else None}
    return {**{name: getattr(s, name) for name in names}, **ends}


def _end(value: float) -> str:
    return "any" if math.isinf(value) else f"{value:g}"
