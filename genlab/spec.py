"""What a run is: frozen, validated specifications of task, model and training. No torch here.

Each option of the lab is declared once, as a field below: command-line flags, grid-file keys and Python
arguments are all made from these classes. A `RunSpec` is one seed of one configuration, and its `run_id` is a
hash of its canonical JSON. Evaluations are not part of it: they are appended to a run later.
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
    model_validator,
)

from genlab.errors import UserError, unknown

# -- Values that cannot change: what specifications are made of, their canonical JSON, and their faults in one line


Scalar = bool | int | float | str


class Frozen(BaseModel):
    """A value that cannot change and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after runs had been kept: at its default such a field is not part of canonical JSON.

    So the default of such a field is what the records before it mean, and never changes. Where new runs are to have
    another value, the field names it as `planned` (`json_schema_extra`), and plans fill it in.
    A new field joins the set by `json_schema_extra={"later": True}`.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: Any) -> None:
        cls.later = cls.later | {name for name, extra in cls._extras().items() if extra.get("later")}

    @classmethod
    def planned(cls) -> dict[str, Scalar]:
        """What a new plan has, where the user is silent, in fields whose default is what old records mean."""
        return {name: extra["planned"] for name, extra in cls._extras().items() if "planned" in extra}

    @classmethod
    def _extras(cls) -> dict[str, Mapping[str, Scalar]]:
        return {name: cast(Mapping[str, Scalar], f.json_schema_extra or {}) for name, f in cls.model_fields.items()}


def canonical_json(spec: BaseModel) -> str:
    """JSON with sorted keys and no spaces: equal specs give equal text, on every machine.

    Fields that came `later` are left out at their defaults, so that the ids of runs kept before them stay.
    """
    return json.dumps(_without_later(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _without_later(spec: BaseModel) -> dict[str, Any]:
    found = spec.model_dump(mode="json")
    for name, value in spec:
        if isinstance(value, BaseModel):
            found[name] = _without_later(value)
        elif isinstance(spec, Frozen) and name in spec.later and value == type(spec).model_fields[name].default:
            del found[name]
    return found


_Spec = TypeVar("_Spec", bound=Frozen)


def build(cls: type[_Spec], values: Mapping[str, Any]) -> _Spec:
    """`cls(**values)`, with every fault in one line.

    Raises:
        UserError: an unknown key (with the nearest name) or a value out of range.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        faults = [_fault(cls, dict(e)) for e in error.errors()]
        raise UserError("; ".join(faults)) from None


def _fault(cls: type[BaseModel], error: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return str(unknown("option", place, cls.model_fields))
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place:
        return message
    if error["type"] == "literal_error":
        choices = [str(choice) for choice in get_args(cls.model_fields[place].annotation)]
        choices += sorted(_registered.get(place, ()))
        return str(unknown(place, str(error["input"]), choices))
    return f"{place}: {error['input']!r} is not allowed ({message[:1].lower()}{message[1:]})"


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


def stored_spec(values: Mapping[str, Any]) -> RunSpec:
    """The spec of a stored run. It may name a registered value whose file is not loaded now."""
    return RunSpec.model_validate(values, context={"stored": True})


def _or_registered(option: str) -> WrapValidator:
    """Let an option take a registered value too."""

    def check(value: Any, built_in: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        stored = isinstance(info.context, Mapping) and "stored" in info.context
        return value if isinstance(value, str) and (stored or value in _registered[option]) else built_in(value)

    return WrapValidator(check)


# -- What decides the examples of a task, and the ways of drawing them


class TaskSpec(Frozen):
    """All that decides what a task's examples are. `genlab.tasks.spec` fills `params` in full."""

    name: str
    version: int = Field(ge=1, description="rises when samples, targets or scoring change")
    format: str = Field(description="how the task is written down, e.g. with a scratchpad")
    max_len: int = Field(ge=1, description="longest length the vocabulary and the context are made for")
    params: dict[str, Scalar] = Field(default_factory=dict[str, Scalar])


class Split(Frozen):
    """A named way of drawing examples, held as data. Without `lengths`, the caller says which."""

    name: str
    about: str = Field(default="", description="one line: what differs from `id`")
    shift: dict[str, Scalar] = Field(
        default_factory=dict[str, Scalar], description="parameters of the draw; empty for the plain one"
    )
    lengths: tuple[int, ...] = ()
    n: int = Field(default=0, ge=0, description="examples a length, for an evaluation set")
    seed: int = Field(default=0, ge=0, description="seed of an evaluation set")
    offsets: Literal["", "random", "zero", "batch"] = Field(
        default="", description="where the examples stand in the context; empty: as in training (ModelConfig.offsets)"
    )

    def at(self, lengths: tuple[int, ...], n: int, seed: int = 0, offsets: str = "") -> Split:
        """This split as an evaluation set: `n` examples at each of `lengths`, drawn from `seed`.

        Raises:
            UserError: `offsets` is none of the laws that there are.
        """
        laws = get_args(Split.model_fields["offsets"].annotation)
        if offsets not in laws:
            raise unknown("offsets", offsets, laws[1:])
        return self.model_copy(update={"lengths": tuple(lengths), "n": n, "seed": seed, "offsets": offsets})


# -- The shape of a model


_SET_MODEL: Mapping[str, Scalar] = {
    "n_layers": 1,
    "positions": "none",
    "normalization_type": "none",
    "final_norm": False,
    "attn_only": False,
    "tie_word_embeddings": False,
}
"""What a model of real-valued items (`d_values`) has in the fields that a transformer has a choice in."""


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
"""What an LSTM has in the fields that are a transformer's: it reads in order, without positions or attention."""


_RELATIVE = {"none", "sinusoidal", "rotary", "alibi", "hard-alibi", "t5", "fire"}
"""Position encodings without a table: an example always stands at the beginning, whatever `offsets` says."""


class ModelConfig(Frozen):
    """A decoder-only transformer, or a set model; field names as in TransformerLens where it has the field."""

    d_vocab: int = Field(ge=2, description="tokens in the vocabulary (from the task)")
    n_ctx: int = Field(ge=1, description="positions of the context (from the task's max_len)")
    n_layers: int = Field(2, ge=0, description="blocks")
    d_model: int = Field(64, ge=1, description="width of the residual stream")
    n_heads: int = Field(4, ge=1, description="attention heads a block")
    d_head: int = Field(0, ge=0, description="width of a head; 0: d_model / n_heads")
    d_mlp: int = Field(0, ge=0, description="width of the MLP; 0: 4 d_model")
    attn_only: bool = Field(False, description="blocks without an MLP")
    act_fn: Literal["gelu", "gelu_new", "relu"] = Field(
        "gelu", description="activation of the MLP (gelu_new: GPT-2's tanh approximation)"
    )
    normalization_type: Literal["LN", "RMS", "none"] = Field("LN", description="norm before each sublayer")
    final_norm: bool = Field(True, description="a norm before the unembedding")
    bias: bool = Field(True, description="biases in the linear maps")
    unembed_bias: bool = Field(True, description="a bias of the unembedding, where linear maps have one")
    tie_word_embeddings: bool = Field(False, description="unembed with the embedding matrix")
    positions: Annotated[
        Literal["learned", "none", "sinusoidal", "rotary", "alibi", "hard-alibi", "t5", "fire", "abacus", "coupled"],
        _or_registered("positions"),
        PlainSerializer(str),
    ] = Field("learned", description="position encoding (abacus, coupled: of ids that the task gives)")
    random_positions: int = Field(
        0, ge=0, description="positions are random ones below this, in order; 0: as they are"
    )
    offsets: Literal["random", "zero", "batch"] = Field(
        "batch",
        description="where examples stand in the context (learned and given positions), in training, evaluation and "
        "probes: random, each in its own room; zero; batch: in the room of the batch's widest, as runs made before",
        json_schema_extra={"planned": "random"},
    )
    attn_weights: Annotated[
        Literal[
            "softmax", "adaptive", "scalable", "entmax15", "scalable-entmax", "sigmoid", "stick-breaking", "selective"
        ],
        _or_registered("attn_weights"),
        PlainSerializer(str),
    ] = Field("softmax", description="what turns attention scores into weights (one of them)")
    attn_temperature: float = Field(1.0, gt=0, description="attention scores are divided by it")
    adaptive_training: bool = Field(False, description="adaptive attention weights in training too")
    architecture: Literal["transformer", "lstm"] = Field(
        "transformer", description="lstm: a baseline with as many parameters"
    )
    loops: int = Field(1, ge=1, description="times the blocks are applied, with the same weights")
    loop_growth: float = Field(0.0, ge=0, description="further times for each unit of an example's length")
    init_std: float = Field(
        0.0, ge=0, description="standard deviation of the initial weights; 0: 0.4 / sqrt(d_model)"
    )
    scale_residual_init: bool = Field(
        True, description="initial W_O and W_out smaller by sqrt(2 n_layers), as in GPT-2"
    )

    d_values: int = Field(
        0, ge=0, description="numbers a real-valued item has (from the task), for a set model; 0: a transformer"
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
        """The kind of position ids that the task has to give, or ''."""
        return self.positions if self.positions in ("abacus", "coupled") else ""

    @property
    def needs_ids(self) -> bool:
        """Whether positions are not those of the sequence: the task's own, or random ones."""
        return bool(self.given_positions or self.random_positions)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, given: Any) -> Any:
        """Fill the widths that follow from others, so that one model has one canonical JSON."""
        if not isinstance(given, Mapping):
            return given
        values: dict[str, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
        if values.get("d_values"):
            values = {**_SET_MODEL, **values}
        if values.get("architecture") == "lstm":
            values = {**LSTM_FIXED, **values}
        positions = values.get("positions", "learned")
        if positions in _RELATIVE and not values.get("random_positions"):
            values.pop("offsets", None)  # these encodings are the same wherever an example stands
        width, heads = values.get("d_model", 64), values.get("n_heads", 4)
        if isinstance(width, int) and isinstance(heads, int) and width > 0 and heads > 0:
            if not values.get("d_head"):
                if width % heads:
                    raise ValueError(
                        f"d_model {width} is not divisible by n_heads {heads}; "
                        f"nearest d_model that is: {max(1, round(width / heads)) * heads} (or set d_head)"
                    )
                values["d_head"] = width // heads
            if not values.get("init_std"):
                values["init_std"] = round(0.4 / width**0.5, 6)
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
        odd = [name for name, value in _SET_MODEL.items() if self.d_values and getattr(self, name) != value]
        if odd:
            has = ", ".join(f"{name} {value}" for name, value in _SET_MODEL.items())
            raise ValueError(f"real-valued items are for a set model, which has {has}; not so: {', '.join(odd)}")
        self._check_unembed_bias()
        self._check_variants()
        return self

    def _check_unembed_bias(self) -> None:
        """A model has one spec: no bias is taken out twice, nor out of a map that the model has not."""
        why = {
            "bias is False already": not self.bias,
            "tied embeddings unembed without one": self.tie_word_embeddings,
            "a set model has no unembedding": bool(self.d_values),
        }
        if not self.unembed_bias and any(why.values()):
            raise ValueError(f"leave unembed_bias out: {next(reason for reason, holds in why.items() if holds)}")

    def _check_variants(self) -> None:
        if self.random_positions and self.positions == "none":
            raise ValueError("random_positions are for an encoding of positions; positions is 'none'")
        if 0 < self.random_positions < self.n_ctx:
            raise ValueError(f"random_positions {self.random_positions} is below the {self.n_ctx} positions of n_ctx")
        if self.adaptive_training and self.attn_weights != "adaptive":
            raise ValueError(f"adaptive_training is for attn_weights 'adaptive', not {self.attn_weights!r}")
        if self.d_values and self.attn_weights in ("stick-breaking", "selective"):
            raise ValueError(f"attn_weights {self.attn_weights!r} are for sequences, not for sets of items")
        if self.architecture == "lstm" and self.n_layers < 1:
            raise ValueError("an lstm needs n_layers of at least 1")
        for name, value in LSTM_FIXED.items():
            if self.architecture == "lstm" and getattr(self, name) != value:
                raise ValueError(f"{name} {getattr(self, name)} is for a transformer; an lstm has {value} there")


# -- How a run is trained


class TrainConfig(Frozen):
    """How a run is trained. Lengths are the task's own (bits, digits, items), both ends included."""

    train_len: int = Field(ge=1, description="longest training length")
    min_len: int = Field(1, ge=0, description="shortest training length")
    train_split: str = Field("id", description="split that training draws from")
    steps: int = Field(2500, ge=0, description="optimiser steps")
    batch_size: int = Field(64, ge=1, description="examples a step")
    lengths_per_batch: int = Field(
        0,
        ge=0,
        description="lengths drawn for a batch; 0: 4. From a pool: 1 (the default), like lengths together, or as "
        "many as the batch size, lengths as they come",
    )
    pool: int = Field(0, ge=0, description="train on a fixed pool of N examples in shuffled passes; 0: fresh")
    curriculum: float = Field(
        0.0, ge=0, le=1, description="share of the steps over which the longest length grows to train_len"
    )
    loss: Literal["scored", "all"] = Field("scored", description="positions that the loss is taken over")
    optimizer: Literal["adamw", "adam"] = Field("adamw", description="adam: weight decay as L2 in the gradient")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.01, ge=0, description="weight decay")
    decay: Literal["matrices", "linear", "all"] = Field(
        "matrices", description="what decays: matrices, those without embeddings (linear), or all"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's two decay rates")
    eps: float = Field(1e-8, gt=0, description="Adam's epsilon")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate after warm-up")
    final_lr: float = Field(0.0, ge=0, le=1, description="where cosine ends, as a share of lr")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm of a run; 0: no clipping")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of embeddings, attention and sublayers")
    label_noise: float = Field(0.0, ge=0, le=1, description="share of training targets put in another one's place")
    mix: float = Field(
        0.0, ge=0, le=1, description="share of a batch that is longer (mix_len) or shifted (mix_split)"
    )
    mix_split: str = Field("", description="split of that share; empty: train_split")
    mix_len: int = Field(0, ge=0, description="that share is longer than train_len, up to this; 0: training lengths")
    spectral_decoupling: float = Field(
        0.0, ge=0, description="half of it times the squared norm of the logits is added to what is minimised"
    )
    average_steps: int = Field(0, ge=0, description="final weights are the mean after each of the last N steps")
    until: float | None = Field(None, gt=0, le=1, description="stop once in-distribution exact match stays at this")
    until_weights: Literal["equal", "law"] = Field(
        "equal", description="how until's exact match weighs training lengths: alike, or as training draws them (law)"
    )
    eval_every: int = Field(250, ge=1, description="steps between in-distribution evaluations")
    dtype: Literal["float32", "tf32", "bfloat16", "float64"] = Field(
        "float32", description="precision of the matrix products (weights stay float32 or float64)"
    )
    init_seed: int = Field(0, ge=0, description="seed of the initial weights")
    data_seed: int = Field(0, ge=0, description="seed of the training examples")

    later: ClassVar[frozenset[str]] = frozenset(
        {"mix", "mix_split", "mix_len", "spectral_decoupling", "average_steps", "until_weights"}
    )

    @property
    def mixed_in(self) -> tuple[str, tuple[int, int]]:
        """The split, and the lowest and highest length, of the share of a batch that `mix` is."""
        lowest = self.train_len + 1 if self.mix_len else self.min_len
        return self.mix_split or self.train_split, (lowest, self.mix_len or self.train_len)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, given: Any) -> Any:
        """Fill what follows from other fields, so that one way of training has one canonical JSON."""
        if not isinstance(given, Mapping):
            return given
        values: dict[str, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
        batch = values.get("batch_size", 64)
        if not values.get("lengths_per_batch") and isinstance(batch, int):
            values["lengths_per_batch"] = 1 if values.get("pool") else max(1, min(4, batch))
        return values

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.min_len > self.train_len:
            raise ValueError(f"min_len {self.min_len} is above train_len {self.train_len}")
        if self.pool and self.curriculum:
            raise ValueError("curriculum is for fresh data, not for a pool")
        if self.pool and self.lengths_per_batch not in (1, self.batch_size):
            raise ValueError(
                f"lengths_per_batch {self.lengths_per_batch} is not for a pool: 1 puts like lengths together, "
                f"{self.batch_size} (the batch size) draws them as they come"
            )
        if self.lengths_per_batch > self.batch_size:
            raise ValueError(f"lengths_per_batch {self.lengths_per_batch} is above batch_size {self.batch_size}")
        if self.until is None and self.until_weights != "equal":
            raise ValueError("until_weights says what until goes by; give until")
        if not all(0 <= b < 1 for b in self.betas):
            raise ValueError(f"betas {self.betas} must lie in [0, 1)")
        self._check_interventions()
        return self

    def _check_interventions(self) -> None:
        if bool(self.mix) != bool(self.mix_split or self.mix_len):
            raise ValueError("mix is a share of longer or shifted examples: give mix, and mix_len or mix_split")
        if self.mix and self.pool:
            raise ValueError("mix is for fresh data, not for a pool")
        if self.mix_len and self.mix_len <= self.train_len:
            raise ValueError(f"mix_len {self.mix_len} is not above train_len {self.train_len}")
        if self.average_steps > self.steps:
            raise ValueError(f"average_steps {self.average_steps} is above steps {self.steps}")
        if self.average_steps and self.until is not None:
            raise ValueError("average_steps are the last of all steps; with until there is no knowing which they are")


# -- A run: one seed of one configuration; and one number that was measured of it


class RunSpec(Frozen):
    """One seed of one configuration."""

    task: TaskSpec
    model: ModelConfig
    train: TrainConfig

    @property
    def run_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()[:12]

    @property
    def configuration(self) -> RunSpec:
        """This spec with both seeds at 0: what all seeds of one configuration share."""
        return self.with_seeds(0, 0)

    def with_seeds(self, init_seed: int, data_seed: int) -> RunSpec:
        """The same configuration at other seeds."""
        train = self.train.model_copy(update={"init_seed": init_seed, "data_seed": data_seed})
        return self.model_copy(update={"train": train})


class EvalRow(Frozen):
    """One measured number: `metric` over `n` examples of `split` at `length`, for a run at a step."""

    run_id: str
    step: int
    split: str
    length: int
    metric: str
    value: float
    n: int
