"""Models as probes see them: a stack of runs, or any single model with TransformerLens's hook names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from genlab.errors import NotApplicable, UserError
from genlab.models import Model, Transformer
from genlab.spec import ModelConfig

Tap = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """The matrices of all heads, with the gain of the preceding norm folded in; activations are rows, as in x W.

    Attributes:
        W_Q, W_K, W_V: float[run, layer, head, d_model, d_head].
        W_O: float[run, layer, head, d_head, d_model].
        W_E: float[run, d_vocab, d_model].
        W_U: float[run, d_model, d_vocab], with the gain of the final norm folded in.
    """

    W_Q: Tensor
    W_K: Tensor
    W_V: Tensor
    W_O: Tensor
    W_E: Tensor
    W_U: Tensor


class Probed(Protocol):
    """The interface of a model for probes.

    Attributes:
        cfg: with `n_layers`, `n_heads`, `d_model`, `d_head` and `d_vocab`.
    """

    @property
    def cfg(self) -> Any: ...

    @property
    def n_runs(self) -> int: ...

    @property
    def flat(self) -> Tensor: ...

    def __call__(self, tokens: Tensor, offsets: Tensor | None = None, tap: Tap | None = None) -> Tensor: ...

    def weights(self) -> HeadWeights: ...


class Stacked:
    """A stack of runs."""

    def __init__(self, model: Model):
        """Raises `NotApplicable` for a model without attention, or one that needs inputs other than tokens."""
        check_readable(model.cfg)
        assert isinstance(model, Transformer)
        self.model = model
        shape = model.cfg
        self.cfg: ModelConfig = shape.model_copy(update={"n_layers": shape.n_layers * shape.loops, "loops": 1})
        """The shape as taps see it: blocks applied k times count as k times as many blocks."""
        self._weights: HeadWeights | None = None

    @property
    def n_runs(self) -> int:
        return self.model.n_runs

    @property
    def flat(self) -> Tensor:
        """All weights, float[run, params]."""
        return self.model.flat

    def __call__(self, tokens: Tensor, offsets: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits `[run, batch, pos, d_vocab]` of tokens `[batch, pos]`; offsets are `[batch]` or `[batch, pos]`."""
        runs = self.n_runs
        wide = tokens.expand(runs, *tokens.shape)
        starts = None if offsets is None else offsets.expand(runs, *offsets.shape)
        return self.model(wide, starts, tap=tap)

    def of_runs(self, rows: Tensor) -> Stacked:
        """A stack of some of the runs, given by their indices, int[some]."""
        return Stacked(Transformer(self.model.cfg, self.model.flat[rows]))

    def weights(self) -> HeadWeights:
        """The matrices of all heads. Raises `NotApplicable` if there are no layers."""
        if self._weights is None:
            self._weights = self._fold_gains()
        return self._weights

    def _fold_gains(self) -> HeadWeights:
        cfg, params = self.cfg, self.model.params
        if not cfg.n_layers:
            raise NotApplicable("the model has no layers")
        parts: list[list[Tensor]] = [[], [], [], []]
        for i in [*range(self.model.cfg.n_layers)] * self.model.cfg.loops:
            qkv = params[f"blocks.{i}.attn.W_QKV"].unflatten(-1, (3, cfg.n_heads, cfg.d_head))
            gain = params.get(f"blocks.{i}.ln1.w")
            if gain is not None:
                qkv = qkv * gain[..., None, None, None]
            for collected, one in zip(parts, qkv.permute(2, 0, 3, 1, 4), strict=False):  # [R, H, D, K]
                collected.append(one)
            parts[3].append(params[f"blocks.{i}.attn.W_O"].unflatten(1, (cfg.n_heads, cfg.d_head)))
        embed = params["embed.W_E"]
        unembed = embed.transpose(1, 2) if cfg.tie_word_embeddings else params["unembed.W_U"]
        gain = params.get("ln_final.w")
        unembed = unembed if gain is None else unembed * gain[..., None]
        return HeadWeights(*(torch.stack(p, dim=1) for p in parts), W_E=embed, W_U=unembed)


def stack_of(model: Probed, to: str) -> Transformer:
    """The probed stack of runs, for signals that need its flat weights.

    Args:
        model: the probed model.
        to: what the weights are needed for, for the error message.

    Raises:
        NotApplicable: an external model, which has no flat weights.
    """
    if not isinstance(model, Stacked):
        raise NotApplicable(f"an external model has no flat weights to {to}")
    return model.model


def check_readable(cfg: ModelConfig) -> None:
    """Raise `NotApplicable` for models that signals cannot read."""
    if cfg.d_values:
        raise NotApplicable("a set model reads real-valued items, not tokens")
    if cfg.architecture == "lstm":
        raise NotApplicable("an LSTM has no attention")
    if cfg.loop_growth:
        raise NotApplicable("the number of its layers grows with the input length")


_HOOKS = ("hook_resid_pre", "attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_z", "hook_attn_out")
_HOOKS += ("mlp.hook_post", "hook_mlp_out", "hook_resid_post")


class Hooked:
    """Any model with `cfg`, `run_with_hooks` and the hook names of TransformerLens, as a stack of one."""

    n_runs = 1

    def __init__(self, model: Any):
        """Raises `UserError` if the model has no attention pattern under TransformerLens's name."""
        self.model = model
        names = set(getattr(model, "hook_dict", {}))
        if "blocks.0.attn.hook_pattern" not in names:
            raise UserError("a model to be probed needs a hook point blocks.0.attn.hook_pattern; this one has none")
        wanted = [f"blocks.{i}.{hook}" for i in range(model.cfg.n_layers) for hook in _HOOKS]
        self._names: Sequence[str] = [name for name in wanted if name in names]

    @property
    def cfg(self) -> Any:
        return self.model.cfg

    @property
    def flat(self) -> Tensor:
        """All parameters in one row, float[1, params]."""
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])[None]

    def __call__(self, tokens: Tensor, offsets: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits `[1, batch, pos, d_vocab]`; `offsets` are ignored, since such a model chooses its own positions."""
        del offsets
        if tap is None:
            return self.model(tokens)[None]
        hooks = [(name, _as_hook(name, tap)) for name in self._names]
        return self.model.run_with_hooks(tokens, fwd_hooks=hooks)[None]

    def weights(self) -> HeadWeights:
        """The matrices of all heads, from attributes with TransformerLens's names (gains are not folded in)."""
        missing = [n for n in ("W_Q", "W_K", "W_V", "W_O", "W_E", "W_U") if not hasattr(self.model, n)]
        if missing:
            raise NotApplicable(f"the model has no attribute {missing[0]}")
        return HeadWeights(
            *(getattr(self.model, n).detach()[None] for n in ("W_Q", "W_K", "W_V", "W_O", "W_E", "W_U"))
        )


def _as_hook(name: str, tap: Tap) -> Callable[..., Tensor]:
    def hook(tensor: Tensor, hook: Any) -> Tensor:
        del hook
        return tap(name, tensor[None])[0]

    return hook
