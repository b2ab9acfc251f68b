"""Grid files: hundreds of runs as one TOML file, every fault of it found before anything starts.

    [base]                       what all cells share: options of `lab train`, with underscores
    task = "sort"
    train_len = 10
    test_len = 20
    [sweep]                      every combination
    weight_decay = [0.0, 0.01]
    n_layers = [1, 2]
    [zip]                        side by side: the first with the first; [[zip]] for several such lists
    lr = [1e-3, 3e-4]
    steps = [1000, 3000]
    [seeds]                      or above all tables: seeds = "0:10"
    init = "0:10"                init and data seeds apart: every pair; `together = "0:10"` moves both
    data = [0, 1]
    [[exclude]]                  cells left out, by their values
    n_layers = 2
    weight_decay = 0.0
    [evals]                      test_len, splits, n, seed, keep_steps; no part of a run
    n = 256
    keep_steps = "100:1000:100"  training steps whose weights are kept too; or a list of them

A parameter of the task is `params.NAME`, in any of the tables.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from genlab.errors import UserError, nearest
from genlab.runs.plan import DERIVED, Evals, Plan, plan
from genlab.spec import ModelConfig, TrainConfig

# -- Lists of whole numbers as text: `0:4` is 0, 1, 2, 3


def parse_range(text: str, flag: str) -> list[int]:
    """`0:4` is 0, 1, 2, 3; `5:50:5` has steps; `3` and `1,4,9` are themselves.

    >>> parse_range("0:4", "--seeds"), parse_range("5:20:5", "--lengths"), parse_range("7,9", "--seeds")
    ([0, 1, 2, 3], [5, 10, 15], [7, 9])
    """
    if ":" in text:
        parts = [_whole(part, flag) for part in text.split(":")[:3]]
        found = list(range(*parts)) if parts[2:] != [0] else []
    else:
        found = [_whole(part, flag) for part in text.split(",")]
    if not found or text.count(":") > 2 or min(found) < 0:
        raise UserError(f"{flag} {text!r} names nothing; write 0:4 (is 0, 1, 2, 3), 5:50:5, 3, or 1,4,9")
    return found


def _whole(text: str, flag: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{flag}: {text!r} is not a whole number") from None


# -- A TOML file with the line of every key: `tomllib` keeps values alone, and a fault is mended where it stan

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


class Toml:
    """What a TOML file says, and where.

    >>> toml = Toml("seeds = 3\\n[base]\\ntask = 'sort'\\n[[exclude]]\\nlr = 1.0\\n[[exclude]]\\nlr = 2.0", "x.toml")
    >>> toml.values["base"], toml.line("base", "task"), toml.line("exclude", "1", "lr"), toml.line("base", "none")
    ({'task': 'sort'}, 3, 7, 2)
    """

    def __init__(self, text: str, name: str):
        """Raises `UserError` where the text is no TOML, with the line."""
        try:
            self.values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{name} is not TOML: {error}") from None
        self.name, self.text = name, text
        self._lines = _lines(text)

    def line(self, *path: str) -> int:
        """The line of a key, or of the nearest table that holds it; 1 where there is none."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines[path] if path else 1


def read_toml(path: Path) -> Toml:
    """Read a file. Raises `UserError` if it is not there, or no TOML."""
    try:
        return Toml(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise UserError(f"grid file {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"grid file {str(path)!r} is not text in UTF-8") from None


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Path of each table and key -> line; the tables of an array are numbered from 0."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                found.setdefault(table, number)
                table += (str(sum(path[:-1] == table and path[-1].isdigit() for path in found)),)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            path = (*table, *_parts(key[1]))
            for end in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:end], number)
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


# -- Cells of a grid: the settings of one, what they may be, and the plan they make

Settings = dict[str, Any]
"""Option -> value; a parameter of the task is `params.NAME`."""

_OPTIONS = {n: f for c in (ModelConfig, TrainConfig) for n, f in c.model_fields.items() if n not in DERIVED}
_OWN: dict[str, type] = {"task": str, "format": str, "train_len": int, "test_len": int, "max_len": int}


def flat(table: Mapping[str, Any]) -> Settings:
    """A table with the parameters of the task as `params.NAME`.

    >>> flat({"lr": 0.1, "params": {"symbols": 9}})
    {'lr': 0.1, 'params.symbols': 9}
    """
    params = table.get("params", {})
    own = {f"params.{name}": value for name, value in params.items()} if isinstance(params, dict) else {}
    return {**{k: v for k, v in table.items() if k != "params" or not own}, **own}


def unknown_option(key: str) -> str:
    """What is wrong with a name, or ''."""
    if key in _OPTIONS or key in _OWN or key.startswith("params."):
        return ""
    if key in ("init_seed", "data_seed", "seeds"):
        return f"unknown field {key!r}; seeds have a table of their own: [seeds]"
    near = nearest(key, (*_OPTIONS, *_OWN))
    return f"unknown field {key!r}" + (f"; did you mean {near!r}?" if near else "")


def wrong_value(key: str, value: object) -> str:
    """What is wrong with a value by itself, or ''; how options fit together, the plan of a cell says.

    >>> wrong_value("lr", 0.1), wrong_value("task", 3)
    ('', 'task: 3 is not allowed (a text)')
    """
    if key.startswith("params."):
        why = "" if isinstance(value, bool | int | float | str) else "a number, a text, true or false"
    elif key in _OWN:
        why = "" if type(value) is _OWN[key] else "a text" if _OWN[key] is str else "a whole number"
    else:
        why = _refused(key, value)
    return f"{key}: {value!r} is not allowed ({why})" if why else ""


def _refused(key: str, value: object) -> str:
    field = _OPTIONS[key]
    kind: Any = Annotated[field.annotation, field]  # pyright: ignore[reportInvalidTypeForm]
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return message[:1].lower() + message[1:]
    return ""


def matches(cell: Settings, out: Settings) -> bool:
    """Whether a cell has all of some values."""
    return all(key in cell and cell[key] == value for key, value in out.items())


def named(settings: Settings) -> str:
    """Settings in words."""
    return ", ".join(f"{key} = {value}" for key, value in settings.items())


def plan_cells(
    base: Settings, cells: list[Settings], pairs: list[tuple[int, int]], evals: Mapping[str, Any]
) -> tuple[list[Plan], list[tuple[str, Settings]]]:
    """A plan a cell, and the faults of those that cannot be: one that many cells share is told once, with the first.

    Args:
        pairs: (init seed, data seed) of each run of a cell.
        evals: fields of `Evals`.
    """
    made: list[Plan] = []
    refused: dict[str, list[Settings]] = {}
    twice: list[tuple[str, Settings]] = []
    owners: dict[str, Settings] = {}
    for cell in cells:
        try:
            planned = _plan({**base, **cell}, pairs, evals)
        except UserError as error:
            refused.setdefault(str(error), []).append(cell)
            continue
        made.append(planned)
        others = [owners.setdefault(spec.run_id, cell) for spec in planned.specs]
        if others and others[0] is not cell:
            twice.append((f"two runs of one id: {named(others[0])} and {named(cell)}", cell))
    return made, twice + [(_in_cells(text, where), where[0]) for text, where in refused.items()]


def _plan(settings: Settings, pairs: list[tuple[int, int]], evals: Mapping[str, Any]) -> Plan:
    given = {key: value for key, value in settings.items() if not key.startswith("params.")}
    params = {key.removeprefix("params."): value for key, value in settings.items() if key.startswith("params.")}
    test_len = given.pop("test_len", given["train_len"])
    looked_at = Evals(**{"test_len": test_len, **evals})
    return plan(test_len=max(test_len, looked_at.test_len), params=params, seeds=pairs, evals=looked_at, **given)


def _in_cells(text: str, where: list[Settings]) -> str:
    if not where[0]:
        return text
    more = f" and {len(where) - 1} more" if len(where) > 1 else ""
    return f"{text} (in cell {named(where[0])}{more})"


_EVALS = {"test_len": 0, "splits": None, "n": 1, "seed": 0, "keep_steps": None}
"""Keys of [evals], and the lowest number allowed."""
_TABLES = ("base", "evals", "exclude", "name", "seeds", "sweep", "zip")


@dataclass(frozen=True, slots=True)
class Grid:
    """Runs under one name: a plan a cell, each one configuration at all its seeds.

    Attributes:
        text: the file that it was read from, or ''.
    """

    name: str
    plans: list[Plan]
    text: str = ""


def read_grid(path: str | Path) -> Grid:
    """The grid of a file.

    Raises:
        UserError: every fault of the file, a line each, with its place.
    """
    reader = _Reader(read_toml(Path(path)))
    return reader.grid(Path(path).stem)


def parse_grid(text: str, name: str) -> Grid:
    """The grid of the text of a grid file. Raises `UserError` as `read_grid` does."""
    return _Reader(Toml(text, name)).grid(name)


class _Reader:
    def __init__(self, toml: Toml):
        self._toml = toml
        self._faults: list[tuple[int, str]] = []

    def grid(self, stem: str) -> Grid:
        """All of the file, read in the order in which a person mends it."""
        self._known(self._toml.values, _TABLES)
        name = self._toml.values.get("name", stem)
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)) or name == "last":
            self._fault(f"name {name!r} is not allowed (letters, digits, . _ -; not `last`)", "name")
        base = self._settings("base")
        lists = [self._swept(), *self._zipped()]
        pairs, evals, excluded = self._seeds(), self._evals(), self._excluded()
        for key in ("task", "train_len"):
            if not self._faults and all(key not in cell for cell in (base, *itertools.chain(*lists))):
                self._fault(f"{key} is missing: give it in [base], or sweep it", "base")
        cells = [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*lists)]
        plans = self._plans(base, self._kept(cells, excluded), pairs, evals)
        if self._faults:
            told = [f"  line {line}: {text}" for line, text in sorted(set(self._faults))]
            count = f"{len(told)} fault{'s' if len(told) > 1 else ''}"
            raise UserError("\n".join([f"{self._toml.name} has {count}, nothing was started", *told]))
        return Grid(name, plans, self._toml.text)

    def _fault(self, text: str, *path: str) -> None:
        self._faults.append((self._toml.line(*path), text))

    def _known(self, table: Mapping[str, Any], allowed: Sequence[str], *place: str) -> None:
        for key in table:
            if key not in allowed:
                near = nearest(key, allowed)
                hint = f"; did you mean {near!r}?" if near else f" (allowed: {', '.join(sorted(allowed))})"
                self._fault(f"unknown key {key!r}{hint}", *place, key)

    # -- tables ------------------------------------------------------------------------------------------------

    def _table(self, name: str) -> dict[str, Any]:
        found = self._toml.values.get(name, {})
        if isinstance(found, dict):
            return found
        self._fault(f"{name} is a table: [{name}], then a line a key", name)
        return {}

    def _settings(self, *place: str, table: dict[str, Any] | None = None) -> Settings:
        """A table of options; what is unknown or cannot be is told and left out."""
        found: Settings = {}
        for key, value in flat(self._table(place[0]) if table is None else table).items():
            if self._option(key, *place) and self._allowed(key, value, *place):
                found[key] = value
        return found

    def _lists(self, *place: str, table: dict[str, Any]) -> dict[str, list[Any]]:
        """A table of lists of values."""
        found: dict[str, list[Any]] = {}
        for key, values in flat(table).items():
            if not self._option(key, *place):
                continue
            if not isinstance(values, list) or not values:
                what = "is empty: the product has no runs" if values == [] else f"is no list: {values!r}"
                self._fault(f"{place[0]} {key} {what}", *place, key)
            else:
                twice = [v for i, v in enumerate(values) if v in values[:i] and place[0] == "sweep"]
                found[key] = [v for v in values if v not in twice and self._allowed(key, v, *place)]
                for value in {repr(v) for v in twice}:
                    self._fault(f"{place[0]} {key} holds {value} twice: two runs of one id", *place, key)
        return found

    def _swept(self) -> list[Settings]:
        lists = {key: values for key, values in self._lists("sweep", table=self._table("sweep")).items() if values}
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]

    def _zipped(self) -> list[list[Settings]]:
        given = self._toml.values.get("zip", [])
        single = isinstance(given, dict)
        tables: list[Any] = [given] if single else given if isinstance(given, list) else [None]
        if not all(isinstance(table, dict) for table in tables):
            self._fault("zip is a table of lists: [zip], or [[zip]] for several", "zip")
            return []
        found: list[list[Settings]] = []
        for i, table in enumerate(tables):
            place = ("zip",) if single else ("zip", str(i))
            lists = self._lists(*place, table=table)
            if len({len(values) for values in lists.values()}) > 1:
                sizes = ", ".join(f"{key} {len(values)}" for key, values in lists.items())
                self._fault(f"zip holds lists of different lengths ({sizes})", *place)
            elif lists:
                found.append([dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)])
        return found

    def _seeds(self) -> list[tuple[int, int]]:
        given = self._toml.values.get("seeds", 0)
        if not isinstance(given, dict):
            return [(seed, seed) for seed in self._each_once(given, "seeds")]
        self._known(given, ("data", "init", "together"), "seeds")
        if "together" in given:
            if len(given) > 1:
                self._fault("seeds moves init and data together, or init and data apart; not both", "seeds")
            return [(seed, seed) for seed in self._each_once(given["together"], "seeds", "together")]
        init, data = (self._each_once(given.get(name, 0), "seeds", name) for name in ("init", "data"))
        return list(itertools.product(init, data))

    def _each_once(self, given: object, *place: str) -> list[int]:
        """Seeds."""
        found = self._numbers(given, *place)
        if len(set(found)) < len(found):
            self._fault(f"{place[-1]} holds a seed twice: two runs of one id", *place)
        return found

    def _numbers(self, given: object, *place: str) -> list[int]:
        """A number, a list of them, or a range as text."""
        found = [given] if isinstance(given, int) else given
        if isinstance(found, str):
            try:
                found = parse_range(found, place[-1])
            except UserError as error:
                self._fault(str(error), *place)
                return []
        if not isinstance(found, list) or not all(type(n) is int and n >= 0 for n in found) or not found:
            self._fault(f"{place[-1]} {given!r} is not allowed (a number, a list of numbers, or '0:4')", *place)
            return []
        return found

    def _excluded(self) -> list[Settings]:
        given = self._toml.values.get("exclude", [])
        if not isinstance(given, list):
            self._fault("exclude is an array of tables: [[exclude]]", "exclude")
            return []
        return [self._settings("exclude", str(i), table=table) for i, table in enumerate(given)]

    def _evals(self) -> dict[str, Any]:
        table = self._table("evals")
        self._known(table, list(_EVALS), "evals")
        found: dict[str, Any] = {}
        for key, value in table.items():
            lowest = _EVALS.get(key)
            if lowest is not None and (type(value) is not int or value < lowest):
                self._fault(f"{key}: {value!r} is not allowed (a whole number, {lowest} or more)", "evals", key)
            elif key == "splits" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
                self._fault(f"splits: {value!r} is not allowed (a list of names)", "evals", key)
            elif key == "keep_steps":
                found[key] = tuple(self._numbers(value, "evals", key))
            elif key in _EVALS:
                found[key] = tuple(value) if isinstance(value, list) else value
        return found

    # -- cells -------------------------------------------------------------------------------------------------

    def _kept(self, cells: list[Settings], excluded: list[Settings]) -> list[Settings]:
        for i, out in enumerate(excluded):
            if out and not any(matches(cell, out) for cell in cells):
                self._fault(f"exclude fits no cell: {named(out)}", "exclude", str(i))
        kept = [cell for cell in cells if not any(matches(cell, out) for out in excluded if out)]
        if cells and not kept:
            self._fault("exclude leaves no cell: the grid has no runs", "exclude")
        return kept

    def _plans(
        self, base: Settings, cells: list[Settings], pairs: list[tuple[int, int]], evals: dict[str, Any]
    ) -> list[Plan]:
        if any(key not in {**base, **cell} for cell in cells for key in ("task", "train_len")):
            return []
        made, faults = plan_cells(base, cells, pairs, evals)
        for text, cell in faults:
            self._fault(text, *self._place(text, cell))
        return made

    def _place(self, text: str, cell: Settings) -> tuple[str, ...]:
        """The table and key that a fault of a cell speaks of."""
        words = set(re.findall(r"\w+", text.partition(" (in cell")[0].replace("-", "_")))
        for table in ("sweep", "zip"):
            given = self._toml.values.get(table, {})
            keys = {key for part in (given if isinstance(given, list) else [given]) for key in flat(part)}
            for key in cell:
                if key.rpartition(".")[2] in words and key in keys:
                    return (table, *key.split("."))
        for table in ("evals", "base"):
            for key in self._table(table):
                if key in words:
                    return (table, key)
        return ("base",)

    # -- options -----------------------------------------------------------------------------------------------

    def _option(self, key: str, *place: str) -> bool:
        told = unknown_option(key)
        if told:
            self._fault(told, *place, key)
        return not told

    def _allowed(self, key: str, value: object, *place: str) -> bool:
        told = wrong_value(key, value)
        if told:
            self._fault(told, *place, *key.split("."))
        return not told
