"""Runs and the plugins they come from: what is not loaded now, and what was edited since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genlab.errors import UserError
from genlab.runs.index import NO_CODE
from genlab.runs.store import Store
from genlab.spec import RunSpec, is_known_value
from genlab.tasks import Task, code_of, make
from genlab.text import counted


def live_task(store: Store, run_id: str) -> Task:
    """Return the task of a committed run.

    Raises:
        UserError: it comes from a plugin that is not loaded (the message names the file), or has changed since.
    """
    try:
        return make(store.spec(run_id).task)
    except UserError as error:
        raise UserError(f"{error}{_from_where(store.entry(run_id), store.spec(run_id).task.name)}") from None


def unavailable(store: Store, run_id: str) -> str:
    """Return why a run cannot be computed with now, in one line; '' if it can."""
    try:
        live_task(store, run_id)
    except UserError as error:
        return str(error)
    model = store.spec(run_id).model
    for option, value in (("positions", model.positions), ("attn_weights", model.attn_weights)):
        if not is_known_value(option, value):
            return f"{option} {value!r} is not loaded{_from_where(store.entry(run_id), value)}"
    return ""


def _from_where(entry: Mapping[str, Any], name: str) -> str:
    """The plugin that a run's record names, as the end of a message; '' if it names none."""
    digest = _hashes(entry["spec"].get("code", "")).get(name)
    files = [file for file, source in entry["environment"].get("plugins", {}).items() if source == digest]
    if not files:
        return ""
    gone = "" if Path(files[0]).is_file() else ", which is not there now"
    return f"; run {entry['run_id']} was trained with the plugin {files[0]}{gone} (--plugin FILE loads one)"


def _hashes(code: str) -> dict[str, str]:
    """Name -> hash of its source, as `code_of` writes them."""
    return dict(part.split(":") for part in code.split(", ") if part)


def edited(store: Store, run_ids: Iterable[str]) -> str:
    """Return a line on runs whose plugin was edited since they were trained, or ''."""
    other: list[str] = []
    for run in run_ids:
        spec = store.spec(run)
        if spec.code and code_of(spec.task, spec.model) not in ("", spec.code):
            other.append(run)
    if not other:
        return ""
    name = next(iter(_hashes(store.spec(other[0]).code)))
    many = f"{counted(len(other), 'run')} {'was' if len(other) == 1 else 'were'}"
    return f"{name}: its plugin was edited since {many} trained; this uses it as it is now"


def trained_otherwise(store: Store, specs: Iterable[RunSpec]) -> str:
    """Return a line on planned runs that the store holds as trained with other source of a plugin, or ''."""
    wanted = [spec for spec in specs if spec.code and spec.run_id not in store]
    if not wanted or not store.index.runs:
        return ""
    codes = {"" if code == NO_CODE else code for code in store.runs()["code"]}
    old = [s for s in wanted if any(s.model_copy(update={"code": code}).run_id in store for code in codes)]
    if not old:
        return ""
    which = ", ".join(sorted({name for spec in old for name in _hashes(spec.code)}))
    return f"{which}: the plugin's source is another than that of {len(old)} stored runs; they are trained anew"
