"""The shape of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from genlab.spec.values import Frozen, Scalar

__all__ = ["LSTM_FIXED", "ModelConfig"]

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


_RELATIVE = ("none", "sinusoidal", "rotary", "alibi", "hard-alibi", "t5", "fire")
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
    positions: Literal[
        "learned", "none", "sinusoidal", "rotary", "alibi", "hard-alibi", "t5", "fire", "abacus", "coupled"
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
    attn_weights: Literal[
        "softmax", "adaptive", "scalable", "entmax15", "scalable-entmax", "sigmoid", "stick-breaking", "selective"
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
