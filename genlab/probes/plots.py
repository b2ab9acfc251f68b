"""Figures of model internals, for notebooks and talks: light maps, one color for each quantity in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genlab.errors import UserError, unknown
from genlab.models import Transformer
from genlab.probes.families.sharpness import rows_of
from genlab.probes.inputs import ProbeInput, Seen, placed_batch
from genlab.probes.model import Stacked
from genlab.runs.store import Store
from genlab.spec import RunSpec
from genlab.tasks import TrainingLaw, make, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_MAP, _INK, _MASKED, _SHADE = "Blues", "#1b4965", "#e9e9e9", "#eef3f6"
_BOUND, _UNIFORM, _BOUNDARY = "#d55e00", "#8a8a8a", "#b3541e"

COLORS: Mapping[str, str] = MappingProxyType(
    {
        "exact match": "#1b4965",
        "accuracy": "#1b4965",
        "loss": "#b3541e",
        "largest weight": "#0072b2",
        "spread": "#7a3e9d",
        "previous_token": "#e69f00",
        "duplicate_token": "#8c6d31",
        "induction_scored": "#009e73",
        "induction_prefix": "#56b4e9",
        "k_composition": "#cc79a7",
    }
)
"""The color of a quantity, in every figure; lines of other names take colors that none of these has."""
_FRACTIONS = ("exact match", "largest attention weight", "largest value over heads")
_OTHERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#7a3e9d", "#e69f00", "#444444")


def attention(given: ProbeInput, row: int = 0, batch: int = -1) -> Figure:
    """Attention patterns of all heads of the first run on one example, with tokens on both axes.

    Keys that a query does not see are gray. Lines separate the prompt from what the model writes; the tokens of the
    answer are bold.
    """
    seen = given.seen[batch]
    count = int(seen.batch.real[row].sum())
    tokens = [given.vocab[i] for i in seen.batch.tokens[row, :count].tolist()]
    boundary = prompt_length(seen.batch.scored[row])
    layers, heads = given.cfg.n_layers, given.cfg.n_heads
    figure, axes = _grid(layers, heads, size=1.1 + 0.16 * count)
    later = np.triu(np.ones((count, count), dtype=bool), 1)
    for layer in range(layers):
        for head in range(heads):
            axis = axes[layer][head]
            pattern = seen.pattern(layer)[0, row, head, :count, :count].cpu().numpy()
            axis.imshow(np.ma.array(pattern, mask=later), vmin=0, vmax=1, cmap=_light(), interpolation="nearest")
            axis.set_title(f"layer {layer} head {head}", fontsize=9)
            axis.set_xticks(range(count), tokens, fontsize=7)
            for label, token in zip(axis.get_xticklabels(), tokens, strict=True):
                label.set_rotation(90 if len(token) > 2 else 0)  # a rotated bracket would look like another symbol
            axis.set_yticks(range(count), tokens, fontsize=7)
            for label in (*axis.get_xticklabels()[boundary:], *axis.get_yticklabels()[boundary:]):
                label.set_fontweight("bold")
            if boundary < count:
                for line in (axis.axhline, axis.axvline):
                    line(boundary - 0.5, color=_BOUNDARY, lw=1)
    _label(axes, "key", "query")
    _bar(figure, axes, "attention weight")
    return figure


def prompt_length(scored: Tensor) -> int:
    """The number of tokens before the answer, given where the target is part of the answer, bool[pos].

    >>> prompt_length(torch.tensor([False, False, True, True]))
    3
    """
    places = scored.nonzero()
    return int(places[0]) + 1 if len(places) else len(scored)


def _light() -> Colormap:
    """White for a weight of 0, dark for 1, and gray for keys that are not seen."""
    from matplotlib import colormaps

    return colormaps[_MAP].with_extremes(bad=_MASKED)


def by_head(scores: Mapping[str, np.ndarray], title: str, low: float = 0.0, high: float = 1.0) -> Figure:
    """Several values per head, `[layer, head]`, side by side on one color scale, with the numbers written in."""
    figure, axes = _grid(1, len(scores), size=2.6)
    for axis, (name, values) in zip(axes[0], scores.items(), strict=True):
        axis.imshow(values, vmin=low, vmax=high, cmap=_light(), aspect="auto", interpolation="nearest")
        for layer, head in np.ndindex(values.shape):
            dark = values[layer, head] > low + 0.6 * (high - low)
            shown = "-" if np.isnan(values[layer, head]) else f"{values[layer, head]:.2f}"
            axis.text(head, layer, shown, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(values.shape[1]))
        axis.set_yticks(range(values.shape[0]))
    _label(axes, "head", "layer")
    figure.suptitle(title, fontsize=11)
    _bar(figure, axes, "value")
    return figure


def curves(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    title: str,
    trained: tuple[float, float] | None = None,
) -> Figure:
    """Lines over a common x axis, with a legend; a line with the name of a quantity in `COLORS` has its color.

    Args:
        x: the common values.
        lines: name -> values.
        xlabel, ylabel, title: the labels.
        trained: the range of lengths in training, shaded.
    """
    figure, axes = _grid(1, 1, size=3.4, wide=5.6)
    axis = axes[0][0]
    rest = iter([color for color in _OTHERS if color not in {COLORS.get(name) for name in lines}] * len(lines))
    if trained is not None:
        _shade(axis, trained)
    for name, values in lines.items():
        axis.plot(x, values, marker="o", ms=3.5, lw=1.6, label=name, color=COLORS.get(name) or next(rest))
    if ylabel in _FRACTIONS:
        axis.set_ylim(-0.03, 1.04)
    axis.locator_params(axis="x", integer=True)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.set_title(title, fontsize=11, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _shade(axis: Axes, trained: tuple[float, float]) -> None:
    axis.axvspan(trained[0] - 0.5, trained[1] + 0.5, color=_SHADE, lw=0, zorder=0, label="trained")


_DONE = {
    "zero": "output set to zero",
    "mean": "output set to its mean",
    "resample": "output taken from another example",
    "uniform": "attention made uniform",
}


def ablation(given: ProbeInput, kind: str = "mean") -> Figure:
    """What it costs the first run to lose each head, in exact match and loss; the title says what was done.

    Args:
        given: the probe input.
        kind: `zero`, `mean`, `resample` or `uniform`, as in the signal `ablate_head`.

    Raises:
        UserError: no such kind.
        NotApplicable: the model has no heads, or no hook points for them.
    """
    from genlab.probes import chosen
    from genlab.probes.probing import values_of

    if kind not in _DONE:
        raise unknown("kind of ablation", kind, _DONE)
    values = values_of(chosen(["ablate_head"])[0], given)
    before = float(values_of(chosen(["accuracy"])[0], given)["accuracy"][0])
    lost, gained = (values[f"ablate_head.{kind}.{what}"][0] for what in ("exact_match", "loss"))
    layer, head = np.unravel_index(lost.argmax(), lost.shape)
    names = [f"{i}.{j}" for i, j in np.ndindex(lost.shape)]
    figure, axes = _grid(1, 2, size=3.2, wide=1.6 + 0.32 * len(names))
    for axis, per_head, name, unit in zip(
        axes[0], (lost, gained), ("exact match", "loss"), ("exact match lost", "loss gained (nats)"), strict=True
    ):
        drawn = axis.bar(range(len(names)), per_head.flatten(), color=COLORS[name])
        axis.bar_label(drawn, fmt="%.2f", fontsize=7, padding=1)
        axis.set_xticks(range(len(names)), names, fontsize=8)
        axis.set_xlabel("layer.head", fontsize=9)
        axis.axhline(0, color="black", lw=0.8)
        axis.margins(y=0.12)
        axis.set_ylabel(unit)
        axis.spines[["top", "right"]].set_visible(False)
    cost = f"layer {layer} head {head} costs most: exact match {before:.2f} to {before - lost[layer, head]:.2f}"
    figure.suptitle(f"One head's {_DONE[kind]}, in distribution\n{cost}", fontsize=11, x=0.02, ha="left")
    return figure


def dispersion(model: Transformer, spec: RunSpec, lengths: Sequence[int], n: int = 64) -> Figure:
    """How the largest attention weight of each head of the first run falls with length, under its bound.

    If the scores of a query differ by at most delta, none of its n weights is above e^delta / n (Velickovic et al.
    2024, arXiv 2410.01104). Both are read at the places of the answer, each query with its own delta and n. Lengths
    beyond training are for inspection only: no signal reads them.

    Args:
        model: the trained runs.
        spec: the spec of the run.
        lengths: the lengths to read.
        n: examples of each length.
    """
    found = np.stack([_weight_and_bound(model, spec, length, n) for length in lengths])  # [length, 3, layer, head]
    layers, heads = found.shape[2:]
    unit, trained = make(spec.task).length_unit, (spec.train.min_len, spec.train.train_len)
    figure, axes = _grid(layers, heads, size=2.5, wide=3.0)
    for layer, head in np.ndindex(layers, heads):
        axis, (weight, bound, uniform) = axes[layer][head], found[:, :, layer, head].T
        _shade(axis, trained)
        axis.plot(lengths, bound, ls="--", lw=1.4, color=_BOUND, label=r"bound $e^\delta/n$")
        axis.plot(lengths, weight, marker="o", ms=3.5, lw=1.8, color=COLORS["largest weight"], label="largest weight")
        axis.plot(lengths, uniform, ls=":", lw=1.4, color=_UNIFORM, label=r"uniform $1/n$")
        axis.set_xscale("log", base=2)
        axis.set_xticks(lengths, [str(length) for length in lengths], fontsize=7)
        axis.minorticks_off()
        axis.set_ylim(0, 1.04)
        axis.set_xlim(lengths[0] * 0.85, lengths[-1] * 1.2)
        axis.set_title(f"layer {layer} head {head}", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    _label(axes, unit, "attention weight")
    axes[0][-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    title = f"Largest attention weight by length (trained up to {trained[1]} {unit})"
    figure.suptitle(title, fontsize=11, x=0.02, ha="left")
    return figure


@torch.no_grad()
def _weight_and_bound(model: Transformer, spec: RunSpec, length: int, n: int) -> np.ndarray:
    """The largest weight, its bound and 1/n, averaged over the places of the answer, float[3, layer, head]."""
    task = make(spec.task)
    examples = task.sample(np.random.default_rng([_DRAWN, length]), spec.train.train_split, np.full(n, length))
    given = ProbeInput(Stacked(model), (placed_batch(spec, task, examples, length, model.flat.device),), ())
    seen = given.seen[0]
    rows = []
    for layer in range(given.cfg.n_layers):
        weights, scores, keys = rows_of(seen, layer)  # [run, head, row, key], and the keys of each row
        spread = scores.amax(-1) - scores.masked_fill(scores.isinf(), torch.inf).amin(-1)
        bound = (spread.exp() / keys).clamp(max=1)
        largest = weights.amax(-1)[0].mean(-1)
        rows.append(torch.stack([largest, bound[0].mean(-1), (1 / keys).mean().expand_as(largest)]))
    return torch.stack(rows, dim=1).cpu().numpy()


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
        axis.imshow(weights, vmin=0, vmax=1, cmap=_light(), aspect="auto", interpolation="nearest")
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
