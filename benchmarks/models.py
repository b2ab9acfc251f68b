"""Which positions and which attention weights carry a model beyond its training lengths: trains and writes.

    python benchmarks/models.py [--store DIR] [--workers N]   # recipes/models.toml to its end (resumes), and the page
    python benchmarks/models.py --collect [--store DIR]       # the page from the runs that are complete, none trained
    python benchmarks/models.py --page                        # the page from the rows that are kept

Rows, a run and length each, are kept in docs/models.csv; the page is docs/models.md with docs/figures/models.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from models_page import FIGURE, PAGE, ROWS, draw, label, page, wanted

import genlab.runs
from genlab.runs.gridfile import Grid, read_grid
from genlab.runs.store import Store

COLUMNS = ("task", "group", "variant", "seed", "length", "exact_match", "steps", "run")
RECIPE = Path(__file__).parents[1] / "recipes" / "models.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="the store (default: $GENLAB_STORE, or runs)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a core")
    parser.add_argument("--collect", action="store_true", help="train nothing: the runs that are complete")
    parser.add_argument("--page", action="store_true", help="read no store: the rows that are kept")
    args = parser.parse_args()
    if not args.page:
        grid = read_grid(RECIPE)
        if not args.collect:
            genlab.runs.grid(grid, store=args.store, workers=args.workers)
        rows = collected(grid, Store(args.store))
        rows.to_csv(ROWS, index=False, float_format="%.4f")
        print(f"{rows['run'].nunique()} of {sum(len(plan.specs) for plan in grid.plans)} runs are complete")
    rows = pd.read_csv(ROWS)
    PAGE.write_text(page(rows))
    draw(rows, FIGURE)
    print(f"wrote {PAGE} and {FIGURE}")


def collected(grid: Grid, store: Store) -> pd.DataFrame:
    """Exact match of every complete run of a grid at the lengths that the page shows."""
    rows = []
    for plan in grid.plans:
        for spec in plan.specs:
            if spec.run_id not in store:
                continue
            evals = store.evals([spec.run_id])
            exact = evals[(evals["metric"] == "exact_match") & (evals["split"] == "id")].set_index("length")["value"]
            lengths = wanted(spec.task.name).values()
            if not set(lengths) <= set(exact.index):
                continue  # trained, and not yet evaluated
            group, variant = label(spec.model)
            about = {"task": spec.task.name, "group": group, "variant": variant, "seed": spec.train.init_seed}
            rows += [
                {**about, "length": n, "exact_match": float(exact[n]), "steps": spec.train.steps, "run": spec.run_id}
                for n in lengths
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


if __name__ == "__main__":
    main()
