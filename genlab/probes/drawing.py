"""Attention over growing length: the weights of the sixteen keys that weigh most, one panel a length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlab.errors import UserError
from genlab.models import Transformer
from genlab.probes.inputs import placed_batch
from genlab.probes.model import Stacked
from genlab.runs.store import Store
from genlab.tasks import TrainingLaw, make, spread

__all__ = ["draw_attention", "top_weights"]

TOP, PANELS, EXAMPLES = 16, 6, 64
_DRAWN = 13


def draw_attention(store: Store, run: str, path: Path, step: int | None = None) -> None:
    """Draw it for a run, after a training step (default: the last), up to the lengths that its context was made for.

    The figure of Velickovic et al. 2024 (arXiv 2410.01104), with a row a head and the mean over the scored places of
    examples. What lies beyond the training lengths is there to be looked at: no signal reads it.

    Raises:
        UserError: the file cannot be a figure.
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
    shown.suptitle(f"attention weights of run {run}, largest {TOP} keys, mean over scored places", fontsize=10)
    shown.subplots_adjust(left=0.09, right=0.9, top=0.74, bottom=0.2, wspace=0.12)
    bar = shown.colorbar(axes[-1].images[0], ax=list(axes), fraction=0.02, pad=0.015)
    bar.set_label("attention weight", fontsize=8)
    try:
        shown.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"--figure {str(path)!r} cannot be written: {error}") from None


def _panels(
    store: Store, run: str, step: int | None
) -> tuple[dict[int, tuple[list[str], np.ndarray]], TrainingLaw, str]:
    spec = store.spec(run)
    task, train = make(spec.task), spec.train
    model = Stacked(Transformer(spec.model, store.weights([run], step)))
    found: dict[int, tuple[list[str], np.ndarray]] = {}
    for length in spread(task.lengths_between(train.train_split, train.min_len, task.max_len), PANELS):
        rng = np.random.default_rng([_DRAWN, length])
        examples = task.sample(rng, train.train_split, np.full(EXAMPLES, length))
        batch = placed_batch(spec, task, examples, length, torch.device("cpu"))
        found[length] = top_weights(model, batch.tokens, batch.scored, batch.offsets)
    return found, store.law(run), task.length_unit


@torch.no_grad()
def top_weights(
    model: Stacked, tokens: Tensor, scored: Tensor, offsets: Tensor | None
) -> tuple[list[str], np.ndarray]:
    """Names of heads, and float[head, 16]: their largest weights, mean over scored queries; 0 where keys run out."""
    rows: dict[str, np.ndarray] = {}

    def keep(name: str, x: Tensor) -> Tensor:
        if name.endswith("hook_pattern"):
            layer = int(name.split(".")[1])
            queries = x[0].transpose(0, 1)[:, scored]  # [head, query, key]
            top = queries.sort(-1, descending=True).values[..., :TOP].mean(1)
            for head, weights in enumerate(top):
                rows[f"{layer}.{head}"] = np.pad(weights.numpy(), (0, TOP - len(weights)))
        return x

    model(tokens, offsets, tap=keep)
    return [f"layer {name.replace('.', ' head ')}" for name in rows], np.stack(list(rows.values()))
