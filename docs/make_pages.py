"""The pages of the site that are made from the package: tasks, signals, the API, lists of figures and of decisions.

Nothing here is written into docs/: `make_site.py` puts the pages where the site is built from.
"""

from __future__ import annotations

import inspect
import io
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.probes.calibrated import calibrated
from genlab.probes.signal import all_signals
from genlab.rasp.prediction import predict_task
from genlab.rasp.programs.registry import best
from genlab.runs.plan import default_lengths, defaults_of
from genlab.tasks import Task, make, names, task_class

sys.path.insert(0, str(Path(__file__).parent))
from griffe_doctests import fenced

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

API = {
    "genlab": ("From Python", ["genlab"]),
    "tasks": (
        "Tasks",
        ["genlab.tasks.base.Task", "genlab.tasks.examples", "genlab.tasks.registry", "genlab.tasks.check"],
    ),
    "spec": ("Specs", ["genlab.spec"]),
    "models": (
        "Models",
        [
            *("genlab.models", "genlab.models.positions", "genlab.models.normalisers"),
            *("genlab.models.lens", "genlab.models.lens_own"),
        ],
    ),
    "training": ("Training", ["genlab.training.loop", "genlab.training.batches", "genlab.training.evaluate"]),
    "runs": ("Runs and stores", ["genlab.runs.api", "genlab.runs.plan", "genlab.runs.gridfile", "genlab.runs.store"]),
    "probes": ("Probes", ["genlab.probes.signal", "genlab.probes.inputs", "genlab.probes.probing"]),
    "forecast": ("Forecasts", ["genlab.forecast.commands", "genlab.forecast.tables", "genlab.forecast.scores"]),
    "rasp": ("RASP", ["genlab.rasp.prediction", "genlab.rasp.checker", "genlab.rasp.programs.registry"]),
    "report": ("Tables and figures", ["genlab.report.tables", "genlab.report.figures", "genlab.report.ask"]),
    "errors": ("Errors", ["genlab.errors"]),
}
"""Page -> title and the modules (or classes) it describes."""
NAVIGATION: dict[str, str | dict[str, str]] = {
    "genlab": "index.md",
    "Start": "start.md",
    "Tutorials": {
        "Length generalization of two encodings": "tutorials/encodings.md",
        "Finding an induction head": "tutorials/induction.md",
        "Does a RASP program predict it?": "tutorials/rasp.md",
        "A sealed forecast": "tutorials/forecast.md",
    },
    "How to": {
        "User guide: every command": "usage.md",
        "A grid file": "howto/grid-files.md",
        "Your own task": "contributing/task.md",
        "Your own model": "howto/own-model.md",
        "Your own table": "howto/own-table.md",
        "Training elsewhere": "elsewhere.md",
        "Many machines": "howto/many-machines.md",
        "A GPU": "howto/gpu.md",
        "The store, pandas and DuckDB": "howto/store.md",
        "Loggers": "howto/loggers.md",
        "How cost scales": "scaling.md",
        "Extending genlab": "contributing/README.md",
    },
    "Tasks": {
        "By family": "tasks/index.md",
        "What is learned within minutes": "tasks.md",
        "The Chomsky battery": "chomsky.md",
        **{name: f"tasks/{name}.md" for name in names()},
    },
    "Results": {
        "Reproductions": "reproductions.md",
        "Position encodings and attention": "models.md",
        "Steps to learn": "learning.md",
        "Brackets": "brackets-small.md",
        "What signals detect": "calibration.md",
        "Monitors of wrong answers": "monitors.md",
        "Lines and curves": "lines.md",
        "Items": "items.md",
        "Towards the best constant": "constants.md",
        "Dispersion": "dispersion.md",
        "Study 1": "study-1.md",
        "Gallery": "gallery.md",
    },
    "Reference": {
        "Signals": "signals.md",
        "RASP": "rasp.md",
        "The shortest program": "rasp-search.md",
        "Forecasts": "forecast.md",
        "Glossary": "glossary.md",
        "API": "api/index.md",
        **{f"API: {title}": f"api/{page}.md" for page, (title, _) in API.items()},
    },
    "Project": {
        "Architecture": "architecture.md",
        "Contributing": "repository/CONTRIBUTING.md",
        "Decisions": "decisions/index.md",
        "Changelog": "repository/CHANGELOG.md",
    },
}
"""Title -> a page of the site, or the titles and pages below it. Decisions are reached from their list."""
_TOP = (
    "plan",
    "Evals",
    "train",
    "load",
    "Run",
    "results",
    "signals",
    "ask",
    "batches",
    "monitor",
    "lines",
    "items",
    "constants",
    "dispersion",
    "ensemble",
)
"""What `genlab` offers itself; each is defined elsewhere."""


def pages() -> dict[str, str]:
    """Path below docs/ -> text of each generated page."""
    found = {"signals.md": signals_page(), "gallery.md": gallery_page(), "decisions/index.md": decisions_page()}
    found["tasks/index.md"] = tasks_index()
    for name in names():
        found |= task_page(name)
    for page, (title, parts) in API.items():
        found[f"api/{page}.md"] = api_page(title, parts)
    listed = "\n".join(
        f"- [{title}]({page}.md): {', '.join(f'`{part}`' for part in parts)}" for page, (title, parts) in API.items()
    )
    found["api/index.md"] = f"# API reference\n\n{listed}\n"
    return found


# -- Tasks


def tasks_index() -> str:
    """All tasks by family, each with what it asks."""
    rows = sorted((task_class(name) for name in names()), key=lambda cls: (cls.family, cls.name))
    lines = ["# Tasks by family", "", "[What each learns within minutes](../tasks.md) is a table of its own.", ""]
    lines += ["| task | family | what it asks | formats | splits |", "|---|---|---|---|---|"]
    lines += [
        f"| [{c.name}]({c.name}.md) | {c.family} | {_cell(c.asks)} | {', '.join(c.formats)} | {', '.join(c.splits)} |"
        for c in rows
    ]
    return "\n".join([*lines, ""])


def task_page(name: str) -> dict[str, str]:
    """The page of a task, and its figure."""
    cls = task_class(name)
    train, test = default_lengths(name, defaults_of(name, None))
    lines = [f"# {name}", "", _sentence(cls.asks), ""]
    language = f" Class in the Chomsky hierarchy: {cls.language_class}." if cls.language_class else ""
    lines += [f"Length is counted in {cls.length_unit}. Source: {cls.source}.{language}", ""]
    lines += [f"    lab show {name}", f"    lab train --task {name}", ""]
    lines += ["## Rule", "", _prose(inspect.getdoc(cls) or ""), ""]
    lines += ["## Formats", "", *_examples_of_formats(name), "## Splits", "", *_examples_of_splits(name)]
    table, figure = _floor(name, train, test)
    lines += ["## Guessing and shortcuts", "", *table]
    if figure:
        lines += [f"![Exact match by guessing and of trained models, by length](figures/{name}.svg)", ""]
    lines += ["## RASP", "", *_rasp(name), "## What trains it, and how far it generalizes", "", *_learned(name)]
    found = {f"tasks/{name}.md": "\n".join(lines)}
    return found | ({f"tasks/figures/{name}.svg": figure} if figure else {})


def _examples_of_formats(name: str) -> Iterator[str]:
    cls = task_class(name)
    for format, about in cls.formats.items():
        task, length = _shown(name, format, "id")
        yield from (f"**{format}**: {about} (length {length})", "", *_block(task, "id", length, 2), "")


def _examples_of_splits(name: str) -> Iterator[str]:
    cls = task_class(name)
    for split in cls.splits.values():
        yield from (f"**{split.name}**: {split.about}", "")
        try:
            task, length = _shown(name, None, split.name)
        except UserError as error:
            yield from (f"({error})", "")
            continue
        yield from (*_block(task, split.name, length, 1), "")


def _shown(name: str, format: str | None, split: str) -> tuple[Task, int]:
    """A task and a length for examples: the usual one, or the split's shortest."""
    cls = task_class(name)
    task = make(name, cls.shown_length, format)
    known = task.lengths_between(split, 0, task.max_len)
    if not len(known):
        task = make(name, max(task.min_len(task.split(split)), 1), format)
        known = task.lengths_between(split, 0, task.max_len)
    if not len(known):
        raise UserError(f"no example up to length {task.max_len}")
    return task, int(known[-1])


def _block(task: Task, split: str, length: int, n: int) -> list[str]:
    drawn = task.sample(np.random.default_rng(0), split, [length] * n)
    return ["```text", *(" ".join(task.written(drawn, row)) for row in range(n)), "```"]


def _floor(name: str, train: int, test: int) -> tuple[list[str], str]:
    """Chance and shortcuts by length as a table, and a figure of them beside what trained models reached."""
    task = make(name, max(test, train, 2))
    known = task.lengths_between("id", 0, task.max_len)
    marks = np.unique(np.geomspace(max(int(known[0]), 1), int(known[-1]), 6).round().astype(int))
    lengths = sorted({int(known[np.abs(known - mark).argmin()]) for mark in [*marks, train]})
    rows = [{"chance": task.chance(n), **task.baseline_on(task.split("id"), n)} for n in lengths]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"Exact match without learning the rule, split `id`, format `{task.format}`:", ""]
    lines += [
        f"| length | {' | '.join(key.replace('_', ' ') for key in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for n, row in zip(lengths, rows, strict=True):
        cells = [f"{row[key]:.3g}" if key in row else "" for key in columns]
        lines.append(f"| {n}{' (longest training length)' if n == train else ''} | {' | '.join(cells)} |")
    return [*lines, ""], _figure(lengths, rows, columns, _rows(name))


def _figure(
    lengths: Sequence[int], rows: Sequence[Mapping[str, float]], columns: Sequence[str], runs: pd.DataFrame
) -> str:
    """Guessing by length as lines, and a point per trained run at twice its training length; '' without runs."""
    runs = runs.dropna(subset=["twice", "twice_len"])
    if runs.empty:
        return ""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    panel = figure.subplots()
    for key in columns:
        panel.plot(
            lengths, [row.get(key, float("nan")) for row in rows], "--", label=key.replace("_", " "), linewidth=1
        )
    half = runs["twice_len"] / 2
    panel.plot(
        half,
        runs["exact"],
        "o",
        color="#1b4965",
        alpha=0.6,
        label="trained runs, in distribution (at the training length)",
    )
    panel.plot(
        runs["twice_len"], runs["twice"], "s", color="#b3541e", alpha=0.6, label="the same runs at twice the length"
    )
    panel.set(xlabel="length", ylabel="exact match", ylim=(-0.03, 1.03))
    panel.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _rasp(name: str) -> Iterator[str]:
    for format in task_class(name).formats:
        said = predict_task(name, format)
        with_ = f" with positions {', '.join(said.encodings)}" if said.encodings else ""
        yield from (f"**{format}**: length generalization is {said.verdict}{with_}.", f"{said.reason}.", "")
        try:
            entry = best(name, format)
        except UserError:
            continue
        yield from (
            f"`{entry.name}`: {entry.about}",
            "",
            "```python",
            inspect.getsource(entry.program).rstrip(),
            "```",
            "",
        )


def _rows(name: str) -> pd.DataFrame:
    """Trained runs of a task, of docs/tasks-learnability.csv."""
    rows = pd.read_csv(DOCS / "tasks-learnability.csv")
    return rows[rows["task"] == name]


def _learned(name: str) -> Iterator[str]:
    rows = _rows(name)
    if rows.empty:
        yield from ("No run of it has been measured yet.", "")
        return
    yield from ("Runs stop as soon as they fit; medians over seeds ([how it was measured](../tasks.md)).", "")
    yield "| format | options | seeds | reached 0.99 | steps | minutes | in distribution | at twice the length |"
    yield "|---|---|---|---|---|---|---|---|"
    for (format, options), own in rows.groupby(["format", "options"], sort=False):
        reached = int((own["result"] == "reached").sum())
        twice = own["twice"].dropna()
        far = f"{twice.median():.3f} ({twice.min():.3f} to {twice.max():.3f})" if len(twice) else ""
        cells = [
            format,
            f"`{options}`",
            len(own),
            reached,
            int(own["steps"].median()),
            f"{own['minutes'].median():.2f}",
        ]
        cells += [f"{own['exact'].median():.3f} ({own['exact'].min():.3f} to {own['exact'].max():.3f})", far]
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""


# -- Signals


def signals_page() -> str:
    """Every signal with its formula, by family."""
    lines = [
        "# Signals",
        "",
        "Every number that `lab probe` reads from a trained model, on in-distribution inputs alone.",
    ]
    lines += [
        "`lab signals NAME` prints the same. Notation: [glossary](glossary.md); A is the attention pattern.",
        "",
        "Figures show values in reference models: RASP programs compiled to weights (brown), small trained",
        "transformers (blue) and their initial weights (gray); one dot per run, layer or head. They come from",
        "`benchmarks/signal_pictures.py`, with rows in `docs/signals.csv`. A signal that is as high in initial",
        "weights as elsewhere measures little; one that is low in a compiled program with its mechanism is blind",
        "to that form of it. Signals that are read only when named are read from one seed of each model.",
        "",
    ]
    family = ""
    for s in all_signals():
        if s.family != family:
            family = s.family
            lines += [f"## {family.replace('_', ' ')}", ""]
        ends = " to ".join("any" if np.isinf(end) else f"{end:g}" for end in (s.low, s.high))
        blind = "may enter a forecast" if s.admissible else f"may not enter a forecast: {s.why_not}"
        slow = " Read only when named." if s.slow else ""
        lines += [f"### {s.name}", "", _sentence(s.about), ""]
        lines += ["```text", *textwrap.wrap(s.formula, 84), "```", ""]
        lines += [f"**Blind spots.** {s.blind}", ""]
        lines += [f"**Calibrated** ([how](calibration.md)). {' '.join(map(_sentence, calibrated(s)))}", ""]
        if (DOCS / "figures" / "signals" / f"{s.name}.png").is_file():
            lines += [f"![Values of {s.name} in reference models](figures/signals/{s.name}.png)", ""]
        lines += [
            f"One per {s.per}, in {s.unit}, {ends}; read from {s.reads}; {blind}. Source: {s.source}.{slow}",
            "",
        ]
    return "\n".join(lines)


# -- Lists


def gallery_page() -> str:
    """Every figure of docs/ with the page that explains it."""
    lines = [
        "# Gallery",
        "",
        "Figures of these pages. Each was drawn from stored runs by the command that its page names.",
        "",
    ]
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text("utf-8")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        for caption, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
            place = (page.parent / target).resolve().relative_to(DOCS)
            where = page.relative_to(DOCS)
            lines += [f"![{caption}]({place})", "", f"*{caption}* ([{title[1] if title else where}]({where}))", ""]
    return "\n".join(lines)


def decisions_page() -> str:
    """All decisions by number."""
    lines = ["# Decisions", "", "Why things are as they are: half a page each.", ""]
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title = path.read_text("utf-8").split("\n", 1)[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join([*lines, ""])


def api_page(title: str, parts: Sequence[str]) -> str:
    """A page that describes modules, by mkdocstrings."""
    if parts == ["genlab"]:
        import genlab

        later = {name: getattr(genlab, name) for name in _TOP}
        parts = [f"{one.__module__}.{one.__qualname__}" for one in later.values()]
    return "\n\n".join([f"# {title}", *(f"::: {part}" for part in parts), ""])


def arrows(mermaid: str) -> str:
    """A flowchart as a list, since drawing one needs a script from elsewhere: each box with those it points to.

    >>> print(arrows("flowchart TB\\n    cli --> runs\\n    cli --> spec\\n    runs --> spec"))
    - `cli` → `runs`, `spec`
    - `runs` → `spec`
    """
    found: dict[str, list[str]] = {}
    for line in mermaid.splitlines():
        if edge := re.match(r"\s*(\w+) --> (\w+)\s*$", line):
            found.setdefault(edge[1], []).append(edge[2])
    return "\n".join(f"- `{box}` → {', '.join(f'`{other}`' for other in others)}" for box, others in found.items())


def _prose(docstring: str) -> str:
    """A docstring as Markdown: examples are code, and what looks like HTML (`<end>`) is text.

    >>> _prose("Ends with <end>, as `<end>` does.")
    'Ends with &lt;end>, as `<end>` does.'
    """
    parts = re.split(r"(```.*?```|`[^`]*`)", fenced(docstring), flags=re.DOTALL)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
