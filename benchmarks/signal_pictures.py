"""A picture per signal: its values in reference models whose mechanism is known, or that were trained, or neither.

    python benchmarks/signal_pictures.py [--store DIR] [--slow]  train, compile and measure; write docs/signals.csv
    python benchmarks/signal_pictures.py --draw                  draw docs/figures/signals from docs/signals.csv alone

Reference models are compiled RASP programs and small trained transformers, the latter next to their initial weights.
With --store, runs and signals are kept there, and are not trained or measured again. Signals that are slow are read
from the first seed of each model, and not from those of more than 300,000 parameters, where some take half an hour.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import genlab
from genlab.models import count
from genlab.probes.probing import probe
from genlab.probes.signal import AUXILIARY, Signal, all_signals
from genlab.report.compiled import compile_run
from genlab.runs import Evals, Store
from genlab.runs.parts import Signals
from genlab.tasks import make

DOCS = Path(__file__).parents[1] / "docs"
ROWS, FIGURES = DOCS / "signals.csv", DOCS / "figures" / "signals"

COMPILED = (
    ("copy_unique", "copy", "unique", 12),
    ("sort", "sort", "plain", 12),
    ("count", "count", "plain", 12),
    ("majority", "majority", "plain", 12),
    ("mode", "mode", "plain", 12),
    ("parity_scratchpad", "parity", "scratchpad", 8),
    ("reversed_hints", "addition", "reversed-hints", 4),
    ("NESTED", "brackets", "plain", 20),
    ("EQUAL-COUNT", "brackets", "plain", 20),
)
"""Program, task, format, longest length."""
TRAINED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("copy", {"train_len": 8, "format": "unique", "steps": 1500}),
    ("sort", {"train_len": 10, "steps": 1000}),
    ("count", {"train_len": 12, "n_layers": 1, "steps": 1000}),
    ("majority", {"train_len": 20, "n_layers": 1, "positions": "none", "steps": 500}),
    ("brackets", {"train_len": 20, "min_len": 2, "n_heads": 2, "steps": 1500}),
    ("question-formation", {"train_len": 12, "min_len": 4, "positions": "rotary", "steps": 1000}),
    ("modular", {"train_len": 1, "params": {"p": 23, "train_fraction": 0.7}, "batch_size": 256, "steps": 2000}),
)
"""Task and options; two seeds each, so that signals which compare seeds have a value."""
BRIEF = ("sort", {"train_len": 10, "steps": 70, "eval_every": 5})
"""The same task with too few steps: signals on wrong answers need some in distribution."""
SEEDS = (0, 1)
KINDS = {"compiled": "#b3541e", "trained": "#1b4965", "untrained": "#9aa7b0"}
_MOST = 300_000
"""Parameters of a model whose slow signals are read."""
_SAMPLED = tuple(f"{task}, {how}" for task in ("copy", "sort", "modular") for how in ("trained", "initial"))
"""Trained models whose local learning coefficient is read: 2,400 steps of sampling, minutes each."""
_WIDEST = 60
"""Values of one model and signal that are drawn, such as one per head."""


def measured(store: Store, slow: bool) -> pd.DataFrame:
    """Train, compile and measure the reference models: one row per value, with the model and its kind."""
    runs: list[tuple[str, str, str, int | None]] = []
    for program, name, form, length in COMPILED:
        done = compile_run(make(name, length, form), program, store, n=20)
        runs.append((f"{program} ({name})", "compiled", done.spec.run_id, None))
    for (name, options), how in [*((one, "trained") for one in TRAINED), (BRIEF, "trained briefly")]:
        train_len = int(options["train_len"])
        more = {key: value for key, value in options.items() if key != "train_len"}
        plan = genlab.plan(name, train_len, train_len, seeds=SEEDS, evals=Evals(0), **more)
        for run in genlab.train(plan, store=store, device="cpu", workers=1):
            runs.append((f"{name}, {how}", "trained", run.run_id, None))
            if how == "trained":
                runs.append((f"{name}, initial", "untrained", run.run_id, 0))
    parts: list[pd.DataFrame] = []
    for model, kind, run, step in runs:
        siblings = [other for m, k, other, s in runs if (m, k, s) == (model, kind, step)]
        probe(store, siblings, [s for s in all_signals() if not s.slow], step, device="cpu", null=False)
        if slow and run == siblings[0] and count(store.spec(run).model) <= _MOST:
            few = kind != "compiled" and model not in _SAMPLED
            chosen = [s for s in all_signals() if s.slow and not (few and s.name == "local_learning_coefficient")]
            probe(store, [run], chosen, step, device="cpu", null=False)
        frame = Signals(store.path).frame([run])
        last = frame["step"] == (frame["step"].max() if step is None else step)
        own = frame[last & ~frame["name"].str.endswith((*AUXILIARY, ".max"))]
        parts.append(own[["signal", "name", "layer", "head", "value"]].assign(model=model, kind=kind, run=run))
    return pd.concat(parts, ignore_index=True)


def draw(rows: pd.DataFrame, signal: Signal, path: Path) -> None:
    """Plot the values of one signal by model, one dot per run, layer or head."""
    models = list(dict.fromkeys(rows["model"]))
    figure = Figure(figsize=(5.6, 0.8 + 0.2 * len(models)), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for y, model in enumerate(models):
        own = rows[rows["model"] == model]
        values = own["value"].to_numpy(float)[:_WIDEST]
        spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(len(values))
        panel.plot(values, y + spread, "o", ms=3, alpha=0.75, color=KINDS[own["kind"].iloc[0]], mew=0)
    known = rows["value"].to_numpy(float)
    known = known[np.isfinite(known)]
    weight = signal.per == "head" and signal.high == 1
    if len(known) and known.min() > 0 and known.max() > 100 * known.min() and not weight:
        panel.set_xscale("log")
    panel.set_yticks(range(len(models)), models, fontsize=7)
    panel.invert_yaxis()
    panel.grid(axis="x", lw=0.4, alpha=0.5)
    panel.tick_params(axis="x", labelsize=7)
    panel.set_xlabel(f"{signal.name} ({signal.unit}), one per {signal.per}", fontsize=8)
    panel.spines[["top", "right", "left"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=75, metadata={"Software": "genlab"}, pil_kwargs={"optimize": True})


def drawn(rows: pd.DataFrame, signals: Sequence[Signal]) -> None:
    """Draw every signal that has a value."""
    for signal in signals:
        own = rows[(rows["signal"] == signal.name) & rows["value"].notna()]
        if len(own):
            draw(own, signal, FIGURES / f"{signal.name}.png")


def main() -> None:
    """Measure, or draw what was measured."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--store", type=Path, help="keep runs and signals there")
    asked.add_argument("--slow", action="store_true", help="measure slow signals, too: about an hour")
    asked.add_argument("--draw", action="store_true", help="only draw the figures again")
    args = asked.parse_args()
    if not args.draw:
        with tempfile.TemporaryDirectory() as scratch:
            rows = measured(Store(args.store or Path(scratch) / "store"), args.slow)
        rows.to_csv(ROWS, index=False, float_format="%.4g")
    drawn(pd.read_csv(ROWS), all_signals())


if __name__ == "__main__":
    main()
