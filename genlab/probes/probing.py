"""`lab probe`: signals of committed runs, whole stacks at once, kept in the store and found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from genlab.errors import Interrupted, UserError
from genlab.models import model_of
from genlab.probes.inputs import UNTRAINED, Batch, ProbeInput, probe_batches, probe_input
from genlab.probes.reading import Null, Reading, null_maxima, read
from genlab.probes.signal import PROBE_N, NotApplicable, Signal, check_probe_n
from genlab.runs.devices import pick_device
from genlab.runs.diverged import set_aside
from genlab.runs.drive import interruptible
from genlab.runs.signals import SIGNAL_COLUMNS, Signals
from genlab.runs.store import Store, now, stack_id
from genlab.runs.weights import check_step
from genlab.spec import RunSpec
from genlab.training.loop import stack_key
from genlab.training.step import precision

__all__ = ["Probing", "alike", "examples_of", "probe"]

_BYTES = 400_000_000
"""Memory that what is kept of one stack may take."""


@dataclass
class Probing:
    """What `probe` did.

    Attributes:
        read, found: (run, signal) pairs that were read now, and that the store held already.
        diverged: runs that were left out because they did.
        skipped: signal -> why it does not apply -> the runs that this is true of.
    """

    read: int = 0
    found: int = 0
    diverged: list[str] = field(default_factory=list[str])
    skipped: dict[str, dict[str, list[str]]] = field(default_factory=dict[str, dict[str, list[str]]])

    def skip(self, signal: str, why: str, runs: Sequence[str]) -> None:
        """Note that a signal does not apply to some runs."""
        known = self.skipped.setdefault(signal, {}).setdefault(why, [])
        known[:] = dict.fromkeys([*known, *runs])

    def add(self, other: Probing) -> None:
        """Count in what was done at another step."""
        self.read += other.read
        self.found += other.found
        self.diverged = list(dict.fromkeys([*self.diverged, *other.diverged]))
        for signal, reasons in other.skipped.items():
            for why, runs in reasons.items():
                self.skip(signal, why, runs)


def probe(
    store: Store,
    run_ids: Sequence[str],
    signals: Sequence[Signal],
    step: int | None = None,
    device: str = "auto",
    report: Callable[[int, int], object] = lambda _done, _all: None,
    null: bool = True,
    n: int = PROBE_N,
) -> Probing:
    """Read signals of committed runs, and keep them; of those that diverged none (`genlab.runs.diverged`).

    Args:
        step: the training step whose weights are read, and up to which its history is: one that was kept, 0 (the
            initial weights), or None for the last.
        report: called with the runs done and to do.
        null: read untrained models beside them, for the nulls of maxima.
        n: probe examples, half of them in each half; what was read on another number is read again.

    Raises:
        UserError: a step that was not kept, runs of which there are no weights, a number that is not allowed.
        Interrupted: Ctrl-C; what was read is kept.
    """
    check_probe_n(n)
    run_ids, diverged = set_aside(store, run_ids)
    specs = {run: store.spec(run) for run in run_ids}
    steps = {run: _step(store, run, step) for run in run_ids}
    done = Signals(store.path).done(run_ids)
    result, ready = Probing(diverged=diverged), 0
    with interruptible() as stop:
        for together in alike(specs):
            work = _Work(store, {run: specs[run] for run in together}, steps, pick_device(device), null, n)
            missing = {
                r: [s for s in signals if (r, steps[r], s.name, s.version, examples_of(s, n)) not in done]
                for r in together
            }
            result.found += sum(len(signals) - len(wanted) for wanted in missing.values())
            for runs, wanted in work.chunks(missing):
                work.read(runs, wanted, result)
                ready += len(runs)
                report(min(ready, len(specs)), len(specs))
                if stop.is_set():
                    raise Interrupted
    return result


def examples_of(one: Signal, n: int) -> int:
    """How many probe examples a signal is read on; 0 for one that reads none."""
    return n if one.reads == "inputs" else 0


def _step(store: Store, run: str, step: int | None) -> int:
    weights = store.path / "weights" / store.entry(run)["weights"]
    if step != 0 and not weights.exists():
        raise UserError(f"run {run} has no weights: {weights} is missing (`lab store check` says what else is)")
    if step is None:
        return int(store.entry(run)["step"])
    check_step(store, [run], step)
    return step


def alike(specs: Mapping[str, RunSpec]) -> list[list[str]]:
    """Runs that can share a stack and its in-distribution examples.

    Runs of other training lengths can be trained in one stack, and are not read in one: what is in distribution for
    one of them is not for another.
    """
    found: dict[str, list[str]] = {}
    for run, spec in specs.items():
        key, lengths = stack_key(spec), {"min_len": spec.train.min_len, "train_len": spec.train.train_len}
        train = key.train.model_copy(update=lengths)
        found.setdefault(key.model_copy(update={"model": spec.model, "train": train}).run_id, []).append(run)
    return list(found.values())


class _Work:
    """The runs of one shape: their batches, and what a null needs, are made once."""

    def __init__(
        self, store: Store, specs: dict[str, RunSpec], steps: dict[str, int], device: torch.device, null: bool, n: int
    ):
        self.store, self.specs, self.steps, self.device = store, specs, steps, device
        self.spec = next(iter(specs.values()))
        self.n, self._null = n, null
        self._batches: tuple[Batch, ...] | None = None
        self._nulls: dict[str, Null] = {}

    def chunks(self, missing: dict[str, list[Signal]]) -> list[tuple[list[str], list[Signal]]]:
        """Runs to read together, and what of them: each as many as fit in memory; comparisons take all runs."""
        lacking: dict[tuple[str, ...], list[str]] = {}
        for run, wanted in missing.items():
            lacking.setdefault(tuple(s.name for s in wanted if not s.together), []).append(run)
        found: list[tuple[list[str], list[Signal]]] = []
        for names, runs in lacking.items():
            wanted = [s for s in missing[runs[0]] if s.name in names]
            size = self._size()
            found += [(runs[i : i + size], wanted) for i in range(0, len(runs), size) if wanted]
        compared = list(dict.fromkeys(s for wanted in missing.values() for s in wanted if s.together))
        return [*found, (list(missing), compared)] if compared else found

    def read(self, runs: list[str], signals: list[Signal], result: Probing) -> None:
        """Read signals of a stack, and keep them."""
        try:
            given = self._given(runs)
        except NotApplicable as why:
            for one in signals:
                result.skip(one.name, str(why), runs)
            return
        with precision(self.spec.train.dtype, self.device):
            if self._null:
                self._read_nulls(given, [s for s in signals if s.null and s.name not in self._nulls])
            reading = read(given, signals, self._nulls)
        for name, why in reading.skipped.items():
            result.skip(name, why, runs)
        self._keep(runs, signals, reading)
        result.read += len(runs) * len(reading.rows)

    def _read_nulls(self, given: ProbeInput, signals: list[Signal]) -> None:
        """Read untrained models, as many at once as runs are; nothing of them but the maxima is kept."""
        size, parts = self._size(), {one.name: list[Null]() for one in signals}
        for start in range(0, UNTRAINED if signals else 0, size):
            untrained = given.untrained(range(start, min(start + size, UNTRAINED)))
            for one in signals:
                parts[one.name].append(null_maxima(untrained, one))
        for name, of in parts.items():
            self._nulls[name] = {value: np.concatenate([part[value] for part in of]) for value in of[0]}

    def _given(self, runs: list[str]) -> ProbeInput:
        if self._batches is None:
            self._batches = probe_batches(self.spec, self.device, n=self.n)
        specs = [self.specs[run] for run in runs]
        steps = {self.steps[run] for run in runs}  # several only where each run is read at its own last one
        flat = self.store.weights(runs, steps.pop() if len(steps) == 1 else None)
        table = self.store.history(runs)
        columns = ("step", "loss", "lr", "exact_match", "grad_norm", "grad_norm_max")
        until = [table[(table["run_id"] == run) & (table["step"] <= self.steps[run])] for run in runs]
        history = [{name: rows[name].to_numpy() for name in columns} for rows in until]
        return probe_input(specs, model_of(self.spec.model, flat.to(self.device)), self._batches, history)

    def _size(self) -> int:
        """Runs of a stack, by the memory that patterns, scores and activations take."""
        if self._batches is None:
            try:
                self._batches = probe_batches(self.spec, self.device, n=self.n)
            except NotApplicable:
                return len(self.specs)
        cfg = self.spec.model
        numbers = 0
        for batch in self._batches:
            examples, pos = batch.tokens.shape
            a_layer = 2 * cfg.n_heads * pos + cfg.d_model + cfg.d_mlp
            numbers += examples * pos * (cfg.n_layers * a_layer + cfg.d_model + cfg.d_vocab)
        return max(1, _BYTES // (8 * numbers))  # 4 bytes a number, and as much again while signals are computed

    def _keep(self, runs: list[str], signals: list[Signal], reading: Reading) -> None:
        columns: dict[str, list[object]] = {name: [] for name in SIGNAL_COLUMNS}
        at = now()
        for one in signals:
            rows = reading.rows.get(one.name, [])
            columns["run_id"] += [runs[row.run] for row in rows]
            columns["step"] += [self.steps[runs[row.run]] for row in rows]
            columns["signal"] += [one.name] * len(rows)
            columns["version"] += [one.version] * len(rows)
            for name in ("name", "layer", "head", "value"):
                columns[name] += [getattr(row, name) for row in rows]
            columns["unit"] += [one.unit] * len(rows)
            columns["n"] += [examples_of(one, self.n)] * len(rows)
            columns["at"] += [at] * len(rows)
        if columns["run_id"]:
            self.store.ready()
            Signals(self.store.path).add(columns, stack_id(runs))
