"""`lab monitor`: does any score tell wrong answers from right ones outside, or only outside from inside?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console

from genlab.errors import NotApplicable, UserError
from genlab.outside.monitor import BASELINES, COVERAGE, RunScores, check_names, places_of, score_run
from genlab.probes.families.confidence import risks
from genlab.report.compare import bootstrap_interval
from genlab.report.display import print_rows
from genlab.report.figures import COLORS, save_figure
from genlab.report.output import print_lines
from genlab.report.tables import counted_runs, named
from genlab.runs.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = (
    "auroc",
    "aupr_wrong",
    "aupr_right",
    "fpr95",
    "aurc",
    "excess_aurc",
    "autc",
    "coverage",
    "risk",
    "oddness",
)
"""Columns of `Monitors.rows` beside those that say where (`genlab.outside.monitor.measure`)."""
FEWEST = 5
"""Right and wrong answers below which a place does not enter a mean over lengths."""
_PLACE = ["task", "split", "length"]
_GRID = np.linspace(0.01, 1, 100)
"""Coverages at which risk is drawn."""
_DRAWN = ("msp", "sequence_entropy", "energy", "mahalanobis", "knn", "vim", "neco", "coverage")
"""Scores with a curve of their own in the figure, as far as they were read."""


@dataclass(frozen=True)
class Monitors:
    """Scores as monitors of wrong answers outside the training distribution.

    Attributes:
        rows: a row per run, split, length and score: task, run_id, init_seed, data_seed, split, length, score, n,
            wrong (their number) and `MEASURES`.
        curves: a row per task, run, split and score: the risk at `_GRID`, over all its lengths.
        skipped: why runs could not be read -> the runs; diverged: a line on the runs left out, or ''.
    """

    rows: pd.DataFrame
    curves: pd.DataFrame
    skipped: dict[str, list[str]]
    diverged: str

    def summary(self) -> pd.DataFrame:
        """A row per task, split and score: means over runs of each run's mean over lengths, with intervals.

        Lengths with fewer than 5 right or 5 wrong answers of a run are left out of its means. The unit is the seed:
        runs that share both seeds are averaged first. Intervals are 95 % bootstrap intervals over seeds (none with
        fewer than 5).

        Columns: task, split, score, runs and seeds in which the score is defined, each of `MEASURES`, `auroc_low` and
        `auroc_high`; `gain` of AUROC over `msp`, `gain_low`, `gain_high`, `better` (the number of seeds in which it
        is above 0); `gap`, AUROC minus oddness, with `gap_low` and `gap_high`.
        """
        mixed = self.rows[(self.rows["wrong"] >= FEWEST) & (self.rows["n"] - self.rows["wrong"] >= FEWEST)]
        if mixed.empty:
            return pd.DataFrame(columns=["task", "split", "score"])
        keys = ["task", "split", "run_id", "init_seed", "data_seed"]
        by_run = mixed.groupby([*keys, "score"], sort=False)[list(MEASURES)].mean().reset_index()
        base = by_run[by_run["score"] == "msp"].set_index(keys)["auroc"]
        by_run["gain"] = by_run["auroc"] - base.reindex(pd.MultiIndex.from_frame(by_run[keys])).to_numpy()
        by_run["gap"] = by_run["auroc"] - by_run["oddness"]
        rows = [
            _summarized(str(task), str(split), str(score), own)
            for (task, split, score), own in by_run.groupby(["task", "split", "score"], sort=False)
        ]
        return pd.DataFrame(rows)

    def undefined(self) -> pd.DataFrame:
        """A row per task and split: places (a run at a length), and at how many all answers are right, all are wrong,
        or too few are one of both for a mean."""
        one = self.rows[self.rows["score"] == "msp"]
        right = one["n"] - one["wrong"]
        few = (one["wrong"] < FEWEST) | (right < FEWEST)
        marks = one.assign(places=1, all_right=one["wrong"] == 0, all_wrong=right == 0, too_few=few)
        columns = ["places", "all_right", "all_wrong", "too_few"]
        return marks.groupby(["task", "split"], sort=False)[columns].sum().reset_index()

    def by_length(self) -> pd.DataFrame:
        """A row per task, split and length: runs, the mean fraction of wrong answers, and the mean AUROC of every
        score over the runs where it is defined."""
        found = self.rows.pivot_table(
            index=_PLACE, columns="score", values="auroc", aggfunc="mean", sort=False, dropna=False
        )
        order = list(dict.fromkeys(self.rows["score"]))
        one = self.rows[self.rows["score"] == "msp"].assign(fraction=lambda x: x["wrong"] / x["n"])
        about = one.groupby(_PLACE, sort=False).agg(runs=("run_id", "nunique"), wrong=("fraction", "mean"))
        return about.join(found[order]).reset_index()

    def as_json(self) -> dict[str, Any]:
        """Summary, places without both kinds of answers, AUROC by length, every row, what was skipped."""
        tables = {
            "summary": self.summary(),
            "undefined": self.undefined(),
            "by_length": self.by_length(),
            "rows": self.rows,
        }
        found: dict[str, Any] = {name: table.to_dict("records") for name, table in tables.items()}
        return found | {"skipped": self.skipped, "diverged": self.diverged}

    def print(self, console: Console) -> None:
        """Per task and split the scores, those that tell wrong answers best first; then AUROC by length."""
        summary, missing = self.summary(), self.undefined()
        for row in missing.to_dict("records"):
            own = summary[(summary["task"] == row["task"]) & (summary["split"] == row["split"])]
            _print_task(console, row, own)
        console.print(
            "\nAUROC of wrong against right answers by length, mean over runs (-: all are right, or all wrong)"
        )
        table = self.by_length()
        shown = [
            [*row[:3], row[3], f"{row[4]:.3f}", *map(_number, row[5:])]
            for row in table.itertuples(index=False, name=None)
        ]
        print_rows(console, list(table.columns), shown, keys=5)
        lines = [f"{len(runs)} runs are left out: {why}" for why, runs in self.skipped.items()]
        print_lines(console, [*lines, *[self.diverged] * bool(self.diverged)])

    def draw(self, path: Path) -> None:
        """Per task and split: risk against coverage, and AUROC of failure against AUROC of oddness."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        groups = list(self.curves.groupby(["task", "split"], sort=False))
        figure = Figure(figsize=(10.4, 3.6 * len(groups)), layout="constrained")
        FigureCanvasAgg(figure)
        panels, summary = figure.subplots(len(groups), 2, squeeze=False), self.summary()
        for (key, curves), (left, right) in zip(groups, panels, strict=True):
            task, split = key  # pyright: ignore[reportGeneralTypeIssues]
            _draw_risks(left, curves, f"{task}, split {split}")
            draw_contrast(right, summary[(summary["task"] == task) & (summary["split"] == split)])
        save_figure(figure, path)


def monitor(
    which: str | Sequence[str],
    splits: Sequence[str] = (),
    lengths: Sequence[int] | None = None,
    scores: Sequence[str] = (),
    store: Store | str | Path | None = None,
    *,
    n: int = 256,
    seed: int = 0,
    device: str = "auto",
    report: Callable[[str], object] = lambda _line: None,
) -> Monitors:
    """Fit scores of single inputs inside the training distribution, and test outside whether they tell wrong answers.

    Scores are read at the tokens that a run writes, never at the true ones. Nothing is written to the store.

    Args:
        which: a run, group, grid or tag, `last`, or several of them; of any tasks.
        splits: where to look (default: that on which a run is tested in distribution, beyond its training lengths).
        lengths: only these (default: up to 8 that are outside, evenly spread up to the run's `max_len`).
        scores: names of scores (default: all but those of BLOOD); the two baselines are always read.
        store: the store, or its directory (default: `GENLAB_STORE`, or `runs`).
        n: answers per length; seed: of the prompts, those of `lab eval` for equal `n` and `seed`.
        device: where to compute.
        report: called with a line of progress.

    Raises:
        UserError: no such runs, an unknown split, length or score, or no run that can be read.
    """
    names = check_names(scores)
    if n < 2 * FEWEST:
        raise UserError(f"--eval-n {n} is not allowed: at least {2 * FEWEST} answers per length")
    kept, runs, diverged = counted_runs(which, store)
    if not runs:
        raise UserError(f"{' '.join(named(which))!r} holds no run that has ended without diverging")
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    skipped: dict[str, list[str]] = {}
    for done, run in enumerate(runs):
        report(f"monitored {done} of {len(runs)} runs")
        try:
            about, own = _read(kept, run, splits, lengths, names, n, seed, device)
        except NotApplicable as why:
            skipped.setdefault(str(why), []).append(run)
            continue
        rows += [{**about, **row} for row in own.rows()]
        curves += [{"task": about["task"], "run_id": run, **curve} for curve in _curves(own)]
    if not rows:
        raise UserError(f"none of these runs can be monitored: {'; '.join(skipped)}")
    return Monitors(pd.DataFrame(rows), pd.DataFrame(curves), skipped, diverged)


def _read(
    store: Store,
    run: str,
    splits: Sequence[str],
    lengths: Sequence[int] | None,
    names: Sequence[str],
    n: int,
    seed: int,
    device: str,
) -> tuple[dict[str, Any], RunScores]:
    from genlab.models import model_of
    from genlab.probes.model import check_readable
    from genlab.runs.devices import pick_device
    from genlab.runs.sources import live_task
    from genlab.training.loop import precision

    spec, task, where = store.spec(run), live_task(store, run), pick_device(device)
    check_readable(spec.model)
    places = places_of(spec, task, splits, lengths, n, seed)
    model = model_of(spec.model, store.weights([run]).to(where))
    with precision(spec.train.dtype, where):
        found = score_run(spec, model, task, places, names)
    seeds = {"init_seed": spec.train.init_seed, "data_seed": spec.train.data_seed}
    return {"task": spec.task.name, "run_id": run, **seeds}, found


def _curves(own: RunScores) -> list[dict[str, Any]]:
    """The risk at each coverage of `_GRID`, all lengths of a split together."""
    found: list[dict[str, Any]] = []
    for split in dict.fromkeys(split for split, _ in own.places):
        parts = [part for (name, _), part in own.places.items() if name == split]
        wrong = np.concatenate([w for _, w in parts])
        at = np.maximum(np.ceil(_GRID * len(wrong)).astype(int), 1) - 1
        for score in parts[0][0]:
            values = np.concatenate([s[score] for s, _ in parts])
            risk = np.full(len(at), np.nan) if np.isnan(values).any() else risks(values, wrong)[at]
            found.append({"split": split, "score": score, "risk": risk})
    return found


def _summarized(task: str, split: str, score: str, own: pd.DataFrame) -> dict[str, Any]:
    by_seed = own.groupby(["init_seed", "data_seed"])[[*MEASURES, "gain", "gap"]].mean()
    counts = {"runs": int(own["auroc"].notna().sum()), "seeds": int(by_seed["auroc"].notna().sum())}
    row: dict[str, Any] = {"task": task, "split": split, "score": score, **counts}
    row |= {name: float(by_seed[name].mean()) for name in (*MEASURES, "gain", "gap")}
    for name in ("auroc", "gain", "gap"):
        row[f"{name}_low"], row[f"{name}_high"] = bootstrap_interval(by_seed[name].dropna().to_numpy(float))
    return row | {"better": int((by_seed["gain"] > 1e-12).sum())}


# -- On the terminal


def _print_task(console: Console, missing: dict[str, Any], own: pd.DataFrame) -> None:
    where = f"\n{missing['task']}, split {missing['split']}"
    lines = [f"{where}: wrong against right answers outside, means over lengths and runs"]
    places, left = missing["places"], missing["too_few"]
    if left:
        kinds = f"in {missing['all_right']} all are right, in {missing['all_wrong']} all are wrong"
        few = f"fewer than {FEWEST} right or wrong answers"
        lines += [f"{left} of {places} places (a run at a length) have {few}, and are left out: {kinds}"]
    print_lines(console, lines)
    if own.empty:
        return print_lines(console, ["no place has both kinds of answers: nothing can be told apart"])
    head = [
        "score",
        "runs",
        "AUROC",
        "(95 %)",
        "minus msp",
        "(95 %)",
        "better",
        "AUPR wrong",
        "AUPR right",
        "FPR95",
        "AURC",
        "excess AURC",
    ]
    head += ["AUTC", f"coverage at {COVERAGE:.0%} inside", "risk there", "out-vs-in AUROC"]
    rows = [
        [
            f"{row['score']} *" if row["score"] in BASELINES else row["score"],
            row["runs"],
            _number(row["auroc"]),
            _interval(row, "auroc"),
            *(
                ["", "", ""]
                if row["score"] == "msp"
                else [f"{row['gain']:+.3f}", _interval(row, "gain"), f"{row['better']}/{row['seeds']}"]
            ),
            *(_number(row[name]) for name in MEASURES[1:]),
        ]
        for row in own.sort_values("auroc", ascending=False, kind="stable").to_dict("records")
    ]
    print_rows(console, head, rows)
    return print_lines(console, ["(* baseline; better: seeds in which AUROC is above that of msp)"])


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"


def _interval(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    sign = "" if name == "auroc" else "+"
    return "-" if pd.isna(low) else f"{low:{sign}.2f} to {high:{sign}.2f}"


# -- The figure


def _draw_risks(panel: Axes, curves: pd.DataFrame, title: str) -> None:
    drawn = [name for name in _DRAWN if name in set(curves["score"])]
    for name, color in zip(drawn, COLORS, strict=False):
        risk = np.nanmean(np.stack(curves.loc[curves["score"] == name, "risk"].tolist()), axis=0)
        panel.plot(_GRID, risk, color=color, lw=2.2 if name in BASELINES else 1.2, label=name)
    panel.set_xlabel("coverage: fraction of answers that pass")
    panel.set_ylabel("risk: wrong among them")
    panel.set_xlim(0, 1)
    panel.set_ylim(bottom=0)
    panel.set_title(title, fontsize=11, loc="left")
    panel.legend(frameon=False, fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def draw_contrast(panel: Axes, own: pd.DataFrame) -> None:
    """AUROC of failure against that of oddness, a dot per score; `own`: the summary of one task and split."""
    below = 1.1
    for row in own.sort_values("auroc", ascending=False).to_dict("records"):
        color = COLORS[1] if row["score"] in BASELINES else COLORS[0]
        at = (row["oddness"], row["auroc"])
        if not pd.isna(row["auroc_low"]):
            panel.plot([at[0]] * 2, [row["auroc_low"], row["auroc_high"]], color=color, lw=0.8, alpha=0.5)
        panel.plot(*at, "o", color=color, ms=4)
        below = min(below - 0.045, row["auroc"])  # names stand beside the panel, each below the one before
        panel.annotate(
            row["score"],
            at,
            xytext=(1.06, below),
            fontsize=7,
            color=color,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.3, "alpha": 0.6},
        )
    panel.set_xlim(0, 1.03)
    panel.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":", zorder=0)
    panel.axhline(0.5, color="#999999", lw=0.8, zorder=0)
    panel.axvline(0.5, color="#999999", lw=0.8, zorder=0)
    panel.set_xlabel("AUROC of oddness: outside against inside")
    panel.set_ylabel("AUROC of failure: wrong against right")
    panel.spines[["top", "right"]].set_visible(False)
