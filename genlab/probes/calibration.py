"""What a signal detects: its values on compiled models, whose mechanism is known, with and without imperfections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genlab.errors import NotApplicable
from genlab.models import StackedModel, flat_of, model_of
from genlab.probes.calibrated import ALL, DOSE, REFERENCE, Row
from genlab.probes.families.ablations import head_tap
from genlab.probes.families.confidence import auroc
from genlab.probes.families.representation import probed
from genlab.probes.inputs import ProbeInput, probe_input
from genlab.probes.mechanisms import GAPS, MECHANISMS, Construction, Mechanism
from genlab.probes.probing import values_of
from genlab.probes.signal import Signal, chosen
from genlab.rasp.checker import tokens_of
from genlab.rasp.compiler.runs import compiled, compiled_weights, find_program, run_spec
from genlab.rasp.running import predict
from genlab.spec import RunSpec, TrainConfig, build
from genlab.tasks import make
from genlab.tasks import spec as task_spec

EXAMPLES = 128


@dataclass(frozen=True)
class Axes:
    """The imperfections of compiled models: each is varied alone, from a reference without noise.

    Attributes:
        noise: standard deviations of weight noise, as a fraction of the RMS of each matrix.
        decoys: random heads and neurons per layer, at least so many; the first number is the reference.
        width: d_model in superposition, as a fraction of the number of directions.
        length: the longest input, as a fraction of that of the mechanism.
        seeds: of rotation, decoys, superposition and noise.
    """

    noise: Sequence[float] = (1e-4, 3e-4, 1e-3, 3e-3)
    decoys: Sequence[int] = (2, 6)
    width: Sequence[float] = (0.99,)
    length: Sequence[float] = (0.5,)
    seeds: Sequence[int] = (0, 1, 2)

    def conditions(self, mechanism: Mechanism, signal: Signal) -> list[tuple[str, float]]:
        """Axis and level of every model in which a signal is read, the reference first.

        Slow signals, and those of slow models, are read in the reference and under the first two noises only.
        """
        if mechanism.is_dose:
            return [(DOSE, gap) for gap in GAPS]
        slow = signal.slow or mechanism.slow
        levels: dict[str, Sequence[float]] = {"noise": self.noise[:2] if slow else self.noise}
        if not slow:
            levels |= {"decoys": self.decoys[1:], "width": self.width, "length": self.length}
        varied = [(axis, float(level)) for axis, some in levels.items() for level in some if level]
        return [(REFERENCE, float(self.decoys[0])), *varied]


@dataclass(frozen=True)
class Specimen:
    """One compiled model and what signals read in it.

    Attributes:
        pool, program: what was compiled.
        axis, level: how it differs from the reference; seed: of its imperfections.
        right: fraction of inputs whose whole answer is that of its program.
        values: name of a reading (see `Reading`) -> value; NaN where the signal does not apply.
        kept: the same -> fraction of inputs whose answer stays the same if the head with that value writes nothing;
            NaN outside the reference, and if the value is not that of a head.
    """

    pool: str
    program: str
    axis: str
    level: float
    seed: int
    right: float
    values: dict[str, float] = field(default_factory=dict[str, float])
    kept: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Reading:
    """How one number per model is made from the values of a signal.

    Attributes:
        value: full name of the value.
        how: "max" over heads or layers, "min" for a signal that is low where the mechanism is present, "mean" for a
            dose, whose models have the same heads.
    """

    value: str
    how: str

    @property
    def name(self) -> str:
        return f"{self.how} {self.value}"

    @property
    def signal(self) -> Signal:
        return chosen([self.value.partition(".")[0]])[0]

    def of(self, values: NDArray[np.float64]) -> tuple[float, tuple[int, ...]]:
        """The number, and its index [layer, head]; without one for a mean, or if all are NaN."""
        if not np.isfinite(values).any():
            return float("nan"), ()
        if self.how == "mean":
            return float(np.nanmean(values)), ()
        best = np.nanargmax(values) if self.how == "max" else np.nanargmin(values)
        at = np.unravel_index(int(best), values.shape)
        return float(values[at]), tuple(int(i) for i in at)


def readings_of(mechanism: Mechanism) -> dict[str, Reading]:
    """Full name of each value that claims to detect a mechanism -> how it is read."""
    how = {1: "max", -1: "min"}
    return {v: Reading(v, "mean" if mechanism.is_dose else how[sign]) for v, sign in mechanism.claims.items()}


def specimens(
    mechanisms: Sequence[Mechanism],
    signals: Sequence[str],
    axes: Axes,
    report: Callable[[int, int], object] = lambda _done, _all: None,
) -> list[Specimen]:
    """Compile the programs of mechanisms under every condition, with a rotated basis, and read signals in them.

    A program that several mechanisms of a pool share is compiled once. A model does not depend on which mechanisms
    are asked for.

    Args:
        mechanisms: what to calibrate.
        signals: names of the signals to read.
        axes: conditions and seeds.
        report: called with the number of models done and in total.
    """
    wanted = list(_wanted(mechanisms, set(signals), axes))
    found: list[Specimen] = []
    for (pool, construction, axis, level, seed), readings in wanted:
        spec = _spec(pool, construction, axis, level, seed, axes.decoys[0])
        right, values, kept = _measured(spec, readings, ablate=axis == REFERENCE)
        found.append(Specimen(pool, construction.program, axis, level, seed, right, values, kept))
        report(len(found), len(wanted))
    return found


_Model = tuple[str, Construction, str, float, int]


def _wanted(
    mechanisms: Sequence[Mechanism], signals: set[str], axes: Axes
) -> Iterator[tuple[_Model, dict[str, Reading]]]:
    """Pool, construction, axis, level and seed of every model, with what is read in it; program by program."""
    plans: dict[tuple[str, Construction], dict[tuple[str, float], dict[str, Reading]]] = {}
    for mechanism in mechanisms:
        readings = [r for r in readings_of(mechanism).values() if r.value.partition(".")[0] in signals]
        for construction in (*mechanism.has, *mechanism.lacks) if readings else ():
            plan = plans.setdefault((mechanism.pool, construction), {})
            for one in readings:
                for condition in axes.conditions(mechanism, one.signal):
                    plan.setdefault(condition, {})[one.name] = one
    for (pool, construction), plan in plans.items():
        for (axis, level), readings in plan.items():
            for seed in axes.seeds:
                yield (pool, construction, axis, level, seed), readings


def _spec(pool: str, made: Construction, axis: str, level: float, seed: int, decoys: int) -> RunSpec:
    """The run of one model: see `Axes` for the meaning of a level."""
    more = _decoys(pool, made, int(level) if axis == "decoys" else decoys)
    options: dict[str, Any] = {"seed": seed, "rotate": True, "decoys": more}
    if axis in ("noise", "gap"):
        options[axis] = level
    if axis == "width":
        options["width"] = max(1, round(level * (_sizes(made)[2] + more)))
    return _run(made, round(level * made.max_len) if axis == "length" else made.max_len, **options)


def _run(made: Construction, longest: int, **options: Any) -> RunSpec:
    task = make(task_spec(made.task, longest, made.format))
    lengths = task.lengths_between("id", 1, longest).tolist()
    train = build(TrainConfig, {"train_len": lengths[-1], "min_len": lengths[0], "steps": 0})
    return run_spec(task.spec, train, program=made.program, **options)


@cache
def _sizes(made: Construction) -> tuple[int, int, int]:
    """Layers, heads and d_model of a program without imperfections."""
    spec = _run(made, made.max_len)
    assert spec.compiled is not None
    return spec.model.n_layers, sum(map(len, compiled(spec.task, spec.compiled).heads)), spec.model.d_model


def _decoys(pool: str, made: Construction, least: int) -> int:
    """Decoys per layer, at least so many, such that all models of a pool have about as many heads.

    The largest value over heads grows with their number, mechanism or not.
    """
    sizes = [_sizes(c)[:2] for m in MECHANISMS if m.pool == pool for c in (*m.has, *m.lacks)]
    most = max(heads + layers * least for layers, heads in sizes)
    layers, heads, _ = _sizes(made)
    return max(least, round((most - heads) / layers))


def _measured(
    spec: RunSpec, readings: Mapping[str, Reading], ablate: bool
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Fraction of right answers, and each reading: its value, and the fraction of answers kept without its head."""
    model = model_of(spec.model, flat_of(spec.model, compiled_weights(spec)))
    assert isinstance(model, StackedModel)
    given, answers = probe_input([spec], model, n=EXAMPLES), _Answers(spec)
    before = answers.of(model)
    working = _working(spec)
    without = cache(lambda at: answers.same(answers.of(model, head_tap(at[0], at[1], "zero")), before))
    of_signal = cache(lambda signal: _values(signal, given, {r.value for r in readings.values()}))
    values: dict[str, float] = {}
    kept: dict[str, float] = {}
    for name, one in readings.items():
        of_model = np.asarray(of_signal(one.signal).get(one.value, np.full((1, 1), np.nan))[0])
        values[name], at = one.of(np.where(working, of_model, np.nan) if one.signal.per == "head" else of_model)
        kept[name] = without(at) if ablate and len(at) == 2 else float("nan")
    return answers.same(before, answers.expected), values, kept


def _working(spec: RunSpec) -> NDArray[np.bool_]:
    """Heads that compute something, bool[layer, head]: a layer with fewer operations than others has empty ones."""
    assert spec.compiled is not None
    made = compiled(spec.task, spec.compiled)
    head = np.arange(spec.model.n_heads)
    is_decoy = head >= spec.model.n_heads - spec.compiled.decoys
    return np.array([(head < len(own)) | is_decoy for own in made.heads])


def _values(signal: Signal, given: ProbeInput, wanted: Set[str]) -> Mapping[str, NDArray[np.float64]]:
    """The values of a signal by full name; none if it does not apply."""
    if signal.name == "linear_probe":  # probes for all latent states would take four times as long
        names = {value.split(".")[1] for value in wanted if value.startswith("linear_probe.")}
        return {f"linear_probe.{part}": of.numpy() for part, of in probed(given, names).items()}
    try:
        return values_of(signal, given)
    except NotApplicable:
        return {}


class _Answers:
    """The answers to a fixed set of the longest inputs, by the program and by a model: int[example, pos]."""

    def __init__(self, spec: RunSpec):
        assert spec.compiled is not None
        task, rng = make(spec.task), np.random.default_rng(0)
        self._examples = task.sample(rng, "id", np.full(EXAMPLES, spec.train.train_len))
        lead = int(task.spec.start_token)
        program, values = find_program(spec.compiled.program, task), tokens_of(task)
        said = values.decode(predict(program, values.encode(self._examples.tokens[:, lead:])))
        self.expected = np.pad(said, ((0, 0), (lead, 0)))

    @torch.no_grad()
    def of(self, model: StackedModel, tap: Callable[[str, Tensor], Tensor] | None = None) -> NDArray[np.int64]:
        """The model's most likely tokens."""
        return model(torch.from_numpy(self._examples.tokens), tap=tap).argmax(-1).numpy()

    def same(self, ids: NDArray[np.int64], others: NDArray[np.int64]) -> float:
        """Fraction of inputs whose whole answers are equal."""
        return float(((ids == others) | ~self._examples.scored).all(1).mean())


# -- From models to rows


def rows_of(mechanism: Mechanism, signals: Sequence[str], models: Sequence[Specimen]) -> list[Row]:
    """How well each signal tells models with a mechanism from models without, by construction, axis and level.

    Args:
        mechanism: the mechanism.
        signals: names of the signals that were read.
        models: specimens, of other mechanisms too.
    """
    own = _Models(mechanism, models)
    found: list[Row] = []
    for value, reading in readings_of(mechanism).items():
        if value.partition(".")[0] in signals:
            sign = mechanism.claims[value]
            found += own.dose(value, reading.name, sign) if mechanism.is_dose else own.told(value, reading.name, sign)
    return found


def _rounded(values: Sequence[float]) -> NDArray[np.float64]:
    """Values without the last digits, whose order is that of rounding errors."""
    return np.round(np.array(values, np.float64), 6)


class _Models:
    """The models of one mechanism."""

    def __init__(self, mechanism: Mechanism, models: Sequence[Specimen]):
        self.mechanism = mechanism
        self.has, self.lacks = ([c.program for c in side] for side in (mechanism.has, mechanism.lacks))
        self.models = [m for m in models if m.pool == mechanism.pool and (m.axis == DOSE) == mechanism.is_dose]

    def of(self, programs: Sequence[str], axis: str = "", level: float = 0.0) -> list[Specimen]:
        return [m for m in self.models if m.program in programs and (not axis or (m.axis, m.level) == (axis, level))]

    def told(self, value: str, name: str, sign: int) -> Iterator[Row]:
        """AUROC of each construction against all that lack it, by condition; in the reference also against each."""
        for axis, level in dict.fromkeys((m.axis, m.level) for m in self.models):
            if not any(name in m.values for m in self.of(self.has, axis, level)):
                continue
            for program in self.has:
                for lacks in (ALL, *(self.lacks if axis == REFERENCE else ())):
                    having = self.of([program], axis, level)
                    lacking = self.of(self.lacks if lacks == ALL else [lacks], axis, level)
                    models = [*having, *lacking]
                    values = sign * _rounded([m.values.get(name, np.nan) for m in models])
                    read, has = np.isfinite(values), np.arange(len(models)) < len(having)
                    score = auroc(values[read], has[read])
                    yield self._row(value, name, (program, lacks), (axis, level), "auroc", score, having, lacking)

    def dose(self, value: str, name: str, sign: int) -> Iterator[Row]:
        """Rank correlation with the gap over the models of each construction."""
        from scipy.stats import spearmanr

        for program in self.has:
            models = self.of([program])
            values = sign * _rounded([m.values[name] for m in models])
            varied = len(np.unique(values)) > 1 and len({m.level for m in models}) > 1
            score = float(spearmanr([m.level for m in models], values).statistic) if varied else float("nan")
            yield self._row(value, name, (program, ""), (DOSE, max(GAPS)), "spearman", score, models, [])

    def _row(
        self,
        value: str,
        name: str,
        sides: tuple[str, str],
        condition: tuple[str, float],
        measure: str,
        score: float,
        having: Sequence[Specimen],
        lacking: Sequence[Specimen],
    ) -> Row:
        def over(side: Sequence[Specimen], of: Callable[[Specimen], float], how: Callable[..., Any]) -> float:
            known = [x for m in side if np.isfinite(x := of(m))]
            return float(how(known)) if known else float("nan")

        return Row(
            *(self.mechanism.name, value, *sides, *condition, measure, score, len(having), len(lacking)),
            **{
                f"{prefix}_{what}": over(side, of, how)
                for prefix, side in (("has", having), ("lacks", lacking))
                for what, of, how in (
                    ("low", lambda m: m.values.get(name, np.nan), min),
                    ("high", lambda m: m.values.get(name, np.nan), max),
                    ("kept", lambda m: m.kept.get(name, np.nan), np.median),
                    ("right", lambda m: m.right, min),
                )
            },
        )
