"""Turn options into full specs: fill in task defaults and derived sizes, and choose a sensible budget.

No torch here: plans are made, and errors found, before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from genlab.errors import UserError, nearest, unknown
from genlab.runs.recipes import recipe_options
from genlab.spec import LSTM_FIXED, MOST, ModelConfig, RunSpec, Scalar, Split, TrainConfig, build
from genlab.tasks import Task, code_of, in_distribution, make, spread, task_class, training_law
from genlab.tasks import spec as task_spec

_A = TypeVar("_A")
_B = TypeVar("_B")

DERIVED = ("d_vocab", "n_ctx", "d_values", "train_len", "init_seed", "data_seed")
"""Fields that the plan derives."""

_BUDGET = 170.0
"""Seconds a run may take on one core if the number of steps is not given."""
_FLOPS, _OVERHEAD = 50e9, 2.5e-3
"""One core's floating-point rate in a training step, and the constant seconds per step (measured: benchmarks/)."""

_SIZES = {*ModelConfig.model_fields, "batch_size", "lengths_per_batch", "min_len"}
"""Options that determine the cost of a step."""

_WARMUP = 100
"""Steps of warm-up if the number is not given, or a tenth of all steps if that is less."""

_PICKED = ("steps", "n_layers", "d_model", "positions", "lr")
"""Options always listed as picked; of the others, those set by the defaults of the task."""
_DESCRIBED = ("train_len", "test_len", "min_len", "batch_size", "n_heads")
"""Options that every description of a plan includes anyway."""


MOST_EXAMPLES = 10_000_000
"""Largest number of examples per length, of a batch, and so on: more would not fit in memory."""
_MOST_WEIGHTS, _MOST_TOKENS = 10_000_000_000, 2_000_000_000
"""Largest number of weights of a model, and of tokens of a batch."""
_MOST = {"n_layers": 10_000, "batch_size": MOST_EXAMPLES, "pool": 1_000_000_000, "random_positions": 100_000_000}


@dataclass(frozen=True, slots=True)
class Evals:
    """What to evaluate of runs, and which checkpoints to save; not part of a run's identity.

    Attributes:
        test_len: longest length to test; 0: only training lengths.
        splits: splits to test in addition to the ID check.
        n, seed: examples per length, and the seed of their generator.
        keep_steps: training steps with checkpoints (the initial and final weights are always available).
    """

    test_len: int = 0
    splits: tuple[str, ...] = ("id",)
    n: int = 512
    seed: int = 0
    keep_steps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs of one configuration to train, and what to evaluate.

    Attributes:
        specs: one per seed.
        task: their task.
        evals: what to evaluate.
        picked: what was chosen by default, as text.
    """

    specs: list[RunSpec]
    task: Task
    evals: Evals
    picked: str


def defaults_of(task: str, format: str | None = None) -> dict[str, Any]:
    """Return the default options of a task for one format (default: its first).

    These are model and training options and the two lengths, and, under `params`, task parameters that belong to
    these lengths and to each other, which may make the task smaller than the one in its paper.

    Raises:
        UserError: an unknown task or format.
    """
    cls = task_class(task)
    if format is not None and format not in cls.formats:
        raise unknown(f"format of task {task!r}:", format, cls.formats)
    return {**cls.defaults.get("*", {}), **cls.defaults.get(format or next(iter(cls.formats)), {})}


def own_params_beside(own: Mapping[str, Scalar], given: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Return the default parameters of a task (`params` in its defaults) that apply next to given ones: all or none.

    They belong together, so none applies if one of them is given.

    >>> dict(own_params_beside({"generator": "percolation", "p": 0.6}, {"generator": "dfs"}))
    {}
    """
    return {} if own.keys() & given.keys() else own


def default_lengths(task: str, defaults: Mapping[str, Any]) -> tuple[int, int]:
    """Return the default training and test length of a task; the test length defaults to twice the training length.

    Raises:
        UserError: the task has no default training length.
    """
    if "train_len" not in defaults:
        raise UserError(f"task {task!r} has no default training length; give --train-len")
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
    start_token: bool | None = None,
    recipe: str = "lab",
    seeds: Sequence[int | tuple[int, int]] = (0,),
    evals: Evals | None = None,
    **options: Any,
) -> Plan:
    """Return the specs of one configuration at several seeds.

    Args:
        task: name of the task.
        train_len: longest training length; by default both lengths are the task's own (`default_lengths`), together
            with
            its default parameters, unless one of these is given.
        test_len: longest length to test, by default the training length; the default of `max_len`.
        format: format of the task (default: its first).
        max_len: longest length that vocabulary and context support.
        params: parameters of the task.
        start_token: whether a start token is put before every example (default: if the task can have one).
        recipe: name of a training recipe (`genlab.runs.recipes`), which goes before the defaults of the task.
        seeds: one run each; a pair is (init seed, data seed), a number is both.
        evals: what to evaluate; by default ID accuracy, and split `id` up to `test_len`.
        options: fields of `ModelConfig` and `TrainConfig`; the recipe and the task's defaults fill in the rest.

    Returns:
        The runs and what to evaluate.

    Raises:
        UserError: an invalid option, length or split.

    Example:
        >>> plan("parity", 10, 20, seeds=range(3), n_layers=2).specs[2].train.init_seed
        2
    """
    defaults = defaults_of(task, format)
    own_params: Mapping[str, Scalar] = own_params_beside(defaults.pop("params", {}), params or {})
    if train_len is None:
        train_len, own = default_lengths(task, defaults)
        test_len = own if test_len is None else test_len
    else:  # default parameters belong to the default lengths
        own_params = {}
    test_len = train_len if test_len is None else test_len
    _check_lengths(train_len, test_len, max_len)
    by_recipe = recipe_options(recipe)
    led = by_recipe.pop("start_token", None) if start_token is None else start_token
    made = make(task_spec(task, max_len or test_len, format, {**own_params, **(params or {})}))
    if led or (led is None and made.leads and made.may_lead()):
        made = make(made.spec.model_copy(update={"start_token": True}))
    given = {name: value for name, value in options.items() if value is not None}
    model_fields, train_fields = set(ModelConfig.model_fields), set(TrainConfig.model_fields)
    for name in given:
        if name not in model_fields | train_fields or name in DERIVED:
            near = nearest(name, (model_fields | train_fields) - set(DERIVED))
            raise UserError(f"unknown option {name!r}" + (f"; did you mean {near!r}?" if near else ""))
        if wrong := wrong_kind(name, given[name]):
            raise UserError(f"{name}: {given[name]!r} is not allowed ({wrong})")
    defaults |= by_recipe
    if given.get("pool", defaults.get("pool")):  # a pool determines the order of lengths
        defaults = {k: v for k, v in defaults.items() if k != "curriculum"}
    if given.get("architecture") == "lstm":  # the defaults of tasks are for transformers
        defaults = {k: v for k, v in defaults.items() if k not in LSTM_FIXED}
    if {**defaults, **given}.get("unembed_bias") is False:  # only an unembedding of its own can do without
        defaults.pop("tie_word_embeddings", None)
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
        raise UserError("loss 'all' is not allowed: a set model gives one answer, so its loss is 'scored'")
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
    # The default configuration of a task is known to be affordable, and a recipe is kept whole.
    if "steps" not in {*given, *by_recipe} and not own:
        train = build(TrainConfig, {**train.model_dump(), "steps": _affordable(made, model, train)})
    if "warmup" not in values:
        train = build(TrainConfig, {**train.model_dump(), "warmup": min(_WARMUP, train.steps // 10)})
    elif "warmup" not in given and train.steps < (own_steps := defaults.get("steps", 0)):  # the same part of training
        train = build(TrainConfig, {**train.model_dump(), "warmup": train.warmup * train.steps // own_steps})
    if train.warmup > train.steps:
        raise UserError(f"warmup {train.warmup} is longer than training: it has {train.steps} steps")
    _check_size(made, model, train, evals)
    one_head = model.architecture != "transformer" or model.d_values or model.n_heads < 2 or not model.n_layers
    if train.head_diversity and one_head:
        raise UserError("head_diversity compares heads: it needs a transformer of tokens with layers of at least 2")
    base = RunSpec(task=made.spec, model=model, train=train, code=code_of(made.spec, model))
    wanted_evals = evals or Evals(test_len=test_len)
    eval_splits(made, train, wanted_evals)  # report a wrong split before training
    check_steps(train, wanted_evals)
    picked = [name for name in _PICKED if name not in given]
    picked += [f"{name}={defaults[name]}" for name in sorted(defaults.keys() - {*_PICKED, *_DESCRIBED, *given})]
    picked += [f"--param {name}={value}" for name, value in own_params.items()]
    pairs = [(seed, seed) if isinstance(seed, int) else seed for seed in seeds]
    for pair in pairs:
        check_seed(max(pair))
    return Plan([base.with_seeds(*pair) for pair in pairs], made, wanted_evals, ", ".join(picked))


def _both(first: Callable[[], _A], second: Callable[[], _B]) -> tuple[_A, _B]:
    """Call two functions and return both results; if both fail, report both errors."""
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
        raise UserError(f"--test-len {test_len} is below --train-len {train_len}; it must be at least as long")
    if max_len is not None and max_len < test_len:
        raise UserError(f"test length {test_len} exceeds the model's max_len {max_len}; give --max-len {test_len}")


def wrong_kind(name: str, value: object) -> str:
    """Return what kind of value an option takes, or '' if `value` is of that kind. No number is made from a string.

    >>> wrong_kind("d_model", True), wrong_kind("lr", "1e-3"), wrong_kind("lr", 1)
    ('a number', 'a number', '')
    """
    cls = ModelConfig if name in ModelConfig.model_fields else TrainConfig
    default = cls.model_fields[name].get_default()
    parts = list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "a string"
    return "a number" if any(isinstance(part, bool | str) for part in parts) else ""


def check_examples(n: int, seed: int) -> None:
    """Raise `UserError` for more test examples per length than memory could hold, or a seed that no table could."""
    if n > MOST_EXAMPLES:
        raise UserError(f"{n} test examples per length are not allowed (at most {MOST_EXAMPLES:,})")
    check_seed(seed)


def check_seed(seed: int) -> None:
    """Raise `UserError` for a seed that no table could hold."""
    if not 0 <= seed <= MOST:
        raise UserError(f"seed {seed} is not allowed (0 to {MOST})")


def _check_size(task: Task, model: ModelConfig, train: TrainConfig, evals: Evals | None) -> None:
    """Raise `UserError` for a plan that no memory could hold."""
    for name, most in _MOST.items():
        value = getattr(train if name in TrainConfig.model_fields else model, name)
        if value > most:
            raise UserError(f"{name}: {value} is not allowed (at most {most:,})")
    if evals is not None:
        check_examples(evals.n, evals.seed)
    if (weights := _weights(model)) > _MOST_WEIGHTS:
        raise UserError(
            f"a model of {weights:,} weights is not allowed (at most {_MOST_WEIGHTS:,}): n_layers, d_model"
        )
    if (tokens := train.batch_size * task.width(train.train_len)) > _MOST_TOKENS:
        raise UserError(f"batches of {tokens:,} tokens are not allowed (at most {_MOST_TOKENS:,})")


def _weights(model: ModelConfig) -> int:
    """About how many weights a model has."""
    blocks = model.n_layers * model.d_model * (4 * model.n_heads * model.d_head + 2 * model.d_mlp)
    return blocks + model.d_model * model.d_vocab


def _affordable(task: Task, model: ModelConfig, train: TrainConfig) -> int:
    """Steps that fit the budget on one core: the default number, or fewer (in hundreds) if steps are expensive."""
    lengths, shares = task.length_law(train.train_split, train.min_len, train.train_len)
    tokens = train.batch_size * float(shares @ [task.reach(int(length)) for length in lengths])
    seconds = _OVERHEAD + 6 * _weights(model) * tokens / _FLOPS
    affordable = int(_BUDGET / seconds) // 100 * 100
    return min(train.steps, max(200, affordable))


def check_steps(train: TrainConfig, evals: Evals) -> None:
    """Raise `UserError` for a checkpoint beyond the last training step."""
    for step in evals.keep_steps:
        if not 0 <= step <= train.steps:
            why = f"beyond the {train.steps} steps of training" if step > 0 else "not allowed: steps count from 0"
            raise UserError(f"keep_steps {step} is {why}")


def eval_splits(task: Task, train: TrainConfig, evals: Evals) -> list[Split]:
    """Return the evaluation sets of a plan: the ID check within the training lengths, then each split to `test_len`.

    The first length beyond the training lengths is always included.

    Raises:
        UserError: an unknown split, or one without lengths up to `test_len`.
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
                f"{task.length_unit}: its shortest has {task.min_len(split)}; give a larger --test-len"
            )
        if lengths:
            found.append(split.at(lengths, evals.n, evals.seed))
    return found
