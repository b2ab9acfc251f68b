"""A small store with every kind of file that a store has, which the cases copy, and files that calls may name."""

from __future__ import annotations

import os
import shutil
import traceback
from pathlib import Path
from typing import Any

KINDS: dict[str, str] = {
    "marker": "store.json",
    "record": "commits/*.json",
    "table of records": "commits/table-*.parquet",
    "weights": "weights/*.safetensors",
    "checkpoint": "steps/*.safetensors",
    "history": "history/[!c]*.parquet",
    "merged history": "history/compact-*.parquet",
    "evaluations": "evals/[!c]*.parquet",
    "merged evaluations": "evals/compact-*.parquet",
    "answers": "answers/*.parquet",
    "signals": "signals/[!c]*.parquet",
    "merged signals": "signals/compact-*.parquet",
    "mark of a part": "parts/evals/*",
    "resume state": "checkpoints/*.safetensors",
    "lease": "leases/*.json",
    "failure": "failures/*.json",
    "set aside": "lost/weights/*.safetensors",
    "group": "groups/first/group.json",
    "commands of a group": "groups/first/how.json",
    "last group": "groups/last",
    "figure": "groups/first/*.png",
    "tag": "tags/*.json",
    "forecaster": "forecasters/*.json",
    "table of a forecaster": "forecasters/*.parquet",
    "entry of the ledger": "forecasts/[0-9]*.json",
    "head of the ledger": "forecasts/head.json",
}
"""The kinds of file of a store, and where they are."""
_TINY: dict[str, Any] = {"n_layers": 1, "d_model": 8, "n_heads": 2, "batch_size": 8, "steps": 6, "eval_every": 3}


def build(folder: Path) -> Path:
    """Make the store in a child process, since it trains; returns its path."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _build(folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RuntimeError("the store of the campaign could not be made")
    for kind, pattern in KINDS.items():
        assert list(folder.glob(pattern)), f"the store has no {kind}"
    return folder


def _build(folder: Path) -> None:
    import genlab
    from genlab.probes import chosen
    from genlab.probes.probing import probe
    from genlab.report.train import evaluate_at
    from genlab.runs import Store, grid
    from genlab.runs.failures import Failure, record
    from genlab.runs.files import create_json
    from genlab.runs.maintain import compact_store

    def plans(longest: int = 5, **more: Any) -> list[Any]:
        evals = genlab.Evals(longest, n=8, keep_steps=(3,))
        names = ("rotary", "learned")
        return [
            genlab.plan("parity", 3, 5, seeds=(0, 1), evals=evals, positions=p, **{**_TINY, **more}) for p in names
        ]

    signals = chosen(["start_token", "weight_norm"])
    grid(plans(), name="first", store=folder, workers=1)
    probe(Store(folder), Store(folder).run_ids(), signals, n=16)
    grid(
        [genlab.plan("copy", 3, 4, seeds=(0,), evals=genlab.Evals(4, n=8), **_TINY)],
        name="words",
        store=folder,
        workers=1,
    )
    compact_store(Store(folder))
    grid(plans(0, lr=0.01), name="second", store=folder, workers=1)
    store = Store(folder)
    second = store.find("second")
    probe(store, second, signals, n=16)
    _forecast(store)
    evaluate_at(second, ["id"], (4, 5), store, n=8, device="cpu")
    store.named.tag("good", second[:3])
    record(folder, Failure("f" * 16, ["e" * 16], "parity", "ArithmeticError: planted", "", "2026-01-01T00:00:00"))
    create_json(folder / "leases" / f"{'d' * 16}.json", {"owner": "x", "host": "elsewhere", "pid": 1, "born": "1"})
    weights = next((folder / "weights").glob("*.safetensors"))
    for place in ("checkpoints", "lost/weights"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy2(weights, folder / place / weights.name)
    (folder / "groups" / "first" / "by_lr.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def _forecast(store: Any) -> None:
    from genlab.forecast import commands, table

    runs = table(store, "first", None, False)
    options = {"signal": "weight_norm", "model": "linear", "fit_only": False, "seed": 0}
    commands.fit_forecaster(store, runs, "exact_match@length=5", "old", **options)
    commands.seal_forecasts(store, "second", "old")


TABLE = "run_id,s,loss,a,seed,ood\n" + "".join(
    f"r{i},{i % 3},{i * 7 % 5 / 5},{i * 11 % 13 / 13},{i},{int(i * 11 % 13 > 5)}\n" for i in range(24)
)
GRID = '[base]\ntask = "parity"\ntrain_len = 3\ntest_len = 4\nn_layers = 1\nd_model = 8\nn_heads = 2\nsteps = 2\n'
GRID += "batch_size = 4\n[seeds]\ntogether = [0]\n[evals]\nn = 4\n"
SMALL = (
    "--train-len 3 --test-len 4 --steps 2 --batch-size 4 --n-layers 1 --d-model 8 --n-heads 2 --eval-n 4 "
    "--seeds 0:1 --workers 1 --device cpu"
)
"""Options of a run that costs next to nothing."""
PROGRAM = "from genlab.rasp.lang import *\n\ndef program(x):\n    return x\n"


def write_inputs(here: Path) -> None:
    """Put a grid file, an own table, a program and a file that is none of these into a folder."""
    (here / "table.csv").write_text(TABLE)
    (here / "grid.toml").write_text(GRID)
    (here / "program.py").write_text(PROGRAM)
    (here / "notes.txt").write_text("nothing\n")
    (here / "folder").mkdir()
    (here / "dangling").symlink_to("nothing")
