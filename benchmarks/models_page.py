"""docs/models.md and its figure, from the rows that `models.py` keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from genlab.spec import ModelConfig

__all__ = ["FIGURE", "PAGE", "ROWS", "TASKS", "draw", "label", "page", "wanted"]

DOCS = Path(__file__).parents[1] / "docs"
ROWS, PAGE, FIGURE = DOCS / "models.csv", DOCS / "models.md", DOCS / "figures" / "models.png"

SEEDS = 3
TASKS = {"sort": "sort", "copy": "unique copy", "addition": "addition, reversed, with hints"}
TRAINED = {"sort": 8, "copy": 8, "addition": 4}
TIMES = (1, 1.5, 2, 3)
LEARNED = 0.9
"""Minimum exact match at the training length for a task to count as learned."""

ENCODINGS = {
    "learned": "one vector per position, examples at random offsets; limited to the context | 2310.16028",
    "none": "order from the causal mask alone, at any length | 2203.16634",
    "sinusoidal": "fixed sine waves, defined at any position; far ones were not trained | Vaswani et al. 2017",
    "rotary": "queries and keys rotated by position: scores depend on distance, at any distance | 2104.09864",
    "alibi": "a penalty that is linear in the distance | 2108.12409",
    "hard-alibi": "half of the heads see the last 1, 2, ... tokens, the others all, without positions | 2402.01032",
    "t5": "a trained bias per bucket of distances; all distances from 128 on share one bucket | 1910.10683",
    "fire": "an MLP of log distance / log position, which lies between 0 and 1 | 2310.04418",
    "learned, random": "sorted random positions below 256, so that all are trained | 2305.16843",
    "rotary, random": "the same with rotary positions | 2305.16843",
    "abacus": "place values of digits, at random offsets | 2405.17399",
    "coupled": "one id for tokens that belong together, at random offsets | 2405.20671",
}
NORMALISERS = {
    "softmax": "rows sum to 1; flattens as the number of keys grows | Vaswani et al. 2017",
    "softmax, temperature 0.5": "scores divided by 0.5, also in training |",
    "adaptive": "softmax sharpened by a polynomial of the row's entropy, at inference only | 2410.01104",
    "scalable": "softmax of s log(n) times the scores, s trained per head | 2501.19399",
    "entmax15": "low scores get weights of exactly 0 | 1905.05702",
    "scalable-entmax": "entmax-1.5 of (delta + beta log(n)^gamma) times the scores, trained per head | 2506.16640",
    "sigmoid": "each key separately, scores minus log n; rows do not sum to 1 | 2409.04431",
    "stick-breaking": "the nearest keys take their fraction first; the query gets no weight | 2410.17980",
    "selective": "a token can mask a key for later queries | 2410.02703",
}
GROUPS = {"positions": ENCODINGS, "weights": NORMALISERS}

HEAD = f"""# Positions and attention weights beyond the training lengths

Exact match of small transformers trained on lengths 1 to {TRAINED["sort"]} (addition: {TRAINED["addition"]}), tested
at 1, 1.5, 2 and 3 times the training length: every position encoding under softmax, and every normalizer of attention
under learned positions (not all combinations). Written by `python benchmarks/models.py` from the grid file
`recipes/models.toml`, which has every option; do not edit.

**Budget of a run**: 2 layers, d_model 64, 4 heads, batches of 64; 800 steps for sort, 1500 for copy, 2500 for
addition; peak learning rate 0.002 with a cosine schedule: 20 to 80 processor seconds. Published comparisons use about
a hundred times as much. If a model is not near 1 at the training length, it has not learned its task, and its results
beyond it say nothing about length generalization. Each number is one seed, 256 examples; all trained seeds are shown;
`-` was not trained.

**These runs used an earlier recipe**: no start token, four lengths per batch, gradient clipping at norm 1, initial
weights of standard deviation .05, and offsets limited by the widest example of a batch. With the current recipe,
models with learned positions do learn to copy ([steps to learn](learning.md)), so the results on this page hold only
for the earlier one.
"""

AFTER = """
Published rankings of encodings change between variants of a task, so no single table is conclusive; and three seeds
with a small budget resolve only large differences.
"""


def wanted(task: str) -> dict[float, int]:
    """The lengths that are shown of a task, by how many times the training length they are."""
    return {times: round(times * TRAINED[task]) for times in TIMES}


def label(cfg: ModelConfig) -> tuple[str, str]:
    """The table that a model of the grid stands in, and its name there (plain softmax stands in both)."""
    if cfg.attn_weights != "softmax":
        return "weights", cfg.attn_weights
    if cfg.attn_temperature != 1:
        return "weights", f"softmax, temperature {cfg.attn_temperature:g}"
    return "positions", f"{cfg.positions}, random" if cfg.random_positions else cfg.positions


def with_baseline(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, those of learned positions under softmax in both tables."""
    plain = rows[(rows["group"] == "positions") & (rows["variant"] == "learned")]
    return pd.concat([rows, plain.assign(group="weights", variant="softmax")], ignore_index=True)


def page(rows: pd.DataFrame) -> str:
    """The whole page."""
    both, trained = with_baseline(rows), rows["run"].nunique()
    cells = len(ENCODINGS) * len(TASKS) - 3 + (len(NORMALISERS) - 1) * len(TASKS)  # 3: ids that a task does not give
    lines = [HEAD]
    if trained < cells * SEEDS:
        lines.append(f"**{cells * SEEDS - trained} of {cells * SEEDS} runs have not been trained yet.**\n")
    lines += [f"![Exact match by variant](figures/{FIGURE.name})\n"]
    lines.append("*One dot per seed, at 1.5, 2 and 3 times the training length; gray: at the training length.*\n")
    for group, title in (
        ("positions", "Position encodings, under softmax"),
        ("weights", "Attention weights, under learned positions"),
    ):
        lines += [
            f"## {title}\n",
            "| variant | definition, and behavior beyond the training range | source |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {text} |" for name, text in GROUPS[group].items()]
        for task, title in TASKS.items():
            lines += ["", f"### {title.capitalize()}\n", _learned(both, group, task), *_table(both, group, task)]
        lines.append("")
    return "\n".join([*lines[:-1], AFTER.rstrip(), ""])


def _learned(rows: pd.DataFrame, group: str, task: str) -> str:
    """How many runs learned their task."""
    own = rows[(rows["group"] == group) & (rows["task"] == task) & (rows["length"] == TRAINED[task])]
    fits = own["exact_match"] >= LEARNED
    return f"{fits.sum()} of {len(own)} runs reach at least {LEARNED} at the training length.\n"


def _table(rows: pd.DataFrame, group: str, task: str) -> list[str]:
    lengths = wanted(task)
    heads = [f"length {n} ({times:g}x)" for times, n in lengths.items()]
    lines = [f"| variant | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    own = rows[(rows["group"] == group) & (rows["task"] == task)]
    for variant in GROUPS[group]:
        if _gives(task, variant):
            found = own[own["variant"] == variant]
            cells = [_seeds(found[found["length"] == n]) for n in lengths.values()]
            lines.append(f"| {variant} | {' | '.join(cells)} |")
    return lines


def _gives(task: str, variant: str) -> bool:
    """Whether a task has the ids that a variant needs."""
    return {"abacus": task == "addition", "coupled": task != "sort"}.get(variant, True)


def _seeds(rows: pd.DataFrame) -> str:
    """Every seed's number, in the order of seeds."""
    values = rows.set_index("seed")["exact_match"]
    return " ".join(f"{values[seed]:.2f}" if seed in values.index else "-" for seed in range(SEEDS))


# -- figure ------------------------------------------------------------------------------------------------------

_COLOURS = {1: "#c9cdd1", 1.5: "#7fb2d1", 2: "#1b4965", 3: "#b3541e"}


def draw(rows: pd.DataFrame, path: Path) -> None:
    """A panel a task and table: exact match of every seed, a line a variant."""
    both = with_baseline(rows)
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    heights = [len(names) for names in GROUPS.values()]
    panels = figure.subplots(len(GROUPS), len(TASKS), sharex=True, sharey="row", height_ratios=heights)
    for line, (group, names) in zip(panels, GROUPS.items(), strict=True):
        for panel, (task, told) in zip(line, TASKS.items(), strict=True):
            own = both[(both["group"] == group) & (both["task"] == task)]
            _panel(panel, own, list(names), wanted(task))
            if group == "positions":
                panel.set_title(f"{told} (1 to {TRAINED[task]})", fontsize=11, loc="left")
            else:
                panel.set_xlabel("exact match")
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _panel(panel, rows: pd.DataFrame, names: Sequence[str], lengths: Mapping[float, int]) -> None:  # type: ignore[no-untyped-def]
    for i, (times, length) in enumerate(lengths.items()):
        own = rows[rows["length"] == length]
        height = [names.index(name) + 0.18 * (i - 1.5) for name in own["variant"]]
        told = f"{times:g} times the training length" if times > 1 else "the training length"
        panel.scatter(
            own["exact_match"], height, s=16, color=_COLOURS[times], linewidths=0, label=told, clip_on=False
        )
    panel.set_yticks(range(len(names)), names, fontsize=9)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlim(-0.03, 1.03)
    panel.hlines([i + 0.5 for i in range(len(names) - 1)], -0.03, 1.03, color="#eef3f6", lw=1, zorder=0)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
