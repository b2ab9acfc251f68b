"""The first study: is it told inside a model how it behaves out of distribution? Three experiments, each one command.

    python benchmarks/study_1.py implanted [--store DIR] [--workers N]   # does the signal tell implanted rules apart?
    python benchmarks/study_1.py sealed    [--store DIR] [--workers N]   # 75 runs to learn from, 75 sealed, looked at
    python benchmarks/study_1.py tasks     [--store DIR] [--workers N]   # five tasks under four position encodings
    python benchmarks/study_1.py pairs     [--store DIR]                 # pairs of runs that differ outside alone

Each trains the runs of its grid files (recipes/study-1-*.toml), reads signals, seals what is claimed, looks, scores,
and writes tables and figures to docs/study-1/. What is there is found again: a command that was stopped goes on.
docs/study-1.md says what came out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from study_1_figures import draw_arms, draw_sealed, draw_tasks
from study_1_pairs import keep_pairs

import genlab.runs
from genlab.forecast.causal import removal_lines, remove_head
from genlab.forecast.commands import evaluate_forecasts, fit_forecaster, score_locks, seal_forecasts
from genlab.forecast.compare import try_all
from genlab.forecast.ledger import Ledger
from genlab.forecast.roles import part
from genlab.forecast.rules import rules_learned
from genlab.forecast.scores import Interval, blocks_of, bootstrap_interval, multiplicities, ranking, words
from genlab.forecast.tables import table
from genlab.forecast.targets import parse_target, values_of
from genlab.probes import chosen, probe
from genlab.runs.api import evaluate
from genlab.runs.gridfile import read_grid
from genlab.runs.store import Store
from genlab.tasks import fitted

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "study-1"
SIGNALS = ("brackets", "heads", "copying", "selects", "sharpness", "confidence", "training", "weights")
"""Families that are read of every run; what does not apply to a task is left out."""
SPLIT, SIGNAL = "matched-unnested", "bracket_ambi.max"
"""The primary signal, chosen before any signal was read: the one that the literature reports (arXiv 2507.06445)."""
TARGET = f"exact_match@split={SPLIT}"
FACTORS = ["task", "format", "positions"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    experiments: dict[str, Callable[[Store, int], object]] = {
        "implanted": implanted,
        "sealed": sealed,
        "tasks": tasks,
        "pairs": pairs,
    }
    parser.add_argument("experiment", choices=list(experiments))
    parser.add_argument("--store", type=Path, help="the store (default: $GENLAB_STORE, or runs)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a core")
    asked = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    experiments[asked.experiment](Store(asked.store), asked.workers)


# -- 1: implanted rules ----------------------------------------------------------------------------------------


def implanted(store: Store, workers: int) -> None:
    """Three arms: the ambiguous training set, and the two in which 5 % of the strings tell the rules apart."""
    seal(store, "study-1-implanted", "the implanted arm: NESTED against EQUAL-COUNT", "arm", SIGNAL, None)
    trained("study-1-implanted", store, workers)
    ids = read_signals(store, "study-1-implanted")
    about = table(store, ids)
    rows = arm_rows(store, about)
    rows.to_csv(OUT / "implanted.csv", float_format="%.4f")
    fit = rows[rows["fits"]]
    two = fit[fit["arm"] != "ambiguous"]
    nested = (two["arm"] == "nested").to_numpy(float)
    follows = fit.groupby("arm")["follows_nested"].describe().round(4)
    told = {"runs": rows.groupby("arm").size().to_dict(), "fit": fit.groupby("arm").size().to_dict()}
    told |= {f"share of answers on {SPLIT} that NESTED gives": follows.to_dict("index")}
    told |= arm_scores(about.loc[two.index], nested, two["seed"].to_numpy())
    write("implanted.json", told)
    draw_arms(fit, SIGNAL, OUT / "implanted.png")


def arm_rows(store: Store, about: pd.DataFrame) -> pd.DataFrame:
    """A row a run: its arm, its fit, the share of its answers on the split that NESTED gives, and its signals."""
    ids = [str(run) for run in about.index]
    specs = [store.spec(run) for run in ids]
    arm = ["ambiguous" if not s.train.mix else str(s.task.params.get("rule", "nested")) for s in specs]
    by_rule = [run for run, spec in zip(ids, specs, strict=True) if not spec.task.params]
    by_count = [run for run, spec in zip(ids, specs, strict=True) if spec.task.params]
    follows = pd.concat([rules_learned(store, some, SPLIT).runs["rule|NESTED"] for some in (by_rule, by_count)])
    exact = part(about, "metric")["exact_match"]
    columns = {"arm": arm, "seed": [s.train.init_seed for s in specs], "exact_match": exact, "fits": fitted(exact)}
    heads = part(about, "signal")
    shown = heads[[name for name in heads if str(name).startswith("bracket_")]]
    return pd.DataFrame(columns, index=about.index).assign(follows_nested=follows).join(shown)


def arm_scores(about: pd.DataFrame, nested: np.ndarray, seed: np.ndarray) -> dict[str, Any]:
    """AUROC of the sealed signal between the implanted arms; of shuffled arms; of all signals, exploratory."""
    rng = np.random.default_rng(0)
    given = pd.concat([part(about, role) for role in ("signal", "attention", "confidence", "metric")], axis=1)
    given = given.loc[:, ~given.columns.duplicated()]  # a loss is a metric, and a confidence
    score = given[SIGNAL].to_numpy(float)
    draws = auroc(nested, score, multiplicities(seed, 2000, rng))
    interval = bootstrap_interval(float(auroc(nested, score)[0]), draws, len(np.unique(seed)))
    shuffled = [float(auroc(rng.permutation(nested), score)[0]) for _ in range(1000)]
    names = [str(name) for name in given if given[name].nunique() > 1]
    none = np.zeros(len(about))
    tried = try_all(
        names, given[names].to_numpy(float), "yes/no", nested, none > 0, none.astype(str), np.arange(len(about)), rng
    )
    everything = pd.DataFrame([asdict(one) for one in tried])
    filled = given[names].fillna(given[names].median()).to_numpy(float)
    everything["auroc"] = [float(auroc(nested, column)[0]) for column in filled.T]
    order = (everything["auroc"] - 0.5).abs().sort_values(ascending=False).index
    everything.loc[order].to_csv(OUT / "implanted-signals.csv", index=False, float_format="%.4f")
    return {"sealed signal": SIGNAL, "AUROC": told_interval(interval), "shuffled arms": spread(shuffled)}


def auroc(yes: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """float[draw]: how likely a run of one arm has a larger score than one of the other."""
    none = np.zeros(len(yes))
    return ranking(blocks_of("yes/no", yes, none > 0, none.astype(str), none)[0], score, weights)[0]


# -- 2: a sealed forecast in one setting ---------------------------------------------------------------------------


def sealed(store: Store, workers: int) -> None:
    """75 runs whose outcome is known forecast 75 others, before those are looked at."""
    trained("study-1-discover", store, workers)
    trained("study-1-sealed", store, workers)
    discover, unseen = (read_signals(store, f"study-1-{name}") for name in ("discover", "sealed"))
    look(store, discover, seed=1)
    known = table(store, discover)
    best = best_signal(known)
    for name, signal in (("study-1", SIGNAL), ("study-1-best", best)):
        if not (store.path / "forecasters" / f"{name}.json").is_file():
            fit_forecaster(store, known, TARGET, name, signal=signal)
        if not any(entry["forecaster"]["name"] == name for entry in Ledger(store).entries("forecasts")):
            print("\n".join(seal_forecasts(store, "study-1-sealed", name).lines()[:2]))
    look(store, unseen, seed=0)
    look(store, unseen, seed=1)
    scores = score_locks(store)
    write_text("sealed-scores.txt", scores.lines())
    after, target = table(store, unseen), parse_target(TARGET)
    locks = {entry["forecaster"]["name"]: entry for entry in Ledger(store).entries("forecasts")}
    rows = forecast_rows(after, locks["study-1"], f"baselines + {SIGNAL}")
    rows.to_csv(OUT / "sealed.csv", float_format="%.4f")
    causal = [
        remove_head(store, after, target, SIGNAL, kind, np.random.default_rng(0)) for kind in ("uniform", "mean")
    ]
    write_text("sealed-causal.txt", removal_lines(causal))
    both = table(store, discover + unseen)
    exploratory = evaluate_forecasts(store, both, None, TARGET, "random", signal=SIGNAL, fit_only=True, seed=0)
    write_text("sealed-exploratory.txt", exploratory.lines())
    write(
        "sealed.json",
        {"best of discovery": best, "history": scores.as_json(), "causal": [one.as_json() for one in causal]},
    )
    draw_sealed(rows, values_of(known, target).value, OUT / "sealed.png")


def best_signal(known: pd.DataFrame) -> str:
    """The signal of heads or weights that goes most with the target among the runs to learn from."""
    inside = known[fitted(part(known, "metric")["exact_match"])]
    read = part(inside, "signal")
    read = read.loc[:, read.nunique() > 1]
    value = values_of(inside, parse_target(TARGET)).value
    strength = read.corrwith(pd.Series(value, index=inside.index), method="spearman").abs()
    return str(strength.idxmax())


def forecast_rows(after: pd.DataFrame, entry: dict[str, Any], name: str) -> pd.DataFrame:
    """A row a sealed run: what was forecast (with and without the signal), what came out, measured twice."""
    runs, target = entry["runs"], parse_target(TARGET)
    rows = pd.DataFrame(index=pd.Index(runs, name="run_id"))
    for column, of in (("forecast", name), ("baselines", "baselines"), ("signal_alone", f"{SIGNAL} alone")):
        rows[column] = [entry["forecasts"][of][run][1] for run in runs]
    of_runs = after.loc[runs]
    rows["outcome"] = values_of(of_runs, target).value
    rows["again"] = values_of(of_runs, target, "second").value
    return rows.assign(signal=part(of_runs, "signal")[SIGNAL])


def look(store: Store, ids: list[str], seed: int) -> None:
    """Evaluate runs on the split that tells the rules apart, at the lengths that they were trained on."""
    spec = store.spec(ids[0])
    lengths = genlab.runs.load(ids[0], store).task.lengths_between(SPLIT, spec.train.min_len, spec.train.train_len)
    split = genlab.runs.load(ids[0], store).task.split(SPLIT).at(tuple(lengths), 256, seed)
    evaluate(ids, [split], store)


# -- 3: many tasks -------------------------------------------------------------------------------------------------


def tasks(store: Store, workers: int) -> None:
    """Exact match beyond the training lengths of five tasks under four position encodings, with the RASP verdicts."""
    grid, target, signal = "study-1-tasks", "exact_match@split=id", "rasp_selects_found"
    seal(store, grid, target, "setting", signal, FACTORS)
    trained(grid, store, workers)
    ids = read_signals(store, grid)
    about = table(store, ids)
    asked = {"signal": signal, "fit_only": True, "seed": 0}
    for by, factors in (("setting", FACTORS), ("task", None)):
        judged = evaluate_forecasts(store, about, grid, target, by, **asked, factors=factors)
        write_text(f"tasks-by-{by}.txt", judged.lines())
    rows = task_rows(about, target, signal)
    rows.to_csv(OUT / "tasks.csv", float_format="%.4f")
    draw_tasks(rows, OUT / "tasks.png")


def task_rows(about: pd.DataFrame, target: str, signal: str) -> pd.DataFrame:
    """A row a run: setting, fit, exact match beyond the training lengths, what RASP says, and the signal."""
    setting = part(about, "setting")[FACTORS]
    exact = part(about, "metric")["exact_match"]
    beyond = pd.Series(values_of(about, parse_target(target)).value, index=about.index)
    facts = part(about, "fact")
    found = setting.assign(
        seed=part(about, "seed")["init_seed"], exact_match=exact, fits=fitted(exact), beyond=beyond
    )
    found = found.join(facts)
    return found.assign(signal=part(about, "signal").get(signal))


# -- pairs, and what all share -------------------------------------------------------------------------------------


def pairs(store: Store, workers: int) -> None:
    """Runs of one architecture, right in distribution, that differ by seed alone, and outside it."""
    del workers
    keep_pairs(store, ["study-1-discover", "study-1-sealed"], TARGET, ROOT / "benchmarks" / "pairs")


def seal(store: Store, grid: str, target: str, by: str, signal: str, factors: list[str] | None) -> None:
    """Write down what will be claimed, before any run is trained: once."""
    ledger = Ledger(store)
    if not any(entry["grid"] == grid for entry in ledger.entries("plan")):
        ledger.append("plan", {"grid": grid, "target": target, "by": by, "signal": signal, "factors": factors})


def trained(name: str, store: Store, workers: int) -> list[str]:
    """The runs of a grid file, trained and evaluated."""
    runs = genlab.runs.grid(read_grid(ROOT / "recipes" / f"{name}.toml"), store=store, workers=workers)
    return [run.run_id for run in runs]


def read_signals(store: Store, grid: str) -> list[str]:
    """The runs of a grid, their signals read."""
    ids = store.find(grid)
    probe(store, ids, chosen(SIGNALS))
    return ids


def told_interval(found: Interval) -> dict[str, Any]:
    return {"words": words(found), **asdict(found)}


def spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "lowest": min(values), "highest": max(values)}


def write(name: str, told: dict[str, Any]) -> None:
    (OUT / name).write_text(json.dumps(told, indent=1, default=float) + "\n")
    print(json.dumps(told, indent=1, default=float))


def write_text(name: str, lines: list[str]) -> None:
    (OUT / name).write_text("\n".join(line.rstrip() for line in lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
