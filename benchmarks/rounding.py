"""What bfloat16 products cost in accuracy: the same seeds trained in float32 and in bfloat16.

    python benchmarks/rounding.py [--seeds 8] [--save]

Sort and copy in their default configuration, trained to length 10 and tested to length 15. A seed has the same
initial weights and the same data at both precisions, so the differences between the two are those of rounding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import genlab
from genlab import Evals
from genlab.runs.devices import environment
from genlab.runs.laws import means_by, placed

TASKS = {"sort": 1000, "copy": 1000}
"""Task -> steps."""
TRAINED, TESTED, EXAMPLES = 10, 15, 512
RESULT = Path(__file__).parent / "results" / "rounding.json"
DTYPES = ("float32", "bfloat16")


def rows_of(task: str, seeds: int, store: Path) -> list[dict[str, Any]]:
    """A row a run: loss and exact match, in distribution and beyond (means over lengths)."""
    found: list[dict[str, Any]] = []
    for dtype in DTYPES:
        options = {"steps": TASKS[task], "dtype": dtype, "max_len": 2 * TRAINED}
        plan = genlab.plan(task, TRAINED, TESTED, seeds=range(seeds), evals=Evals(TESTED, n=EXAMPLES), **options)
        for run in genlab.train(plan, store=store, workers=1):
            values = placed(run.evals(), {run.run_id: run.store.law(run.run_id)})
            row: dict[str, Any] = {"task": task, "dtype": dtype, "seed": run.spec.train.init_seed}
            for where, side in (("inside", "inside"), ("beyond", "outside")):
                means = means_by(values[values[side]], ["metric"])
                row |= {f"{metric}_{where}": float(means[metric]) for metric in ("loss", "exact_match")}
            found.append(row)
            print(row)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: median, lowest and highest of each figure, by task and precision."""
    frame = pd.DataFrame(rows)
    figures = [name for name in frame if name.rsplit("_", 1)[-1] in ("inside", "beyond")]
    lines = ["| task | products | " + " | ".join(name.replace("_", " ") for name in figures) + " |"]
    lines.append("|---" * (2 + len(figures)) + "|")
    for (task, dtype), some in frame.groupby(["task", "dtype"], sort=False):
        cells = [f"{some[n].median():.3g} ({some[n].min():.3g} to {some[n].max():.3g})" for n in figures]
        lines.append(f"| {task} | {dtype} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/rounding.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for task in TASKS for row in rows_of(task, args.seeds, Path(folder))]
    print(table(rows))
    if args.save:
        kept = {"date": str(date.today()), "environment": environment(torch.device("cpu")), "runs": rows}
        RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
