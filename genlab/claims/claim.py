"""Claim files: what a paper found, the runs that should show it, and the rule by which it is judged.

    paper = "Zhou et al. 2023, What Algorithms can Transformers Learn?, arXiv 2310.16028"
    place = "section 6"                         table, figure or section of the paper
    claim = "..."                               the sentence that is claimed
    scale = "as published"                      or how the runs here differ
    cost = 60                                   processor seconds of all runs, estimated
    gpu = false                                 true: not for a CPU

    [grid.base] [grid.sweep] [grid.seeds] ...   the runs, a grid file as in genlab/runs/gridfile.py
    [[evaluate]]                                further evaluations of every run
    [[measure]]                                 a number per run, or per run and length
    [fitted]                                    when a run has learned its task, by a measure
    [[rule]]                                    what must hold
    [[published]]                               numbers in print
    remarks = "..."                             what was tried where a rule failed
    [[change]]                                  a rule that was changed after its runs were looked at

Every option that the lab would otherwise choose is written out, so that a claim does not change with the lab.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genlab.claims.rules import (
    MEASURES,
    RULES,
    AnyRule,
    Auroc,
    Change,
    Combined,
    Evaluate,
    Evaluation,
    Fisher,
    Fitted,
    Interval,
    Measure,
    Monotone,
    Ordering,
    Place,
    Published,
    Rule,
    Signal,
    SignalSteps,
    Steps,
    Where,
    listed,
)
from genlab.errors import UserError, nearest
from genlab.runs.gridfile import Grid, Toml, flat, grid_in, raise_all, read_toml
from genlab.runs.plan import Plan, defaults_of, eval_splits
from genlab.spec import LSTM_FIXED, Frozen, ModelConfig, RunSpec, Scalar, TrainConfig

_TEXTS = ("paper", "place", "claim", "scale")
_LISTS: Mapping[str, type[Frozen]] = {"evaluate": Evaluate, "published": Published, "change": Change}
_KEYS = (*_TEXTS, "cost", "gpu", "remarks", "grid", "fitted", "measure", "rule", *_LISTS)

RECIPE = (
    *("n_layers", "d_model", "n_heads", "positions", "init_std", "scale_residual_init", "tie_word_embeddings"),
    *("steps", "batch_size", "lengths_per_batch", "optimizer", "lr", "warmup", "schedule", "weight_decay", "decay"),
    *("grad_clip", "min_len", "start_token"),
)
"""Options that the grid of every claim writes out, beside those with a default of their own for the task."""

_EPSILON = 1e-9


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        name: the stem of its file.
        paper, place, claim, scale, remarks: texts.
        cost: processor seconds of all runs, estimated.
        gpu: whether the runs need a GPU.
        grid: the runs; settings: the names of what varies between their configurations.
        evaluate, measures, fitted, rules, published, changes: as in the file.
    """

    name: str
    paper: str
    place: str
    claim: str
    scale: str
    remarks: str
    cost: float
    gpu: bool
    grid: Grid
    settings: tuple[str, ...]
    evaluate: tuple[Evaluate, ...]
    measures: tuple[Measure, ...]
    fitted: Fitted
    rules: tuple[AnyRule, ...]
    published: tuple[Published, ...]
    changes: tuple[Change, ...]

    @property
    def runs(self) -> list[RunSpec]:
        """All runs of the claim."""
        return [spec for plan in self.grid.plans for spec in plan.specs]

    def measure(self, name: str) -> Measure:
        """The measure of a name."""
        return next(one for one in self.measures if one.name == name)

    def is_curve(self, name: str) -> bool:
        """Whether a measure has one value per length."""
        one = self.measure(name)
        if isinstance(one, Combined):
            return self.is_curve(one.of[0])
        return isinstance(one, Evaluation) and one.by_length

    def in_print(self, measure: str, where: Where) -> list[Published]:
        """The published numbers of a measure for exactly these settings."""
        return [one for one in self.published if one.measure == measure and one.where == where]

    @property
    def rule_hash(self) -> str:
        """SHA-256 of what decides a verdict: measures, what "fitted" means, rules and published numbers."""
        parts = {
            "measures": [one.model_dump(mode="json") for one in self.measures],
            "fitted": self.fitted.model_dump(mode="json"),
            "rules": [one.model_dump(mode="json", exclude={"about"}) for one in self.rules],
            "published": [one.model_dump(mode="json") for one in self.published],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def grid_hash(self) -> str:
        """SHA-256 of the ids of the runs and of all evaluations."""
        grids = [[[spec.run_id for spec in plan.specs], asdict(plan.evals)] for plan in self.grid.plans]
        parts = [grids, [one.model_dump(mode="json") for one in self.evaluate]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def setting_of(spec: RunSpec, name: str) -> Scalar:
    """The value of a grid's setting in a run."""
    if name.startswith("params."):
        return spec.task.params[name.removeprefix("params.")]
    if name in ("task", "format", "max_len", "start_token"):
        return getattr(spec.task, "name" if name == "task" else name)
    return getattr(spec.model if name in ModelConfig.model_fields else spec.train, name)


def selects(where: Mapping[str, Scalar], settings: Mapping[str, Any]) -> bool:
    """Whether settings have all given values (numbers to within rounding)."""
    return all(_equal(settings.get(name), value) for name, value in where.items())


def _equal(one: Any, other: Scalar) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return abs(one - other) <= _EPSILON * max(1.0, abs(one)) if numbers else str(one) == str(other)


def read_claim(path: Path) -> Claim:
    """Read a claim file.

    Raises:
        UserError: all errors in the file, one per line, with their line numbers.
    """
    return _Reader(read_toml(path, "claim file")).claim(path.stem)


def parse_claim(text: str, name: str) -> Claim:
    """Parse the text of a claim file. Raises `UserError` as `read_claim` does."""
    return _Reader(Toml(text, name)).claim(name)


class _Reader:
    def __init__(self, toml: Toml):
        self._toml, self._values = toml, toml.values
        self._errors: list[tuple[int, str]] = []

    def claim(self, name: str) -> Claim:
        """Read the whole file and report all errors."""
        for key in self._values:
            if key not in _KEYS:
                self._unknown(f"unknown key {key!r}", key, _KEYS, key)
        texts = {key: self._text(key) for key in _TEXTS}
        remarks = self._text("remarks") if "remarks" in self._values else ""
        cost, gpu = self._number("cost"), self._values.get("gpu", False)
        if not isinstance(gpu, bool):
            self._error(f"gpu: {gpu!r} is not allowed (true or false)", "gpu")
        lists: dict[str, tuple[Any, ...]] = {key: self._list(key, cls) for key, cls in _LISTS.items()}
        measures, rules = self._kinds("measure", "reads", MEASURES), self._kinds("rule", "kind", RULES)
        fitted = self._one(Fitted, self._values.get("fitted", {}), "fitted")
        grid, errors = grid_in(self._toml.part("grid"), name)
        self._errors += errors
        table = self._values.get("grid", {}) if isinstance(self._values.get("grid", {}), dict) else {}
        self._finish()
        assert grid is not None
        assert fitted is not None
        found = Claim(
            **{**texts, "name": name, "remarks": remarks, "cost": cost, "gpu": gpu},
            grid=grid,
            settings=_settings(table),
            evaluate=lists["evaluate"],
            measures=measures,
            fitted=fitted,
            rules=rules,
            published=lists["published"],
            changes=lists["change"],
        )
        _Checks(found, self._error).run(table)
        self._finish()
        return found

    def _finish(self) -> None:
        raise_all(self._toml, self._errors)

    def _error(self, text: str, *place: str) -> None:
        self._errors.append((self._toml.line(*place), text))

    def _unknown(self, text: str, name: str, allowed: Sequence[str], *place: str) -> None:
        near = nearest(name, allowed)
        hint = f"; did you mean {near!r}?" if near else f" (allowed: {', '.join(sorted(allowed))})"
        self._error(text + hint, *place)

    def _text(self, key: str) -> str:
        value = self._values.get(key, "")
        if not isinstance(value, str) or not value.strip():
            self._error(f"{key} is missing: a text" if key not in self._values else f"{key} must be a text", key)
            return ""
        return " ".join(value.split())

    def _number(self, key: str) -> float:
        value = self._values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            self._error(f"{key} is missing: processor seconds, above 0", key)
            return 0.0
        return float(value)

    def _tables(self, key: str) -> list[dict[str, Any]]:
        given = self._values.get(key, [])
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            self._error(f"{key} must be an array of tables: [[{key}]]", key)
            return []
        return given

    def _list(self, key: str, cls: type[Frozen]) -> tuple[Any, ...]:
        found = [self._one(cls, table, key, str(i)) for i, table in enumerate(self._tables(key))]
        return tuple(one for one in found if one is not None)

    def _kinds(self, key: str, by: str, classes: Mapping[str, type[Frozen]]) -> tuple[Any, ...]:
        """Read an array of tables whose class is named by one of their keys."""
        found: list[Frozen | None] = []
        for i, table in enumerate(self._tables(key)):
            kind = table.get(by)
            if isinstance(kind, str) and kind in classes:
                found.append(self._one(classes[kind], table, key, str(i)))
            else:
                what = f"{by} is missing" if kind is None else f"unknown {by} {kind!r}"
                self._unknown(what, str(kind), list(classes), key, str(i), by)
        if not self._values.get(key):
            self._error(f"a claim needs at least one [[{key}]]", key)
        return tuple(one for one in found if one is not None)

    def _one(self, cls: type[Frozen], table: object, *place: str) -> Any:
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            for one in error.errors():
                self._report(cls, one, place)
            return None

    def _report(self, cls: type[Frozen], error: Any, place: tuple[str, ...]) -> None:
        path = tuple(str(part) for part in error["loc"])
        shown = ".".join(path)
        if error["type"] == "extra_forbidden":
            return self._unknown(f"{place[0]}: unknown key {shown!r}", shown, list(cls.model_fields), *place, *path)
        text = str(error["msg"]).removeprefix("Value error, ")
        text = text[:1].lower() + text[1:]
        if error["type"] == "missing":
            return self._error(f"{place[0]}: {shown} is missing", *place)
        what = f"{shown}: {error['input']!r} is not allowed ({text})" if path else text
        return self._error(f"{place[0]}: {what}", *place, *path)


def _settings(table: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what varies between the configurations of a grid; the test length is not a part of a run."""
    zips = table.get("zip", [])
    parts = [table.get("sweep", {}), *([zips] if isinstance(zips, dict) else zips)]
    return tuple(dict.fromkeys(key for part in parts for key in flat(part) if key != "test_len"))


class _Checks:
    """Checks of a claim as a whole: names that its parts use, numbers that rules need, options left to the lab."""

    def __init__(self, claim: Claim, error: Any):
        self._claim, self._error = claim, error
        self._known = [one.name for one in claim.measures]
        self._cells = [
            {name: setting_of(plan.specs[0], name) for name in claim.settings} for plan in claim.grid.plans
        ]

    def run(self, table: Mapping[str, Any]) -> None:
        """Report all errors."""
        self._options(table)
        self._evaluations()
        for i, measure in enumerate(self._claim.measures):
            self._measure(measure, "measure", str(i))
        self._named(self._claim.fitted.measure, "fitted", "measure")
        if self._claim.fitted.measure in self._known and self._claim.is_curve(self._claim.fitted.measure):
            self._error(f"fitted: measure {self._claim.fitted.measure!r} is read by length", "fitted")
        for i, rule in enumerate(self._claim.rules):
            self._rule(rule, "rule", str(i))
        for i, one in enumerate(self._claim.published):
            if self._named(one.measure, "published", str(i), "measure"):
                self._group(one.where, "published", str(i))
                if (one.length is not None) != self._claim.is_curve(one.measure):
                    self._error(
                        f"published: length goes with measures by length, as {one.measure!r}", "published", str(i)
                    )

    def _options(self, table: Mapping[str, Any]) -> None:
        """Every option that the lab or the task has a say in is written out."""
        written = {*flat(table.get("base", {})), *self._claim.settings}
        planned = ModelConfig.planned() | TrainConfig.planned()
        for plan in self._claim.grid.plans:
            task = plan.specs[0].task
            own = defaults_of(task.name, task.format).keys() - {"params", "train_len", "test_len"}
            missing = sorted({*RECIPE, *planned, *own} - written - _fixed(plan))
            if missing:
                self._error(f"the grid leaves to the lab: {', '.join(missing)}; write them out", "grid", "base")
                return

    def _evaluations(self) -> None:
        for i, one in enumerate(self._claim.evaluate):
            for plan in self._claim.grid.plans:
                try:
                    plan.task.check_lengths(one.split, one.lengths)
                except UserError as error:
                    self._error(f"evaluate: {error}", "evaluate", str(i))
                    break

    def _measure(self, measure: Measure, *place: str) -> None:
        if self._known.count(measure.name) > 1 and self._known.index(measure.name) != int(place[1]):
            self._error(f"measure: two are named {measure.name!r}", *place, "name")
        if isinstance(measure, Combined):
            before = self._known[: int(place[1])]
            for name in measure.of:
                if name not in before:
                    self._nearest(
                        f"measure {measure.name!r} combines {name!r}, which is not above it", name, before, *place
                    )
            if all(name in before for name in measure.of) and len({self._claim.is_curve(n) for n in measure.of}) > 1:
                self._error(
                    f"measure {measure.name!r} combines one that is read by length and one that is not", *place
                )
        elif isinstance(measure, Signal | SignalSteps):
            self._signal(measure, *place)
        elif not any(places_read(self._claim, plan, measure) for plan in self._claim.grid.plans):
            weights = getattr(measure, "attn_weights", "")
            what = f" with attn_weights {weights!r}" if weights else ""
            lengths = measure.lengths if isinstance(measure.lengths, str) else ", ".join(map(str, measure.lengths))
            self._error(
                f"measure {measure.name!r} reads split {measure.split!r} at lengths {lengths}{what}, which nothing "
                "evaluates: see [grid.evals] and [[evaluate]]",
                *place,
            )

    def _signal(self, measure: Signal | SignalSteps, *place: str) -> None:
        from genlab.probes.signal import chosen

        try:
            chosen([measure.signal.partition(".")[0]])
        except UserError as error:
            self._error(f"measure {measure.name!r}: {error}", *place, "signal")
        if isinstance(measure, SignalSteps) and not any(plan.evals.keep_steps for plan in self._claim.grid.plans):
            self._error(f"measure {measure.name!r} reads checkpoints: give keep_steps in [grid.evals]", *place)

    def _rule(self, rule: AnyRule, *place: str) -> None:
        if not self._named(rule.measure, *place, "measure"):
            return
        curve = self._claim.is_curve(rule.measure)
        if isinstance(rule, Monotone) and not curve:
            self._error(f"rule: monotone needs a measure by length; {rule.measure!r} is not", *place)
        if isinstance(rule, Ordering | Fisher | Auroc) and curve:
            self._error(f"rule: {rule.kind} cannot use {rule.measure!r}, which is read by length", *place)
        for name in rule.by if isinstance(rule, Auroc) else ():
            if self._named(name, *place, "by") and (self._claim.is_curve(name) or name == rule.measure):
                self._error(f"rule: auroc cannot forecast {rule.measure!r} by {name!r}", *place, "by")
        for where in rule.groups():
            self._group(where, *place)
        self._readable(rule, *place)
        if isinstance(rule, Interval | Fisher):
            printed = self._claim.in_print(rule.measure, rule.where)
            wanted = "count and of" if isinstance(rule, Fisher) else "value"
            if not any((p.count if isinstance(rule, Fisher) else p.value) is not None for p in printed):
                self._error(
                    f"rule: {rule.kind} of {rule.measure!r} ({listed(rule.where)}) needs a [[published]] with "
                    f"{wanted} for the same settings",
                    *place,
                )
            if isinstance(rule, Interval) and rule.within is None and any(p.se is None for p in printed):
                self._error("rule: interval without `within` needs the `se` of each published value", *place)

    def _readable(self, rule: Rule, *place: str) -> None:
        """Each configuration that a rule judges has the evaluations that its measures read."""
        names = {*rule.reads(), *([self._claim.fitted.measure] if rule.runs == "fitted" else [])}
        for name in sorted(names & set(self._known)):
            for read in self._read_by(name):
                for plan, cell in zip(self._claim.grid.plans, self._cells, strict=True):
                    judged = any(selects(where, cell) for where in rule.groups())
                    if judged and isinstance(read, Place) and not places_read(self._claim, plan, read):
                        self._error(f"rule: measure {read.name!r} has nothing to read where {listed(cell)}", *place)

    def _read_by(self, name: str) -> list[Measure]:
        """The measures that a measure is made of."""
        one = self._claim.measure(name)
        if not isinstance(one, Combined):
            return [one]
        return [part for other in one.of if other in self._known for part in self._read_by(other)]

    def _named(self, name: str, *place: str) -> bool:
        if name not in self._known:
            self._nearest(f"{place[0]}: unknown measure {name!r}", name, self._known, *place)
        return name in self._known

    def _nearest(self, text: str, name: str, allowed: Sequence[str], *place: str) -> None:
        near = nearest(name, allowed)
        hint = f"; did you mean {near!r}?" if near else f" (allowed: {', '.join(allowed) or 'none'})"
        self._error(text + hint, *place)

    def _group(self, where: Where, *place: str) -> None:
        for key in where:
            if key not in self._claim.settings:
                self._nearest(f"{place[0]}: {key!r} does not vary in the grid", key, self._claim.settings, *place)
                return
        if not any(selects(where, cell) for cell in self._cells):
            self._error(f"{place[0]}: no configuration has {listed(where)}", *place)


def _fixed(plan: Plan) -> set[str]:
    """Options that a configuration need not write: those that its kind of model fixes."""
    model = plan.specs[0].model
    found = (
        set[str]() if model.positions in ("learned", "abacus", "coupled") or model.random_positions else {"offsets"}
    )
    if model.d_values:
        found |= {"positions", "n_layers", "tie_word_embeddings"}
    return found | (set(LSTM_FIXED) if model.architecture == "lstm" else set())


def places_read(claim: Claim, plan: Plan, measure: Place) -> list[tuple[int, int, int]]:
    """The (length, n, seed) of the evaluations that a measure reads of a configuration, by length.

    Of several evaluations of one place, the first of `[[evaluate]]` counts, then those of the grid.
    """
    train, weights = plan.specs[0].train, getattr(measure, "attn_weights", "")
    found: dict[int, tuple[int, int, int]] = {}
    if not isinstance(measure, Steps):
        for one in claim.evaluate:
            if (one.split, one.attn_weights) == (measure.split, weights):
                for length in one.lengths:
                    found.setdefault(length, (length, one.n, one.seed))
    if not weights:
        for split in eval_splits(plan.task, train, plan.evals):
            if split.name == measure.split:
                for length in split.lengths:
                    found.setdefault(length, (length, split.n, split.seed))
    kept = [place for place in found.values() if measure.holds(place[0], (train.min_len, train.train_len))]
    if not isinstance(measure.lengths, str) and {place[0] for place in kept} != set(measure.lengths):
        return []
    return sorted(kept)
