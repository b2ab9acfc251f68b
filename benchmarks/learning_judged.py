"""What the default recipe gives at seeds of 100 and above, which nobody looked at while choosing it.

    lab train --store S --task copy --format unique ... --seeds 100:105     # the commands of docs/learning.md
    python benchmarks/learning_judged.py S                                  # adds their rows, and writes the table

Rows go into `results/learning-judged.csv`: exact match of every evaluation of each run trained to its end, and the
first steps at which it had .5 and .95 in distribution. Rows of other runs stay.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

import genlab
from genlab.runs.store import Store

ROWS = Path(__file__).parent / "results" / "learning-judged.csv"
PAGE = Path(__file__).parents[1] / "docs" / "learning.md"
BEGIN, END = "<!-- judged: python benchmarks/learning_judged.py STORE -->\n", "<!-- end of judged -->\n"
_LEVELS = (0.5, 0.95)


def measured(store: Store) -> pd.DataFrame:
    """A row per run and evaluated length."""
    rows: list[dict[str, Any]] = []
    for name in store.run_ids():
        run = genlab.load(name, store)
        spec, history = run.spec, run.history()
        if run.status != "finished" or spec.train.init_seed < 100:
            continue
        about = {"task": spec.task.name, "train_len": spec.train.train_len, "tied": spec.model.tie_word_embeddings}
        about |= {"seed": spec.train.init_seed, "run": name}
        for level in _LEVELS:
            there = history["step"][history["exact_match"] >= level]
            about[f"to_{level:g}"] = int(there.min()) if len(there) else None
        evals = run.evals().query("metric == 'exact_match'")
        rows += [
            {**about, "split": e["split"], "length": e["length"], "exact_match": e["value"], "n": e["n"]}
            for e in evals.to_dict("records")
        ]
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> str:
    """A line per run: steps, exact match in distribution, beyond, and at the longest length."""
    head = ["task", "trained to", "seed", *(f"steps to {level:g}" for level in _LEVELS), "in distribution"]
    lines = [f"| {' | '.join([*head, 'beyond, mean over tested lengths', 'at the longest'])} |", "|---" * 8 + "|"]
    for (task, train_len, seed), own in rows.groupby(["task", "train_len", "seed"]):
        inside, beyond = own[own["length"] <= train_len]["exact_match"], own[own["length"] > train_len]
        steps = ["-" if pd.isna(own[f"to_{x:g}"].iloc[0]) else f"{int(own[f'to_{x:g}'].iloc[0]):,}" for x in _LEVELS]
        last = beyond.loc[beyond["length"].idxmax(), "exact_match"]
        cells = [
            task,
            train_len,
            seed,
            *steps,
            f"{inside.mean():.3f}",
            f"{beyond['exact_match'].mean():.3f}",
            f"{last:.3f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for (task, train_len), own in rows.groupby(["task", "train_len"]):
        runs = (
            own.assign(beyond=own["length"] > train_len).groupby(["seed", "beyond"])["exact_match"].mean().unstack()
        )
        told = f"medians {runs[False].median():.3f} in distribution and {runs[True].median():.3f} beyond"
        lines += ["", f"{task} up to {train_len}, {len(runs)} seeds: {told}."]
    return "\n".join([*lines, ""])


def page(text: str, rows: pd.DataFrame) -> str:
    """The text of the page with its table written again."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table(rows) + "\n" + END + rest.split(END)[1]


def main() -> None:
    """Add the runs of a store, and write the table."""
    asked = argparse.ArgumentParser(description="Add the judged runs of a store, and write their table.")
    asked.add_argument("store", type=Path)
    rows = measured(Store(asked.parse_args().store))
    if ROWS.exists():
        old = pd.read_csv(ROWS)
        rows = pd.concat([old[~old["run"].isin(rows["run"])], rows], ignore_index=True)
    rows = rows.sort_values(["task", "train_len", "seed", "split", "length"]).round({"exact_match": 6})
    rows.to_csv(ROWS, index=False)
    PAGE.write_text(page(PAGE.read_text("utf-8"), pd.read_csv(ROWS)), "utf-8")


if __name__ == "__main__":
    main()
