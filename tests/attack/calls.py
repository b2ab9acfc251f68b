"""Fuzzed command lines: real commands and options, as the command line itself knows them, with hostile values.

A new command or option joins by itself: its parameters are read from the typer app. What a parameter may sensibly be
comes from its name; what costs much when it is granted is kept small.
"""

from __future__ import annotations

import json
import random
import shlex
import signal
from collections.abc import Iterator
from typing import Any

from .harness import Case, Signal, files_of
from .template import SMALL, write_inputs

HOSTILE = [
    "", " ", "-", "--", "x", "../../outside", "/", ".", "..", "~", "a" * 3000, "é", "日本語", "\udcff", "%s%n", "{}",
    "{0.x}", "$(x)",
    "*", "[", "(((", "'", '"', "a\nb", "\t", "None", "nan", "inf", "-inf", "1e400", "1e-400", "0x10", "1_0", "٣",
    "true",
    "0", "-1", "1.5", "-0", "1" + "0" * 30, "-1" + "0" * 30, "9223372036854775808", "4:2", "0:0", "1:2:0", "1:9:-1",
    "::", "5:",
    ":5", "1,,2", ",", ";", "=", "=1", "a=", "a==b", "/dev/full", "/dev/null", "store", "store/store.json",
    "folder", "dangling",
    "notes.txt", "store/evals/x.parquet", "store/groups/x.png", "missing/folder/x.png", "notes.txt/x.html", "last",
    "first",
    "__class__", "exec('1')", "1 if 1 else 2", "lr > ", "lr = 1 and", "@id", "length = 3", "lambda: 0", "\\", "#",
    "[red]x", "[/]",
]  # fmt: skip
"""Values that fit nothing in particular. What may be a huge number is beyond every bound, not merely long work."""

_SANE: list[tuple[tuple[str, ...], list[str]]] = [
    (("task",), ["parity", "copy", "sort", "count", "addition", "brackets", "modular", "partiy", "maze"]),
    (("run", "runs", "grid", "which"), ["last", "first", "second", "good", "words", "RUN", "PREFIX", "RUN2"]),
    (("names", "signal", "signals"), ["weight_norm", "start_token", "induction*", "start_token.max", "heads"]),
    (("split", "test_split"), ["id", "far", "id,id", "dense", "Id"]),
    (("where",), [
        "lr > 0.001", "positions = rotary", "task = parity and lr < 1", "start_token.max > 0", "step >= 1"]),
    (("by", "sort", "factors"), ["lr", "positions", "positions,lr", "-lr", "setting", "random", "length", "few"]),
    (("target",), ["exact_match@length=5", "exact_match@length=5>=0.5", "furthest@0.9", "ood"]),
    (("lengths", "train_len", "test_len", "length", "max_len", "at", "longest"), ["3", "4", "3:5", "2", "6"]),
    (("seeds", "seed", "steps", "step", "n", "keep_steps", "eval_seed"), ["0", "1", "2", "0:2", "3", "all"]),
    (("eval_n", "probe_n"), ["4", "16"]),
    (("workers", "stack", "pairs", "limit", "batch_size", "pool"), ["1", "2"]),
    (("file",), ["grid.toml", "table.csv"]),
    (("table",), ["table.csv"]),
    (("program",), ["program.py"]),
    (("prompt", "prompts"), ["0 1 >", "a b >", "1 1 1 1 1 1 1 1 1 1 1 >", "7 3 5 > 3", "> >", "1 <end>"]),
    (("plugin",), ["program.py"]),
    (("device",), ["cpu", "auto", "cuda", "cuda:3", "tpu"]),
    (("executor",), ["local"]),
    (("format",), ["plain", "reversed", "scratchpad", "unique"]),
    (("setting", "metric", "confidence", "attention", "outcome"), ["s", "loss", "a", "ood", "s,loss"]),
    (("param",), ["base=2", "p=0.5", "m=3", "base=true"]),
    (("save", "with_model", "name"), ["old", "new", "good", "and-fixed-bits"]),
    (("figure", "png"), ["x.png", "folder/x.svg", "x.gif"]),
    (("parquet",), ["rows.parquet"]),
    (("out", "output"), ["x.html", "x.py", "x.ipynb", "x.parquet", "folder"]),
    (("cut",), ["0.2", "0", "1"]),
    (("budget",), ["1s", "0m"]),
    (("address",), ["auto"]),
    (("store",), ["store", "elsewhere", "folder"]),
    (("claims",), ["folder"]),
]  # fmt: skip
_ALWAYS: dict[str, list[str]] = {
    "train": shlex.split(SMALL),
    "grid": ["--workers", "1"],
    "eval": ["--eval-n", "4", "--lengths", "3"],
    "probe": ["--probe-n", "16", "--signals", "weight_norm"],
    "reproduce": ["--out", "pages", "--check"],
    "rasp generate": ["--pairs", "1"],
    "rasp check": ["--lengths", "3:4", "-n", "3"],
    "export": ["-n", "4"],
}
"""Given first, so that what is drawn comes after it and counts: without them the call would be much work."""
_LONG: dict[str, Signal] = {"calibrate": (5.0, signal.SIGINT)}
"""Commands that no options make short, and when they are interrupted, as a user would who had expected less."""
_RARE = {"calibrate": 0.5, "notebook": 0.1, "rasp predict": 0.3, "reproduce": 0.5}
"""Commands that are drawn less often, since they take long."""


def commands() -> dict[str, Any]:
    """Every command of the app, by the words that call it."""
    import typer

    from genlab.cli import app

    found: dict[str, Any] = {}

    def visit(command: Any, words: tuple[str, ...]) -> None:
        for name, below in getattr(command, "commands", {}).items():
            visit(below, (*words, name))
        if not getattr(command, "commands", None):
            found[" ".join(words)] = command

    visit(typer.main.get_command(app), ())
    return found


def sane(parameter: Any, rng: random.Random) -> str:
    """A value that such a parameter may have; for one that is not known here, by its type."""
    for names, values in _SANE:
        if parameter.name in names:
            return rng.choice(values)
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", str)
    if kind is int:
        return rng.choice(["0", "1", "2", "4", "8"])
    if kind is float:
        return rng.choice(["0", "0.1", "1", "0.5", "1e30"])
    metavar = getattr(parameter, "metavar", None) or ""
    return rng.choice(metavar.split("|")) if "|" in metavar else rng.choice(["none", "1", "0.9,0.99"])


def draw(rng: random.Random, found: dict[str, Any]) -> list[str]:
    """A command line."""
    names = sorted(found)
    name = rng.choices(names, [_RARE.get(n, 1.0) for n in names])[0]
    words = [*name.split(), *_ALWAYS.get(name, [])]
    parameters = list(found[name].params)
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option" and p.name not in ("help", "executor")]
    given = [p for p in options if p.required and rng.random() < 0.95]
    free = [p for p in options if p not in given]
    given += rng.sample(free, min(len(free), rng.choice([0, 0, 1, 1, 2, 3, 5])))
    calm = rng.random() < 0.3  # hostile in one place only, so that the call gets far
    worst = rng.choice([*arguments, *given, None])
    for p in arguments:
        if p.required or rng.random() < 0.5:
            for _ in range(1 if p.nargs == 1 else rng.choice([1, 1, 2])):
                words.append(_value(p, rng, p is worst if calm else rng.random() < 0.25))
    for p in given:
        flag = rng.choice([*p.opts, *p.secondary_opts])
        if getattr(p, "is_flag", False):
            words.append(flag)
        else:
            value = _value(p, rng, p is worst if calm else rng.random() < 0.4)
            words += [f"{flag}={value}"] if flag.startswith("--") and rng.random() < 0.3 else [flag, value]
    if rng.random() < 0.05:
        words.insert(rng.randrange(len(words) + 1), rng.choice([*HOSTILE, "--nonsense", "--help", "-x", "--stepz=3"]))
    return words


def _value(parameter: Any, rng: random.Random, hostile: bool) -> str:
    return rng.choice(HOSTILE) if hostile else sane(parameter, rng)


def run(case: Case) -> None:
    """One command line, and what it did to its surroundings and to the store."""
    write_inputs(case.here)
    words = [_filled(word, case) for word in draw(case.rng, commands())]
    alone = case.rng.random() < 0.02 and not any(_unspeakable(word) for word in words)
    inside, outside = _surroundings(case)
    case.call(*words, alone=alone, after=_LONG.get(words[0]))
    case.disturbed = 1
    after_inside, after_outside = _surroundings(case)
    allowed = list(_named(words, case))
    for path in sorted(after_outside):
        if outside.get(path) != after_outside[path] and not any(path.is_relative_to(a) or a == path for a in allowed):
            case.fault("outside", f"{case.calls[-1].typed} wrote {path.relative_to(case.root)}")
    for path in outside.keys() - after_outside.keys():
        case.fault("outside", f"{case.calls[-1].typed} removed {path.relative_to(case.root)}")
    if inside != after_inside:
        typed = case.calls[-1].typed
        for command in ("check", "compact"):  # what was accepted may be what no table of all runs can hold
            if (ended := case.call("store", command)).status != 0:
                case.fault("harmed", f"after {typed}, store {command}: {(ended.out + ended.err).splitlines()[-2:]}")


def _unspeakable(word: str) -> bool:
    return "\0" in word or len(word) > 100_000


def _filled(word: str, case: Case) -> str:
    """A word with ids of runs of the store in place of their names in capitals."""
    if word not in ("RUN", "PREFIX", "RUN2"):
        return word
    records = sorted((case.store / "commits").glob("*.json"))
    ids = [run["run_id"] for record in records for run in json.loads(record.read_text())["runs"]]
    return {"RUN": ids[0], "RUN2": ids[-1], "PREFIX": ids[0][:5]}[word]


def _surroundings(case: Case) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The files of the store, and those beside it but for the logs, temporary files and caches of the call."""
    every = files_of(case.root)
    inside = {path: state for path, state in every.items() if path.is_relative_to(case.store)}
    own = (case.root / "tmp", case.root / "home", case.root / "out", case.root / "err")
    return inside, {p: s for p, s in every.items() if p not in inside and not any(p.is_relative_to(o) for o in own)}


def _named(words: list[str], case: Case) -> Iterator[Any]:
    """What the words allow to be written: the files and folders that they name, and the notebook of a run."""
    for word in words:
        for text in (word, word.partition("=")[2]):
            if text and "\0" not in text and len(text) < 1000:
                place = (case.here / text).resolve()
                if not case.here.is_relative_to(place):
                    yield place
    if "notebook" in words:
        yield from case.here.glob("*.ipynb")
