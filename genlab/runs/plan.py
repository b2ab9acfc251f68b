"""From what a user says to full specs: task defaults filled in, sizes that follow from others, a sensible budget.

No torch here: plans are made, and faults found, before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from genlab.errors import UserError, nearest, unknown
from genlab.spec import LSTM_FIXED, ModelConfig, RunSpec, Scalar, Split, TrainConfig, build
from genlab.tasks import Task, in_distribution, make, spread, task_class, training_law
from genlab.tasks import spec as task_spec

_A = TypeVar("_A")
_B = TypeVar("_B")

DERIVED = ("d_vocab", "n_ctx", "d_values", "train_len", "init_seed", "data_seed")
"""Fields that a plan fills itself."""

_BUDGET = 170.0
"""Seconds a run may take on one core where the user does not say how many steps."""
_FLOPS, _OVERHEAD = 50e9, 2.5e-3
"""One core's floating-point rate in a training step, and seconds a step that do not scale (measured: benchmarks/)."""

_SIZES = {*ModelConfig.model_fields, "batch_size", "lengths_per_batch", "min_len"}
"""Options that decide what a step costs."""

_PICKED = ("steps", "n_layers", "d_model", "positions", "lr")
"""Options that a user is told were picked, whoever picked them; of the others, those that the task's defaults set."""
_DESCRIBED = ("train_len", "test_len", "min_len", "batch_size", "n_heads")
"""Options whose values every description of a plan says anyway."""


@dataclass(frozen=True, slots=True)
class Evals:
    """What to evaluate of runs, and what to keep of their training; no part of a run's identity.

    Attributes:
        test_len: longest length to test; 0 stays within the training lengths.
        splits: splits to test beyond the in-distribution check.
        n, seed: examples a length, and the seed that they are drawn from.
        keep_steps: training steps whose weights are kept too (those of step 0 and of the last are known anyway).
    """

    test_len: int = 0
    splits: tuple[str, ...] = ("id",)
    n: int = 512
    seed: int = 0
    keep_steps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs to train, and how to look at them.

    Attributes:
        picked: what the plan chose where the user was silent, in words.
    """

    specs: list[RunSpec]
    task: Task
    evals: Evals
    picked: str


def defaults_of(task: str, format: str | None = None) -> dict[str, Any]:
    """What a task is trained with where the user is silent, for one format (default: its first).

    Options of model and training and the two lengths, and under `params` parameters of the task that go with these
    lengths and with each other, which may make it smaller than the one that its paper describes.

    Raises:
        UserError: an unknown task or format.
    """
    cls = task_class(task)
    if format is not None and format not in cls.formats:
        raise unknown(f"format of task {task!r}:", format, cls.formats)
    return {**cls.defaults.get("*", {}), **cls.defaults.get(format or next(iter(cls.formats)), {})}


def own_params_beside(own: Mapping[str, Scalar], given: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Those of a task's own parameters (`params` in its defaults) that hold beside given ones: all or none.

    They go with each other, so that none holds where one of them is given.

    >>> dict(own_params_beside({"generator": "percolation", "p": 0.6}, {"generator": "dfs"}))
    {}
    """
    return {} if own.keys() & given.keys() else own


def default_lengths(task: str, defaults: Mapping[str, Any]) -> tuple[int, int]:
    """The lengths to train and to test on where the user names none: the task's own, and twice that to test.

    Raises:
        UserError: the task's defaults say none.
    """
    if "train_len" not in defaults:
        raise UserError(f"task {task!r} has no training length of its own; give --train-len")
    train_len = int(defaults["train_len"])
    return train_len, int(defaults.get("test_len", 2 * train_len))


def plan(
    task: str,
    train_len: int | None = None,
    test_len: int | None = None,
    *,
    format: str | None = None,
    max_len: int | None = None,
    params: Mapping[str, Scalar] | None = None,
    seeds: Sequence[int | tuple[int, int]] = (0,),
    evals: Evals | None = None,
    **options: Any,
) -> Plan:
    """Specs for one configuration at several seeds.

    Args:
        train_len: longest training length; without it, both lengths are the task's own (`default_lengths`), and so
            are parameters of the task, unless one of these is given.
        test_len: longest length that will be tested, the training length unless given; `max_len` (vocabulary and
            context) follows it unless given.
        seeds: one run each; a pair is (init seed, data seed), a number is both.
        params: parameters of the task.
        options: fields of `ModelConfig` and `TrainConfig`; the task's defaults fill the rest.

    Raises:
        UserError: an option, a length or a split that cannot be.
    """
    defaults = defaults_of(task, format)
    own_params: Mapping[str, Scalar] = own_params_beside(defaults.pop("params", {}), params or {})
    if train_len is None:
        train_len, own = default_lengths(task, defaults)
        test_len = own if test_len is None else test_len
    else:  # parameters of the task's own go with its own lengths
        own_params = {}
    test_len = train_len if test_len is None else test_len
    _check_lengths(train_len, test_len, max_len)
    made = make(task_spec(task, max_len or test_len, format, {**own_params, **(params or {})}))
    given = {name: value for name, value in options.items() if value is not None}
    model_fields, train_fields = set(ModelConfig.model_fields), set(TrainConfig.model_fields)
    for name in given:
        if name not in model_fields | train_fields or name in DERIVED:
            near = nearest(name, (model_fields | train_fields) - set(DERIVED))
            raise UserError(f"unknown option {name!r}" + (f"; did you mean {near!r}?" if near else ""))
    if given.get("pool"):  # a pool brings its own order of lengths
        defaults = {k: v for k, v in defaults.items() if k not in ("lengths_per_batch", "curriculum")}
    if given.get("architecture") == "lstm":  # the task's defaults are a transformer's
        defaults = {k: v for k, v in defaults.items() if k not in LSTM_FIXED}
    planned = ModelConfig.planned() | TrainConfig.planned()
    values = {"train_split": made.train_split, **planned, **defaults, **given}
    sizes = {"d_vocab": len(made.vocab), "n_ctx": made.n_ctx, "d_values": made.d_values}
    shortest = made.min_len(made.split(values["train_split"]))
    chosen = {k: v for k, v in values.items() if k in train_fields}
    chosen["min_len"] = given.get("min_len", min(defaults.get("min_len", shortest), train_len))
    model, train = _both(
        lambda: build(ModelConfig, {**sizes, **{k: v for k, v in values.items() if k in model_fields}}),
        lambda: build(TrainConfig, {**chosen, "train_len": train_len}),
    )
    if model.d_values and train.loss == "all":
        raise UserError("loss 'all' is not allowed here: a set model gives one answer, so that its loss is 'scored'")
    made.check_lengths(train.train_split, [train.min_len, train.train_len])
    if train.pool:
        made.check_pool(train.train_split, train.min_len, train.train_len, train.pool)
    if train.mix:
        made.check_lengths(*train.mixed_in)
    if train.until is not None and "until_weights" not in values and not training_law(made, train).uniform:
        train = build(TrainConfig, {**train.model_dump(), "until_weights": "law"})
    if model.given_positions:
        made.check_ids(model.given_positions)
    own = train_len == defaults.get("train_len") and not params and not _SIZES & set(given)
    if "steps" not in given and not own:  # the steps of a task's own configuration are known to be few enough
        train = build(TrainConfig, {**train.model_dump(), "steps": _affordable(made, model, train)})
    base = RunSpec(task=made.spec, model=model, train=train)
    looked_at = evals or Evals(test_len=test_len)
    eval_splits(made, train, looked_at)  # so that a wrong split is found before training
    check_steps(train, looked_at)
    picked = [name for name in _PICKED if name not in given]
    picked += [f"{name}={defaults[name]}" for name in sorted(defaults.keys() - {*_PICKED, *_DESCRIBED, *given})]
    picked += [f"--param {name}={value}" for name, value in own_params.items()]
    pairs = [(seed, seed) if isinstance(seed, int) else seed for seed in seeds]
    return Plan([base.with_seeds(*pair) for pair in pairs], made, looked_at, ", ".join(picked))


def _both(first: Callable[[], _A], second: Callable[[], _B]) -> tuple[_A, _B]:
    """What two makers make; the faults of both, where both fail."""
    try:
        made = first()
    except UserError as error:
        try:
            second()
        except UserError as other:
            raise UserError(f"{error}; {other}") from None
        raise
    return made, second()


def _check_lengths(train_len: int, test_len: int, max_len: int | None) -> None:
    if train_len < 1:
        raise UserError(f"--train-len {train_len} is not allowed: a length is at least 1")
    if test_len < train_len:
        raise UserError(f"--test-len {test_len} is below --train-len {train_len}; test lengths reach beyond training")
    if max_len is not None and max_len < test_len:
        raise UserError(f"test length {test_len} is beyond the model's max_len {max_len}; give --max-len {test_len}")


def _affordable(task: Task, model: ModelConfig, train: TrainConfig) -> int:
    """Steps that fit the budget on one core: the default number, or fewer (in hundreds) where steps are dear."""
    weights = model.n_layers * model.d_model * (4 * model.n_heads * model.d_head + 2 * model.d_mlp)
    weights += model.d_model * model.d_vocab
    # A batch is as wide as the longest of the lengths drawn for it: k / (k + 1) of the way up, on average.
    share = train.lengths_per_batch / (train.lengths_per_batch + 1)
    tokens = train.batch_size * task.width(train.min_len + round(share * (train.train_len - train.min_len)))
    seconds = _OVERHEAD + 6 * weights * tokens / _FLOPS
    affordable = int(_BUDGET / seconds) // 100 * 100
    return min(train.steps, max(200, affordable))


def check_steps(train: TrainConfig, evals: Evals) -> None:
    """Raises `UserError` for a step to keep that training does not come to."""
    for step in evals.keep_steps:
        if not 0 <= step <= train.steps:
            why = f"beyond the {train.steps} steps of training" if step > 0 else "not allowed: steps count from 0"
            raise UserError(f"keep_steps {step} is {why}")


def eval_splits(task: Task, train: TrainConfig, evals: Evals) -> list[Split]:
    """The evaluation sets of a plan: in distribution within the training lengths, then each split to `test_len`.

    The first length beyond the training lengths is always there.

    Raises:
        UserError: a split that the task does not have, or that makes no length up to `test_len`.
    """
    inside = in_distribution(task, train)

    def within(split: Split) -> tuple[int, ...]:
        if task.every_length:
            return tuple(task.lengths_between(split, 0, train.train_len).tolist())
        return spread(task.lengths_between(split, train.min_len, train.train_len), 8)

    found = [inside.at(within(inside), evals.n, evals.seed)]
    for name in evals.splits if evals.test_len else ():
        split = task.split(name)
        beyond = spread(task.lengths_between(split, train.train_len + 1, evals.test_len), 16)
        lengths = beyond if name == inside.name else (*within(split), *beyond)
        if not len(lengths) and name != inside.name:
            raise UserError(
                f"split {name!r} of task {task.name!r} has no example of at most {evals.test_len} "
                f"{task.length_unit}: its shortest has {task.min_len(split)}; give a longer --test-len"
            )
        if lengths:
            found.append(split.at(lengths, evals.n, evals.seed))
    return found
