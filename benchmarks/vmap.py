"""The same runs by `jax.vmap` over seeds: what a JAX user would write. Needs `pip install 'genlab[bench]'`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from contenders import Size

from genlab.models import views
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import make
from genlab.training import Stream, fresh
from genlab.training.optimizer import learning_rate

Params = dict[str, jax.Array]


def norm(x: jax.Array, gain: jax.Array, shift: jax.Array) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5) * gain + shift


def logits(p: Params, cfg: ModelConfig, tokens: jax.Array, offsets: jax.Array, first: int) -> jax.Array:
    """One run: `[batch, pos from first on, d_vocab]`."""
    B, T = tokens.shape
    x = p["embed.W_E"][tokens] + p["pos_embed.W_pos"][offsets[:, None] + jnp.arange(T)]
    for i in range(cfg.n_layers):
        b = f"blocks.{i}"
        qkv = norm(x, p[f"{b}.ln1.w"], p[f"{b}.ln1.b"]) @ p[f"{b}.attn.W_QKV"] + p[f"{b}.attn.b_QKV"]
        q, k, v = jnp.moveaxis(qkv.reshape(B, T, 3, cfg.n_heads, cfg.d_head), 2, 0)
        z = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(B, T, -1)
        x = x + z @ p[f"{b}.attn.W_O"] + p[f"{b}.attn.b_O"]
        hidden = norm(x, p[f"{b}.ln2.w"], p[f"{b}.ln2.b"]) @ p[f"{b}.mlp.W_in"] + p[f"{b}.mlp.b_in"]
        x = x + jax.nn.gelu(hidden, approximate=False) @ p[f"{b}.mlp.W_out"] + p[f"{b}.mlp.b_out"]
    x = norm(x[:, first:], p["ln_final.w"], p["ln_final.b"])
    return x @ p["unembed.W_U"] + p["unembed.b_U"]


def stepper(cfg: ModelConfig, train: TrainConfig, first: int) -> Callable[..., Any]:
    """One optimiser step of one run: AdamW with clipping, as the other contenders have it."""
    beta1, beta2 = train.betas

    def loss_of(p: Params, tokens: jax.Array, targets: jax.Array, offsets: jax.Array) -> jax.Array:
        chances = jax.nn.log_softmax(logits(p, cfg, tokens, offsets, first))
        return -jnp.take_along_axis(chances, targets[:, first:, None], axis=-1).mean()

    def step(p: Params, m: Params, v: Params, tokens: jax.Array, targets: jax.Array, offsets: jax.Array, at: Any):
        rate, bias, bias_sq = at
        loss, grads = jax.value_and_grad(loss_of)(p, tokens, targets, offsets)
        total = jnp.sqrt(sum(jnp.sum(g * g) for g in grads.values()))
        grads = {n: g * jnp.minimum(1.0, train.grad_clip / (total + 1e-6)) for n, g in grads.items()}
        m = {n: beta1 * m[n] + (1 - beta1) * g for n, g in grads.items()}
        v = {n: beta2 * v[n] + (1 - beta2) * g * g for n, g in grads.items()}
        decay = {n: train.weight_decay if w.ndim > 1 else 0.0 for n, w in p.items()}
        p = {
            n: w * (1 - rate * decay[n]) - rate / bias * m[n] / (jnp.sqrt(v[n] / bias_sq) + train.eps)
            for n, w in p.items()
        }
        return p, m, v, loss

    return step


def vmap_step(seed: int, size: Size, runs: int = 16) -> Callable[[], float]:
    """A step of all runs at once; gives the loss of the first."""
    specs = [size.spec(seed + i) for i in range(runs)]
    cfg, train, task = specs[0].model, specs[0].train, make(specs[0].task)
    flat = np.stack([state.weights.numpy() for state in fresh(specs)])
    import torch

    p = {name: jnp.asarray(w.numpy()) for name, w in views(torch.from_numpy(flat), cfg).items()}
    state = [p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p)]
    streams, done = [Stream(task, spec.train) for spec in specs], [0]
    first = int(streams[0].batch(0).scored[0].argmax())
    step = jax.jit(jax.vmap(stepper(cfg, train, first), in_axes=(0,) * 6 + (None,)), donate_argnums=(0, 1, 2))

    def take() -> float:
        batches = [stream.batch(done[0]) for stream in streams]
        offsets = np.stack([s.offsets(done[0], b) for s, b in zip(streams, batches, strict=True)])
        tokens, targets = (np.stack([getattr(b, name) for b in batches]) for name in ("tokens", "targets"))
        powers = [1 - beta ** (done[0] + 1) for beta in train.betas]
        at = (learning_rate(train, done[0]), *powers)
        *state[:], loss = step(*state, tokens, targets, offsets, at)
        done[0] += 1
        found = float(loss[0])  # waits for the step
        return found if done[0] == 1 else math.nan

    return take
