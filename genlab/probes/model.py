"""Models as probes see them: a stack of runs, a model with TransformerLens's hook names, or any torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from genlab.errors import NotApplicable, UserError, unknown
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


def check_hooks(model: Probed, *names: str) -> None:
    """Raise `NotApplicable` unless a model has these hook points in every layer.

    A tap on a hook point that is missing would change nothing, and the change would be read as harmless.

    Args:
        model: the probed model.
        names: hook points without the layer, such as `attn.hook_z`.
    """
    if not isinstance(model, Hooked):
        return
    for layer in range(model.cfg.n_layers):
        for name in names:
            if f"blocks.{layer}.{name}" not in model.hooks:
                raise NotApplicable(f"the model has no hook point blocks.{layer}.{name}")


_HOOKS = ("hook_resid_pre", "attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_z", "hook_attn_out")
_HOOKS += ("attn.hook_q", "attn.hook_k", "attn.hook_v", "mlp.hook_post", "hook_mlp_out", "hook_resid_post")


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
        self.hooks: Sequence[str] = [name for name in wanted if name in names]

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
        hooks = [(name, _as_hook(name, tap)) for name in self.hooks]
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


# -- Any torch module


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a torch module, found by a forward pass; `d_model` is 0 where no hook point shows it."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_vocab: int
    n_ctx: int
    attn_only: bool


class Modules(Hooked):
    """Any torch module, read and changed at its submodules, as a stack of one; in evaluation mode meanwhile."""

    def __init__(
        self,
        model: nn.Module,
        at: Mapping[str, str],
        tokens: Tensor,
        n_ctx: int,
        forward: Callable[[Tensor], Tensor] | None,
    ):
        """Find the submodules and the shape.

        Args:
            model: the module.
            at: hook point without the layer -> path of the submodule with this output, `{}` for the layer's number.
            tokens: int[batch, pos], an input to find the shape with.
            n_ctx: the longest input that the model takes.
            forward: maps tokens to logits (default: the module itself).

        Raises:
            UserError: an unknown hook point, no such submodule, or an output that is not what the hook point means.
        """
        self.model, self._forward = model, model if forward is None else forward
        self._places = _places(model, at)
        self.hooks = list(self._places)
        seen: dict[str, Tensor] = {}
        with torch.no_grad():
            logits = self(tokens, tap=lambda name, x: seen.setdefault(name, x))
        for name in self.hooks:
            _check_output(name, at, seen.get(name), tokens)
        heads = seen["blocks.0.attn.hook_pattern"].shape[2]
        streams = [x.shape[-1] for name, x in seen.items() if name.endswith(_STREAMS)]
        width = streams[0] if streams else 0
        z = seen.get("blocks.0.attn.hook_z")
        self._shape = Shape(
            n_layers=1 + max(int(name.split(".")[1]) for name in self.hooks),
            n_heads=heads,
            d_model=width,
            d_head=width // heads if z is None else z.shape[-1],
            d_vocab=logits.shape[-1],
            n_ctx=n_ctx,
            attn_only=not any("mlp" in name for name in self.hooks),
        )

    @property
    def cfg(self) -> Shape:
        return self._shape

    def __call__(self, tokens: Tensor, offsets: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits `[1, batch, pos, d_vocab]`; `offsets` are ignored, since such a model chooses its own positions."""
        del offsets
        training, handles = self.model.training, []
        self.model.eval()
        try:
            if tap is not None:
                hooks = ((module, _as_forward_hook(name, tap)) for name, module in self._places.items())
                handles += [module.register_forward_hook(hook) for module, hook in hooks]
            logits = self._forward(tokens)
        finally:
            for handle in handles:
                handle.remove()
            self.model.train(training)
        if not isinstance(logits, Tensor) or logits.shape[:2] != tokens.shape or logits.ndim != 3:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"a forward pass gives {shape}, not logits [batch, pos, d_vocab] = ({len(tokens)}, "
                f"{tokens.shape[1]}, ...); say with `forward` how tokens become logits"
            )
        return logits[None]


_STREAMS = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out")


def _places(model: nn.Module, at: Mapping[str, str]) -> dict[str, nn.Module]:
    """Hook name -> submodule. The number of layers is that of the submodules with attention weights."""
    for name in at:
        if name not in _HOOKS:
            raise unknown("hook point", name, _HOOKS)
    if "attn.hook_pattern" not in at:
        raise UserError("a model to be probed needs the submodule with its attention weights, as attn.hook_pattern")
    modules = dict(model.named_modules())
    path, layers = at["attn.hook_pattern"], 0
    while path.format(layers) in modules and (layers == 0 or "{}" in path):
        layers += 1
    places: dict[str, nn.Module] = {}
    for layer in range(max(layers, 1)):
        for name, path in at.items():
            if layer and "{}" not in path:
                continue  # a place of the whole model, such as what enters the first layer
            if path.format(layer) not in modules:
                raise unknown("submodule", path.format(layer), [known for known in modules if known])
            places[f"blocks.{layer}.{name}"] = modules[path.format(layer)]
    return places


def _check_output(name: str, at: Mapping[str, str], x: Tensor | None, tokens: Tensor) -> None:
    """Raise `UserError` unless a submodule's output, `[1, batch, ...]`, can be what its hook point means."""
    hook = name.split(".", 2)[2]
    said = f"submodule {at[hook].format(name.split('.')[1])!r} as {hook}"
    if x is None:
        raise UserError(
            f"{said}: it is not called in a forward pass (fused attention, for one, computes no weights to be read)"
        )
    batch, pos = tokens.shape
    if hook in ("attn.hook_pattern", "attn.hook_attn_scores"):
        fits, wanted = x.ndim == 5 and x.shape[3:] == (pos, pos), "[batch, head, query, key]"
    elif hook in ("attn.hook_z", "attn.hook_q", "attn.hook_k", "attn.hook_v"):
        fits, wanted = x.ndim == 5 and x.shape[2] == pos, "[batch, pos, head, d_head]"
    else:
        fits, wanted = x.ndim == 4 and x.shape[2] == pos, "[batch, pos, width]"
    if not fits or x.shape[1] != batch:
        raise UserError(f"{said}: its output has shape {tuple(x.shape[1:])}, but this is {wanted}")
    if hook == "attn.hook_pattern" and not bool(((x >= 0) & (x <= 1)).all()):
        raise UserError(f"{said}: its output is not between 0 and 1, so it holds no attention weights")


def _as_forward_hook(name: str, tap: Tap) -> Callable[..., Any]:
    def hook(module: nn.Module, given: Any, out: Any) -> Any:
        del module, given
        if isinstance(out, tuple):  # as of blocks that also return a cache
            return (tap(name, out[0][None])[0], *out[1:])
        return tap(name, out[None])[0]

    return hook
