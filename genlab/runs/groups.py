"""Names for sets of runs: a group is what one command or grid file asked for, a tag is what a user calls some."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genlab.errors import UserError
from genlab.runs.files import read_json, write_json

__all__ = ["Groups"]


class Groups:
    """The groups and tags of a store."""

    def __init__(self, store: Path):
        self._store = store
        self._groups, self._tags = store / "groups", store / "tags"

    def save(self, name: str, run_ids: Sequence[str], request: Mapping[str, Any]) -> Path:
        """Keep a group, and make it the `last`; returns its folder."""
        folder = self.folder(name)
        write_json(folder / "group.json", {"name": name, "run_ids": list(run_ids), "request": dict(request)})
        write_json(self._groups / "last", {"name": name})
        return folder

    def folder(self, name: str) -> Path:
        """The folder of a group, for its figures."""
        return self._groups / name

    def read(self, name: str) -> dict[str, Any]:
        """`name`, `run_ids` and `request` of a group."""
        return read_json(self.folder(name) / "group.json")

    def names(self) -> list[str]:
        """Names of all groups."""
        return sorted(file.parent.name for file in self._groups.glob("*/group.json"))

    def last(self) -> Path:
        """The folder of the latest group. Raises `UserError` if there is none."""
        last = self._groups / "last"
        if not last.exists():
            raise UserError(f"store {str(self._store)!r} has no last group yet; `lab train` makes one")
        return self.folder(str(read_json(last)["name"]))

    def runs(self, name: str) -> list[str] | None:
        """The runs under a name (`last`, a group, a tag), committed or not; None if it names nothing."""
        if name == "last":
            name = self.last().name
        if (self.folder(name) / "group.json").is_file():
            return list(self.read(name)["run_ids"])
        return self.tags().get(name)

    def tags(self) -> dict[str, list[str]]:
        """Tag -> its runs."""
        return {file.stem: list(read_json(file)["run_ids"]) for file in sorted(self._tags.glob("*.json"))}

    def tag(self, name: str, run_ids: Iterable[str], remove: bool = False) -> list[str]:
        """Add runs to a tag, or take them out of it; returns those under it now.

        Raises:
            UserError: a name that cannot be one, or is that of a group.
        """
        if not re.fullmatch(r"\w[\w.-]*", name) or name == "last" or name in self.names():
            raise UserError(f"tag {name!r} is not allowed (letters, digits, . _ -; not a group's name)")
        before = self.tags().get(name, [])
        gone = set(run_ids) if remove else set[str]()
        kept = [run for run in dict.fromkeys([*before, *(() if remove else run_ids)]) if run not in gone]
        if kept:
            write_json(self._tags / f"{name}.json", {"run_ids": kept})
        else:
            (self._tags / f"{name}.json").unlink(missing_ok=True)
        return kept
