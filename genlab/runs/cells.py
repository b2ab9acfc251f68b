"""Cells of a grid: the settings of one, what they may be, and the plan they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from genlab.errors import UserError, nearest
from genlab.runs.plan import DERIVED, Evals, Plan, plan
from genlab.spec import ModelConfig, TrainConfig

__all__ = ["Settings", "flat", "matches", "named", "plan_cells", "unknown_option", "wrong_value"]

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
