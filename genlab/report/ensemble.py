"""`lab ensemble`: is the answer that most runs give better than that of one of them, and when?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from genlab.errors import UserError
from genlab.forecast.rules import hashes, shared_sets
from genlab.outside.ensemble import Bools, Hashes, Pairs, jackknife, member_sets, pairs, votes
from genlab.report.display import print_rows
from genlab.report.figures import COLORS, save_figure
from genlab.report.output import print_lines
from genlab.report.tables import counted_runs, named
from genlab.runs.laws import means_by, placed
from genlab.runs.store import Store

SIZES = (3, 5, 8)
"""Numbers of members by default, as far as there are runs. A vote of two is a coin wherever they differ."""
_MEANS = ["vote", "single", "best", "oracle", "disagreement", "same_error", "gain", "gain_best"]
_BY = ["task", "trained", "split", "outside", "size"]


@dataclass(frozen=True)
class Ensembles:
    """Votes of runs of one task and training distribution.

    Attributes:
        rows: a row per task, training distribution (`trained`, in words), split, length and size: outside, runs, n,
            sets, and `Votes`.
        without: the same rows, computed without one run each (`left_out`), for intervals.
        diverged: a line on the runs left out, or ''.
    """

    rows: pd.DataFrame
    without: pd.DataFrame
    diverged: str

    def summary(self) -> pd.DataFrame:
        """A row per task, training distribution, split, inside or outside, and size: means over lengths.

        They are those of `Votes`, `gain` of the vote over a single member and `gain_best` over the member that is
        best inside, with 95 % jackknife intervals over runs (`gain_low`, `gain_high`, ...; None below 5 runs).
        """
        found = _means(self.rows, _BY).reset_index()
        left = dict(list(_means(self.without, [*_BY, "left_out"]).groupby(_BY)))
        for name in ("gain", "gain_best"):
            ends: list[tuple[float, float] | None] = []
            for row in found.to_dict("records"):
                key = tuple(row[x] for x in _BY)
                own = left[key][name].to_numpy(float) if key in left else np.empty(0)
                ends.append(jackknife(own, float(row[name])))
            found[f"{name}_low"] = [None if one is None else one[0] for one in ends]
            found[f"{name}_high"] = [None if one is None else one[1] for one in ends]
        return found

    def as_json(self) -> dict[str, Any]:
        """Summary and rows."""
        tables = {"summary": self.summary(), "rows": self.rows}
        return {name: table.to_dict("records") for name, table in tables.items()} | {"diverged": self.diverged}

    def print(self, console: Console) -> None:
        """The summary: what a vote of so many runs gains."""
        head = ["task", "trained", "split", "", "members", "lengths", "one run", "vote", "gain (95 %)"]
        head += ["over the best inside", "any right", "disagreement", "same error"]
        rows = [
            [
                *(r["task"], r["trained"], r["split"], "outside" if r["outside"] else "inside"),
                *(r["size"], r["lengths"]),
                *(f"{r['single']:.3f}", f"{r['vote']:.3f}", _gain(r, "gain"), _gain(r, "gain_best")),
                *(f"{r['oracle']:.3f}", _or_dash(r["disagreement"]), _or_dash(r["same_error"])),
            ]
            for r in self.summary().to_dict("records")
        ]
        print_lines(console, ["fraction of right answers, mean over lengths and sets of members"])
        print_rows(console, head, rows, keys=5)
        told = "(disagreement: how often two members differ; same error: two wrong answers that are equal)"
        print_lines(console, [told, *[self.diverged] * bool(self.diverged)])

    def draw(self, path: Path) -> None:
        """Per task, training distribution and split: accuracy of one run, of votes, and of an oracle, by length."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        groups = list(self.rows.groupby(["task", "trained", "split"], sort=False))
        figure = Figure(figsize=(4.6 * len(groups), 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        for (key, own), panel in zip(groups, figure.subplots(1, len(groups), squeeze=False)[0], strict=True):
            for i, (size, part) in enumerate(own.groupby("size")):
                shade = COLORS[(i + 1) % len(COLORS)]
                panel.plot(part["length"], part["vote"], color=shade, marker="o", ms=3, label=f"vote of {size}")
            largest = own[own["size"] == own["size"].max()]
            panel.plot(largest["length"], largest["single"], color=COLORS[0], lw=2, label="one run")
            panel.plot(largest["length"], largest["oracle"], color="0.5", ls=":", label="any right")
            inside = own.loc[~own["outside"], "length"]
            if len(inside):
                panel.axvspan(inside.min(), inside.max(), color="0.93", zorder=0, lw=0)
            task, trained, split = key  # pyright: ignore
            panel.set_title(f"{task}, trained on {trained}, split {split}", fontsize=9, loc="left")
            panel.set_xlabel("length")
            panel.set_ylabel("exact match")
            panel.set_ylim(-0.03, 1.04)
            panel.legend(frameon=False, fontsize=7)
            panel.spines[["top", "right"]].set_visible(False)
        save_figure(figure, path)


def ensemble(
    which: str | Sequence[str],
    splits: Sequence[str] = (),
    sizes: Sequence[int] = (),
    store: Store | str | Path | None = None,
) -> Ensembles:
    """Let runs vote on the inputs that all of them answered.

    Args:
        which: a run, group, grid or tag, `last`, or several of them; runs of one task
            (with its format and parameters) and one training distribution vote together.
        splits: only these (default: all that were evaluated).
        sizes: numbers of members (default: 3, 5 and 8, as far as there are runs).
        store: the store, or its directory (default: `GENLAB_STORE`, or `runs`).

    Raises:
        UserError: no such runs, too few for a size, or no input that all of a task's runs answered.
    """
    if any(size < 2 for size in sizes):
        raise UserError(f"--sizes {','.join(map(str, sizes))} is not allowed: a vote needs at least 2 members")
    kept, runs, diverged = counted_runs(which, store)
    rows: list[dict[str, Any]] = []
    without: list[dict[str, Any]] = []
    for task, trained, ids in _groups(kept, runs):
        if sizes and max(sizes) > len(ids):
            raise UserError(f"--sizes {max(sizes)} is not allowed: {task} has {len(ids)} runs here")
        wanted = [size for size in sizes or SIZES if size <= len(ids)]
        for where, answers, right, inside in _shared(kept, ids, splits):
            about = {"task": task, "trained": trained, **where}
            compared = pairs(answers, right)
            rows += _measured(about, answers, right, inside, compared, wanted)
            for i in range(len(ids)):
                others = np.arange(len(ids)) != i
                smaller = [size for size in wanted if size < len(ids)]
                rest = compared.among(others)
                left_out = {**about, "left_out": ids[i]}
                without += _measured(left_out, answers[others], right[others], inside[others], rest, smaller)
    if not rows:
        asked = f" on split {', '.join(splits)}" if splits else ""
        text = " ".join(named(which))
        raise UserError(f"no two runs of one task of {text!r} were evaluated on the same inputs{asked}")
    columns = [*_BY, "left_out", *_MEANS]
    return Ensembles(
        pd.DataFrame(rows), pd.DataFrame(without) if without else pd.DataFrame(columns=columns), diverged
    )


def _groups(store: Store, runs: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Task, training lengths in words, and runs: those of one task with its options and one training distribution.

    Where the words would be the same, the format follows, or else a number.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        found.setdefault((store.spec(run).task.model_dump_json(), store.law(run).as_text()), []).append(run)
    labeled: dict[tuple[str, str], list[str]] = {}
    for ids in found.values():
        task, law = store.spec(ids[0]).task, store.law(ids[0])
        words = f"{law.min_len} to {law.train_len}"
        more = (f"{words}, {task.format} ({i})" for i in range(2, len(found) + 2))
        options = chain([words, f"{words}, {task.format}"], more)
        labeled[next((task.name, one) for one in options if (task.name, one) not in labeled)] = ids
    return [(task, words, ids) for (task, words), ids in labeled.items()]


def _shared(
    store: Store, runs: list[str], splits: Sequence[str]
) -> list[tuple[dict[str, Any], Hashes, Bools, np.ndarray]]:
    """Per evaluation set that all runs share: where it is, answers, which are right, accuracy inside of each run."""
    if len(runs) < 2:
        return []
    rows = placed(store.evals(runs, answers=True, metric="exact_match"), {run: store.law(run) for run in runs})
    rows = rows[rows["answers"].notna()]
    own = rows[rows["inside"]]
    inside = means_by(own, ["run_id"]).reindex(runs).fillna(0.0).to_numpy(float) if len(own) else np.zeros(len(runs))
    found: list[tuple[dict[str, Any], Hashes, Bools, np.ndarray]] = []
    for (split, length, n, _), same in shared_sets(rows, runs, ["split", "length", "n", "seed"]):
        if splits and split not in splits:
            continue
        right = np.stack([np.unpackbits(np.frombuffer(x, np.uint8), count=n) for x in same["correct"]]).astype(bool)
        where = {"split": split, "length": int(length), "outside": bool(same["outside"].iloc[0]), "n": int(n)}
        found.append((where, hashes(same), right, inside))
    return found


def _measured(
    about: dict[str, Any], answers: Hashes, right: Bools, inside: np.ndarray, compared: Pairs, sizes: Sequence[int]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for size in sizes:
        sets = member_sets(len(answers), size)
        found = asdict(votes(answers, right, inside, sets, compared))
        gains = {"gain": found["vote"] - found["single"], "gain_best": found["vote"] - found["best"]}
        rows.append({**about, "size": size, "runs": len(answers), "sets": len(sets), **found, **gains})
    return rows


def _means(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    grouped = rows.groupby(by, sort=False)
    return grouped[_MEANS].mean().assign(lengths=grouped["vote"].size())


def _gain(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:+.3f}" + ("" if low is None or pd.isna(low) else f" ({low:+.3f} to {high:+.3f})")


def _or_dash(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"
