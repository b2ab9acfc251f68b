"""TransformerLens 2 to 4: a run as our module with its interface. `lens_own` makes its own models of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
import transformer_lens
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint

try:
    from transformer_lens import HookedRootModule
except ImportError:  # before 3
    from transformer_lens.hook_points import HookedRootModule

from genlab.errors import UserError, unknown
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig

VERSION = version("transformer-lens")
BRIDGES = int(VERSION.partition(".")[0]) >= 4
"""Whether TransformerLens's own models are bridges; before 4 they are `HookedTransformer`s."""

LENS: Any = transformer_lens  # its names depend on its version
LensConfig: Any = LENS.config.TransformerLensConfig if BRIDGES else LENS.HookedTransformerConfig

POSITIONS = {"learned": "standard", "sinusoidal": "standard", "rotary": "rotary", "alibi": "alibi"}
"""Our position encodings -> TransformerLens's name, where it has one."""


def as_hooked(model: Transformer, vocab: Sequence[str] = (), run: int = 0) -> HookedModel:
    """Wrap one run of a stack as a TransformerLens module, in evaluation mode, with a copy of its weights.

    Args:
        model: a stack of transformers.
        vocab: token strings by id (`task.vocab.tokens`), so that `to_tokens` can read text.
        run: index of the run in the stack.

    Raises:
        UserError: the model is not a transformer or has no fixed number of layers, or there is no such run.

    >>> from genlab.models import initial
    >>> cfg = ModelConfig(d_vocab=5, n_ctx=8, n_layers=1, d_model=8, n_heads=2)
    >>> hooked = as_hooked(Transformer(cfg, initial(cfg, [0])), vocab=("<pad>", "<end>", ">", "0", "1"))
    >>> logits, cache = hooked.run_with_cache("0 1 1 >")
    >>> tuple(logits.shape), tuple(cache["pattern", 0].shape)
    ((1, 4, 5), (1, 2, 4, 4))
    """
    if not isinstance(model, Transformer):
        raise UserError(f"{type(model).__name__} is not a transformer: it has no TransformerLens hook points")
    if model.cfg.loop_growth:
        raise UserError("the number of loops of this model grows with the input length: it has no fixed hook points")
    if not 0 <= run < model.n_runs:
        raise UserError(f"no run {run} in a stack of {model.n_runs} (allowed: 0 to {model.n_runs - 1})")
    return HookedModel(model.cfg, model.flat[run].detach().clone(), tuple(vocab)).eval()


class HookedModel(HookedRootModule):
    """A genlab transformer with TransformerLens's interface.

    Attributes:
        cfg: a `TransformerLensConfig`; before TransformerLens 4 a `HookedTransformerConfig`.
        shape: the `ModelConfig` of the wrapped model.
        weight: float[params], all weights, the only entry of `state_dict`.
    """

    def __init__(self, shape: ModelConfig, weight: Float[Tensor, " params"], vocab: tuple[str, ...] = ()):
        super().__init__()
        self.shape, self.vocab = shape, vocab
        self.weight = nn.Parameter(weight)
        self.cfg = _lens_config(shape, weight)
        self.blocks = nn.ModuleList(_Block(self, i % shape.n_layers) for i in range(self.cfg.n_layers))
        self.ln_final = _Map(lambda x: self.model.before_unembedding(x[None])[0])
        self.unembed = _Map(lambda x: x @ self.W_U + self.b_U)
        for name in _hook_names(self.model):
            _add_hook_point(self, name, HookPoint())
        self.setup()

    @property
    def model(self) -> Transformer:
        """A stack of one that reads `weight`."""
        return Transformer(self.shape, self.weight[None])

    def forward(
        self,
        tokens: Tensor | str | Sequence[str],
        return_type: str | None = "logits",
        offsets: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        loss_per_token: bool = False,
        stop_at_layer: int | None = None,
    ) -> Any:
        """Logits `[batch, pos, d_vocab]`, the mean next-token loss, both as a pair, or None.

        Args:
            tokens: ids `[batch, pos]` or `[pos]`, or text (see `to_tokens`).
            return_type: `logits`, `loss`, `both`, or None to run the hooks only.
            offsets: int[batch], the position of each example's first token (default: 0).
            position_ids: int[batch, pos], for models whose positions are random or given by the task.
            loss_per_token: the loss of each next token instead, `[batch, pos - 1]`.
            stop_at_layer: run the blocks before this one only, and return the residual stream that enters it,
                `[batch, pos, d_model]`; -1 is the last block, the number of blocks runs them all.

        Raises:
            UserError: an unknown return type, or no such layer.
        """
        if return_type not in _RETURN_TYPES:
            raise unknown("return_type", str(return_type), map(str, _RETURN_TYPES))
        ids = self.to_tokens(tokens).to(self.weight.device)
        positions = offsets if position_ids is None else position_ids
        given = None if positions is None else positions[None]
        if stop_at_layer is not None:
            return self._residual_before(self._layer(stop_at_layer), ids, given)
        logits = self.model(ids[None], given, tap=self._call_hook)[0]
        if return_type in ("logits", None):
            return logits if return_type else None
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = loss.view(len(ids), -1) if loss_per_token else loss.mean()
        return loss if return_type == "loss" else (logits, loss)

    def _call_hook(self, name: str, x: Tensor) -> Tensor:
        return self.hook_dict[name](x[0])[None]

    def _layer(self, index: int) -> int:
        count = self.cfg.n_layers
        if not count or not -count <= index <= count:
            raise UserError(f"stop_at_layer {index} is not allowed: the model has {count} layers")
        return index % count if index < count else count

    def _residual_before(self, layer: int, ids: Tensor, positions: Tensor | None) -> Tensor:
        """The residual stream that enters a block, or leaves the last one; nothing is computed after it."""
        entry = f"blocks.{layer}.hook_resid_pre"
        end = f"blocks.{self.cfg.n_layers - 1}.hook_resid_post" if layer == self.cfg.n_layers else ""

        def tap(name: str, x: Tensor) -> Tensor:
            if name == entry:  # the hooks of a block that does not run are not called
                raise _Reached(x[0])
            x = self._call_hook(name, x)
            if name == end:
                raise _Reached(x[0])
            return x

        try:
            self.model(ids[None], positions, tap=tap)
        except _Reached as reached:
            return reached.residual
        raise AssertionError(f"{entry} was not reached")

    # -- Names of hook points are checked: TransformerLens takes an unknown one for a filter that nothing passes

    def _check_names(self, names: object) -> None:
        for name in [names] if isinstance(names, str) else names if isinstance(names, list) else ():
            if isinstance(name, str) and name not in self.hook_dict:
                raise unknown("hook point", name, self.hook_dict, "model.hook_dict")

    def get_caching_hooks(self, names_filter: Any = None, *args: Any, **options: Any) -> Any:
        """As in TransformerLens. Raises `UserError` for a name that is not a hook point, with the nearest one."""
        self._check_names(names_filter)
        return super().get_caching_hooks(names_filter, *args, **options)

    def add_caching_hooks(self, names_filter: Any = None, *args: Any, **options: Any) -> Any:
        """As in TransformerLens. Raises `UserError` for a name that is not a hook point, with the nearest one."""
        self._check_names(names_filter)
        return super().add_caching_hooks(names_filter, *args, **options)

    def add_hook(self, name: Any, *args: Any, **options: Any) -> None:
        """As in TransformerLens. Raises `UserError` for a name that is not a hook point, with the nearest one."""
        self._check_names(name)
        super().add_hook(name, *args, **options)

    def hooks(self, fwd_hooks: Any = (), bwd_hooks: Any = (), *args: Any, **options: Any) -> Any:
        """As in TransformerLens. Raises `UserError` for a name that is not a hook point, with the nearest one."""
        self._check_names([name for name, _ in [*fwd_hooks, *bwd_hooks]])
        return super().hooks(list(fwd_hooks), list(bwd_hooks), *args, **options)

    def run_with_cache(  # pyright: ignore[reportIncompatibleMethodOverride] (the base class takes *args here)
        self, tokens: Tensor | str | Sequence[str], return_cache_object: bool = True, **options: Any
    ) -> tuple[Any, Any]:
        """Output and `ActivationCache` (a dict if not `return_cache_object`); other options as in TransformerLens."""
        without_batch = bool(options.pop("remove_batch_dim", False))
        out, cache = super().run_with_cache(self.to_tokens(tokens), **options)
        if not return_cache_object:
            return out, {k: v[0] for k, v in cache.items()} if without_batch else cache
        activations = ActivationCache(cache, self)
        return out, activations.remove_batch_dim() if without_batch else activations

    def to_tokens(self, text: Tensor | str | Sequence[str], prepend_bos: bool = False) -> Tensor:
        """Ids `[batch, pos]` of a string of space-separated tokens, or of several strings of equal length.

        Raises:
            UserError: a token is not in the vocabulary, or the strings differ in length.
        """
        del prepend_bos  # our vocabularies have no BOS token
        if isinstance(text, Tensor):
            return text if text.ndim == 2 else text[None]
        rows = [self._ids(one) for one in ([text] if isinstance(text, str) else text)]
        if len({len(row) for row in rows}) != 1:
            raise UserError(f"strings of {sorted({len(row) for row in rows})} tokens cannot form one batch")
        return torch.tensor(rows)

    def to_single_token(self, text: str) -> int:
        """The id of a token. Raises `UserError` if the text is not exactly one token."""
        ids = self._ids(text)
        if len(ids) != 1:
            raise UserError(f"{text!r} is {len(ids)} tokens, not one")
        return ids[0]

    def tokens_to_residual_directions(self, tokens: Tensor | str | int) -> Tensor:
        """What each token's logit reads from the final residual stream, once that is centered and scaled.

        That is the token's column of W_U times the gain of the final norm: our weights are not folded.

        Args:
            tokens: a token, or ids of any shape.

        Returns:
            The shape of `tokens` (none for one token), then d_model.
        """
        if isinstance(tokens, str):
            tokens = self.to_single_token(tokens)
        if isinstance(tokens, Tensor) and tokens.numel() == 1:
            tokens = int(tokens)
        directions = self.W_U.T[tokens]
        gain = self.model.params.get("ln_final.w")
        return directions if gain is None else directions * gain[0]

    def accumulated_bias(self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True) -> Tensor:
        """The sum of the biases that sublayers before `layer` add to the residual stream, `[d_model]`.

        Args:
            layer: blocks before this one count.
            mlp_input: the attention of block `layer` counts, too.
            include_mlp_biases: whether those of the MLPs count.
        """
        params, total = self.model.params, self.weight.new_zeros(self.cfg.d_model)
        for i in range(layer + mlp_input):
            block = f"blocks.{i % self.shape.n_layers}"
            names = [f"{block}.attn.b_O"] + [f"{block}.mlp.b_out"] * (include_mlp_biases and i < layer)
            total = total + sum(params[name][0] for name in names if name in params)
        return total

    def _ids(self, text: str) -> list[int]:
        names = self.vocab or tuple(map(str, range(self.shape.d_vocab)))
        ids = {token: i for i, token in enumerate(names)}
        for word in text.split():
            if word not in ids:
                raise unknown("token", word, names)
        return [ids[word] for word in text.split()]

    # -- Weights under TransformerLens's names

    def _stack(self, weight: Callable[[_Attention], Tensor]) -> Tensor:
        return torch.stack([weight(block.attn) for block in self.blocks])  # pyright: ignore[reportArgumentType]

    @property
    def W_Q(self) -> Tensor:
        """[layer, head, d_model, d_head]"""
        return self._stack(lambda attn: attn.W_Q)

    @property
    def W_K(self) -> Tensor:
        """[layer, head, d_model, d_head]"""
        return self._stack(lambda attn: attn.W_K)

    @property
    def W_V(self) -> Tensor:
        """[layer, head, d_model, d_head]"""
        return self._stack(lambda attn: attn.W_V)

    @property
    def W_O(self) -> Tensor:
        """[layer, head, d_head, d_model]"""
        return self._stack(lambda attn: attn.W_O)

    @property
    def W_E(self) -> Tensor:
        """[d_vocab, d_model]"""
        return self.model.params["embed.W_E"][0]

    @property
    def W_U(self) -> Tensor:
        """[d_model, d_vocab]"""
        return self.W_E.T if self.shape.tie_word_embeddings else self.model.params["unembed.W_U"][0]

    @property
    def b_U(self) -> Tensor:
        """[d_vocab]; zero if the unembedding has no bias."""
        return self.model.unembedding()[1][0]


_RETURN_TYPES = ("logits", "loss", "both", None)


class _Reached(Exception):
    """A forward pass came to where it was to stop."""

    def __init__(self, residual: Tensor):
        super().__init__()
        self.residual = residual


class _Map(nn.Module):
    """A part of the forward pass as a module: TransformerLens's tools call it."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)


class _Attention(nn.Module):
    """The hook points of one layer's attention, and its weights per head."""

    def __init__(self, root: HookedModel, layer: int):
        super().__init__()
        self._root, self._layer = (root,), layer  # in a tuple, so that torch does not register it as a submodule

    def _qkv(self, which: int) -> Tensor:
        shape = self._root[0].shape
        qkv = self._root[0].model.params[f"blocks.{self._layer}.attn.W_QKV"][0]
        return qkv.unflatten(-1, (3, shape.n_heads, shape.d_head))[:, which].transpose(0, 1)

    @property
    def W_Q(self) -> Tensor:
        return self._qkv(0)

    @property
    def W_K(self) -> Tensor:
        return self._qkv(1)

    @property
    def W_V(self) -> Tensor:
        return self._qkv(2)

    @property
    def W_O(self) -> Tensor:
        shape = self._root[0].shape
        joined = self._root[0].model.params[f"blocks.{self._layer}.attn.W_O"][0]
        return joined.unflatten(0, (shape.n_heads, shape.d_head))


class _MLP(nn.Module):
    """The hook points of one layer's MLP, and its output weights, which TransformerLens's tools read."""

    def __init__(self, root: HookedModel, layer: int):
        super().__init__()
        self._root, self._layer = (root,), layer

    @property
    def W_out(self) -> Tensor:
        """[d_mlp, d_model]"""
        return self._root[0].model.params[f"blocks.{self._layer}.mlp.W_out"][0]


class _Block(nn.Module):
    """The hook points of one layer."""

    hook_out_is_single_residual_stream = True  # what TransformerLens's logit lens asks of a block

    def __init__(self, root: HookedModel, layer: int):
        super().__init__()
        self.attn = _Attention(root, layer)
        if not root.shape.attn_only:
            self.mlp = _MLP(root, layer)


def _hook_names(model: Transformer) -> list[str]:
    """The hook names of a forward pass, in order."""
    names: dict[str, None] = {}

    def record(name: str, x: Tensor) -> Tensor:
        names[name] = None
        return x

    with torch.no_grad():
        zero = torch.zeros(1, 1, 1, dtype=torch.int64, device=model.flat.device)
        model(zero, zero if model.cfg.needs_ids else None, tap=record)
    return list(names)


def _add_hook_point(root: nn.Module, name: str, point: HookPoint) -> None:
    """Add a hook point under its dotted name."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        child = root._modules[part]
        assert child is not None
        root = child
    root.add_module(last, point)


def _lens_config(cfg: ModelConfig, weight: Tensor) -> Any:
    return LensConfig(
        n_layers=cfg.n_layers * cfg.loops,
        device=str(weight.device),
        dtype=weight.dtype,
        eps=1e-5,
        positional_embedding_type=POSITIONS.get(cfg.positions, cfg.positions),
        **shared_config(cfg),
        **({"uses_rms_norm": cfg.normalization_type == "RMS"} if BRIDGES else {}),
    )


def shared_config(cfg: ModelConfig) -> dict[str, Any]:
    """The entries that are the same in all of TransformerLens's configurations."""
    return {
        "d_model": cfg.d_model,
        "d_head": cfg.d_head,
        "n_heads": cfg.n_heads,
        "n_ctx": cfg.n_ctx,
        "d_vocab": cfg.d_vocab,
        "d_mlp": cfg.d_mlp or None,
        "attn_only": cfg.attn_only,
        "act_fn": cfg.act_fn,
        # Explicit, because TransformerLens silently treats any other string as LN.
        "normalization_type": {"LN": "LN", "RMS": "RMS", "none": None}[cfg.normalization_type],
        "default_prepend_bos": False,
    }
