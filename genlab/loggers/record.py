"""What a logger is given of a run, and which loggers there are."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, cast

from genlab.errors import UserError, unknown
from genlab.text import parts_of

if TYPE_CHECKING:
    import pandas as pd

    from genlab.runs.store import Store


@dataclass(frozen=True)
class LoggedRun:
    """A run that has ended.

    Attributes:
        run_id: its id; group: what it was trained with.
        options: every option of task, model and training.
        history: a row per measurement in training, by `step`: loss, lr, exact_match (ID accuracy), gradient norms.
        evals: a row per evaluation: split, length, metric, value, n.
        figure: a PNG file of exact match by length, if there is one; it lasts until the logger returns.
    """

    run_id: str
    group: str
    options: dict[str, Any]
    history: pd.DataFrame
    evals: pd.DataFrame
    figure: Path | None

    def curves(self) -> Iterator[tuple[str, int, float]]:
        """Numbers over training: name, step, value."""
        columns = [name for name in self.history.columns if name not in ("run_id", "step")]
        for name in columns:
            for step, value in zip(self.history["step"], self.history[name], strict=True):
                if value == value:  # what was not measured is NaN
                    yield name, int(step), float(value)

    def by_length(self) -> Iterator[tuple[str, int, float]]:
        """Evaluations: `metric/split`, length, value; the lengths of a series are ascending."""
        ordered = self.evals.sort_values(["split", "metric", "length"])
        for split, metric, length, value in ordered[["split", "metric", "length", "value"]].itertuples(index=False):
            yield f"{metric}/{split}", int(length), float(value)


class Logger(Protocol):
    """A file of this package."""

    PACKAGE: str
    """The package it needs."""

    def write(self, runs: Iterator[LoggedRun], folder: Path) -> str:
        """Write runs below a folder; returns a line that says how to look at them."""
        ...


def chosen_loggers(names: str | None) -> list[str]:
    """The loggers of a comma-separated list; none for None.

    Raises:
        UserError: an unknown logger, or one whose package is not installed.
    """
    package = import_module("genlab.loggers")
    known = [one.name for one in pkgutil.iter_modules(package.__path__) if one.name != "record"]
    found = parts_of(names) if names is not None else []
    for name in found:
        if name not in known:
            raise unknown("logger", name, known)
        needs = _logger(name).PACKAGE
        if find_spec(needs) is None:
            raise UserError(f"--logger {name} needs {needs}: pip install 'genlab[{name}]'")
    return found


def log_runs(names: Sequence[str], store: Store, group: str, run_ids: Sequence[str]) -> list[str]:
    """Write the ended ones of the runs of a group with each logger, below its folder; a line per logger."""
    folder = store.named.folder(group)
    return [_logger(name).write(_records(store, run_ids, group), folder / name) for name in names]


def _records(store: Store, run_ids: Sequence[str], group: str) -> Iterator[LoggedRun]:
    from genlab.report.train import outcome
    from genlab.runs.index import flat_spec

    for run in (run for run in run_ids if run in store):
        with TemporaryDirectory() as scratch:
            drawn = Path(scratch) / "exact_match_by_length.png"
            outcome(store, [run]).draw(drawn)
            options = flat_spec(store.spec(run).model_dump(mode="json"))
            figure = drawn if drawn.exists() else None
            yield LoggedRun(run, group, options, store.history([run]), store.evals([run]), figure)


def _logger(name: str) -> Logger:
    return cast(Logger, import_module(f"genlab.loggers.{name}"))
