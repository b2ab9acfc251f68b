"""What a signal detects: its values on compiled models, whose mechanism is known, with and without imperfections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genlab.errors import NotApplicable
from genlab.models import StackedModel, flat_of, model_of
from genlab.probes.families.ablations import head_tap
from genlab.probes.inputs import probe_input
from genlab.probes.probing import values_of
from genlab.probes.signal import Signal
from genlab.rasp.checker import tokens_of
from genlab.rasp.compiler.runs import compiled_weights, find_program, run_spec
from genlab.rasp.running import predict
from genlab.spec import ModelConfig, RunSpec, TrainConfig, build
from genlab.tasks import Examples, Task, make


@dataclass(frozen=True)
class Specimen:
    """One compiled model and what signals read in it.

    Attributes:
        rule: the rule that it answers by; program: the construction.
        noise: on its weights; seed: of its imperfections.
        right: fraction of answers that are those of its program.
        values: signal -> its largest value over heads, or NaN where it does not apply.
        kept: signal -> fraction of answers that stay the same if the head with the largest value writes nothing.
    """

    rule: str
    program: str
    noise: float
    seed: int
    right: float
    values: dict[str, float]
    kept: dict[str, float]


def specimens(
    task: Task,
    programs: Sequence[tuple[str, str]],
    signals: Sequence[Signal],
    noises: Sequence[float],
    seeds: Sequence[int],
    decoys: int = 2,
    n: int = 256,
    report: Callable[[], object] = lambda: None,
) -> list[Specimen]:
    """Compile every program at every noise and seed, with a rotated basis and decoys, and read signals per head.

    Args:
        task: the task.
        programs: (rule, program) each.
        signals: signals with one value per head.
        noises, seeds: see `CompileSpec`.
        decoys: random heads and neurons per layer, in the model that has most heads; the others get more.
        n: examples, for signals and for answers.
        report: called after each model.
    """
    found: list[Specimen] = []
    lengths = task.lengths_between("id", 1, task.max_len).tolist()
    train = build(TrainConfig, {"train_len": lengths[-1], "min_len": lengths[0], "steps": 0})
    matched = _matched({name: run_spec(task.spec, train, program=name).model for _, name in programs}, decoys)
    for (rule, program), noise, seed in product(programs, noises, seeds):
        options = {"noise": noise, "seed": seed, "rotate": True, "decoys": matched[program]}
        spec = run_spec(task.spec, train, program=program, **options)
        found.append(_specimen(rule, spec, signals, n))
        report()
    return found


def _matched(models: Mapping[str, ModelConfig], least: int) -> dict[str, int]:
    """Decoys per layer, at least so many, such that all models have about as many heads.

    The largest value over heads grows with their number, mechanism or not.
    """
    most = max(cfg.n_layers * (cfg.n_heads + least) for cfg in models.values())
    return {name: max(least, round(most / cfg.n_layers) - cfg.n_heads) for name, cfg in models.items()}


def _specimen(rule: str, spec: RunSpec, signals: Sequence[Signal], n: int) -> Specimen:
    assert spec.compiled is not None
    model = model_of(spec.model, flat_of(spec.model, compiled_weights(spec)))
    assert isinstance(model, StackedModel)
    given, answers = probe_input([spec], model, n=n), _Answers(spec, n)
    values: dict[str, float] = {}
    kept: dict[str, float] = {}
    before = answers.of(model)
    for one in signals:
        try:
            heads = values_of(one, given)[one.name][0]
        except NotApplicable:
            heads = np.full((1, 1), np.nan)
        values[one.name], kept[one.name] = float("nan"), float("nan")
        if np.isfinite(heads).any():
            layer, head = np.unravel_index(int(np.nanargmax(heads)), heads.shape)
            values[one.name] = float(heads[layer, head])
            kept[one.name] = float((answers.of(model, head_tap(int(layer), int(head), "zero")) == before).mean())
    right = float((before == answers.expected).mean())
    return Specimen(rule, spec.compiled.program, spec.compiled.noise, spec.compiled.seed, right, values, kept)


class _Answers:
    """The first token of the answer to each of a fixed set of examples, by the program and by a model."""

    def __init__(self, spec: RunSpec, n: int):
        assert spec.compiled is not None
        task, rng = make(spec.task), np.random.default_rng(0)
        self._examples = task.sample(rng, "id", np.full(n, spec.train.train_len))
        lead = int(task.spec.start_token)
        program, values = find_program(spec.compiled.program, task), tokens_of(task)
        said = values.decode(predict(program, values.encode(self._examples.tokens[:, lead:])))
        self.expected = self._first(np.pad(said, ((0, 0), (lead, 0))), self._examples)

    @staticmethod
    def _first(ids: NDArray[np.int64], examples: Examples) -> NDArray[np.int64]:
        return ids[np.arange(len(ids)), examples.scored.argmax(1)]

    @torch.no_grad()
    def of(self, model: StackedModel, tap: Callable[[str, Tensor], Tensor] | None = None) -> NDArray[np.int64]:
        """The model's answers, int[example]."""
        ids = model(torch.from_numpy(self._examples.tokens), tap=tap).argmax(-1).numpy()
        return self._first(ids, self._examples)
