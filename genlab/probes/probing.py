"""Read signals of committed runs, a whole stack at a time, and save them in the store (`lab probe`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from genlab.errors import Interrupted, NotApplicable, UserError
from genlab.models import model_of
from genlab.probes.inputs import PROBE_N, UNTRAINED, Batch, ProbeInput, check_probe_n, probe_batches, probe_input
from genlab.probes.signal import HALVES, Signal
from genlab.runs.devices import pick_device
from genlab.runs.diverged import set_aside
from genlab.runs.execute import interruptible
from genlab.runs.parts import SIGNAL_COLUMNS, Signals
from genlab.runs.sources import unavailable
from genlab.runs.store import Store, now, stack_id
from genlab.spec import RunSpec
from genlab.training.loop import precision
from genlab.training.state import stack_key

# -- Signals of a stack as rows: values, maxima over heads with their nulls, halves

Null = Mapping[str, np.ndarray]
"""Name of a per-head value -> its maximum over the heads of each untrained model, float64[model]."""
_Pair = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]

ALL = -1
"""The layer or head index of a value that belongs to all of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One value of one run (`run` is its index in the stack)."""

    run: int
    name: str
    layer: int
    head: int
    value: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of signals for a stack.

    Attributes:
        rows: signal name -> its rows. A run without any value has one row of NaN.
        skipped: signal name -> why it does not apply.
    """

    rows: Mapping[str, list[Row]]
    skipped: Mapping[str, str]


def read(given: ProbeInput, signals: Iterable[Signal], nulls: Mapping[str, Null] | None = None) -> Reading:
    """Read signals, each also on both halves of the examples if its value is read on a sample.

    Args:
        given: the probe input.
        signals: the signals to read.
        nulls: signal name -> its `null_maxima`; missing ones are left out.
    """
    rows: dict[str, list[Row]] = {}
    skipped: dict[str, str] = {}
    for one in signals:
        try:
            named = values_of(one, given)
        except NotApplicable as why:
            skipped[one.name] = str(why)
            continue
        halves = _on_halves(one, given)
        entries = [row for name, values in named.items() for row in _rows(name, values)]
        for name, values in named.items():
            pair = _pair(name, halves)
            if one.per == "head":
                entries += _maxima(f"{name}.max", _largest(one, values, pair))
                entries += _null_rows(name, (nulls or {}).get(one.name, {}).get(name), given.model.n_runs)
            elif pair is not None:
                entries += [row for half, of in zip(HALVES, pair, strict=True) for row in _rows(name + half, of)]
        with_value = {row.run for row in entries}
        missing = [run for run in range(given.model.n_runs) if run not in with_value]
        entries += [Row(run, one.name, ALL, ALL, float("nan")) for run in missing]
        rows[one.name] = entries
    return Reading(rows, skipped)


def null_maxima(untrained: ProbeInput, one: Signal) -> Null:
    """The maxima of a signal over the heads of untrained models; empty if it has none, or does not apply."""
    if not one.null:
        return {}
    try:
        named, halves = values_of(one, untrained), _on_halves(one, untrained)
    except NotApplicable:
        return {}
    return {name: _largest(one, values, _pair(name, halves))[0] for name, values in named.items()}


def cross_fitted(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maximum along the last axis, chosen on one half of the data and read on the other, both ways; NaN if
    unknown.

    The maximum of noisy values is biased upward, the more so the more values there are; a value read on examples that
    were not used for the choice is not.

    >>> cross_fitted(np.array([0.2, 0.9]), np.array([0.5, 0.4]))
    (array(0.2), array(0.4))

    Args:
        first, second: float[..., choice], the same values read on two halves.

    Returns:
        float[...]: the first half's value at the second half's choice, and the second half's at the first's.
    """
    known = np.isfinite(first) & np.isfinite(second)
    chosen = [np.where(known, half, -np.inf).argmax(-1)[..., None] for half in (first, second)]
    pair = [
        np.take_along_axis(half, of_other, -1)[..., 0]
        for half, of_other in zip((first, second), reversed(chosen), strict=True)
    ]
    return np.where(known.any(-1), pair[0], np.nan), np.where(known.any(-1), pair[1], np.nan)


@torch.no_grad()
def values_of(one: Signal, given: ProbeInput) -> dict[str, np.ndarray]:
    """A signal's values by full name, float64[run], [run, layer] or [run, layer, head].

    Runs with non-finite weights or logits get NaN, and the other runs are read without them.

    Raises:
        NotApplicable: the signal is not defined for these runs.
        ValueError: the values have another shape than declared, or are outside the declared range.
    """
    sound = given.sound
    if bool(sound.all()):
        return _values(one, given)
    rows = sound.nonzero()[:, 0]
    if not len(rows):
        shape = (len(sound), given.cfg.n_layers, getattr(given.cfg, "n_heads", 0))
        return {one.name: np.full(shape[: _axes(one)], np.nan)}
    some = given.once("sound runs", lambda: given.of_runs(rows))
    padded: dict[str, np.ndarray] = {}
    for name, values in _values(one, some).items():
        padded[name] = np.full((len(sound), *values.shape[1:]), np.nan)
        padded[name][rows.cpu().numpy()] = values
    return padded


def _axes(one: Signal) -> int:
    return 1 + ("run", "layer", "head").index(one.per)


def _values(one: Signal, given: ProbeInput) -> dict[str, np.ndarray]:
    result: Any = one.read(given)
    named = {one.name: result}
    if isinstance(result, Mapping):
        named = {f"{one.name}.{part}": values for part, values in result.items()}
    arrays = {name: torch.as_tensor(values).double().cpu().numpy() for name, values in named.items()}
    slack = 1e-4 * max(1.0, *(abs(end) for end in (one.low, one.high) if np.isfinite(end)), 1.0)
    for name, values in arrays.items():
        if values.ndim != _axes(one) or len(values) != given.model.n_runs:
            raise ValueError(
                f"signal {name!r} returned values of shape {values.shape}, but is declared per {one.per}"
            )
        finite = values[np.isfinite(values)]
        if ((finite < one.low - slack) | (finite > one.high + slack)).any():
            raise ValueError(
                f"signal {name!r} returned {finite.min()} to {finite.max()}, declared range {one.low} to {one.high}"
            )
    return arrays


def _on_halves(one: Signal, given: ProbeInput) -> _Pair | None:
    """The values on both halves of the examples; None if it is not sampled, or a half is too small."""
    if one.exact:
        return None
    try:
        first, second = (values_of(one, half) for half in given.halves)
    except NotApplicable:
        return None
    return first, second


def _pair(name: str, halves: _Pair | None) -> tuple[np.ndarray, np.ndarray] | None:
    return (halves[0][name], halves[1][name]) if halves is not None and all(name in h for h in halves) else None


def _rows(name: str, values: np.ndarray) -> list[Row]:
    """Rows of the finite values."""
    index = np.argwhere(np.isfinite(values))
    padded = np.full((len(index), 3), ALL)
    padded[:, : index.shape[1]] = index
    return [
        Row(run, name, layer, head, value)
        for (run, layer, head), value in zip(padded.tolist(), values[tuple(index.T)].tolist(), strict=True)
    ]


def _largest(one: Signal, values: np.ndarray, pair: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, ...]:
    """The maximum over all heads, float64[run]; for a signal that is read on a sample also its two halves.

    NaN if no head has a value, or the sample is too small to be halved.
    """
    flat = values.reshape(len(values), -1)
    if one.exact:
        return (np.where(np.isfinite(flat), flat, -np.inf).max(-1, initial=-np.inf),)
    if pair is None:
        return (np.full(len(values), np.nan),)
    first, second = cross_fitted(*(half.reshape(len(half), -1) for half in pair))
    return (first + second) / 2, first, second


def _maxima(name: str, largest: tuple[np.ndarray, ...]) -> list[Row]:
    """Rows of the maximum and its two halves."""
    names = (name, *(name + half for half in HALVES))
    return [
        Row(run, named, ALL, ALL, float(value))
        for named, values in zip(names, largest, strict=False)
        for run, value in enumerate(values)
        if np.isfinite(value)
    ]


def _null_rows(name: str, of_null: np.ndarray | None, runs: int) -> list[Row]:
    """Mean and standard deviation of the maximum over untrained models of the same shape, as rows of each run."""
    known = np.empty(0) if of_null is None else of_null[np.isfinite(of_null)]
    if not len(known):
        return []
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    pairs = ((".null", float(known.mean())), (".null_sd", spread))
    return [Row(run, name + end, ALL, ALL, value) for end, value in pairs for run in range(runs)]


# -- Reading the runs of a store

_BYTES = 400_000_000
"""Memory for the activations of one stack."""


@dataclass
class Probing:
    """What `probe` did.

    Attributes:
        read, found: number of (run, signal) pairs that were read now, and that the store already had.
        diverged: runs that were left out because they diverged.
        skipped: signal -> reason why it does not apply -> the runs concerned.
    """

    read: int = 0
    found: int = 0
    diverged: list[str] = field(default_factory=list[str])
    skipped: dict[str, dict[str, list[str]]] = field(default_factory=dict[str, dict[str, list[str]]])

    def skip(self, signal: str, why: str, runs: Sequence[str]) -> None:
        """Record that a signal does not apply to some runs."""
        known = self.skipped.setdefault(signal, {}).setdefault(why, [])
        known[:] = dict.fromkeys([*known, *runs])

    def add(self, other: Probing) -> None:
        """Add the counts of another step."""
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
    """Read signals of committed runs and save them; diverged runs are left out (`genlab.runs.diverged`).

    Args:
        store: the store of the runs.
        run_ids: the runs.
        signals: the signals to read.
        step: the training step whose weights, and history up to it, are read: a checkpoint, 0 (the initial weights),
            or None for the last step.
        device: where to compute.
        report: called with the number of runs done and in total.
        null: whether to read untrained models as well, for the nulls of maxima.
        n: number of probe examples, over both halves; signals read on another number are read again.

    Raises:
        UserError: the step is not a checkpoint, weights are missing, or the number of examples is not allowed.
        Interrupted: Ctrl-C; what was read is saved.
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
            why = unavailable(store, together[0]) if any(missing.values()) else ""
            if why and len(together) == len(specs) and not result.found:
                raise UserError(why)
            for one in dict.fromkeys(s for wanted in missing.values() for s in wanted) if why else ():
                result.skip(one.name, why, [run for run in together if one in missing[run]])
            for runs, wanted in work.chunks(missing) if any(missing.values()) and not why else ():
                work.read(runs, wanted, result)
                ready += len(runs)
                report(min(ready, len(specs)), len(specs))
                if stop.is_set():
                    raise Interrupted
    return result


def examples_of(one: Signal, n: int) -> int:
    """The number of probe examples that a signal is read on; 0 if it does not read them."""
    return n if one.reads == "inputs" else 0


def _step(store: Store, run: str, step: int | None) -> int:
    weights = store.path / "weights" / store.entry(run)["weights"]
    if step != 0 and not weights.exists():
        raise UserError(f"run {run} has no weights: {weights} is missing (`lab store check` lists what else is)")
    if step is None:
        return int(store.entry(run)["step"])
    store.check_step([run], step)
    return step


def alike(specs: Mapping[str, RunSpec]) -> list[list[str]]:
    """Group runs that can share a stack and its in-distribution examples.

    Runs with different training lengths can be trained in one stack but not read in one, because what is in
    distribution differs between them.
    """
    groups: dict[str, list[str]] = {}
    for run, spec in specs.items():
        key, lengths = stack_key(spec), {"min_len": spec.train.min_len, "train_len": spec.train.train_len}
        train = key.train.model_copy(update=lengths)
        groups.setdefault(key.model_copy(update={"model": spec.model, "train": train}).run_id, []).append(run)
    return list(groups.values())


class _Work:
    """The runs of one shape; their batches and nulls are computed once."""

    def __init__(
        self, store: Store, specs: dict[str, RunSpec], steps: dict[str, int], device: torch.device, null: bool, n: int
    ):
        self.store, self.specs, self.steps, self.device = store, specs, steps, device
        self.spec = next(iter(specs.values()))
        self.n, self._null = n, null
        self._batches: tuple[Batch, ...] | None = None
        self._nulls: dict[str, Null] = {}

    def chunks(self, missing: dict[str, list[Signal]]) -> list[tuple[list[str], list[Signal]]]:
        """Runs and signals to read together: as many runs as fit into memory; comparisons get all runs."""
        lacking: dict[tuple[str, ...], list[str]] = {}
        for run, wanted in missing.items():
            lacking.setdefault(tuple(s.name for s in wanted if not s.together), []).append(run)
        parts: list[tuple[list[str], list[Signal]]] = []
        for names, runs in lacking.items():
            wanted = [s for s in missing[runs[0]] if s.name in names]
            size = self._size()
            parts += [(runs[i : i + size], wanted) for i in range(0, len(runs), size) if wanted]
        compared = list(dict.fromkeys(s for wanted in missing.values() for s in wanted if s.together))
        return [*parts, (list(missing), compared)] if compared else parts

    def read(self, runs: list[str], signals: list[Signal], result: Probing) -> None:
        """Read signals of a stack, and save them."""
        try:
            given = self._probe_input(runs)
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
        self._save(runs, signals, reading)
        result.read += len(runs) * len(reading.rows)

    def _read_nulls(self, given: ProbeInput, signals: list[Signal]) -> None:
        """Read untrained models, in chunks as large as those of runs, and store only the maxima."""
        size, parts = self._size(), {one.name: list[Null]() for one in signals}
        for start in range(0, UNTRAINED if signals else 0, size):
            untrained = given.untrained(range(start, min(start + size, UNTRAINED)))
            for one in signals:
                parts[one.name].append(null_maxima(untrained, one))
        for name, of in parts.items():
            self._nulls[name] = {value: np.concatenate([part[value] for part in of]) for value in of[0]}

    def _probe_input(self, runs: list[str]) -> ProbeInput:
        if self._batches is None:
            self._batches = probe_batches(self.spec, self.device, n=self.n)
        specs = [self.specs[run] for run in runs]
        steps = {self.steps[run] for run in runs}  # several only if each run is read at its own last step
        flat = self.store.weights(runs, steps.pop() if len(steps) == 1 else None)
        table = self.store.history(runs)
        columns = ("step", "loss", "lr", "exact_match", "grad_norm", "grad_norm_max")
        until = [table[(table["run_id"] == run) & (table["step"] <= self.steps[run])] for run in runs]
        history = [{name: rows[name].to_numpy() for name in columns} for rows in until]
        return probe_input(specs, model_of(self.spec.model, flat.to(self.device)), self._batches, history)

    def _size(self) -> int:
        """Number of runs per stack, by the memory of patterns, scores and activations."""
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
        return max(1, _BYTES // (8 * numbers))  # 4 bytes per number, doubled for intermediate results

    def _save(self, runs: list[str], signals: list[Signal], reading: Reading) -> None:

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
