"""Signals of models that genlab did not train: any torch module, read at its submodules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import genlab
from genlab.errors import NotApplicable, UserError
from genlab.models import Transformer, initial
from genlab.probes import ProbeInput, chosen, hooked_input, module_input, read
from genlab.probes.model import Stacked
from genlab.probes.probing import values_of
from genlab.tasks import Examples, make

SPEC = genlab.plan("sort", 6, 16, seeds=[0], d_model=16, n_heads=2, start_token=False, offsets="zero").specs[0]
TASK = make(SPEC.task)
EXAMPLES: list[Examples] = [TASK.sample(np.random.default_rng(n), "id", [n] * 8) for n in (3, 6)]


class Attention(nn.Module):
    """Attention as users write it: the weights pass through a dropout."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.scores, self.drop, self.heads = nn.Identity(), nn.Dropout(0.5), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        scores = self.scores((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf))
        z = self.heads((self.drop(scores.softmax(-1)) @ v).transpose(1, 2))
        return self.out(z.flatten(2))


class Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads)
        self.mlp = nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x)), None  # as blocks with a cache do


class GPT(nn.Module):
    def __init__(self, d_vocab: int, n_ctx: int, d_model: int, n_layers: int, n_heads: int):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(d_vocab, d_model), nn.Embedding(n_ctx, d_model)
        self.start = nn.Identity()
        self.layers = nn.ModuleList(Block(d_model, n_heads) for _ in range(n_layers))
        self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, d_vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.start(self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1])))
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(self.norm(x))


AT = {
    "attn.hook_pattern": "layers.{}.attention.drop",
    "attn.hook_attn_scores": "layers.{}.attention.scores",
    "attn.hook_z": "layers.{}.attention.heads",
    "hook_attn_out": "layers.{}.attention",
    "mlp.hook_post": "layers.{}.mlp.1",
    "hook_mlp_out": "layers.{}.mlp",
    "hook_resid_post": "layers.{}",
    "hook_resid_pre": "start",
}


def pair() -> tuple[Transformer, GPT]:
    """A model of ours, and one of plain torch with the same weights."""
    cfg = SPEC.model
    generator = torch.Generator().manual_seed(0)
    ours = Transformer(cfg, initial(cfg, [0]) + 0.2 * torch.randn(initial(cfg, [0]).shape, generator=generator))
    theirs = GPT(cfg.d_vocab, cfg.n_ctx, cfg.d_model, cfg.n_layers, cfg.n_heads)
    names = {"tokens.weight": "embed.W_E", "positions.weight": "pos_embed.W_pos", "norm": "ln_final"}
    parts = {"norm1": "ln1", "norm2": "ln2", "attention.qkv": "attn.QKV", "attention.out": "attn.O"}
    parts |= {"mlp.0": "mlp.in", "mlp.2": "mlp.out"}
    names |= {f"layers.{i}.{own}": f"blocks.{i}.{name}" for i in range(cfg.n_layers) for own, name in parts.items()}
    names |= {"head": "unembed.U"}
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            *path, end = name.split(".")
            module = names.get(name) or names[".".join(path)]
            kind = {"weight": "W", "bias": "b"}[end]
            *above, last = module.split(".")
            if name in names:
                full = module
            elif last.startswith("ln"):
                full = f"{module}.{kind.lower() if kind == 'b' else 'w'}"
            else:
                full = ".".join([*above, f"{kind}_{last}"])
            source = ours.params[full][0]
            weight.copy_(source.T if source.ndim == 2 and name not in names else source)
    return ours, theirs


def given_of(theirs: nn.Module, at: dict[str, str] = AT, **options: Any) -> ProbeInput:
    return module_input(theirs, EXAMPLES, TASK.vocab.tokens, at=at, **{"n_ctx": TASK.n_ctx, **options})


def test_every_signal_is_that_of_the_same_model_of_ours():
    ours, theirs = pair()
    given = given_of(theirs.train())
    same = ProbeInput(Stacked(ours), given.batches, TASK.vocab.tokens)
    tokens = given.batches[0].tokens
    assert torch.allclose(given.model(tokens), ours(tokens[None]), atol=1e-5)
    assert theirs.training  # dropout was off while it was read, and is as it was
    names = [
        "heads",
        "induction",
        "sharpness",
        "confidence",
        "representation",
        "interventions",
        "ablate_*",
        "patch_*",
    ]
    found = read(given, chosen(names))
    wanted = read(same, [one for one in chosen(names) if one.name in found.rows])
    assert len(found.rows) > 35
    for name, rows in found.rows.items():
        values, ours_here = ([row.value for row in of] for of in (rows, wanted.rows[name]))
        assert values == pytest.approx(ours_here, abs=1e-4, rel=1e-3, nan_ok=True), name


def test_what_needs_a_place_that_is_not_named_does_not_apply():
    """Where nothing happens at a missing place, a loss of 0 would read as a head that does nothing."""
    _, theirs = pair()
    given = given_of(theirs, {"attn.hook_pattern": AT["attn.hook_pattern"]})
    names = ["attention_entropy", "ablate_head", "patch_head", "path_patch_keys", "exact_match_at_temperature"]
    reading = read(given, chosen(names))
    for name in names:
        assert "has no hook point blocks.0." in reading.skipped[name], name
    (previous,) = chosen(["previous_token"])
    assert values_of(previous, given)["previous_token"].shape == (1, 2, 2)
    assert given.cfg.attn_only
    with pytest.raises(NotApplicable, match=r"no hook point blocks\.1\.hook_resid_post"):
        given.seen[0].residual(1)


class Fused(GPT):
    """Attention weights are never computed."""

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return self.head(x)


PATTERN = {"attn.hook_pattern": AT["attn.hook_pattern"]}
REFUSED: dict[str, tuple[Callable[[GPT], Any], str]] = {
    "hook": (
        lambda m: given_of(m, {**PATTERN, "attn.hook_paterns": "x"}),
        "unknown hook point 'attn.hook_paterns'",
    ),
    "no-pattern": (lambda m: given_of(m, {"hook_resid_post": "layers.{}"}), "needs the submodule with its attention"),
    "submodule": (
        lambda m: given_of(m, {"attn.hook_pattern": "layers.{}.attention.dropp"}),
        r"unknown submodule 'layers\.0\.attention\.dropp'; did you mean .*'layers\.0\.attention\.drop'",
    ),
    "not-called": (
        lambda m: given_of(Fused(len(TASK.vocab), 40, 16, 2, 2), PATTERN),
        "it is not called in a forward pass",
    ),
    "shape": (
        lambda m: given_of(m, {**PATTERN, "attn.hook_z": "layers.{}"}),
        r"but this is \[batch, pos, head, d_head\]",
    ),
    "no-weights": (lambda m: given_of(m, {"attn.hook_pattern": AT["attn.hook_attn_scores"]}), "not between 0 and 1"),
    "logits": (lambda m: given_of(m, forward=lambda tokens: (m(tokens), None)), "gives tuple, not logits"),
    "examples": (lambda m: module_input(m, [], at=AT), "no examples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line(name: str):
    call, said = REFUSED[name]
    with pytest.raises(UserError, match=said) as raised:
        call(GPT(len(TASK.vocab), TASK.n_ctx, 16, 2, 2))
    assert "\n" not in str(raised.value)


def test_paths_are_patched_in_other_models_too():
    """Into keys, which is a place that hooked models have under TransformerLens's name."""
    pytest.importorskip("transformer_lens")
    from genlab.models import as_hooked

    ours, _ = pair()
    given = hooked_input(as_hooked(ours), EXAMPLES, TASK.vocab.tokens)
    same = ProbeInput(Stacked(ours), given.batches, TASK.vocab.tokens)
    (one,) = chosen(["path_patch_keys"])
    found, wanted = (values_of(one, of)["path_patch_keys"] for of in (given, same))
    assert found == pytest.approx(wanted, abs=1e-5, nan_ok=True)
    assert np.nanmax(np.abs(wanted)) > 1e-3
