"""Grid files: many runs as one TOML file, with all errors reported before anything starts.

    [base]                       # shared by all configurations: options of `lab train`, with underscores
    task = "sort"
    train_len = 10
    test_len = 20
    [sweep]                      # every combination
    weight_decay = [0.0, 0.01]
    n_layers = [1, 2]
    [zip]                        # element by element: the first with the first; [[zip]] for several such lists
    lr = [1e-3, 3e-4]
    steps = [1000, 3000]
    [seeds]                      # or above all tables: seeds = "0:10"
    init = "0:10"                # init and data seeds separately: every pair; `together = "0:10"` changes both
    data = [0, 1]
    [[exclude]]                  # configurations left out, by their values
    n_layers = 2
    weight_decay = 0.0
    [evals]                      # test_len, splits, n, seed, keep_steps; not part of a run
    n = 256
    keep_steps = "100:1000:100"  # training steps with checkpoints; or a list of them

A parameter of the task is `params.NAME`, in any of the tables.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isinf, prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from genlab.errors import UserError, nearest
from genlab.runs.plan import DERIVED, MOST_EXAMPLES, Evals, Plan, plan, wrong_kind
from genlab.spec import ModelConfig, TrainConfig
from genlab.text import parts_of

LAST = ("last", "last-train", "last-grid")
"""Names of the latest group, of all and of each command: no grid, group or tag has one of them."""


def is_group_name(name: object) -> bool:
    """Whether a grid, group or tag may have this name: it becomes the name of a folder or file."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) is not None and name not in LAST


# -- Ranges of integers


MOST_NUMBERS = 1_000_000
"""How many numbers a range may have, and how many runs a grid."""


def levels_of(text: str, flag: str, low: float, high: float = inf) -> list[float]:
    """Parse comma-separated numbers between `low` and `high`; none for an empty text.

    Raises:
        UserError: one of them is not such a number.
    """
    allowed = f"numbers of at least {low:g}" if isinf(high) else f"numbers from {low:g} to {high:g}"
    try:
        levels = [float(part) for part in parts_of(text)] if text else []
    except ValueError:
        raise UserError(f"{flag} {text!r} is not allowed (comma-separated {allowed})") from None
    if not all(low <= one <= high and isfinite(one) for one in levels):
        raise UserError(f"{flag} {text!r} is not allowed ({allowed})")
    return levels


def parse_range(text: str, flag: str, inclusive: bool = False) -> list[int]:
    """Parse a list of integers: `0:4` is 0, 1, 2, 3; `5:50:5` has steps; `3` and `1,4,9` stand for themselves.

    Args:
        text: what the user wrote.
        flag: where, for messages.
        inclusive: whether the end belongs to it, as for lengths: `5:50:5` is 5, 10, ..., 50.

    Raises:
        UserError: no such list, or a range of more than a million numbers.

    >>> parse_range("0:4", "--seeds"), parse_range("7,9", "--seeds")
    ([0, 1, 2, 3], [7, 9])
    >>> parse_range("5:20:5", "--lengths", inclusive=True)
    [5, 10, 15, 20]
    """
    if ":" in text:
        first, last, *step = (_whole(part, flag) for part in text.split(":")[:3])
        ends = range(first, last + (1 if inclusive else 0), *step) if step != [0] else range(0)
        if ends[MOST_NUMBERS:]:
            raise UserError(f"{flag} {text!r} is not allowed: more than {MOST_NUMBERS:,} numbers")
        found = list(ends)
    else:
        found = [_whole(part, flag) for part in parts_of(text)]
    if not found or text.count(":") > 2 or min(found) < 0:
        meaning = "0:4 (0, 1, 2, 3, 4)" if inclusive else "0:4 (0, 1, 2, 3)"
        raise UserError(f"{flag} {text!r} is not a valid range; write {meaning}, 5:50:5, 3, or 1,4,9")
    return found


def _whole(text: str, flag: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{flag}: {text!r} is not an integer") from None


# -- TOML with line numbers

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


class Toml:
    """A parsed TOML file with the line of every key.

    >>> toml = Toml("seeds = 3\\n[base]\\ntask = 'sort'\\n[[exclude]]\\nlr = 1.0\\n[[exclude]]\\nlr = 2.0", "x.toml")
    >>> toml.values["base"], toml.line("base", "task"), toml.line("exclude", "1", "lr"), toml.line("base", "none")
    ({'task': 'sort'}, 3, 7, 2)
    """

    def __init__(self, text: str, name: str):
        """Raises `UserError`, with the line, if the text is not TOML."""
        try:
            self.values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{name} is not valid TOML: {error}") from None
        except RecursionError:
            raise UserError(f"{name} is not valid TOML: brackets are nested too deeply") from None
        self.name, self.text = name, text
        self._lines = _lines(text)

    def line(self, *path: str) -> int:
        """Return the line of a key, or of the innermost table that contains it; 1 if there is none."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines[path] if path else 1

    def part(self, table: str) -> Toml:
        """Return one of its tables as a document of its own, with the lines of this one.

        >>> Toml("[grid.base]\\ntask = 'sort'", "x.toml").part("grid").line("base", "task")
        2
        """
        found = object.__new__(Toml)
        values = self.values.get(table)
        found.values = values if isinstance(values, dict) else {}
        found.name, found.text = self.name, self.text
        found._lines = {path[1:]: line for path, line in self._lines.items() if path[0] == table and path[1:]}
        return found


def read_toml(path: Path, what: str = "grid file") -> Toml:
    """Read a TOML file. Raises `UserError` if it is missing or not TOML."""
    try:
        return Toml(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise UserError(f"{what} {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {str(path)!r} is not UTF-8 text") from None


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Map the path of each table and key to its line; tables of an array are numbered from 0."""
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


# -- Configurations of a grid

Settings = dict[str, Any]
"""Option -> value; a parameter of the task is `params.NAME`."""

_OPTIONS = {n: f for c in (ModelConfig, TrainConfig) for n, f in c.model_fields.items() if n not in DERIVED}
_OWN: dict[str, type] = {
    "task": str,
    "format": str,
    "train_len": int,
    "test_len": int,
    "max_len": int,
    "start_token": bool,
    "recipe": str,
}
_KINDS: dict[type, str] = {str: "a string", int: "an integer", bool: "true or false"}


def flat(table: Mapping[str, Any]) -> Settings:
    """Flatten a table: parameters of the task become `params.NAME`.

    >>> flat({"lr": 0.1, "params": {"symbols": 9}})
    {'lr': 0.1, 'params.symbols': 9}
    """
    params = table.get("params", {})
    own = {f"params.{name}": value for name, value in params.items()} if isinstance(params, dict) else {}
    return {**{k: v for k, v in table.items() if k != "params" or not own}, **own}


def unknown_option(key: str) -> str:
    """Return an error message for an unknown option, or ''."""
    if key in _OPTIONS or key in _OWN or key.startswith("params."):
        return ""
    if key in ("init_seed", "data_seed", "seeds"):
        return f"unknown field {key!r}; seeds belong in the table [seeds]"
    near = nearest(key, (*_OPTIONS, *_OWN))
    return f"unknown field {key!r}" + (f"; did you mean {near!r}?" if near else "")


def wrong_value(key: str, value: object) -> str:
    """Return an error message for an invalid value, or ''; conflicts are found when the configuration is planned.

    >>> wrong_value("lr", 0.1), wrong_value("task", 3)
    ('', 'task: 3 is not allowed (a string)')
    """
    if key.startswith("params."):
        why = "" if isinstance(value, bool | int | float | str) else "a number, a string, true or false"
    elif key in _OWN:
        why = "" if type(value) is _OWN[key] else _KINDS[_OWN[key]]
    else:
        why = _rejection(key, value)
    return f"{key}: {value!r} is not allowed ({why})" if why else ""


def _rejection(key: str, value: object) -> str:
    if wrong := wrong_kind(key, value):
        return wrong
    field = _OPTIONS[key]
    kind: Any = Annotated[field.annotation, field]  # pyright: ignore[reportInvalidTypeForm]
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return message[:1].lower() + message[1:]
    return ""


def matches(cell: Settings, out: Settings) -> bool:
    """Whether a configuration has all of the given values."""
    return all(key in cell and cell[key] == value for key, value in out.items())


def format_settings(settings: Settings) -> str:
    """Format settings as text."""
    return ", ".join(f"{key} = {value}" for key, value in settings.items())


def plan_configurations(
    base: Settings, cells: list[Settings], pairs: list[tuple[int, int]], evals: Mapping[str, Any]
) -> tuple[list[Plan], list[tuple[str, Settings]]]:
    """Plan each configuration, and collect errors; an error shared by several configurations is reported once.

    Args:
        base: settings shared by all configurations.
        cells: settings of each configuration.
        pairs: (init seed, data seed) of each run of a configuration.
        evals: fields of `Evals`.

    Returns:
        The plans, and (message, settings of the first configuration concerned) for each error.
    """
    plans: list[Plan] = []
    rejected: dict[str, list[Settings]] = {}
    twice: list[tuple[str, Settings]] = []
    owners: dict[str, Settings] = {}
    for cell in cells:
        try:
            planned = _plan({**base, **cell}, pairs, evals)
        except UserError as error:
            rejected.setdefault(str(error), []).append(cell)
            continue
        plans.append(planned)
        others = [owners.setdefault(spec.run_id, cell) for spec in planned.specs]
        if others and others[0] is not cell:
            twice.append(
                (f"two runs with the same id: {format_settings(others[0])} and {format_settings(cell)}", cell)
            )
    return plans, twice + [(_with_place(text, where), where[0]) for text, where in rejected.items()]


def _plan(settings: Settings, pairs: list[tuple[int, int]], evals: Mapping[str, Any]) -> Plan:
    given = {key: value for key, value in settings.items() if not key.startswith("params.")}
    params = {key.removeprefix("params."): value for key, value in settings.items() if key.startswith("params.")}
    test_len = given.pop("test_len", given["train_len"])
    wanted_evals = Evals(**{"test_len": test_len, **evals})
    return plan(
        test_len=max(test_len, wanted_evals.test_len), params=params, seeds=pairs, evals=wanted_evals, **given
    )


def _with_place(text: str, where: list[Settings]) -> str:
    if not where[0]:
        return text
    more = f" and {len(where) - 1} more" if len(where) > 1 else ""
    return f"{text} (in configuration {format_settings(where[0])}{more})"


_EVALS = {"test_len": 0, "splits": None, "n": 1, "seed": 0, "keep_steps": None}
"""Keys of [evals], and the lowest number allowed."""
_TABLES = ("base", "evals", "exclude", "name", "seeds", "sweep", "zip")


@dataclass(frozen=True, slots=True)
class Grid:
    """Runs under one name: one plan per configuration, each with all of its seeds.

    Attributes:
        name: the name of the grid.
        plans: one per configuration.
        text: contents of the grid file, or ''.
    """

    name: str
    plans: list[Plan]
    text: str = ""


def recipes_folder() -> Path:
    """The folder of the grid files and claims that come with genlab: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def grid_file(path: str | Path) -> Path:
    """The file as given, or where there is none, the recipe: `recipes/smoke.toml` and `smoke` are found anywhere."""
    given = Path(path)
    recipe = recipes_folder() / f"{given.name.removesuffix('.toml')}.toml"
    named = given.parent in (Path(), Path("recipes"))
    return recipe if named and not given.is_file() and recipe.is_file() else given


def read_grid(path: str | Path) -> Grid:
    """Read a grid file, or a recipe by its name.

    Raises:
        UserError: all errors in the file, one per line, with their line numbers.
    """
    reader = _Reader(read_toml(grid_file(path)))
    return reader.grid(Path(path).stem)


def parse_grid(text: str, name: str) -> Grid:
    """Parse the text of a grid file. Raises `UserError` as `read_grid` does."""
    return _Reader(Toml(text, name)).grid(name)


def raise_all(toml: Toml, errors: Sequence[tuple[int, str]]) -> None:
    """Raise one `UserError` that lists all errors of a file, by line; nothing if there are none."""
    if errors:
        lines = [f"  line {line}: {text}" for line, text in sorted(set(errors))]
        count = f"{len(lines)} error{'s' if len(lines) > 1 else ''}"
        raise UserError("\n".join([f"{toml.name} has {count}, nothing was started", *lines]))


def grid_in(toml: Toml, name: str) -> tuple[Grid | None, list[tuple[int, str]]]:
    """Read a grid that is part of another file (`Toml.part`): the grid if it has no errors, and (line, error)."""
    reader = _Reader(toml)
    grid = reader.read(name)
    return (None if reader.errors else grid), reader.errors


class _Reader:
    def __init__(self, toml: Toml):
        self._toml = toml
        self.errors: list[tuple[int, str]] = []

    def grid(self, stem: str) -> Grid:
        """Read the whole file and report all errors, sorted by line."""
        found = self.read(stem)
        raise_all(self._toml, self.errors)
        return found

    def read(self, stem: str) -> Grid:
        """Read the whole file; errors are collected in `errors`."""
        self._check_keys(self._toml.values, _TABLES)
        name = self._toml.values.get("name", stem)
        if not is_group_name(name):
            self._error(f"name {name!r} is not allowed (letters, digits, . _ -; not `last`)", "name")
        base = self._settings("base")
        lists = [self._sweep(), *self._zips()]
        pairs, evals, excluded = self._seeds(), self._evals(), self._exclusions()
        for key in ("task", "train_len"):
            if not self.errors and all(key not in cell for cell in (base, *itertools.chain(*lists))):
                self._error(f"{key} is missing: set it in [base] or sweep it", "base")
        if (runs := prod(map(len, lists)) * len(pairs)) > MOST_NUMBERS:
            self._error(f"{runs:,} runs are too many: at most {MOST_NUMBERS:,} are allowed", "sweep")
            lists = [[{}]]
        for key, count in Counter(key for part in lists for key in (part[0] if part else ())).items():
            if count > 1:
                self._error(f"{key} is given twice: in [sweep] and [zip], or in two tables [[zip]]", "zip", key)
            lists = [[{}]] if count > 1 else lists
        cells = [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*lists)]
        plans = self._plans(base, self._remaining(cells, excluded), pairs, evals)
        return Grid(name, plans, self._toml.text)

    def _error(self, text: str, *path: str) -> None:
        self.errors.append((self._toml.line(*path), text))

    def _check_keys(self, table: Mapping[str, Any], allowed: Sequence[str], *place: str) -> None:
        for key in table:
            if key not in allowed:
                near = nearest(key, allowed)
                hint = f"; did you mean {near!r}?" if near else f" (allowed: {', '.join(sorted(allowed))})"
                self._error(f"unknown key {key!r}{hint}", *place, key)

    # -- Tables

    def _table(self, name: str) -> dict[str, Any]:
        found = self._toml.values.get(name, {})
        if isinstance(found, dict):
            return found
        self._error(f"{name} must be a table: [{name}], then one key per line", name)
        return {}

    def _settings(self, *place: str, table: dict[str, Any] | None = None) -> Settings:
        """Read a table of options; unknown options and invalid values are reported and left out."""
        found: Settings = {}
        for key, value in flat(self._table(place[0]) if table is None else table).items():
            if self._option(key, *place) and self._allowed(key, value, *place):
                found[key] = value
        return found

    def _lists(self, *place: str, table: dict[str, Any]) -> dict[str, list[Any]]:
        """Read a table of lists of values."""
        found: dict[str, list[Any]] = {}
        for key, values in flat(table).items():
            if not self._option(key, *place):
                continue
            if not isinstance(values, list) or not values:
                what = "is empty: the product has no runs" if values == [] else f"is not a list: {values!r}"
                self._error(f"{place[0]} {key} {what}", *place, key)
            else:
                twice = [v for i, v in enumerate(values) if v in values[:i] and place[0] == "sweep"]
                found[key] = [v for v in values if v not in twice and self._allowed(key, v, *place)]
                for value in {repr(v) for v in twice}:
                    self._error(f"{place[0]} {key} has {value} twice: two runs with the same id", *place, key)
        return found

    def _sweep(self) -> list[Settings]:
        lists = {key: values for key, values in self._lists("sweep", table=self._table("sweep")).items() if values}
        if (count := prod(map(len, lists.values()))) > MOST_NUMBERS:
            self._error(f"{count:,} configurations are too many: at most {MOST_NUMBERS:,} are allowed", "sweep")
            return [{}]
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]

    def _zips(self) -> list[list[Settings]]:
        given = self._toml.values.get("zip", [])
        single = isinstance(given, dict)
        tables: list[Any] = [given] if single else given if isinstance(given, list) else [None]
        if not all(isinstance(table, dict) for table in tables):
            self._error("zip must be a table of lists: [zip], or [[zip]] for several", "zip")
            return []
        found: list[list[Settings]] = []
        for i, table in enumerate(tables):
            place = ("zip",) if single else ("zip", str(i))
            lists = self._lists(*place, table=table)
            if len({len(values) for values in lists.values()}) > 1:
                sizes = ", ".join(f"{key} {len(values)}" for key, values in lists.items())
                self._error(f"zip has lists of different lengths ({sizes})", *place)
            elif lists:
                found.append([dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)])
        return found

    def _seeds(self) -> list[tuple[int, int]]:
        given = self._toml.values.get("seeds", 0)
        if not isinstance(given, dict):
            return [(seed, seed) for seed in self._unique(given, "seeds")]
        self._check_keys(given, ("data", "init", "together"), "seeds")
        if "together" in given:
            if len(given) > 1:
                self._error("seeds takes either `together`, or `init` and `data`, not both", "seeds")
            return [(seed, seed) for seed in self._unique(given["together"], "seeds", "together")]
        init, data = (self._unique(given.get(name, 0), "seeds", name) for name in ("init", "data"))
        if len(init) * len(data) > MOST_NUMBERS:
            self._error(f"{len(init) * len(data):,} pairs of seeds are too many", "seeds")
            return []
        return list(itertools.product(init, data))

    def _unique(self, given: object, *place: str) -> list[int]:
        """Read seeds and report duplicates."""
        found = self._numbers(given, *place)
        if len(set(found)) < len(found):
            self._error(f"{place[-1]} has a seed twice: two runs with the same id", *place)
        return found

    def _numbers(self, given: object, *place: str) -> list[int]:
        """Read a number, a list of numbers, or a range as text."""
        found = [given] if type(given) is int else given
        if isinstance(found, str):
            try:
                found = parse_range(found, place[-1])
            except UserError as error:
                self._error(str(error), *place)
                return []
        if not isinstance(found, list) or not all(type(n) is int and n >= 0 for n in found) or not found:
            self._error(f"{place[-1]} {given!r} is not allowed (a number, a list of numbers, or '0:4')", *place)
            return []
        return found

    def _exclusions(self) -> list[Settings]:
        given = self._toml.values.get("exclude", [])
        if not isinstance(given, list):
            self._error("exclude must be an array of tables: [[exclude]]", "exclude")
            return []
        return [self._settings("exclude", str(i), table=table) for i, table in enumerate(given)]

    def _evals(self) -> dict[str, Any]:
        table = self._table("evals")
        self._check_keys(table, list(_EVALS), "evals")
        found: dict[str, Any] = {}
        for key, value in table.items():
            lowest = _EVALS.get(key)
            if lowest is not None and (type(value) is not int or value < lowest):
                self._error(f"{key}: {value!r} is not allowed (an integer, {lowest} or more)", "evals", key)
            elif key == "n" and value > MOST_EXAMPLES:
                self._error(f"n: {value} is not allowed (at most {MOST_EXAMPLES:,})", "evals", key)
            elif key == "splits" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
                self._error(f"splits: {value!r} is not allowed (a list of names)", "evals", key)
            elif key == "keep_steps":
                found[key] = tuple(self._numbers(value, "evals", key))
            elif key in _EVALS:
                found[key] = tuple(value) if isinstance(value, list) else value
        return found

    # -- Configurations

    def _remaining(self, cells: list[Settings], excluded: list[Settings]) -> list[Settings]:
        for i, out in enumerate(excluded):
            if out and not any(matches(cell, out) for cell in cells):
                self._error(f"exclude matches no configuration: {format_settings(out)}", "exclude", str(i))
        kept = [cell for cell in cells if not any(matches(cell, out) for out in excluded if out)]
        if cells and not kept:
            self._error("exclude leaves no configurations: the grid has no runs", "exclude")
        return kept

    def _plans(
        self, base: Settings, cells: list[Settings], pairs: list[tuple[int, int]], evals: dict[str, Any]
    ) -> list[Plan]:
        if any(key not in {**base, **cell} for cell in cells for key in ("task", "train_len")):
            return []
        plans, errors = plan_configurations(base, cells, pairs, evals)
        for text, cell in errors:
            self._error(text, *self._place(text, cell))
        return plans

    def _place(self, text: str, cell: Settings) -> tuple[str, ...]:
        """Table and key that an error of a configuration refers to."""
        words = set(re.findall(r"\w+", text.partition(" (in configuration")[0].replace("-", "_")))
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

    # -- Options

    def _option(self, key: str, *place: str) -> bool:
        message = unknown_option(key)
        if message:
            self._error(message, *place, key)
        return not message

    def _allowed(self, key: str, value: object, *place: str) -> bool:
        message = wrong_value(key, value)
        if message:
            self._error(message, *place, *key.split("."))
        return not message
