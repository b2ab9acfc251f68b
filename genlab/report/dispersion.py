"""`lab dispersion`: how sharp attention is at each length, and whether lines over training lengths hold outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from genlab.errors import NotApplicable, UserError
from genlab.outside.dispersion import FITTED, Sharpness, foretold, line, ln, sharpness
from genlab.outside.monitor import places_of
from genlab.probes.families.sharpness import MEASURES
from genlab.report.compare import bootstrap_interval
from genlab.report.correlations import ends, told, with_accuracy
from genlab.report.display import print_rows
from genlab.report.figures import COLORS, save_figure
from genlab.report.output import print_lines
from genlab.report.tables import counted_runs, named
from genlab.runs.sources import live_task
from genlab.runs.store import Store
from genlab.spec import RunSpec, Split
from genlab.tasks import Task, spread, training_law

_INSIDE = 8
"""Default number of training lengths that a line is fitted on."""
_WORDS = {"largest": "largest weight", "effective": "effective keys", "spread": "spread of scores"}
_PLACE = ["task", "split", "length", "outside"]
_HEAD = ["run_id", "split", "layer", "head"]


@dataclass(frozen=True)
class Dispersion:
    """Attention of runs inside and outside their training lengths.

    Attributes:
        rows: a row per run, split, length, layer and head: task, run_id, init_seed, data_seed, split, length,
            outside, n, accuracy, keys, layer, head, and `MEASURES`.
        lines: a row per run, split, layer, head and measure of `FITTED`: `inside` and `outside`, slopes of ln measure
            over ln keys; `error`, mean over lengths outside of |ln(value of the line inside / measured)|;
            `error_last`, that of the value at the longest training length, unchanged.
        skipped: reason -> runs that have no attention.
        diverged: a line on the runs left out, or ''.
    """

    rows: pd.DataFrame
    lines: pd.DataFrame
    skipped: dict[str, list[str]]
    diverged: str

    def curve(self) -> pd.DataFrame:
        """A row per task, split and length: means over heads and runs, and that of the sharpest head of each run (the
        one with the largest mean weight over training lengths): `sharpest`."""
        heads = self.rows.groupby([*_PLACE, "run_id"], sort=False)
        own = (
            heads[["accuracy", "keys", *FITTED]]
            .mean()
            .join(self._sharpest().groupby([*_PLACE, "run_id"], sort=False)["largest"].mean().rename("sharpest"))
        )
        found = own.groupby(_PLACE, sort=False).mean()
        return found.assign(runs=own.groupby(_PLACE, sort=False).size()).reset_index()

    def _sharpest(self) -> pd.DataFrame:
        """The rows of the sharpest head of each run and split."""
        inside = self.rows[~self.rows["outside"]].groupby(_HEAD, sort=False)["largest"].mean().reset_index()
        best = inside.loc[inside.groupby(["run_id", "split"], sort=False)["largest"].idxmax(), _HEAD]
        return self.rows.merge(best, on=_HEAD)

    def summary(self) -> pd.DataFrame:
        """A row per task, split and measure of `FITTED`: do lines over training lengths hold outside?

        Means over heads, then over seeds: `inside` and `outside` (slopes), `error`, `error_last`, and `gain`
        (error_last - error, above 0 if the line is the better guess), each of `outside`, `inside` and `gain` with
        95 % bootstrap bounds `_low` and `_high`, None below 5 seeds; `better` of `seeds`; `runs`.
        """
        by = ["task", "split", "measure"]
        own = self.lines.assign(gain=self.lines["error_last"] - self.lines["error"])
        columns = ["inside", "outside", "error", "error_last", "gain"]
        rows: list[dict[str, Any]] = []
        for key, part in own.groupby(by, sort=False):
            runs = part.groupby(["init_seed", "data_seed", "run_id"])[columns].mean()
            seeds = runs.groupby(["init_seed", "data_seed"]).mean()
            row: dict[str, Any] = dict(zip(by, key, strict=True)) | {"runs": len(runs), "seeds": len(seeds)}  # pyright: ignore[reportArgumentType]
            row |= {name: float(seeds[name].mean()) for name in columns}
            for name in ("inside", "outside", "gain"):
                row[f"{name}_low"], row[f"{name}_high"] = bootstrap_interval(seeds[name].dropna().to_numpy(float))
            rows.append(row | {"better": int((seeds["gain"] > 0).sum())})
        return pd.DataFrame(rows)

    def accuracies(self) -> pd.DataFrame:
        """A row per task and split: does sharpness go with accuracy outside?

        Columns: `within`, Spearman's correlation over the lengths of a run outside of the sharpest head's weight and
        accuracy, mean over the `correlated` runs that have at least four lengths, with `within_low` and
        `within_high`; `between`, that over `runs` of the weight at the longest training length and mean accuracy
        outside, with its p value `between_p`.
        """
        parts = self._sharpest().groupby(["task", "split"], sort=False)
        return pd.DataFrame([{"task": key[0], "split": key[1], **_correlated(own)} for key, own in parts])  # pyright: ignore

    def as_json(self) -> dict[str, Any]:
        """Summary, correlations with accuracy, curve, lines and every row."""
        tables = {
            "summary": self.summary(),
            "accuracies": self.accuracies(),
            "curve": self.curve(),
            "lines": self.lines,
            "rows": self.rows,
        }
        found: dict[str, Any] = {name: table.to_dict("records") for name, table in tables.items()}
        return found | {"skipped": self.skipped, "diverged": self.diverged}

    def print(self, console: Console) -> None:
        """The curve; then slopes inside and outside with the errors of extrapolation; then correlations."""
        head = ["task", "split", "length", "", "runs", "accuracy", "keys", *_WORDS.values(), "sharpest head"]
        rows = [
            [
                *(r["task"], r["split"], r["length"], "" if r["outside"] else "trained", r["runs"]),
                *(f"{r['accuracy']:.3f}", f"{r['keys']:.1f}", f"{r['largest']:.3f}", f"{r['effective']:.1f}"),
                *(f"{r['spread']:.1f}", f"{r['sharpest']:.3f}"),
            ]
            for r in self.curve().to_dict("records")
        ]
        print_lines(console, ["attention at the positions of answers, means over heads and runs"])
        print_rows(console, head, rows, keys=5)
        head = ["task", "split", "measure", "slope inside", "slope outside", "error of the line", "of no change"]
        rows = [
            [
                *(r["task"], r["split"], _WORDS[r["measure"]], _slope(r, "inside"), _slope(r, "outside")),
                *(f"{r['error']:.3f}", f"{r['error_last']:.3f}", f"{r['better']}/{r['seeds']}"),
            ]
            for r in self.summary().to_dict("records")
        ]
        about = "slopes of ln measure over ln keys (95 %); errors outside, in ln, of the line over training lengths"
        print_lines(console, ["", f"{about} and of its last value"])
        print_rows(console, [*head, "line better"], rows, keys=3)
        for row in self.accuracies().to_dict("records"):
            print_lines(console, _told(row))
        lines = [f"{len(runs)} runs are left out: {why}" for why, runs in self.skipped.items()]
        print_lines(console, [*lines, *[self.diverged] * bool(self.diverged)])

    def draw(self, path: Path) -> None:
        """Per task and split: the weight of each head against keys, with its line over training lengths; accuracy."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        groups = list(self.rows.groupby(["task", "split"], sort=False))
        figure = Figure(figsize=(10.4, 3.8 * len(groups)), layout="constrained")
        FigureCanvasAgg(figure)
        for (key, own), panels in zip(groups, figure.subplots(len(groups), 2, squeeze=False), strict=True):
            title = f"{key[0]}, split {key[1]}"  # pyright: ignore[reportGeneralTypeIssues, reportIndexIssue]
            for panel, name in zip(panels, ("largest", "spread"), strict=True):
                _draw_heads(panel, own, name)
            panels[0].set_title(title, fontsize=10, loc="left")
        save_figure(figure, path)


def dispersion(
    which: str | Sequence[str],
    splits: Sequence[str] = (),
    lengths: Sequence[int] | None = None,
    store: Store | str | Path | None = None,
    *,
    n: int = 128,
    seed: int = 0,
    device: str = "auto",
    report: Callable[[str], object] = lambda _line: None,
) -> Dispersion:
    """Read attention inside and outside training lengths, and hold lines over the former against the latter.

    Args:
        which: a run, group, grid or tag, `last`, or several of them; of any tasks.
        splits: where to look (default: that on which a run is tested in distribution).
        lengths: outside, only these (default: up to 8, evenly spread up to the run's `max_len`).
        store: the store, or its directory (default: `GENLAB_STORE`, or `runs`).
        n: examples per length; seed: of the examples, those of `lab eval` for equal `n` and `seed`.
        device: where to compute.
        report: called with a line of progress.

    Raises:
        UserError: no such runs, an unknown split or length, or no run with attention.
    """
    if n < 1:
        raise UserError(f"--eval-n {n} is not allowed: at least 1 example per length")
    kept, runs, diverged = counted_runs(which, store)
    if not runs:
        raise UserError(f"{' '.join(named(which))!r} holds no run that has ended without diverging")
    rows: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    skipped: dict[str, list[str]] = {}
    for done, run in enumerate(runs):
        report(f"read {done} of {len(runs)} runs")
        try:
            found, lines = _read(kept, run, splits, lengths, n, seed, device)
        except NotApplicable as why:
            skipped.setdefault(str(why), []).append(run)
            continue
        rows, fits = rows + found, fits + lines
    if not rows:
        raise UserError(f"none of these runs can be read: {'; '.join(skipped)}")
    return Dispersion(pd.DataFrame(rows), pd.DataFrame(fits), skipped, diverged)


def _read(
    store: Store,
    run: str,
    splits: Sequence[str],
    lengths: Sequence[int] | None,
    n: int,
    seed: int,
    device: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from genlab.models import model_of
    from genlab.runs.devices import pick_device
    from genlab.training.loop import precision

    spec, task, where = store.spec(run), live_task(store, run), pick_device(device)
    about = {"task": task.name, "run_id": run, "init_seed": spec.train.init_seed, "data_seed": spec.train.data_seed}
    outside = places_of(spec, task, splits, lengths, n, seed)
    model = model_of(spec.model, store.weights([run]).to(where))
    rows: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    with precision(spec.train.dtype, where):
        trained = {
            length: sharpness(spec, model, task, split, length) for split, length in _inside(spec, task, n, seed)
        }
        for split in outside:
            there = {length: sharpness(spec, model, task, split, length) for length in split.lengths}
            own = {**about, "split": split.name}
            rows += _rows(own, trained, n, outside=False) + _rows(own, there, n, outside=True)
            fits += _lines(own, trained, there)
    return rows, fits


def _inside(spec: RunSpec, task: Task, n: int, seed: int) -> list[tuple[Split, int]]:
    """The training split at training lengths, evenly spread over those that training draws."""
    law = training_law(task, spec.train)
    lengths = spread(law.lengths, _INSIDE)
    return [(task.split(law.split).at(lengths, n, seed), length) for length in lengths]


def _rows(about: dict[str, Any], read: dict[int, Sharpness], n: int, outside: bool) -> list[dict[str, Any]]:
    return [
        {**about, "length": length, "outside": outside, "n": n, "accuracy": float(one.right.mean()), "keys": one.keys}
        | {"layer": layer, "head": head}
        | {name: float(one.values[name][layer, head]) for name in MEASURES}
        for length, one in read.items()
        for layer, head in np.ndindex(one.values["largest"].shape)
    ]


def _lines(about: dict[str, Any], trained: dict[int, Sharpness], there: dict[int, Sharpness]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    keys, beyond = ([one.keys for one in read.values()] for read in (trained, there))
    for name in FITTED:
        within, outside = (np.stack([one.values[name] for one in read.values()]) for read in (trained, there))
        slope, start = line(keys, within)
        guessed = np.stack([foretold(name, slope, start, count) for count in beyond])
        error, last = (np.abs(ln(guess) - ln(outside)).mean(0) for guess in (guessed, within[-1]))
        steep = line(beyond, outside)[0]
        rows += [
            {**about, "layer": layer, "head": head, "measure": name, "inside": slope[layer, head]}
            | {"outside": steep[layer, head], "error": error[layer, head], "error_last": last[layer, head]}
            for layer, head in np.ndindex(slope.shape)
        ]
    return rows


def _correlated(own: pd.DataFrame) -> dict[str, Any]:
    outside, inside = own[own["outside"]], own[~own["outside"]]
    longest = inside[inside["length"] == inside["length"].max()].set_index("run_id")["largest"]
    return {"runs": own["run_id"].nunique(), **with_accuracy(outside, "largest", longest)}


def _slope(row: dict[str, Any], name: str) -> str:
    return "-" if pd.isna(row[name]) else f"{row[name]:+.2f}{ends(row, name)}"


def _told(row: dict[str, Any]) -> list[str]:
    lines = told(row, "over the lengths of a run outside", "at the longest training length, over runs")
    about = f"largest weight of the sharpest head and accuracy outside: {row['task']}, split {row['split']}"
    return ["", about, *(f"  {line}" for line in lines or ["accuracy does not vary"])]


def _draw_heads(panel: Any, own: pd.DataFrame, name: str) -> None:
    """A line per head of each run over keys; accuracy and the uniform weight beside the largest weight."""
    layers = sorted(own["layer"].unique())
    for layer in layers:
        part = own[own["layer"] == layer]
        color = COLORS[int(layer) % len(COLORS)]
        for i, (_, head) in enumerate(part.groupby(["run_id", "head"], sort=False)):
            label = f"layer {layer}" if not i else None
            panel.plot(head["keys"], head[name], color=color, lw=0.8, alpha=0.5, label=label)
    edge = own.loc[~own["outside"], "keys"].max()
    panel.axvspan(own["keys"].min(), edge, color="0.93", zorder=0, lw=0)
    if name == "largest":
        accuracy = own.groupby("keys")["accuracy"].mean()
        panel.plot(accuracy.index, accuracy, color="0.35", lw=1.6, ls="--", label="accuracy")
        panel.plot(sorted(own["keys"]), 1 / np.sort(own["keys"]), color="0.35", lw=1, ls=":", label="1 / keys")
        panel.set_ylim(0, 1.04)
    else:
        panel.set_ylim(bottom=0)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(lambda value, _at: f"{value:g}")
    panel.set_xlabel("visible keys (shaded: training lengths)")
    panel.set_ylabel(_WORDS[name] + (" (nats)" if name == "spread" else ""))
    panel.legend(frameon=False, fontsize=7)
    panel.spines[["top", "right"]].set_visible(False)
