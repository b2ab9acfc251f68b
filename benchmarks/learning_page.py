"""The tables of docs/learning.md, from the rows of `learning.py`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from learning import CASES, ROWS, TOGETHER

PAGE = Path(__file__).parents[1] / "docs" / "learning.md"
BEGIN, END = "<!-- tables: python benchmarks/learning.py --page -->", "<!-- end of tables -->"

_HEAD = """\
| recipe | seed | steps to .5 | steps to .99 | loss | in distribution | longer | at twice the length |
|---|---|---|---|---|---|---|---|"""


def tables(rows: pd.DataFrame) -> str:
    """A table a case: each recipe and seed that was trained to the end, in one line."""
    parts = []
    for case, of_case in rows.groupby("case", sort=False):
        steps = CASES[str(case)].steps
        grouped = of_case[of_case["step"] <= steps].groupby(["recipe", "seed"], sort=False)
        runs = [(key, run) for key, run in grouped if run["step"].max() == steps]
        names = dict.fromkeys(of_case["recipe"])
        lines = [_line(recipe, int(seed), run) for (recipe, seed), run in runs]
        if not runs:
            continue
        order = {name: place for place, name in enumerate(names)}
        lines.sort(key=lambda line: (order[line[0]], line[1]))
        parts.append(f"### {case}\n\n{_HEAD}\n" + "\n".join(text for *_, text in lines))
    return "\n\n".join(parts)


def _line(recipe: str, seed: int, run: pd.DataFrame) -> tuple[str, int, str]:
    end = run.iloc[-1]
    cells = [
        f"`{_short(recipe)}`",
        str(seed),
        _steps_to(run, 0.5),
        _steps_to(run, 0.99),
        f"{end['loss']:.2f}",
        *(f"{end[name]:.2f}" for name in ("in_distribution", "longer", "twice")),
    ]
    return recipe, seed, "| " + " | ".join(cells) + " |"


def _short(recipe: str) -> str:
    """With one word for the settings that have one: `lab start=off`."""
    settings = recipe.split()
    for word, ones in TOGETHER.items():
        if set(ones) <= set(settings):
            settings = [word, *(one for one in settings if one not in ones)]
    return " ".join(settings)


def _steps_to(run: pd.DataFrame, least: float) -> str:
    """The first check at which exact match in distribution is that high."""
    reached = run.loc[run["in_distribution"] >= least, "step"]
    return f"{int(reached.iloc[0]):,}" if len(reached) else "-"


def page(text: str, rows: pd.DataFrame) -> str:
    """The page with its tables written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables(rows)}\n\n{END}{after}"


def write_page() -> None:
    PAGE.write_text(page(PAGE.read_text(), pd.read_csv(ROWS)))
