"""Figures of model internals for notebooks. Each function returns a matplotlib figure with a single color scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genlab.errors import UserError
from genlab.models import Transformer
from genlab.probes.inputs import ProbeInput, Seen, placed_batch
from genlab.probes.model import Stacked
from genlab.runs.store import Store
from genlab.tasks import TrainingLaw, make, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAP, _INK = "viridis", "#1b4965"


def attention(given: ProbeInput, row: int = 0, batch: int = -1) -> Figure:
    """Attention patterns of all heads of the first run on one example, with tokens on both axes."""
    seen = given.seen[batch]
    count = int(seen.batch.real[row].sum())
    tokens = [given.vocab[i] for i in seen.batch.tokens[row, :count].tolist()]
    layers, heads = given.cfg.n_layers, given.cfg.n_heads
    figure, axes = _grid(layers, heads, size=1.1 + 0.16 * count)
    for layer in range(layers):
        for head in range(heads):
            axis = axes[layer][head]
            pattern = seen.pattern(layer)[0, row, head, :count, :count].cpu().numpy()
            axis.imshow(pattern, vmin=0, vmax=1, cmap=_MAP, interpolation="nearest")
            axis.set_title(f"layer {layer} head {head}", fontsize=9)
            axis.set_xticks(range(count), tokens, fontsize=7)
            for label, token in zip(axis.get_xticklabels(), tokens, strict=True):
                label.set_rotation(90 if len(token) > 2 else 0)  # a rotated bracket would look like another symbol
            axis.set_yticks(range(count), tokens, fontsize=7)
    _label(axes, "key", "query")
    _bar(figure, axes, "attention weight")
    return figure


def by_head(scores: Mapping[str, np.ndarray], title: str, low: float = 0.0, high: float = 1.0) -> Figure:
    """Several values per head, `[layer, head]`, side by side on one color scale, with the numbers written in."""
    figure, axes = _grid(1, len(scores), size=2.6)
    for axis, (name, values) in zip(axes[0], scores.items(), strict=True):
        axis.imshow(values, vmin=low, vmax=high, cmap=_MAP, aspect="auto", interpolation="nearest")
        for layer, head in np.ndindex(values.shape):
            bright = values[layer, head] > (low + high) / 2
            shown = "-" if np.isnan(values[layer, head]) else f"{values[layer, head]:.2f}"
            axis.text(head, layer, shown, ha="center", va="center", fontsize=8, color="black" if bright else "white")
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(values.shape[1]))
        axis.set_yticks(range(values.shape[0]))
    _label(axes, "head", "layer")
    figure.suptitle(title, fontsize=11)
    _bar(figure, axes, "value")
    return figure


def curves(x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, title: str) -> Figure:
    """Lines over a common x axis, with a legend."""
    figure, axes = _grid(1, 1, size=3.4, wide=5.6)
    axis = axes[0][0]
    for name, values in lines.items():
        axis.plot(x, values, marker="o", ms=3.5, lw=1.6, label=name)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.set_title(title, fontsize=11, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def bars(values: Mapping[str, float], ylabel: str, title: str) -> Figure:
    """One bar per name."""
    figure, axes = _grid(1, 1, size=3.2, wide=1.2 + 0.55 * len(values))
    axis = axes[0][0]
    axis.bar(range(len(values)), list(values.values()), color=_INK)
    axis.set_xticks(range(len(values)), list(values), fontsize=8, rotation=90)
    axis.axhline(0, color="black", lw=0.8)
    axis.set_ylabel(ylabel)
    axis.set_title(title, fontsize=11, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def weights_by_depth(given: ProbeInput, layer: int, head: int, batch: int | None = None) -> Figure:
    """Attention from `>` to each bracket against the depth after it, colored by the sign of the final depth.

    Args:
        given: the probe input.
        layer, head: the head.
        batch: index of the batch; by default the one with the most examples.
    """
    from genlab.probes.families.brackets import depths

    seen: Seen = given.seen[given.commonest if batch is None else batch]
    depth, bracket = depths(seen.batch, given.vocab)
    rows = torch.arange(len(depth))
    end = (seen.batch.tokens == 2).long().argmax(1)
    weights = seen.pattern(layer)[0, rows, head, end]
    figure, axes = _grid(1, 1, size=3.6, wide=5.6)
    axis = axes[0][0]
    for name, among, color in (
        ("final depth < 0", depth[rows, end] < 0, "#b3541e"),
        ("final depth 0 or more", depth[rows, end] >= 0, _INK),
    ):
        selected = bracket & among[:, None]
        jitter = torch.rand(int(selected.sum()), generator=torch.Generator().manual_seed(0)) * 0.4 - 0.2
        axis.scatter(depth[selected] + jitter, weights[selected], s=6, alpha=0.4, color=color, label=name, lw=0)
    axis.axvline(-0.5, color="black", lw=0.8, ls="--")
    axis.locator_params(axis="x", integer=True)
    axis.set_xlabel("depth after the bracket")
    axis.set_ylabel("attention weight from >")
    axis.set_title(f"layer {layer} head {head}", fontsize=11, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    return figure


def _grid(rows: int, columns: int, size: float, wide: float = 0.0) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=((wide or size) * columns + 0.8, size * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def _label(axes: list[list[Axes]], xlabel: str, ylabel: str) -> None:
    for axis in axes[-1]:
        axis.set_xlabel(xlabel, fontsize=8)
    for row in axes:
        row[0].set_ylabel(ylabel, fontsize=8)


def _bar(figure: Figure, axes: list[list[Axes]], label: str) -> None:
    flat = [axis for row in axes for axis in row]
    figure.colorbar(flat[-1].images[0], ax=flat, fraction=0.02, pad=0.02).set_label(label, fontsize=8)


# -- Attention over increasing length: the largest weights, one panel per length

TOP, PANELS, EXAMPLES = 16, 6, 64
_DRAWN = 13


def draw_attention(store: Store, run: str, path: Path, step: int | None = None) -> None:
    """Draw a run's attention weights over increasing length, up to the lengths that its context was built for.

    The figure of Velickovic et al. 2024 (arXiv 2410.01104), with one row per head and the mean over the scored
    positions of the examples. Lengths beyond training are for inspection only: no signal reads them.

    Args:
        store: the store of the run.
        run: the run's id.
        path: the image file to write.
        step: the training step whose weights are used (default: the last).

    Raises:
        UserError: the figure cannot be written to the file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels, law, unit = _panels(store, run, step)
    shown = Figure(figsize=(2.2 * len(panels) + 1.4, 0.28 * len(next(iter(panels.values()))[0]) + 1.8))
    FigureCanvasAgg(shown)
    axes = shown.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (length, (heads, weights)) in zip(axes, panels.items(), strict=True):
        axis.imshow(weights, vmin=0, vmax=1, cmap="viridis", aspect="auto", interpolation="nearest")
        beyond = "" if law.trains(length) else "\n(beyond training)"
        axis.set_title(f"{length} {unit}{beyond}", fontsize=9)
        axis.set_xlabel("key, by weight", fontsize=8)
        axis.set_xticks([0, 7, 15], ["1", "8", "16"], fontsize=7)
        axis.set_yticks(range(len(heads)), heads, fontsize=7)
    shown.suptitle(f"attention weights of run {run}, largest {TOP} keys, mean over scored positions", fontsize=10)
    shown.subplots_adjust(left=0.09, right=0.9, top=0.74, bottom=0.2, wspace=0.12)
    bar = shown.colorbar(axes[-1].images[0], ax=list(axes), fraction=0.02, pad=0.015)
    bar.set_label("attention weight", fontsize=8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shown.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"--figure {str(path)!r} cannot be written: {error}") from None


def _panels(
    store: Store, run: str, step: int | None
) -> tuple[dict[int, tuple[list[str], np.ndarray]], TrainingLaw, str]:
    spec = store.spec(run)
    task, train = make(spec.task), spec.train
    model = Stacked(Transformer(spec.model, store.weights([run], step)))
    panels: dict[int, tuple[list[str], np.ndarray]] = {}
    for length in spread(task.lengths_between(train.train_split, train.min_len, task.max_len), PANELS):
        rng = np.random.default_rng([_DRAWN, length])
        examples = task.sample(rng, train.train_split, np.full(EXAMPLES, length))
        batch = placed_batch(spec, task, examples, length, torch.device("cpu"))
        panels[length] = top_weights(model, batch.tokens, batch.scored, batch.offsets)
    return panels, store.law(run), task.length_unit


@torch.no_grad()
def top_weights(
    model: Stacked, tokens: Tensor, scored: Tensor, offsets: Tensor | None
) -> tuple[list[str], np.ndarray]:
    """The largest weights of each head, averaged over scored queries.

    Returns:
        Names of the heads, and float[head, 16]; 0 where there are fewer keys.
    """
    rows: dict[str, np.ndarray] = {}

    def record(name: str, x: Tensor) -> Tensor:
        if name.endswith("hook_pattern"):
            layer = int(name.split(".")[1])
            queries = x[0].transpose(0, 1)[:, scored]  # [head, query, key]
            top = queries.sort(-1, descending=True).values[..., :TOP].mean(1)
            for head, weights in enumerate(top):
                rows[f"{layer}.{head}"] = np.pad(weights.numpy(), (0, TOP - len(weights)))
        return x

    model(tokens, offsets, tap=record)
    return [f"layer {name.replace('.', ' head ')}" for name in rows], np.stack(list(rows.values()))
