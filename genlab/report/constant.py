"""`lab constants`: how far outputs are from the best constant answer, and whether that tells accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from genlab.errors import NotApplicable, UserError
from genlab.outside.constant import Distances, Marginals, distances, marginals
from genlab.probes.families.confidence import auroc
from genlab.report.compare import bootstrap_interval
from genlab.report.correlations import ends, told, with_accuracy
from genlab.report.display import print_rows
from genlab.report.figures import COLORS, logarithmic, save_figure
from genlab.report.output import print_lines
from genlab.report.tables import counted_runs, named
from genlab.runs.laws import placed
from genlab.runs.sources import live_task
from genlab.runs.store import Store


@dataclass(frozen=True)
class Constants:
    """Distance of outputs from the best constant answer.

    Attributes:
        rows: a row per run, split, length and noise: task, run_id, init_seed, data_seed, split, length, noise, n,
            outside (which noisy inputs are at any length), accuracy, distance (mean over examples), true (that of
            certain right answers), relative (distance / true), mean_output (distance of the mean output), auroc (of
            closeness to the constant, for wrong answers) and auroc_msp (of 1 - max p, likewise).
        diverged: a line on the runs left out, or ''.
    """

    rows: pd.DataFrame
    diverged: str

    def curve(self) -> pd.DataFrame:
        """A row per task, split, length and noise: means over runs."""
        columns = ["accuracy", "distance", "true", "relative", "mean_output", "auroc", "auroc_msp"]
        grouped = self.rows.groupby(["task", "split", "length", "noise", "outside"], sort=False)
        return grouped[columns].mean().assign(runs=grouped["run_id"].nunique()).reset_index()

    def summary(self) -> pd.DataFrame:
        """A row per task: does the distance predict accuracy outside?

        Columns: task, runs; `within`, Spearman's correlation over the places of a run outside of relative distance
        and accuracy, mean over the `correlated` runs that have at least four, with `within_low` and `within_high`;
        `between`, that over runs of mean distance inside and mean accuracy outside, with its p value `between_p`;
        `auroc` and `auroc_msp`, means over places and runs, with `gain` (auroc - auroc_msp), `gain_low` and
        `gain_high`.
        """
        return pd.DataFrame([_of_task(str(task), own) for task, own in self.rows.groupby("task", sort=False)])

    def as_json(self) -> dict[str, Any]:
        """Summary, curve and every row."""
        tables = {"summary": self.summary(), "curve": self.curve(), "rows": self.rows}
        return {name: table.to_dict("records") for name, table in tables.items()} | {"diverged": self.diverged}

    def print(self, console: Console) -> None:
        """The curve, then whether distance predicts accuracy."""
        head = [
            "task",
            "split",
            "length",
            "noise",
            "",
            "runs",
            "accuracy",
            "distance",
            "of the truth",
            "relative",
            "mean output",
        ]
        rows = [
            [r["task"], r["split"], r["length"], f"{r['noise']:g}", "" if r["outside"] else "trained", r["runs"]]
            + [f"{r[name]:.3f}" for name in ("accuracy", "distance", "true", "relative", "mean_output")]
            for r in self.curve().to_dict("records")
        ]
        print_lines(console, ["total variation distance of outputs from the best constant answer, mean over runs"])
        print_rows(console, head, rows, keys=6)
        for row in self.summary().to_dict("records"):
            print_lines(console, ["", *_told(row)])
        print_lines(console, [self.diverged] * bool(self.diverged))

    def draw(self, path: Path) -> None:
        """Per task: relative distance, distance of the mean output and accuracy against length."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        groups = list(self.rows.groupby(["task", "split", "noise"], sort=False))
        figure = Figure(figsize=(4.6 * len(groups), 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(groups), squeeze=False)[0]
        names = {
            "accuracy": "accuracy",
            "relative": "distance / that of the truth",
            "mean_output": "distance of the mean output",
        }
        for (key, own), panel in zip(groups, panels, strict=True):
            for (column, label), color in zip(names.items(), COLORS, strict=False):
                wide = own.pivot_table(index="length", columns="run_id", values=column)
                panel.plot(wide.index, wide.to_numpy(), color=color, lw=0.6, alpha=0.35)
                panel.plot(wide.index, wide.mean(axis=1), color=color, lw=2, marker="o", ms=3, label=label)
            noise = f", noise {key[2]:g}" if key[2] else ""  # pyright: ignore
            panel.set_title(f"{key[0]}, split {key[1]}{noise}", fontsize=10, loc="left")  # pyright: ignore
            panel.set_xlabel("length")
            if logarithmic(own["length"].min(), own["length"].max()):
                panel.set_xscale("log")
            panel.set_ylim(-0.03, 1.1)
            panel.legend(frameon=False, fontsize=7)
            panel.spines[["top", "right"]].set_visible(False)
        save_figure(figure, path)


def constants(
    which: str | Sequence[str],
    splits: Sequence[str] = (),
    lengths: Sequence[int] | None = None,
    noises: Sequence[float] = (0.0,),
    store: Store | str | Path | None = None,
    *,
    n: int = 256,
    seed: int = 0,
    device: str = "auto",
    report: Callable[[str], object] = lambda _line: None,
) -> Constants:
    """How far outputs are from the best constant answer where runs were evaluated, inside and outside.

    Args:
        which: a run, group, grid or tag, `last`, or several of them.
        splits: only these (default: all that were evaluated).
        lengths: only these (default: all that were evaluated).
        noises: standard deviations of noise on token embeddings, in units of the root mean square of the embedding
            matrix; 0 is the input itself.
        store: the store, or its directory (default: `GENLAB_STORE`, or `runs`).
        n: examples per length; seed: of the examples, those of `lab eval` for equal `n` and `seed`.
        device: where to compute.
        report: called with a line of progress.

    Raises:
        UserError: no such runs, none was evaluated there, or noise for a model without token embeddings.
    """
    if n < 1:
        raise UserError(f"--eval-n {n} is not allowed: at least 1 example per length")
    kept, runs, diverged = counted_runs(which, store)
    evals = placed(kept.evals(runs, metric="exact_match"), {run: kept.law(run) for run in runs})
    if splits:
        evals = evals[evals["split"].isin(splits)]
    if lengths:
        evals = evals[evals["length"].isin(lengths)]
    if evals.empty:
        text = " ".join(named(which))
        asked = f" on split {', '.join(splits)}" if splits else ""
        asked += f" at lengths {','.join(map(str, lengths[:8]))}" if lengths else ""
        raise UserError(f"no run of {text!r} was evaluated{asked}; `lab eval` evaluates runs")
    places = evals.drop_duplicates(["run_id", "split", "length"])[["run_id", "split", "length", "outside"]]
    rows: list[dict[str, Any]] = []
    known: dict[str, Marginals] = {}
    for done, run in enumerate(runs):
        report(f"read {done} of {len(runs)} runs")
        try:
            rows += _read(kept, run, places[places["run_id"] == run], n, seed, device, known, noises)
        except NotApplicable as why:
            raise UserError(f"--noise is not allowed for run {run}: {why}") from None
    return Constants(pd.DataFrame(rows), diverged)


def _read(
    store: Store,
    run: str,
    places: pd.DataFrame,
    n: int,
    seed: int,
    device: str,
    known: dict[str, Marginals],
    noises: Sequence[float],
) -> list[dict[str, Any]]:
    from genlab.models import model_of
    from genlab.runs.devices import pick_device
    from genlab.training.loop import precision

    spec, task = store.spec(run), live_task(store, run)
    key = spec.task.model_dump_json() + store.law(run).as_text()
    if key not in known:
        known[key] = marginals(spec, task)
    model = model_of(spec.model, store.weights([run]).to(pick_device(device)))
    about = {"task": task.name, "run_id": run, "init_seed": spec.train.init_seed, "data_seed": spec.train.data_seed}
    rows: list[dict[str, Any]] = []
    with precision(spec.train.dtype, model.flat.device):
        records: list[dict[str, Any]] = places.to_dict("records")
        for place, noise in product(records, noises):
            split, length = task.split(str(place["split"])).at((int(place["length"]),), n, seed), int(place["length"])
            found = distances(spec, model, task, split, length, known[key], noise)
            where = {"split": split.name, "length": length, "noise": noise, "n": n}
            where["outside"] = bool(place["outside"]) or noise > 0
            rows.append({**about, **where, **_row(found)})
    return rows


def _row(found: Distances) -> dict[str, float]:
    own, true = float(found.own.mean()), float(found.true.mean())
    row = {"accuracy": float(found.right.mean()), "distance": own, "true": true, "mean_output": found.mean_output}
    row["relative"] = own / true if true > 0 else float("nan")
    return row | {"auroc": auroc(-found.own, ~found.right), "auroc_msp": auroc(found.msp, ~found.right)}


def _of_task(task: str, own: pd.DataFrame) -> dict[str, Any]:
    outside, inside = own[own["outside"]], own[~own["outside"]]
    row: dict[str, Any] = {"task": task, "runs": own["run_id"].nunique()}
    row |= with_accuracy(outside, "relative", inside.groupby("run_id")["distance"].mean())
    measured = outside.dropna(subset=["auroc", "auroc_msp"]).groupby("run_id")[["auroc", "auroc_msp"]].mean()
    gain = (measured["auroc"] - measured["auroc_msp"]).to_numpy(float)
    row |= {name: float(measured[name].mean()) for name in ("auroc", "auroc_msp")}
    row["gain"] = float(gain.mean()) if len(gain) else float("nan")
    row["gain_low"], row["gain_high"] = bootstrap_interval(gain)
    return row


def _told(row: dict[str, Any]) -> list[str]:
    within = "relative distance and accuracy over the places of a run outside"
    lines = told(row, within, "distance inside and accuracy outside over runs")
    if not pd.isna(row["auroc"]):
        both = f"{row['auroc']:.3f}, of msp {row['auroc_msp']:.3f}: {row['gain']:+.3f}{ends(row, 'gain')}"
        lines.append(f"AUROC for wrong answers of being close to the constant {both}")
    return [f"{row['task']}, {row['runs']} runs", *(f"  {line}" for line in lines or ["accuracy does not vary"])]
