"""Compiled programs as specs of runs, and the weights of such a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from genlab.errors import UserError, unknown
from genlab.rasp.compiler.imperfect import imperfect
from genlab.rasp.compiler.parts import Floats
from genlab.rasp.compiler.weights import Compiled, compile_programs
from genlab.rasp.own_files import load_program
from genlab.rasp.programs.constructions import CONSTRUCTIONS
from genlab.rasp.programs.failed import TRIED
from genlab.rasp.programs.registry import PROGRAMS, bind, registered
from genlab.rasp.programs.shortcuts import RULES, SHORTCUTS
from genlab.rasp.running import Program
from genlab.spec import CompileSpec, RunSpec, TaskSpec, TrainConfig, build
from genlab.tasks import Task, make


def run_spec(task: TaskSpec, train: TrainConfig, **options: Any) -> RunSpec:
    """The spec of a run that starts from a compiled program.

    Args:
        task: the task; a start token is added if its examples have none.
        train: how it is trained on; with 0 steps, not at all.
        options: fields of `CompileSpec` but the digest.

    Raises:
        UserError: an unknown program or option, or operations that cannot be compiled.
    """
    made = make(task)
    if made.may_lead() and not task.start_token:
        made = make(task.model_copy(update={"start_token": True}))
    given = build(CompileSpec, {**options, "digest": ""})
    _check(given)
    spec = given.model_copy(update={"digest": _digest(_perfect(made.spec, _plain(given)).weights, given)})
    return RunSpec(task=made.spec, model=compiled(made.spec, spec).config, train=train, compiled=spec)


def _check(spec: CompileSpec) -> None:
    if bool(spec.beside) != (spec.gate < 1):
        raise UserError(f"gate {spec.gate:g} weighs two programs: set both beside and a gate below 1, or neither")


def compiled(task: TaskSpec, spec: CompileSpec) -> Compiled:
    """The compiled model that a spec describes.

    Raises:
        UserError: the program now has other weights than when the spec was made, or cannot be compiled.
    """
    perfect = _perfect(task, _plain(spec))
    if spec.digest != _digest(perfect.weights, spec):
        raise UserError(f"program {spec.program!r} has changed since this run was compiled from it")
    return imperfect(perfect, spec)


def compiled_weights(spec: RunSpec) -> Mapping[str, Floats]:
    """The weights that a run starts from, by name."""
    assert spec.compiled is not None
    return compiled(spec.task, spec.compiled).weights


def _plain(spec: CompileSpec) -> tuple[str, str, float, float]:
    """What the perfect weights depend on."""
    return spec.program, spec.beside, spec.gate, spec.gap


@lru_cache(maxsize=1)
def _of_text(task: str, program: str, beside: str, gate: float, gap: float) -> Compiled:
    made = make(TaskSpec.model_validate_json(task))
    shares = [(program, gate), (beside, 1.0 - gate)][: 2 if beside else 1]
    return compile_programs([(find_program(name, made), share) for name, share in shares], made, gap)


def _perfect(task: TaskSpec, plain: tuple[str, str, float, float]) -> Compiled:
    return _of_text(task.model_dump_json(), *plain)


def _digest(weights: Mapping[str, Floats], spec: CompileSpec) -> str:
    """Hash of the perfect weights, and of how superposition is made from them if there is any."""
    digest = hashlib.sha256(b"projected" if spec.width else b"")
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].shape}".encode())
        digest.update(np.asarray(weights[name], np.float32).tobytes())
    return digest.hexdigest()[:12]


def find_program(name: str, task: Task) -> Program:
    """The program of a task that has a name, that answers by one of its rules, or that a Python file defines.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    if name.endswith(".py"):
        return load_program(name, task.name)
    found = programs_of(task)
    if name not in found:
        raise unknown(f"program for task {task.name!r}, format {task.format!r}:", name, found)
    return bind(found[name], task.params.model_dump())


def programs_of(task: Task) -> dict[str, Program]:
    """Name -> program, of all programs for a task in its format: right ones, shortcuts, attempts, rules."""
    listed = [*PROGRAMS, *registered(), *SHORTCUTS, *TRIED]
    own = {one.program.__name__: one.program for one in listed if (one.task, one.format) == (task.name, task.format)}
    own |= {program.__name__: program for program in CONSTRUCTIONS.get((task.name, task.format), ())}
    for (name, rule), programs in RULES.items():
        if name == task.name:
            own |= {program.__name__: program for program in programs} | {rule: programs[0]}
    return own
