"""The bracket grid beside its paper: each run's exact match with lengths weighed by their law, as CSV and figure.

    lab grid recipes/brackets-small.toml
    python benchmarks/brackets.py brackets-small [--store runs] [--published .0 .873]

Evaluates every length from 4 to 40 on 500 strings each (what the store holds is not done again), and writes
docs/NAME.csv and docs/figures/NAME.png. `--published`: the paper's mean for each depth, drawn as a line.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genlab.runs.api import evaluate
from genlab.runs.store import Store
from genlab.tasks import make

DOCS = Path(__file__).parents[1] / "docs"
SPLITS, LENGTHS, EXAMPLES = ("id", "matched-unnested", "first-symbol"), tuple(range(4, 41, 2)), 500


def table(store: Store, name: str) -> pd.DataFrame:
    """A row a run: depth, weight decay, heads, seeds, and exact match on each split by the law of lengths."""
    runs = store.find(name)
    task = make(store.spec(runs[0]).task)
    evaluate(runs, [task.split(split).at(LENGTHS, EXAMPLES) for split in SPLITS], store)
    lengths, law = task.length_law("id", LENGTHS[0], LENGTHS[-1])
    weight = dict(zip(lengths.tolist(), law.tolist(), strict=True))
    evals = store.evals(runs, metric="exact_match").query("n == @EXAMPLES")
    rows: list[dict[str, object]] = []
    for run in runs:
        spec = store.spec(run)
        row: dict[str, object] = {"run": run, "n_layers": spec.model.n_layers, "n_heads": spec.model.n_heads}
        row |= {"weight_decay": spec.train.weight_decay, "init_seed": spec.train.init_seed}
        row["data_seed"] = spec.train.data_seed
        for split in SPLITS:
            own = evals[(evals["run_id"] == run) & (evals["split"] == split)]
            row[split] = round(float(np.average(own["value"], weights=own["length"].map(weight))), 4)
        rows.append(row)
    keys = ["n_layers", "weight_decay", "n_heads", "init_seed", "data_seed"]
    return pd.DataFrame(rows).sort_values(keys, ignore_index=True)


def draw(rows: pd.DataFrame, published: list[float], path: Path) -> None:
    """Every run as a point, depth by depth."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    depths = sorted(rows["n_layers"].unique())
    for place, depth in enumerate(depths):
        values = rows.loc[rows["n_layers"] == depth, "matched-unnested"].to_numpy()
        spread = np.linspace(-0.15, 0.15, len(values))
        axes.plot(place + spread, values, "o", color="C0", label="a run here" if not place else None)
        if place < len(published):
            line = {"color": "C3", "label": "published mean of 30 runs" if not place else None}
            axes.plot([place - 0.25, place + 0.25], [published[place]] * 2, **line)
    axes.set_xticks(range(len(depths)), [f"{depth} layer{'s' if depth > 1 else ''}" for depth in depths])
    axes.set_ylabel("exact match, equal counts\nand not nested (1: NESTED)")
    axes.set_ylim(-0.05, 1.05)
    axes.set_title("Bracket strings that fit two rules: which one is learned", fontsize=10)
    axes.legend(fontsize=8, loc="center left")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid")
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("--published", type=float, nargs="*", default=[])
    args = parser.parse_args()
    rows = table(Store(args.store), args.grid)
    rows.to_csv(DOCS / f"{args.grid}.csv", index=False)
    draw(rows, args.published, DOCS / "figures" / f"{args.grid}.png")
    print(rows.to_string(index=False))


if __name__ == "__main__":
    main()
