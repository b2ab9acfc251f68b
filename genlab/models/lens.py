"""A model as TransformerLens users know one: a `HookedRootModule` with `cfg`, `run_with_cache` and hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.config import TransformerLensConfig
from transformer_lens.hook_points import HookPoint

from genlab.errors import UserError, unknown
from genlab.models.kinds import count, shapes, views
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig

POSITIONS = {"learned": "standard", "sinusoidal": "standard", "rotary": "rotary", "alibi": "alibi"}
"""Our position encodings -> TransformerLens's word, where it has one."""


def as_hooked(model: Transformer, vocab: Sequence[str] = (), run: int = 0) -> HookedModel:
    """One run of a stack as a module of TransformerLens, in evaluation mode (its analyses ask for that); copied.

    Args:
        vocab: token strings by id (`task.vocab.tokens`), so that `to_tokens` reads text.

    >>> from genlab.models import initial
    >>> cfg = ModelConfig(d_vocab=5, n_ctx=8, n_layers=1, d_model=8, n_heads=2)
    >>> hooked = as_hooked(Transformer(cfg, initial(cfg, [0])), vocab=("<pad>", "<end>", ">", "0", "1"))
    >>> logits, cache = hooked.run_with_cache("0 1 1 >")
    >>> tuple(logits.shape), tuple(cache["pattern", 0].shape)
    ((1, 4, 5), (1, 2, 4, 4))
    """
    if not isinstance(model, Transformer):
        raise UserError(f"a {type(model).__name__} is no transformer: it has no hook points of TransformerLens")
    if model.cfg.loop_growth:
        raise UserError("the loops of this model grow with the length, so that it has no fixed list of hook points")
    if not 0 <= run < model.n_runs:
        raise UserError(f"run {run} of a stack of {model.n_runs} (allowed: 0 to {model.n_runs - 1})")
    return HookedModel(model.cfg, model.flat[run].detach().clone(), tuple(vocab)).eval()


class HookedModel(HookedRootModule):
    """A model of ours behind TransformerLens's interface.

    Attributes:
        cfg: a `TransformerLensConfig`.
        shape: the `ModelConfig` that it came from.
        weight: float[params], all weights; `state_dict` holds this alone, and `load_state_dict` takes it back.
    """

    def __init__(self, shape: ModelConfig, weight: Float[Tensor, " params"], vocab: tuple[str, ...] = ()):
        super().__init__()
        self.shape, self.vocab = shape, vocab
        self.weight = nn.Parameter(weight)
        self.cfg = _lens_config(shape, weight)
        self.blocks = nn.ModuleList(_Block(self, i % shape.n_layers) for i in range(self.cfg.n_layers))
        for name in _hook_names(self.model):
            _put(self, name, HookPoint())
        self.setup()

    @property
    def model(self) -> Transformer:
        """The stack of one that computes, reading `weight`."""
        return Transformer(self.shape, self.weight[None])

    def forward(
        self,
        tokens: Tensor | str | Sequence[str],
        return_type: Literal["logits", "loss"] | None = "logits",
        offsets: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor | None:
        """Logits `[batch, pos, d_vocab]`, or the mean loss of next tokens.

        Args:
            offsets: int[batch], the position of each example's first token (default: 0).
            position_ids: int[batch, pos], where positions are the task's own or random ones.
        """
        ids = self.to_tokens(tokens).to(self.weight.device)
        places = offsets if position_ids is None else position_ids
        logits = self.model(ids[None], None if places is None else places[None], tap=self._at_hooks)[0]
        if return_type == "loss":
            return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return logits if return_type == "logits" else None

    def _at_hooks(self, name: str, x: Tensor) -> Tensor:
        return self.hook_dict[name](x[0])[None]

    def run_with_cache(  # pyright: ignore[reportIncompatibleMethodOverride] (it names what is swallowed there)
        self, tokens: Tensor | str | Sequence[str], return_cache_object: bool = True, **options: Any
    ) -> tuple[Any, Any]:
        """Output and `ActivationCache` (a plain dict if not `return_cache_object`); options as in TransformerLens."""
        without_batch = bool(options.pop("remove_batch_dim", False))
        out, cache = super().run_with_cache(self.to_tokens(tokens), **options)
        if not return_cache_object:
            return out, {k: v[0] for k, v in cache.items()} if without_batch else cache
        made = ActivationCache(cache, self)
        return out, made.remove_batch_dim() if without_batch else made

    def to_tokens(self, text: Tensor | str | Sequence[str], prepend_bos: bool = False) -> Tensor:
        """Ids `[batch, pos]` of a text of tokens apart by spaces, or of several of one length.

        Raises:
            UserError: a token that is not in the vocabulary, or texts of different lengths.
        """
        del prepend_bos  # there is no such token here
        if isinstance(text, Tensor):
            return text if text.ndim == 2 else text[None]
        rows = [self._ids(one) for one in ([text] if isinstance(text, str) else text)]
        if len({len(row) for row in rows}) != 1:
            raise UserError(f"texts of {sorted({len(row) for row in rows})} tokens do not make one batch")
        return torch.tensor(rows)

    def _ids(self, text: str) -> list[int]:
        names = self.vocab or tuple(map(str, range(self.shape.d_vocab)))
        places = {token: i for i, token in enumerate(names)}
        for word in text.split():
            if word not in places:
                raise unknown("token", word, names)
        return [places[word] for word in text.split()]

    # -- weights under TransformerLens's names -----------------------------------------------------------------

    def _stack(self, of: Callable[[_Attention], Tensor]) -> Tensor:
        return torch.stack([of(block.attn) for block in self.blocks])  # pyright: ignore[reportArgumentType]

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


class _Attention(nn.Module):
    """The hook points of a layer's attention, and its weights by head."""

    def __init__(self, root: HookedModel, layer: int):
        super().__init__()
        self._root, self._layer = (root,), layer  # in a tuple, or torch would take it for a child

    def _one(self, which: int) -> Tensor:
        shape = self._root[0].shape
        qkv = self._root[0].model.params[f"blocks.{self._layer}.attn.W_QKV"][0]
        return qkv.unflatten(-1, (3, shape.n_heads, shape.d_head))[:, which].transpose(0, 1)

    @property
    def W_Q(self) -> Tensor:
        return self._one(0)

    @property
    def W_K(self) -> Tensor:
        return self._one(1)

    @property
    def W_V(self) -> Tensor:
        return self._one(2)

    @property
    def W_O(self) -> Tensor:
        shape = self._root[0].shape
        joined = self._root[0].model.params[f"blocks.{self._layer}.attn.W_O"][0]
        return joined.unflatten(0, (shape.n_heads, shape.d_head))


class _Block(nn.Module):
    """The hook points of a layer."""

    def __init__(self, root: HookedModel, layer: int):
        super().__init__()
        self.attn = _Attention(root, layer)


def _hook_names(model: Transformer) -> list[str]:
    """The names that a forward pass calls its tap with, in order."""
    names: dict[str, None] = {}

    def note(name: str, x: Tensor) -> Tensor:
        names[name] = None
        return x

    with torch.no_grad():
        zero = torch.zeros(1, 1, 1, dtype=torch.int64, device=model.flat.device)
        model(zero, zero if model.cfg.needs_ids else None, tap=note)
    return list(names)


def _put(root: nn.Module, name: str, point: HookPoint) -> None:
    """Hang a hook point where its dotted name says."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        child = root._modules[part]
        assert child is not None
        root = child
    root.add_module(last, point)


def _lens_config(cfg: ModelConfig, weight: Tensor) -> TransformerLensConfig:
    return TransformerLensConfig(
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        n_layers=cfg.n_layers * cfg.loops,
        n_ctx=cfg.n_ctx,
        n_heads=cfg.n_heads,
        d_mlp=cfg.d_mlp or None,
        d_vocab=cfg.d_vocab,
        device=str(weight.device),
        dtype=weight.dtype,
        attn_only=cfg.attn_only,
        act_fn=cfg.act_fn,
        eps=1e-5,
        normalization_type={"LN": "LN", "RMS": "RMS", "none": None}[cfg.normalization_type],
        uses_rms_norm=cfg.normalization_type == "RMS",
        positional_embedding_type=POSITIONS.get(cfg.positions, cfg.positions),
        default_prepend_bos=False,
    )


# -- A model as a `TransformerBridge` of TransformerLens with equal logits, where it can be one; and back

_POSITIONS = {"learned": "standard", "sinusoidal": "standard", "none": "standard", "rotary": "rotary"}
"""Sinusoids stand in its table of positions, and no positions are a table of zeros."""
_NORMS = {"LN": "LN", "RMS": "RMS", "none": None}
"""Any other string would be taken for LN there without a word."""


def why_not(cfg: ModelConfig) -> list[str]:
    """Why a configuration has no `TransformerBridge`: every reason, none if it has one."""
    reasons = []
    if cfg.positions not in _POSITIONS:
        reasons.append(f"positions {cfg.positions!r} (it has learned, sinusoidal, none and rotary)")
    if cfg.attn_weights != "softmax":
        reasons.append(f"attention weights {cfg.attn_weights!r} (it has softmax)")
    if cfg.attn_temperature != 1:
        reasons.append(f"an attention temperature of {cfg.attn_temperature} (it has 1)")
    if cfg.loops > 1 or cfg.loop_growth:
        reasons.append("blocks that are applied several times")
    if cfg.random_positions:
        reasons.append("random positions")
    if not cfg.final_norm and cfg.normalization_type != "none":
        reasons.append("no final norm (it always has one)")
    if cfg.n_layers == 0:
        reasons.append("no layers")
    return reasons


def to_bridge(model: Transformer, run: int = 0) -> Any:
    """One run of a stack as a `TransformerBridge` with the same weights, in evaluation mode.

    Raises:
        UserError: it cannot represent the configuration; says each reason.
    """
    if not isinstance(model, Transformer):
        raise UserError(f"a {type(model).__name__} is no transformer: TransformerLens has nothing like it")
    cfg = model.cfg
    if reasons := why_not(cfg):
        raise UserError(f"no TransformerBridge can be this model: {'; '.join(reasons)}; as_hooked takes any")
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_native(  # pyright: ignore[reportAttributeAccessIssue] (bound at import)
        TransformerBridgeConfig(
            d_model=cfg.d_model,
            d_head=cfg.d_head,
            n_heads=cfg.n_heads,
            n_layers=cfg.n_layers,
            n_ctx=cfg.n_ctx,
            d_vocab=cfg.d_vocab,
            d_mlp=cfg.d_mlp or None,
            act_fn=cfg.act_fn,
            attn_only=cfg.attn_only,
            normalization_type=_NORMS[cfg.normalization_type],
            positional_embedding_type=_POSITIONS[cfg.positions],
            default_prepend_bos=False,
            seed=0,
        ),
        dtype=model.flat.dtype,
    )
    weights = {name: weight[run] for name, weight in model.params.items()}
    native = bridge.original_model
    if "unembed.b_U" in weights:
        _head(native).bias = nn.Parameter(torch.zeros_like(weights["unembed.b_U"]))
    theirs = _named(native)
    with torch.no_grad():
        for weight in theirs.values():
            weight.zero_()
        for name, columns, place in _places(cfg):
            theirs[place].copy_(_their(weights[name][..., columns], name))
        if cfg.positions == "sinusoidal":
            ids = torch.arange(cfg.n_ctx, device=model.flat.device)
            table = model.positions.embedding(model.params, ids)
            assert table is not None
            theirs["pos.weight"].copy_(table)
        if cfg.tie_word_embeddings:
            theirs["head.weight"].copy_(weights["embed.W_E"])
    return bridge.eval()


@torch.no_grad()
def from_bridge(cfg: ModelConfig, bridge: Any) -> Transformer:
    """The stack of one whose weights a `TransformerBridge` made by `to_bridge` carries (trained on, perhaps).

    Raises:
        UserError: the bridge has another shape, or tied embeddings that have come apart.
    """
    theirs = _named(bridge.original_model)
    flat = torch.zeros(1, count(cfg), dtype=theirs["tok_embed.weight"].dtype)
    ours = views(flat, cfg)
    for name, columns, place in _places(cfg):
        into = ours[name][0][..., columns]
        if place not in theirs or theirs[place].numel() != into.numel():
            raise UserError(f"this TransformerBridge has no {place!r} of the size of {name!r}: it has another shape")
        into.copy_(_their(theirs[place], name))
    if cfg.tie_word_embeddings and not torch.equal(theirs["head.weight"], theirs["tok_embed.weight"]):
        raise UserError("the embeddings of this TransformerBridge have come apart; the configuration ties them")
    return Transformer(cfg, flat)


def _named(native: nn.Module) -> dict[str, Tensor]:
    """Parameters by the names of the plain module."""
    return {name.replace("_original_component.", ""): p for name, p in native.named_parameters()}


def _head(native: nn.Module) -> nn.Linear:
    found = [m for name, m in native.named_modules() if name.startswith("head") and isinstance(m, nn.Linear)]
    return found[-1]


def _their(weight: Tensor, name: str) -> Tensor:
    """One of our weights as theirs: maps are transposed there, embeddings are not."""
    is_map = weight.ndim == 2 and name not in ("embed.W_E", "pos_embed.W_pos")
    return weight.T if is_map else weight


def _places(cfg: ModelConfig) -> Iterator[tuple[str, slice, str]]:
    """Our name, which of its columns, and their name; queries, keys and values are one matrix here."""
    plain = {"embed.W_E": "tok_embed.weight", "pos_embed.W_pos": "pos.weight"}
    plain |= {"unembed.W_U": "head.weight", "unembed.b_U": "head.bias"}
    ends = {"W": "weight", "b": "bias", "w": "weight"}
    for name in shapes(cfg):
        *path, last = name.split(".")
        place = ".".join(path).replace("blocks.", "layers.").replace("ln_final", "ln_out")
        kind, _, which = last.partition("_")
        if name in plain:
            yield name, slice(None), plain[name]
        elif which == "QKV":
            width = cfg.n_heads * cfg.d_head
            for i, part in enumerate("qkv"):
                yield name, slice(i * width, (i + 1) * width), f"{place}.{part}.{ends[kind]}"
        else:
            part = {"O": ".o", "in": ".fc_in", "out": ".fc_out", "": ""}[which]
            yield name, slice(None), f"{place}{part}.{ends[kind]}"
