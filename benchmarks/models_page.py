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
"""Exact match at the training length from which the page says that a task was learned."""

ENCODINGS = {
    "learned": "one vector per position, examples at random offsets; none beyond the context | 2310.16028",
    "none": "order from the causal mask alone, at any length | 2203.16634",
    "sinusoidal": "fixed waves, at any position; the model has not seen far ones | Vaswani et al. 2017",
    "rotary": "q and k turned by the position: scores of the distance, at any distance | 2104.09864",
    "alibi": "a penalty linear in the distance, which keeps growing | 2108.12409",
    "hard-alibi": "half of the heads see the last 1, 2, ... tokens, the others all and no positions | 2402.01032",
    "t5": "a trained number per bucket of distances; from 128 on all are one bucket | 1910.10683",
    "fire": "an MLP of log distance / log position, which stays between 0 and 1 | 2310.04418",
    "learned, random": "sorted random positions below 256: each is trained | 2305.16843",
    "rotary, random": "the same under rotary positions | 2305.16843",
    "abacus": "place values, given by the task, at random offsets | 2405.17399",
    "coupled": "one id for tokens that belong together, given by the task, at random offsets | 2405.20671",
}
NORMALISERS = {
    "softmax": "rows sum to 1; flattens as keys grow in number | Vaswani et al. 2017",
    "softmax, temperature 0.5": "scores divided by 0.5, in training too |",
    "adaptive": "softmax sharpened by a polynomial of the row's entropy, at inference only | 2410.01104",
    "scalable": "softmax of s log(n) times the scores, s trained per head | 2501.19399",
    "entmax15": "low scores weigh exactly 0 | 1905.05702",
    "scalable-entmax": "entmax-1.5 of (delta + beta log(n)^gamma) times the scores, trained per head | 2506.16640",
    "sigmoid": "each key by itself, scores less log n; rows sum freely | 2409.04431",
    "stick-breaking": "the nearest keys take their fraction first, the query takes none | 2410.17980",
    "selective": "a token may tell later ones to look away from a key | 2410.02703",
}
GROUPS = {"positions": ENCODINGS, "weights": NORMALISERS}

HEAD = f"""# Positions and attention weights beyond the training lengths

Exact match of small transformers trained on lengths 1 to {TRAINED["sort"]}, of addition 1 to {TRAINED["addition"]},
at 1, 1.5, 2 and 3 times that: every position encoding under softmax, and every normalizer of attention under
learned positions (not all combinations). Written by `python benchmarks/models.py` from the grid file
`recipes/models.toml`, which has every option; do not edit.

**Budget of a run, `small`**: 2 layers, d_model 64, 4 heads, batches of 64; 800 steps for sort, 1500 for copy, 2500
for addition; lr 0.002 with a cosine: 20 to 80 processor-seconds. Published comparisons spend a hundred times that. A
model that is not near 1 at the training length has not learned its task here, so its results beyond it say
nothing. Each number is one seed, 256 examples; all trained seeds are shown, and `-` is one that was not trained.

**The recipe is an earlier one**: no start token, four lengths a batch, a clip at norm 1, initial weights of .05,
offsets in the room that the widest example of a batch leaves. Under today's recipe learned positions do copy
([steps to learn](learning.md)): what this page says of an encoding holds for that recipe.
"""

AFTER = """
Published rankings flip between variants of one task, so no table here should be read alone; and three seeds of a
small budget separate only large differences.
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
    lines.append("*A dot a seed, at 1.5, 2 and 3 times the training length; grey at the training length itself.*\n")
    for group, title in (
        ("positions", "Position encodings, under softmax"),
        ("weights", "Attention weights, under learned positions"),
    ):
        lines += [
            f"## {title}\n",
            "| variant | what it is, and does beyond the training range | source |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {text} |" for name, text in GROUPS[group].items()]
        for task, told in TASKS.items():
            lines += ["", f"### {told.capitalize()}\n", _learned(both, group, task), *_table(both, group, task)]
        lines.append("")
    return "\n".join([*lines[:-1], AFTER.rstrip(), ""])


def _learned(rows: pd.DataFrame, group: str, task: str) -> str:
    """Which share of the variants and runs came to know their task at all."""
    own = rows[(rows["group"] == group) & (rows["task"] == task) & (rows["length"] == TRAINED[task])]
    fits = own["exact_match"] >= LEARNED
    return f"{fits.sum()} of {len(own)} runs are right on at least {LEARNED} at the training length.\n"


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
