"""Specification of a run: frozen, validated configurations of task, model and training. Does not import torch.

Each option is declared once, as a field below; command-line flags, grid-file keys and Python arguments are all
generated from these classes. A `RunSpec` is one seed of one configuration, and its `run_id` is a hash of its
canonical JSON. Evaluations are not part of it: they are added to a run later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from genlab.errors import UserError, unknown

# -- Frozen models, canonical JSON and validation errors


Scalar = bool | int | float | str


MOST = 2**63 - 1
"""The largest integer that a column of a table holds."""


class Frozen(BaseModel):
    """An immutable model that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields added after runs had been stored; at its default, such a field is left out of canonical JSON.

    The default is therefore what older records mean, and it never changes. If new runs should use another value,
    the field names it as `planned` (in `json_schema_extra`), and plans fill it in.
    A new field joins the set by `json_schema_extra={"later": True}`.
    """

    @field_validator("*", mode="after")
    @classmethod
    def _fits_a_column(cls, value: Any) -> Any:
        """Specs become columns of tables, which hold integers of 64 bits."""
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
        if any(isinstance(part, int) and abs(part) > MOST for part in parts):
            raise ValueError(f"at most {MOST}")
        return value

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: Any) -> None:
        cls.later = cls.later | {name for name, extra in cls._extras().items() if extra.get("later")}

    @classmethod
    def planned(cls) -> dict[str, Scalar]:
        """Return the values that new plans use for fields whose default only describes older records."""
        return {name: extra["planned"] for name, extra in cls._extras().items() if "planned" in extra}

    @classmethod
    def _extras(cls) -> dict[str, Mapping[str, Scalar]]:
        return {name: cast(Mapping[str, Scalar], f.json_schema_extra or {}) for name, f in cls.model_fields.items()}


def canonical_json(spec: BaseModel) -> str:
    """Return JSON with sorted keys and no spaces: equal specs give equal text on every machine.

    Fields listed in `later` are omitted at their defaults, so that the ids of older runs do not change.
    """
    return json.dumps(_without_later(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _without_later(spec: BaseModel) -> dict[str, Any]:
    values = spec.model_dump(mode="json")
    for name, value in spec:
        if isinstance(value, BaseModel):
            values[name] = _without_later(value)
        elif isinstance(spec, Frozen) and name in spec.later and value == type(spec).model_fields[name].default:
            del values[name]
    return values


_Spec = TypeVar("_Spec", bound=Frozen)


def build(cls: type[_Spec], values: Mapping[str, Any]) -> _Spec:
    """Return `cls(**values)`, reporting all validation errors in one line.

    Raises:
        UserError: If a key is unknown (the message names the nearest one) or a value is not allowed.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        messages = [_describe(cls, dict(e)) for e in error.errors()]
        raise UserError("; ".join(messages)) from None


def _describe(cls: type[BaseModel], error: dict[str, Any]) -> str:
    """Return one of pydantic's validation errors in our own words."""
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return str(unknown("option", field, cls.model_fields))
    message = str(error["msg"]).removeprefix("Value error, ")
    if not field:
        return message
    if error["type"] == "literal_error":
        choices = [str(choice) for choice in get_args(cls.model_fields[field].annotation)]
        choices += sorted(_registered.get(field, ()))
        return str(unknown(field, str(error["input"]), choices))
    return f"{field}: {error['input']!r} is not allowed ({message[:1].lower()}{message[1:]})"


# -- Values of an option that a file registers (a position encoding, a normalizer of attention)

_registered: dict[str, set[str]] = {"positions": set(), "attn_weights": set()}
"""Option -> the values allowed beside those of its field."""


def register_value(option: str, name: str, relative: bool = False) -> None:
    """Allow a further value of `positions` or `attn_weights`; its implementation calls this.

    Args:
        relative: of a position encoding: it gives the same result wherever an example stands in the context.

    Raises:
        UserError: the field has this value already.
    """
    if name in get_args(ModelConfig.model_fields[option].annotation):
        raise UserError(f"{option} {name!r} is built in; choose another name")
    _registered[option].add(name)
    if relative:
        _RELATIVE.add(name)


def registered_values() -> set[str]:
    """Return the position encodings and normalizers that files have registered."""
    return set().union(*_registered.values())


def is_known_value(option: str, value: str) -> bool:
    """Whether `positions` or `attn_weights` has a value: built in, or registered by a file that is loaded."""
    return value in get_args(ModelConfig.model_fields[option].annotation) or value in _registered[option]


def stored_spec(values: Mapping[str, Any]) -> RunSpec:
    """The spec of a stored run. It may name a registered value whose file is not loaded now."""
    return RunSpec.model_validate(values, context={"stored": True})


def _or_registered(option: str) -> WrapValidator:
    """Let an option take a registered value too."""

    def check(value: Any, built_in: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        stored = isinstance(info.context, Mapping) and "stored" in info.context
        return value if isinstance(value, str) and (stored or value in _registered[option]) else built_in(value)

    return WrapValidator(check)


# -- Tasks and splits


class TaskSpec(Frozen):
    """Everything that determines a task's examples. `genlab.tasks.spec` fills in all `params`."""

    name: str
    version: int = Field(ge=1, description="incremented when samples, targets or scoring change")
    format: str = Field(description="how examples are written, e.g. with a scratchpad")
    max_len: int = Field(ge=1, description="longest length that the vocabulary and context must support")
    params: dict[str, Scalar] = Field(default_factory=dict[str, Scalar])
    start_token: bool = Field(
        default=False, description="put a start token before every example", json_schema_extra={"later": True}
    )


class Split(Frozen):
    """A named distribution of examples, stored as data. If `lengths` is empty, the caller chooses them."""

    name: str
    about: str = Field(default="", description="one line: how it differs from `id`")
    shift: dict[str, Scalar] = Field(
        default_factory=dict[str, Scalar], description="parameters of the distribution shift; empty: no shift"
    )
    lengths: tuple[int, ...] = ()
    n: int = Field(default=0, ge=0, description="examples per length in an evaluation set")
    seed: int = Field(default=0, ge=0, description="seed of an evaluation set")
    offsets: Literal["", "random", "zero", "batch"] = Field(
        default="", description="position of the examples in the context; empty: as in training (ModelConfig.offsets)"
    )
    attn_weights: str = Field(
        default="", description="attention weights of the model during the evaluation; empty: as in training"
    )

    def at(self, lengths: tuple[int, ...], n: int, seed: int = 0, offsets: str = "", attn_weights: str = "") -> Split:
        """Return this split as an evaluation set: `n` examples at each of `lengths`, drawn with `seed`.

        Raises:
            UserError: If `offsets` is not one of the allowed values.
        """
        laws = get_args(Split.model_fields["offsets"].annotation)
        if offsets not in laws:
            raise unknown("offsets", offsets, laws[1:])
        placed = {"offsets": offsets, "attn_weights": attn_weights}
        return self.model_copy(update={"lengths": tuple(lengths), "n": n, "seed": seed, **placed})


# -- Models


_SET_MODEL: Mapping[str, Scalar] = {
    "n_layers": 1,
    "positions": "none",
    "normalization_type": "none",
    "final_norm": False,
    "attn_only": False,
    "tie_word_embeddings": False,
}
"""Fixed values of transformer options in a set model, which reads real-valued items (`d_values`)."""


LSTM_FIXED: Mapping[str, Scalar] = {
    "positions": "none",
    "attn_weights": "softmax",
    "attn_temperature": 1.0,
    "attn_only": False,
    "normalization_type": "none",
    "final_norm": False,
    "tie_word_embeddings": False,
    "loops": 1,
    "loop_growth": 0.0,
    "d_values": 0,
}
"""Fixed values of transformer options in an LSTM, which reads in order, without positions or attention."""


_RELATIVE = {"none", "sinusoidal", "rotary", "alibi", "hard-alibi", "t5", "fire"}
"""Position encodings without a lookup table: examples always start at position 0, whatever `offsets` is."""


class ModelConfig(Frozen):
    """A decoder-only transformer, a set model or an LSTM. Field names follow TransformerLens where it has them."""

    d_vocab: int = Field(ge=2, description="vocabulary size (from the task)")
    n_ctx: int = Field(ge=1, description="context length in tokens (from the task's max_len)")
    n_layers: int = Field(2, ge=0, description="number of blocks")
    d_model: int = Field(64, ge=1, description="width of the residual stream")
    n_heads: int = Field(4, ge=1, description="attention heads per block")
    d_head: int = Field(0, ge=0, description="width of each head; 0: d_model / n_heads")
    d_mlp: int = Field(0, ge=0, description="width of the MLP; 0: 4 * d_model")
    attn_only: bool = Field(False, description="omit the MLPs")
    act_fn: Literal["gelu", "gelu_new", "relu"] = Field(
        "gelu", description="MLP activation (gelu_new: GPT-2's tanh approximation)"
    )
    normalization_type: Literal["LN", "RMS", "none"] = Field("LN", description="normalization before each sublayer")
    final_norm: bool = Field(True, description="normalize before the unembedding")
    bias: bool = Field(True, description="biases in the linear layers")
    unembed_bias: bool = Field(True, description="bias in the unembedding, if linear layers have biases")
    tie_word_embeddings: bool = Field(False, description="use the embedding matrix for the unembedding")
    positions: Annotated[
        Literal["learned", "none", "sinusoidal", "rotary", "alibi", "hard-alibi", "t5", "fire", "abacus", "coupled"],
        _or_registered("positions"),
        PlainSerializer(str),
    ] = Field("learned", description="position encoding (abacus, coupled: from position ids given by the task)")
    random_positions: int = Field(
        0, ge=0, description="use sorted random positions below this number; 0: consecutive positions"
    )
    offsets: Literal["random", "zero", "batch"] = Field(
        "batch",
        description="position of an example's first token in the context, for learned and given positions: random "
        "(anywhere it fits), zero, or batch (anywhere the widest example of its batch fits; for older runs)",
        json_schema_extra={"planned": "random"},
    )
    attn_weights: Annotated[
        Literal[
            "softmax", "adaptive", "scalable", "entmax15", "scalable-entmax", "sigmoid", "stick-breaking", "selective"
        ],
        _or_registered("attn_weights"),
        PlainSerializer(str),
    ] = Field("softmax", description="function that turns attention scores into weights")
    attn_temperature: float = Field(1.0, gt=0, description="divide attention scores by this")
    adaptive_training: bool = Field(False, description="use adaptive attention weights during training as well")
    architecture: Literal["transformer", "lstm"] = Field(
        "transformer", description="lstm: a baseline with a matched number of parameters"
    )
    loops: int = Field(1, ge=1, description="number of times the blocks are applied, with shared weights")
    loop_growth: float = Field(0.0, ge=0, description="additional loops per unit of example length")
    init_std: float = Field(0.02, gt=0, description="standard deviation of the initial weights")
    scale_residual_init: bool = Field(
        True, description="divide initial W_O and W_out by sqrt(2 * n_layers), as in GPT-2"
    )

    d_values: int = Field(
        0, ge=0, description="numbers per real-valued item of a set model (from the task); 0: a token model"
    )

    later: ClassVar[frozenset[str]] = frozenset(
        {
            "unembed_bias",
            "random_positions",
            "offsets",
            "attn_temperature",
            "adaptive_training",
            "architecture",
            "loops",
            "loop_growth",
            "d_values",
        }
    )

    @property
    def given_positions(self) -> str:
        """The kind of position ids that the task has to provide, or ''."""
        return self.positions if self.positions in ("abacus", "coupled") else ""

    @property
    def needs_ids(self) -> bool:
        """Whether position ids differ from sequence positions: given by the task, or random."""
        return bool(self.given_positions or self.random_positions)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, given: Any) -> Any:
        """Fill in derived fields, so that each model has a single canonical JSON."""
        if not isinstance(given, Mapping):
            return given
        values: dict[str, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
        if values.get("d_values"):
            values = {**_SET_MODEL, **values}
        if values.get("architecture") == "lstm":
            values = {**LSTM_FIXED, **values}
        positions = values.get("positions", "learned")
        if positions in _RELATIVE and not values.get("random_positions"):
            values.pop("offsets", None)  # these encodings do not depend on the offset
        width, heads = values.get("d_model", 64), values.get("n_heads", 4)
        if isinstance(width, int) and isinstance(heads, int) and width > 0 and heads > 0:
            if not values.get("d_head"):
                if width % heads:
                    raise ValueError(
                        f"d_model {width} is not divisible by n_heads {heads}; "
                        f"nearest valid d_model: {max(1, round(width / heads)) * heads} (or set d_head)"
                    )
                values["d_head"] = width // heads
            if values.get("attn_only"):
                values["d_mlp"] = 0
            elif not values.get("d_mlp"):
                values["d_mlp"] = 4 * width
        return values

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(f"rotary positions need an even d_head, not {self.d_head}")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        wrong = [name for name, value in _SET_MODEL.items() if self.d_values and getattr(self, name) != value]
        if wrong:
            fixed = ", ".join(f"{name} {value}" for name, value in _SET_MODEL.items())
            raise ValueError(f"real-valued items need a set model, which has {fixed}; conflicts: {', '.join(wrong)}")
        self._check_unembed_bias()
        self._check_variants()
        return self

    def _check_unembed_bias(self) -> None:
        """Each model has one spec, so a bias that does not exist cannot be removed again."""
        reasons = {
            "bias is already False": not self.bias,
            "a tied unembedding has no bias": self.tie_word_embeddings,
            "a set model has no unembedding": bool(self.d_values),
        }
        if not self.unembed_bias and any(reasons.values()):
            raise ValueError(f"omit unembed_bias: {next(reason for reason, holds in reasons.items() if holds)}")

    def _check_variants(self) -> None:
        if self.random_positions and self.positions == "none":
            raise ValueError("random_positions needs a position encoding, but positions is 'none'")
        if 0 < self.random_positions < self.n_ctx:
            raise ValueError(f"random_positions {self.random_positions} is less than n_ctx {self.n_ctx}")
        if self.adaptive_training and self.attn_weights != "adaptive":
            raise ValueError(f"adaptive_training needs attn_weights 'adaptive', not {self.attn_weights!r}")
        if self.d_values and self.attn_weights in ("stick-breaking", "selective"):
            raise ValueError(f"attn_weights {self.attn_weights!r} applies to sequences, not to sets of items")
        if self.architecture == "lstm" and self.n_layers < 1:
            raise ValueError("an LSTM needs n_layers of at least 1")
        for name, value in LSTM_FIXED.items():
            if self.architecture == "lstm" and getattr(self, name) != value:
                raise ValueError(f"{name} {getattr(self, name)} is a transformer option; an LSTM requires {value}")


# -- Training


class TrainConfig(Frozen):
    """How a run is trained. Lengths are in the task's own unit (bits, digits, items); both ends are included."""

    train_len: int = Field(ge=1, description="longest training length")
    min_len: int = Field(1, ge=0, description="shortest training length")
    train_split: str = Field("id", description="split to draw training examples from")
    steps: int = Field(2500, ge=0, description="optimizer steps")
    batch_size: int = Field(64, ge=1, description="examples per step")
    lengths_per_batch: int = Field(
        0,
        ge=0,
        description="lengths drawn per batch; 0: one per example. With a pool: one per example mixes lengths freely, "
        "1 batches equal lengths",
    )
    pool: int = Field(
        0, ge=0, description="size of a fixed pool to train on, in shuffled epochs; 0: fresh examples every step"
    )
    curriculum: float = Field(
        0.0, ge=0, le=1, description="fraction of training over which the longest length grows to train_len"
    )
    loss: Literal["scored", "all"] = Field("scored", description="positions included in the loss")
    optimizer: Literal["adamw", "adam"] = Field("adamw", description="adam: weight decay as L2 in the gradient")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.01, ge=0, description="weight decay")
    decay: Literal["matrices", "linear", "all"] = Field(
        "matrices", description="what to decay: matrices, matrices except embeddings (linear), or all"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's betas")
    eps: float = Field(1e-8, gt=0, description="Adam's epsilon")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="learning-rate schedule after warm-up"
    )
    final_lr: float = Field(0.0, ge=0, le=1, description="final learning rate of the decay, as a fraction of lr")
    grad_clip: float = Field(0.0, ge=0, description="maximum gradient norm of each run; 0: no clipping")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on embeddings, attention weights and sublayers")
    label_noise: float = Field(0.0, ge=0, le=1, description="fraction of training targets replaced by another target")
    mix: float = Field(
        0.0, ge=0, le=1, description="fraction of each batch that is longer (mix_len) or shifted (mix_split)"
    )
    mix_split: str = Field("", description="split that the mix is drawn from; empty: train_split")
    mix_len: int = Field(0, ge=0, description="longest length of the mix, above train_len; 0: training lengths")
    spectral_decoupling: float = Field(
        0.0, ge=0, description="coefficient of an L2 penalty on the logits (half the squared norm)"
    )
    head_diversity: float = Field(
        0.0, ge=0, description="coefficient of a penalty on the mean cosine between the outputs of a layer's heads"
    )
    average_steps: int = Field(0, ge=0, description="average the weights over the last N steps; 0: no averaging")
    until: float | None = Field(None, gt=0, le=1, description="stop once in-distribution exact match stays at this")
    until_weights: Literal["equal", "law"] = Field(
        "equal", description="weights of lengths in until's mean: equal, or as training draws them (law)"
    )
    eval_every: int = Field(250, ge=1, description="steps between in-distribution evaluations")
    dtype: Literal["float32", "tf32", "bfloat16", "float64"] = Field(
        "float32", description="precision of matrix products (weights stay float32 or float64)"
    )
    init_seed: int = Field(0, ge=0, description="seed of the initial weights")
    data_seed: int = Field(0, ge=0, description="seed of the training examples")

    later: ClassVar[frozenset[str]] = frozenset(
        {"mix", "mix_split", "mix_len", "spectral_decoupling", "head_diversity", "average_steps", "until_weights"}
    )

    @property
    def mixed_in(self) -> tuple[str, tuple[int, int]]:
        """The split, and the shortest and longest length, of the examples mixed into each batch."""
        lowest = self.train_len + 1 if self.mix_len else self.min_len
        return self.mix_split or self.train_split, (lowest, self.mix_len or self.train_len)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, given: Any) -> Any:
        """Fill in derived fields, so that each training configuration has a single canonical JSON."""
        if not isinstance(given, Mapping):
            return given
        values: dict[str, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
        batch = values.get("batch_size", 64)
        if not values.get("lengths_per_batch") and isinstance(batch, int):
            values["lengths_per_batch"] = batch
        return values

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.min_len > self.train_len:
            raise ValueError(f"min_len {self.min_len} is greater than train_len {self.train_len}")
        if self.pool and self.curriculum:
            raise ValueError("a curriculum is not possible with a pool; it needs fresh data")
        if self.pool and self.lengths_per_batch not in (1, self.batch_size):
            raise ValueError(
                f"lengths_per_batch {self.lengths_per_batch} is not possible with a pool: 1 batches equal lengths, "
                f"{self.batch_size} (the batch size) mixes lengths freely"
            )
        if self.lengths_per_batch > self.batch_size:
            raise ValueError(f"lengths_per_batch {self.lengths_per_batch} exceeds batch_size {self.batch_size}")
        if self.until is None and self.until_weights != "equal":
            raise ValueError("until_weights has no effect without until")
        if not all(0 <= b < 1 for b in self.betas):
            raise ValueError(f"betas {self.betas} must lie in [0, 1)")
        self._check_interventions()
        return self

    def _check_interventions(self) -> None:
        if bool(self.mix) != bool(self.mix_split or self.mix_len):
            raise ValueError("mix adds longer or shifted examples: set mix, and also mix_len or mix_split")
        if self.mix and self.pool:
            raise ValueError("mix is not possible with a pool; it needs fresh data")
        if self.mix_len and self.mix_len <= self.train_len:
            raise ValueError(f"mix_len {self.mix_len} is not greater than train_len {self.train_len}")
        if self.average_steps > self.steps:
            raise ValueError(f"average_steps {self.average_steps} is greater than steps {self.steps}")
        if self.average_steps and self.until is not None:
            raise ValueError("average_steps cannot be combined with until, which leaves the last step unknown")


# -- Runs and measurements


class CompileSpec(Frozen):
    """A program whose weights a run starts from, in place of random ones, and how far they are from perfect.

    The weights are a function of this, the task and the model (`genlab.rasp.compiler`).
    """

    program: str = Field(description="name of a program of the task, or of one of its rules")
    digest: str = Field(description="first 12 hex digits of the SHA-256 of the perfect weights")
    gap: float = Field(
        40.0, gt=0, description="how much higher the attention score of a key that shall win is (1 / temperature)"
    )
    beside: str = Field("", description="another program of the task, compiled beside the first; empty: none")
    gate: float = Field(1.0, ge=0, le=1, description="weight of the first program's logits; the other has 1 - gate")
    decoys: int = Field(0, ge=0, le=256, description="random heads, and as many random neurons, added to each layer")
    width: int = Field(
        0, ge=0, description="d_model, with the directions of the residual stream in superposition; 0: one each"
    )
    rotate: bool = Field(False, description="rotate the basis of the residual stream at random")
    noise: float = Field(
        0.0, ge=0, description="standard deviation of noise on weights, as a fraction of the RMS of their matrix"
    )
    seed: int = Field(0, ge=0, description="seed of decoys, superposition, rotation and noise")


class RunSpec(Frozen):
    """One seed of one configuration."""

    task: TaskSpec
    model: ModelConfig
    train: TrainConfig
    code: str = Field(
        default="",
        description="source of what a plugin brings to it: task, positions, attention weights (NAME:HASH, ...)",
        json_schema_extra={"later": True},
    )
    compiled: CompileSpec | None = Field(
        default=None,
        description="the program that the first weights are compiled from",
        json_schema_extra={"later": True},
    )

    @property
    def run_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()[:12]

    @property
    def configuration(self) -> RunSpec:
        """This spec with both seeds set to 0: the configuration that all its seeds share."""
        return self.with_seeds(0, 0)

    def with_seeds(self, init_seed: int, data_seed: int) -> RunSpec:
        """Return the same configuration with other seeds."""
        train = self.train.model_copy(update={"init_seed": init_seed, "data_seed": data_seed})
        return self.model_copy(update={"train": train})


class EvalRow(Frozen):
    """One measurement: `metric` over `n` examples of `split` at `length`, for one run at one step."""

    run_id: str
    step: int
    split: str
    length: int
    metric: str
    value: float
    n: int
