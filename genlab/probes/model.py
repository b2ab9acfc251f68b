"""What a probe sees of a model: a stack of runs, or any one model with the hook names of TransformerLens."""

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
    """The matrices of all heads, the gain of the norm before them folded in; activations are rows, as in x W.

    Attributes:
        W_Q, W_K, W_V: float[run, layer, head, d_model, d_head].
        W_O: float[run, layer, head, d_head, d_model].
        W_E: float[run, d_vocab, d_model].
        W_U: float[run, d_model, d_vocab], with the gain of the final norm.
    """

    W_Q: Tensor
    W_K: Tensor
    W_V: Tensor
    W_O: Tensor
    W_E: Tensor
    W_U: Tensor


class Probed(Protocol):
    """A model as probes use it.

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
        """Raises `NotApplicable` for a model without attention, or one that has to be told more than tokens."""
        check_readable(model.cfg)
        assert isinstance(model, Transformer)
        self.model = model
        shape = model.cfg
        self.cfg: ModelConfig = shape.model_copy(update={"n_layers": shape.n_layers * shape.loops, "loops": 1})
        """The shape as taps see it: blocks that are applied k times are k times as many."""
        self._weights: HeadWeights | None = None

    @property
    def n_runs(self) -> int:
        return self.model.n_runs

    @property
    def flat(self) -> Tensor:
        """All weights, float[run, params]."""
        return self.model.flat

    def __call__(self, tokens: Tensor, offsets: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits `[run, batch, pos, d_vocab]` of tokens `[batch, pos]`, at first positions `[batch]`."""
        runs = self.n_runs
        wide = tokens.expand(runs, *tokens.shape)
        starts = None if offsets is None else offsets.expand(runs, *offsets.shape)
        return self.model(wide, starts, tap=tap)

    def of_runs(self, rows: Tensor) -> Stacked:
        """Some of the runs, by their places in the stack, int[some]."""
        return Stacked(Transformer(self.model.cfg, self.model.flat[rows]))

    def weights(self) -> HeadWeights:
        """Matrices of all heads. Raises `NotApplicable` where there is no attention."""
        if self._weights is None:
            self._weights = self._folded()
        return self._weights

    def _folded(self) -> HeadWeights:
        cfg, params = self.cfg, self.model.params
        if not cfg.n_layers:
            raise NotApplicable("the model has no layers")
        parts: list[list[Tensor]] = [[], [], [], []]
        for i in [*range(self.model.cfg.n_layers)] * self.model.cfg.loops:
            qkv = params[f"blocks.{i}.attn.W_QKV"].unflatten(-1, (3, cfg.n_heads, cfg.d_head))
            gain = params.get(f"blocks.{i}.ln1.w")
            if gain is not None:
                qkv = qkv * gain[..., None, None, None]
            for kept, one in zip(parts, qkv.permute(2, 0, 3, 1, 4), strict=False):  # [R, H, D, K]
                kept.append(one)
            parts[3].append(params[f"blocks.{i}.attn.W_O"].unflatten(1, (cfg.n_heads, cfg.d_head)))
        embed = params["embed.W_E"]
        unembed = embed.transpose(1, 2) if cfg.tie_word_embeddings else params["unembed.W_U"]
        gain = params.get("ln_final.w")
        unembed = unembed if gain is None else unembed * gain[..., None]
        return HeadWeights(*(torch.stack(p, dim=1) for p in parts), W_E=embed, W_U=unembed)


def stack_of(model: Probed, to: str) -> Transformer:
    """The stack of runs that is probed, for signals that need its flat weights `to` do something.

    Raises:
        NotApplicable: a model from elsewhere, which has none.
    """
    if not isinstance(model, Stacked):
        raise NotApplicable(f"a model from elsewhere gives no flat weights to {to}")
    return model.model


def check_readable(cfg: ModelConfig) -> None:
    """Raise `NotApplicable` for a shape that signals do not read."""
    if cfg.d_values:
        raise NotApplicable("a set model reads real-valued items, not tokens")
    if cfg.architecture == "lstm":
        raise NotApplicable("an LSTM has no attention")
    if cfg.loop_growth:
        raise NotApplicable("the number of its layers grows with the length")


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
            raise UserError("a model to be probed has a hook point blocks.0.attn.hook_pattern; this one has none")
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
        """Logits `[1, batch, pos, d_vocab]`; such a model chooses its positions itself."""
        del offsets
        if tap is None:
            return self.model(tokens)[None]
        hooks = [(name, _as_hook(name, tap)) for name in self._names]
        return self.model.run_with_hooks(tokens, fwd_hooks=hooks)[None]

    def weights(self) -> HeadWeights:
        """Matrices of all heads, as the model gives them under TransformerLens's names (gains are not folded in)."""
        missing = [n for n in ("W_Q", "W_K", "W_V", "W_O", "W_E", "W_U") if not hasattr(self.model, n)]
        if missing:
            raise NotApplicable(f"the model does not give {missing[0]}")
        return HeadWeights(
            *(getattr(self.model, n).detach()[None] for n in ("W_Q", "W_K", "W_V", "W_O", "W_E", "W_U"))
        )


def _as_hook(name: str, tap: Tap) -> Callable[..., Tensor]:
    def hook(tensor: Tensor, hook: Any) -> Tensor:
        del hook
        return tap(name, tensor[None])[0]

    return hook
