"""Which runs are trained together, and how a grid said so the first time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genlab.runs.files import create_json, read_json, write_json
from genlab.runs.plan import Evals
from genlab.runs.store import Store
from genlab.runs.work import Job
from genlab.spec import RunSpec, canonical_json
from genlab.training import stack_key

__all__ = ["agreed", "alike", "pack"]


def alike(wanted: Iterable[tuple[RunSpec, Evals]]) -> list[tuple[list[RunSpec], Evals]]:
    """Runs that can be one stack and are evaluated alike, together; in the order given."""
    found: dict[tuple[str, Evals], list[RunSpec]] = {}
    for spec, evals in wanted:
        found.setdefault((canonical_json(stack_key(spec)), evals), []).append(spec)
    return [(specs, evals) for (_, evals), specs in found.items()]


def pack(wanted: Sequence[tuple[RunSpec, Evals]], size: int, **options: Any) -> list[Job]:
    """Jobs of at most `size` runs each (`options`: fields of `Job`). The same runs always make the same jobs."""
    return [
        Job(specs[start : start + size], evals, **options)
        for specs, evals in alike(wanted)
        for start in range(0, len(specs), size)
    ]


def agreed(store: Store, group: str, chosen: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """How a group is trained: as its first driver chose, unless the user asks otherwise now.

    What is chosen by measuring is kept with the group, so that a resume, and a second driver, do the same.
    """
    path = store.named.folder(group) / "how.json"
    if create_json(path, {**chosen, **asked}):
        return {**chosen, **asked}
    kept = {**chosen, **read_json(path)}
    if any(kept.get(name) != value for name, value in asked.items()):
        kept |= asked
        write_json(path, kept)
    return kept
