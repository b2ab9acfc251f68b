"""Compiled weights made less perfect on purpose: decoys, superposition, a rotated basis, noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from genlab.rasp.compiler.parts import Floats
from genlab.rasp.compiler.weights import Compiled
from genlab.spec import CompileSpec, ModelConfig, build

_STREAM = 0xC0DE
"""First word of every seed here, which keeps these random streams separate from all others."""
_DECOYS, _WIDTH, _ROTATION, _NOISE = range(4)

_WRITES = ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out")
"""Last parts of the names of weights that write into the residual stream."""
_READS = ("W_QKV", "W_in", "W_U")

_SCORE = 2.0
"""Standard deviation of the attention scores of decoys, roughly."""


def imperfect(perfect: Compiled, spec: CompileSpec) -> Compiled:
    """The compiled model with what its spec asks for, in this order: decoys, superposition, rotation, noise."""
    made = perfect
    if spec.decoys:
        made = _with_decoys(made, spec.decoys, _generator(spec, _DECOYS))
    if spec.width:
        made = _with_basis(made, _directions(made.config.d_model, spec.width, _generator(spec, _WIDTH)))
    if spec.rotate:
        made = _with_basis(made, _rotation(made.config.d_model, _generator(spec, _ROTATION)))
    if spec.noise:
        rng = _generator(spec, _NOISE)
        made = replace(made, weights={name: _noisy(w, spec.noise, rng) for name, w in made.weights.items()})
    return made


def _generator(spec: CompileSpec, stream: int) -> np.random.Generator:
    return np.random.default_rng([_STREAM, stream, spec.seed])


def _with_basis(made: Compiled, basis: Floats) -> Compiled:
    """Write every direction of the residual stream as a row of `basis`, and read it by its product with that row.

    With orthonormal rows nothing changes; with more directions than columns they disturb each other (superposition,
    Elhage et al. 2022, arXiv 2209.10652).
    """
    weights: dict[str, Floats] = {}
    for name, weight in made.weights.items():
        last = name.rpartition(".")[2]
        weights[name] = weight @ basis if last in _WRITES else basis.T @ weight if last in _READS else weight
    return replace(made, weights=weights, config=_resized(made.config, d_model=basis.shape[1]))


def _directions(count: int, width: int, rng: np.random.Generator) -> Floats:
    """Unit vectors, one per row: an orthonormal basis, projected to a random subspace if it has fewer dimensions.

    With room for all directions nothing changes; with one dimension less they hardly disturb each other.
    """
    rows = _rotation(max(count, width), rng)[:count, :width]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _rotation(width: int, rng: np.random.Generator) -> Floats:
    """A uniformly distributed rotation or reflection (Mezzadri 2007, arXiv math-ph/0609050)."""
    q, r = np.linalg.qr(rng.standard_normal((width, width)))
    return q * np.sign(np.diag(r))


def _noisy(weight: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """Gaussian noise on every entry, in units of the root mean square of the whole matrix."""
    return weight + noise * np.sqrt(np.mean(weight**2)) * rng.standard_normal(weight.shape)


def _with_decoys(made: Compiled, count: int, rng: np.random.Generator) -> Compiled:
    """Random heads and neurons in each layer: reading all directions, writing into `count` of their own."""
    cfg = made.config
    d, width, heads, k = cfg.d_model, cfg.d_model + count, cfg.n_heads, cfg.d_head
    scale = np.sqrt(_SCORE / len(made.blocks))  # one direction of each block is active at a time
    weights: dict[str, Floats] = {}
    for name, weight in made.weights.items():
        last = name.rpartition(".")[2]
        if last in ("W_E", "W_pos"):
            weight = np.pad(weight, ((0, 0), (0, count)))
        elif last == "W_U":
            weight = np.pad(weight, ((0, count), (0, 0)))
        elif last == "W_QKV":
            old = np.pad(weight.reshape(d, 3, heads, k), ((0, count), (0, 0), (0, 0), (0, 0)))
            new = scale * rng.standard_normal((width, 3, count, k))
            weight = np.concatenate([old, new], axis=2).reshape(width, -1)
        elif last == "W_O":
            weight = _beside(weight, rng.standard_normal((count * k, count)) / np.sqrt(k), count)
        elif last == "W_in":
            new = scale * rng.standard_normal((width, count))
            weight = np.concatenate([np.pad(weight, ((0, count), (0, 0))), new], axis=1)
        elif last == "W_out":
            weight = _beside(weight, rng.standard_normal((count, count)) / np.sqrt(count), count)
        elif last == "b_QKV":
            weight = np.zeros(3 * (heads + count) * k)
        elif last in ("b_in", "b_O", "b_out"):
            weight = np.concatenate([weight, np.zeros(count)])
        weights[name] = weight
    sizes = {"d_model": width, "n_heads": heads + count, "d_mlp": cfg.d_mlp + count}
    return replace(made, weights=weights, config=_resized(cfg, **sizes))


def _beside(weight: Floats, decoys: Floats, count: int) -> Floats:
    """Rows of decoys below those of a matrix, writing only into the last `count` columns."""
    old = np.pad(weight, ((0, 0), (0, count)))
    return np.concatenate([old, np.pad(decoys, ((0, 0), (weight.shape[1], 0)))])


def _resized(cfg: ModelConfig, **sizes: int) -> ModelConfig:
    return build(ModelConfig, {**cfg.model_dump(), **sizes})
