"""Hostile files that users write: grid files, own tables, plugins."""

from __future__ import annotations

import json
import random
from typing import Any, get_args

from .harness import Case, files_of
from .template import GRID, SMALL, TABLE

# -- Grid files

_KEYS = [
    "task", "train_len", "test_len", "n_layers", "d_model", "n_heads", "steps", "batch_size", "lr", "warmup",
    "positions",
    "attn_weights", "norm", "schedule", "betas", "weight_decay", "until", "format", "max_len", "params.base",
    "params", "seeds",
    "d_mlp", "d_head", "attn_only", "init_std", "grad_clip", "pool", "eval_every", "recipe", "start_token",
    "optimizer", "",
    "__class__", "stepz", "é", "a.b.c", "precision", "offsets", "loss", "lengths_per_batch", "label_noise",
    "data_seed", "init_seed",
]  # fmt: skip
_VALUES = [
    "0", "1", "-1", "2", "1.5", "1e400", "-inf", "nan", "true", "false", '""', '"x"', '"1"', "[]", "[1]", "[[1]]",
    "{}",
    "{ a = 1 }", "1" + "0" * 30, "9223372036854775807", "-9223372036854775808", "1979-05-27", "07:32:00",
    '"""a\nb"""', "'''x'''",
    '"../../outside"', '"\\u0000"', '"日本"', "0x7fffffffffffffff", "0b1", "1_000_000_000_000", '"parity"', '"sort"',
    '"learned"',
    "[1, 2, 3]", "[1, 'a', true]", "[true, false]", '["parity", "sort", 3]', '"0:3"', '"0:1000000000000"', '"3:1"',
    '"1:2:0"',
    "[" * 60 + "]" * 60, '"' + "a" * 5000 + '"', "1e-320", "-0.0", "[nan, nan]", "[{ x = 1 }]", "2.0", "1e3",
]  # fmt: skip
_TABLES = [
    "base",
    "sweep",
    "zip",
    "seeds",
    "evals",
    "exclude",
    "other",
    "base.params",
    "sweep.x",
    "evals.splits",
    "[zip",
    "[exclude",
]


def edge(rng: random.Random) -> tuple[str, str]:
    """An option of model or training, and a value at the edge of what its spec may allow, as TOML."""
    from genlab.runs.plan import DERIVED
    from genlab.spec import ModelConfig, TrainConfig

    fields = {**ModelConfig.model_fields, **TrainConfig.model_fields}
    name = rng.choice([name for name in fields if name not in DERIVED])
    kinds = [kind for kind in get_args(fields[name].annotation) if kind is not type(None)] or [
        fields[name].annotation
    ]
    if isinstance(kinds[0], str):
        return name, json.dumps(rng.choice(kinds))
    if len(kinds) > 1:
        return name, f"[{rng.choice(['0.0', '0.9'])}, {rng.choice(['0.0', '0.5', '1.0'])}]"
    values = {bool: ["true", "false"], int: ["0", "1", "2", "3"], str: ['""', '"id"']}
    return name, rng.choice(values.get(kinds[0], ["0.0", "0.5", "1.0", "1e-300", "1e30"]))


def grid_text(rng: random.Random) -> bytes:
    """A grid file with a few faults, or with options at the edge of what is allowed."""
    lines = GRID.splitlines()
    if rng.random() < 0.5:
        for key, value in [edge(rng) for _ in range(rng.choice([1, 1, 2, 3]))]:
            lines = [line for line in lines if not line.startswith(f"{key} =")]
            lines.insert(1, f"{key} = {value}")
        if rng.random() < 0.7:
            return "\n".join(lines).encode()
    for _ in range(rng.choice([1, 1, 2, 3, 5])):
        key, value = rng.choice(_KEYS), rng.choice(_VALUES)
        what = rng.random()
        if what < 0.35:
            place = rng.randrange(1, len(lines) + 1)
            lines = [line for line in lines if not line.startswith(f"{key} =")]
            lines.insert(min(place, len(lines)), f"{key} = {value}")
        elif what < 0.6:
            table = rng.choice(_TABLES)
            close = "]]" if table.startswith("[") else "]"
            lines += [f"[{table}{close}", f"{key or 'lr'} = {value}", f"{rng.choice(_KEYS)} = {rng.choice(_VALUES)}"]
        elif what < 0.75:
            many = ", ".join(rng.choice(_VALUES) for _ in range(rng.choice([0, 1, 2, 4])))
            lines += [f"[{rng.choice(['sweep', 'zip', 'exclude'])}]", f"{rng.choice(_KEYS)} = [{many}]"]
        elif what < 0.85:
            del lines[rng.randrange(len(lines))]
        else:
            at = rng.randrange(len(lines))
            lines[at] = lines[at].replace(
                rng.choice("=[]\"' "), rng.choice(["", "==", "\t", "[", "#", "\\", "\x07"]), 1
            )
        lines = lines or ["[base]"]
    data = "\n".join(lines).encode()
    if rng.random() < 0.1:
        place = rng.randrange(len(data))
        data = (
            data[:place]
            + rng.choice([b"\xff", b"\0", b"\xef\xbb\xbf", b"\r", b"\xc3\x28", b"\xe2\x80\xae"])
            + data[place:]
        )
    return data


def run_grid(case: Case) -> None:
    """Plan a grid file; if it is accepted and small, train it."""
    name = case.rng.choice(
        ["grid.toml", "grid.toml", "grid", "a b.toml", "é.toml", "..toml", "-x.toml", "last.toml", "x" * 200]
    )
    file = case.here / name
    file.write_bytes(grid_text(case.rng))
    case.disturbed = 1
    before = files_of(case.root)
    said = file.name if not name.startswith("-") else f"./{name}"
    planned = case.call("grid", said, "--status", "--json")
    if planned.status == 0:
        case.call("grid", said, "--workers", "1", "--device", "cpu", alone=case.rng.random() < 0.05, limit=90)
        if case.store.exists() and case.call("store", "check").status != 0:
            case.fault("harmed", f"after training {file.read_text(errors='replace')!r}: {case.calls[-1].out[:300]}")
    elif case.store.exists():
        case.fault("outside", f"a refused grid file made a store: {planned.err[:200]}")
    _check_surroundings(case, before)


def _check_surroundings(case: Case, before: dict[Any, Any]) -> None:
    own = (case.root / "tmp", case.root / "home", case.root / "out", case.root / "err", case.store)
    for path, state in files_of(case.root).items():
        if (
            before.get(path) != state
            and not any(path.is_relative_to(o) for o in own)
            and "__pycache__" not in path.parts
        ):
            case.fault("outside", f"{case.calls[-1].typed} wrote {path.relative_to(case.root)}")


# -- Own tables

_CELLS = [
    "", "NA", "None", "nan", "inf", "-inf", "1e999", "x", "1,5", "1.0.0", "true", "0x1", '"', "é", "1e308", "-0",
    " 1", "1 ",
    "2026-01-01", "9" * 40, "١", "\0", "=1+1", "null", "[1]", "a" * 2000, "1e-320",
]  # fmt: skip


def table_bytes(rng: random.Random) -> tuple[str, bytes]:
    """The name and the content of an own table with a few faults."""
    rows = [line.split(",") for line in TABLE.strip().splitlines()]
    for _ in range(rng.choice([1, 1, 2, 4])):
        what, column = rng.random(), rng.randrange(len(rows[0]))
        if what < 0.35:
            for row in rng.sample(rows[1:], min(len(rows) - 1, rng.choice([1, 1, 5, 24]))):
                row[column % len(row)] = rng.choice(_CELLS)
        elif what < 0.45:
            value = rng.choice([*_CELLS, "0", "1"])
            rows[1:] = [[*row[:column], value, *row[column + 1 :]] for row in rows[1:]]
        elif what < 0.55:
            rows = rows[: rng.choice([0, 1, 2, 3, 5])] or [["a"]]
        elif what < 0.65:
            rows[0][column % len(rows[0])] = rng.choice(
                ["", "ood", "a", "run_id", "weight", "é", "length", "(a)", "signal.x", "NA"]
            )
        elif what < 0.75:
            rows = [row[:column] + row[column + 1 :] for row in rows]
        elif what < 0.85:
            rows.append(rng.choice([rows[-1], rows[0], [*rows[-1], "more"], []]))
        rows = [row for row in rows if row] or [["a"]]
    data = "\n".join(",".join(row) for row in rows).encode() + b"\n"
    what = rng.random()
    if what < 0.15:
        place = rng.randrange(len(data))
        data = (
            data[:place] + rng.choice([b"\xff\xfe", b"\0", b"\xef\xbb\xbf", b'"', b"\r", b"\xc3\x28"]) + data[place:]
        )
    elif what < 0.2:
        data = b""
    name = rng.choice(["t.csv"] * 8 + ["t.parquet", "t", "t.CSV", "t.xlsx", "t.csv.gz"])
    if rng.random() < 0.2:
        name, data = "t.parquet", _parquet(rng)
    return name, data


def _parquet(rng: random.Random) -> bytes:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"a": list(np.linspace(0, 1, 12)), "s": [0, 1] * 6, "ood": [0.0, 1.0, 1.0] * 4}
    strange = [
        [None] * 12,
        [[1]] * 12,
        [b"x"] * 12,
        [{"x": 1}] * 12,
        ["x"] * 12,
        [True] * 12,
        [float("inf")] * 12,
        [2**62] * 12,
    ]
    columns[rng.choice(list(columns))] = rng.choice(strange)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    data = bytearray(sink.getvalue().to_pybytes())
    if rng.random() < 0.4:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)


def run_table(case: Case) -> None:
    """Evaluate forecasts from an own table."""
    name, data = table_bytes(case.rng)
    (case.here / name).write_bytes(data)
    case.disturbed = 1
    before = files_of(case.root)
    words = [
        "forecast",
        "evaluate",
        "--table",
        name,
        "--by",
        case.rng.choice(["random", "setting", "few", "length", "task"]),
    ]
    words += ["--target", case.rng.choice(["ood", "ood>=0.5", "ood>=0.5", "a", "ood>=nan", "nothing", "ood>="])]
    words += ["--outcome", case.rng.choice(["ood", "ood", "ood", "a", "ood,ood", "x"])]
    for flag, names in {
        "--setting": ["s", "seed"],
        "--metric": ["loss"],
        "--seeds": ["seed"],
        "--signals": ["a", "a,s"],
    }.items():
        if case.rng.random() < 0.7:
            words += [flag, case.rng.choice([*names, names[0], "nothing"] if case.rng.random() < 0.2 else names)]
    if case.rng.random() < 0.5:
        words += ["--signal", case.rng.choice(["a", "a", "s", "x"])]
    words += ["--all-runs"] * (case.rng.random() < 0.3)
    if case.rng.random() < 0.5:
        words.append("--json")
    case.call(*words, alone=case.rng.random() < 0.05, limit=90)
    _check_surroundings(case, before)


# -- Plugins

_GOOD = '''
import numpy as np
from genlab.spec import Split
from genlab.tasks import Part, Task, Vocab, assemble, register, split_map

@register
class Mine(Task):
    """The first bit of a string of bits: `1 0 0 > 1`."""

    name, family, length_unit = NAME, "mine", "bits"
    asks, source = "what is the first bit?", "a test"
    formats = {"plain": "bits > first bit"}
    splits = split_map(Split(name="id", about="each bit is one with probability 1/2"))

    def symbols(self):
        return SYMBOLS

    def width(self, length):
        return WIDTH

    def draw(self, rng, split, lengths):
        DRAW
        bits = Vocab.first + (rng.random((len(lengths), int(lengths.max()))) < 0.5)
        keep = np.arange(bits.shape[1]) < lengths[:, None]
        answer = Part(bits[:, :1], scored=True)
        return assemble([Part(bits, keep=keep), Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def solve(self, prompt):
        SOLVE

    def chance(self, length):
        return CHANCE
'''
_USUAL = {
    "NAME": '"mine"',
    "SYMBOLS": '("0", "1")',
    "WIDTH": "length + 3",
    "DRAW": "pass",
    "SOLVE": "return (prompt[0],)",
    "CHANCE": "0.5",
}
PLANTED: list[dict[str, str] | str] = [
    {}, {"NAME": '"../../outside"'}, {"NAME": '"a/b"'}, {"NAME": '""'}, {"NAME": '"x" * 300'}, {"NAME": '"a b\\n"'},
    {"NAME": "3"},
    {"NAME": '"parity"'}, {"NAME": '"é"'}, {"SYMBOLS": "()"}, {"SYMBOLS": '("0", "0")'}, {"SYMBOLS": "None"},
    {"SYMBOLS": '("0", 1)'},
    {"WIDTH": "length - 5"}, {"WIDTH": "'x'"}, {"WIDTH": "1 / 0"}, {"WIDTH": "10 ** 12"},
    {"DRAW": "raise ValueError('planted\\nline')"},
    {"DRAW": "import sys; sys.exit(3)"}, {"DRAW": "return None"},
    {"DRAW": "self.draw(rng, split, lengths)"},
    {"DRAW": "return np.zeros(3)"}, {"SOLVE": "return (prompt[-1],)"}, {"SOLVE": "raise ArithmeticError"},
    {"SOLVE": "return None"},
    {"CHANCE": "float('nan')"}, {"CHANCE": "'x'"},
    "import nothing_of_this_name\n", "import sys\nsys.exit(7)\n", "def f(:\n",
    "x = [" * 300, "\0", "raise Exception\n",
    "class E(BaseException): pass\nraise E('planted')\n", "from genlab.tasks import register\nregister(3)\n",
    "def f(): f()\nf()\n", "assert False\n", "import genlab.runs.store as s\ndel s.Store\n",
]  # fmt: skip
"""What is wrong with each plugin: parts of a good one, or a whole file."""


def plugin_text(number: int) -> str:
    """A plugin."""
    planted = PLANTED[number % len(PLANTED)]
    if isinstance(planted, str):
        return planted
    text = _GOOD
    for name, value in {**_USUAL, **planted}.items():
        text = text.replace(name, value)
    return text


def run_plugin(case: Case, number: int) -> None:
    """List, show, train and read with a plugin, and read its store without it."""
    (case.here / "plugin.py").write_text(plugin_text(number))
    case.disturbed = 1
    planted = PLANTED[number % len(PLANTED)]
    name = "mine" if isinstance(planted, str) else {**_USUAL, **planted}["NAME"].strip('"')
    before = files_of(case.root)
    with_it = ("--plugin", "plugin.py")
    case.call("tasks", *with_it)
    case.call("show", name, *with_it)
    case.call("train", "--task", name, *SMALL.split(), *with_it, alone=number % 15 == 0, limit=90)
    for words in (("runs", "--json"), ("report", "--grid", "last", "-o", "r.html"), ("store", "check")):
        ended = case.call(*words)
        if words == ("store", "check") and case.store.exists() and ended.status != 0:
            case.fault("harmed", f"plugin {planted!r}: {ended.out[:300]}")
    (case.here / "r.html").unlink(missing_ok=True)
    _check_surroundings(case, before)
