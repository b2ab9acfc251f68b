"""Which tasks a small transformer learns within minutes: trains their defaults, keeps a row a run, writes a table.

    python benchmarks/learnability.py count parity:running --seeds 0:3     # the tasks' defaults, a row a seed
    python benchmarks/learnability.py mode --set n_layers=1 train_len=10   # another configuration, one seed
    python benchmarks/learnability.py --table                              # docs/tasks.md from all rows

A run ends when in-distribution exact match has stayed at 0.99 over two checks (100 steps apart), at the steps of its
configuration, or when its processor minutes are spent: on a machine that others use too, these say what a run costs.
Rows of one (task, format, options, seed) replace each other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from learnability_table import EXAMPLES, ROWS, TABLE, plan_of, table, text_of

import genlab
from genlab.errors import Interrupted, UserError
from genlab.options import parse_params
from genlab.runs.api import Run, evaluate
from genlab.runs.gridfile import parse_range
from genlab.runs.laws import means_by, placed
from genlab.runs.plan import defaults_of, own_params_beside
from genlab.runs.progress import Progress
from genlab.runs.store import Store
from genlab.spec import Split
from genlab.tasks import fitted, task_class

Row = dict[str, Any]


class Watch:
    """Processor minutes by step; asks to stop once the budget is spent."""

    def __init__(self, minutes: float):
        self._minutes, self._from = minutes, time.process_time()
        self._seen: list[tuple[int, float]] = []
        self.spent = False
        self.last = 0.0

    def __call__(self, progress: Progress) -> bool:
        minutes = (time.process_time() - self._from) / 60
        if progress.doing == "training":
            self._seen.append((progress.step, minutes))
            self.spent = minutes > self._minutes
            if progress.exact_match == progress.exact_match:  # not a number before the first check
                self.last = progress.exact_match
        return not self.spent

    def at(self, step: int) -> tuple[int, float]:
        """Step and processor minutes where `step` was reached."""
        return next((row for row in self._seen if row[0] >= step), self._seen[-1])


def fit_step(history: pd.DataFrame) -> int | None:
    """The first check at which exact match was 0.99 and stayed there at the next (or the last check, if it was)."""
    fits = fitted(history["exact_match"]).tolist()
    for i, step in enumerate(history["step"]):
        if fits[i] and all(fits[i : i + 2]):
            return int(step)
    return None


def measured(name: str, format: str, given: Mapping[str, Any], seed: int, minutes: float, store: Store) -> Row:
    """Train one run, and describe it as a row."""
    plan = plan_of(name, format, given, [seed])
    (spec,) = plan.specs
    row = {"task": name, "format": format, "options": text_of(given), "seed": seed}
    row |= {"max_steps": spec.train.steps, "run": spec.run_id}
    watch = Watch(minutes)
    try:
        (run,) = genlab.train(plan, store=store, device="cpu", workers=1, again=True, report=watch)
    except Interrupted:
        if not watch.spent:
            raise
        step, spent = watch.at(1 << 62)
        return {**row, "result": "stopped", "steps": step, "minutes": spent, "exact": watch.last}
    found = fit_step(run.history())
    step = run.step if found is None else found
    result = "reached" if found is not None else "diverged" if run.status == "diverged" else "not reached"
    return {
        **row,
        "result": result,
        "steps": step,
        "minutes": watch.at(step)[1],
        **scores(run, run.spec.train.train_len, store),
    }


def scores(run: Run, train_len: int, store: Store) -> Row:
    """Exact match in distribution, and at twice the training length where the task has such an example on `id`."""
    twice = run.task.lengths_between("id", 2 * train_len, 2 * train_len)
    if len(twice):
        evaluate([run.run_id], [Split(name="id", lengths=(2 * train_len,), n=EXAMPLES)], store, "cpu")
    rows = placed(run.evals().query("metric == 'exact_match'"), {run.run_id: store.law(run.run_id)})
    found = {"exact": float(means_by(rows[rows["inside"]], ["run_id"])[run.run_id])}
    values = rows.query("split == 'id'").groupby("length")["value"].last()
    return {**found, "twice_len": 2 * train_len, "twice": float(values[2 * train_len])} if len(twice) else found


def configuration(name: str, format: str, words: list[str]) -> dict[str, Any]:
    """The task's defaults with NAME=VALUE in place of some, be they parameters of the task or options."""
    defaults, said = defaults_of(name, format), parse_params(words)
    params = {key: said.pop(key) for key in said.keys() & task_class(name).Params.model_fields.keys()}
    own = own_params_beside(defaults.pop("params", {}), params)
    return {**defaults, "params": {**own, **params}, **said}


def keep(row: Mapping[str, Any]) -> None:
    """Add a row to the file, in place of an older one of the same run."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    new = pd.DataFrame([rounded])
    if ROWS.exists():
        new = pd.concat([pd.read_csv(ROWS, keep_default_na=False), new]).fillna("")
    keys = ["task", "format", "options", "seed"]
    new.drop_duplicates(keys, keep="last").sort_values(keys[:2], kind="stable").to_csv(ROWS, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK[:FORMAT]")
    parser.add_argument("--seeds", default="0:1", help="0:3 is 0, 1, 2")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="in place of the defaults")
    parser.add_argument("--minutes", type=float, default=10.0, help="processor minutes a run")
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("--table", action="store_true", help=f"write {TABLE.name} from the rows kept so far")
    args = parser.parse_args()
    torch.set_num_threads(1)  # a run a core
    try:
        for word in args.tasks:
            name, _, format = word.partition(":")
            format = format or next(iter(task_class(name).formats))
            given = configuration(name, format, args.set)
            for seed in parse_range(args.seeds, "--seeds"):
                row = measured(name, format, given, seed, args.minutes, Store(args.store))
                keep(row)
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    except UserError as error:
        parser.error(str(error))
    if args.table:
        TABLE.write_text(table())


if __name__ == "__main__":
    main()
