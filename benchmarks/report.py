"""The page of a large grid: how long `lab report` takes to make it, how large it is, how fast a browser shows it.

    python benchmarks/report.py [--runs 500] [--browser chromium] [--keep DIR] [--save]

The runs are synthetic and entered through the store's own commit: ten settings, three splits, forty looks while
training, forty signals. Nothing is trained. Seconds of the browser are from the start of navigation until all charts
near the window are drawn, in fresh browsers: they count whatever else the machine is doing. Processor seconds of the
page's main thread do not.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import genlab
from genlab.models.kinds import count as count_weights
from genlab.probes.signal import all_signals
from genlab.report.html import write_report
from genlab.runs import Store
from genlab.runs.parts import SIGNAL_COLUMNS, Signals
from genlab.runs.store import now
from genlab.spec import RunSpec
from genlab.training import RunState

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
from browser import Browser

RESULTS = Path(__file__).parent / "results" / "report.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SETTINGS, LOOKS, STEPS, SIGNALS, LOADS = 10, 40, 4000, 40, 3
LENGTHS = range(5, 51, 5)
SPLITS = ("id", "window", "nearly-sorted")
_DRAWN = "report.need(0).then(() => Promise.all(report.drawn.values())).then(() => performance.now() / 1000)"
"""Seconds since the start of navigation until all charts near the window are drawn."""


def fill(store: Store, runs: int) -> None:
    """Commit runs of ten settings that all fit, and differ beyond the training lengths."""
    rng = np.random.default_rng(0)
    plan = genlab.plan("sort", 20, 50, steps=STEPS, n_layers=2, d_model=32, n_heads=2)
    base, each = plan.specs[0], runs // SETTINGS
    count, ids = count_weights(base.model), list[str]()
    for setting in range(SETTINGS):
        change = {"weight_decay": 0.01 * (setting % 5), "lr": 1e-3 * (1 + setting // 5)}
        config = base.model_copy(update={"train": base.train.model_copy(update=change)})
        specs = [config.with_seeds(setting * each + i, setting * each + i) for i in range(each)]
        skill = rng.normal(setting % 3 - 1, 1, len(specs))
        states = []
        for spec, own in zip(specs, skill, strict=True):
            weights = torch.from_numpy(rng.normal(0, 0.1, count).astype(np.float32))
            history, trace = _training(own, rng)
            states.append(RunState(spec, STEPS, "finished", weights, weights, weights, history, trace=trace))
        store.commit(states, {})
        store.add_evals(_evaluations(specs, skill, rng))
        _signals(store, specs, skill, rng)
        ids += [spec.run_id for spec in specs]
    store.save_group("big", ids, {})


def _right(skill: float, length: int, share: float) -> float:
    """Exact match: rises with training, falls beyond the training lengths unless the run is skilled."""
    beyond = max(0, length - 20) / 10
    return float(share / (1 + np.exp(beyond * (1 - skill) - 6 * share)))


def _training(skill: float, rng: np.random.Generator) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    history, trace = [], []
    for step in range(STEPS // LOOKS, STEPS + 1, STEPS // LOOKS):
        share = 1 - np.exp(-6 * step / STEPS)
        measured = {"loss": 2 * (1 - share) + 0.01 * rng.random(), "lr": 1e-3, "exact_match": min(1.0, share * 1.01)}
        history.append({"step": step, **measured, "seconds": step / 100})
        for length in (30, 40, 50):
            value = min(1.0, _right(skill, length, share) + 0.05 * rng.random())
            trace.append(
                {"step": step, "split": "window", "length": length, "metric": "exact_match", "value": value, "n": 64}
            )
    return history, trace


def _evaluations(specs: list[RunSpec], skill: np.ndarray, rng: np.random.Generator) -> list[dict[str, Any]]:
    shared = {"step": STEPS, "metric": "exact_match", "n": 64, "seed": 0, "at": now()}
    shared |= {"correct": bytes(8), "answers": bytes(512)}
    return [
        {
            "run_id": spec.run_id,
            "split": split,
            "length": length,
            "value": 1.0 if split == "id" and length <= 20 else _right(own + rng.normal(0, 0.2), length, 1.0),
            **shared,
        }
        for spec, own in zip(specs, skill, strict=True)
        for split in SPLITS
        for length in LENGTHS
    ]


def _signals(store: Store, specs: list[RunSpec], skill: np.ndarray, rng: np.random.Generator) -> None:
    columns: dict[str, list[Any]] = {name: [] for name in SIGNAL_COLUMNS}
    for i, one in enumerate([s for s in all_signals() if s.admissible][:SIGNALS]):
        values = skill * (i % 7 == 0) + rng.normal(size=len(specs))
        for spec, value in zip(specs, values, strict=True):
            row = {"run_id": spec.run_id, "step": STEPS, "signal": one.name, "version": one.version, "unit": one.unit}
            row |= {"name": f"{one.name}.max", "layer": -1, "head": -1, "value": float(value), "at": now()}
            for name in SIGNAL_COLUMNS:
                columns[name].append(row.get(name))
    Signals(store.path).add(columns, f"signals-{specs[0].train.init_seed}")


def load_seconds(browser: str, page: Path) -> tuple[float, float, float]:
    """Seconds until a fresh browser has drawn what its window shows; processor seconds then, and for all charts."""
    with Browser(browser) as tab:
        tab.open(page)
        first = float(tab.value(_DRAWN))
        used = tab.seconds()
        tab.value("report.all().then(views => views.length)")
        return first, used, tab.seconds()


def main() -> None:
    """Fill a store, write its page, and load it in fresh browsers."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--runs", type=int, default=500)
    asked.add_argument("--browser", default=next((b for b in BROWSERS if shutil.which(b)), None))
    asked.add_argument("--keep", type=Path, help="keep store and page there")
    asked.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.keep or scratch)
        store = Store(folder / "store")
        if not store.groups():
            store.ready()
            fill(store, args.runs)
        page, start = folder / "report.html", time.process_time()
        print(write_report(store, "big", page, "exact_match@split=window>=0.9", None, "random"))
        found: dict[str, Any] = {"runs": args.runs, "build_cpu_seconds": round(time.process_time() - start, 1)}
        found["megabytes"] = round(page.stat().st_size / 1e6, 2)
        if args.browser:
            loads = sorted(load_seconds(args.browser, page) for _ in range(LOADS))
            for i, name in enumerate(("first_drawn_seconds", "first_drawn_cpu_seconds", "all_drawn_cpu_seconds")):
                found[name] = [round(load[i], 2) for load in loads]
            version = subprocess.run([args.browser, "--version"], capture_output=True, text=True, check=True)
            found["browser"] = version.stdout.strip()
        print(json.dumps(found))
        if args.save:
            about = {"made": datetime.now(UTC).date().isoformat(), "machine": platform.machine()}
            RESULTS.write_text(json.dumps(about | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
