"""Figures of model internals: what they draw is what signals read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import genlab
from genlab.errors import UserError
from genlab.models import Transformer, initial
from genlab.probes import ProbeInput, chosen, probe_batches
from genlab.probes.model import Stacked
from genlab.probes.plots import COLORS, TOP, ablation, attention, curves, dispersion, prompt_length, top_weights
from genlab.probes.probing import values_of

SPEC = genlab.plan("sort", 5, 20, seeds=[0], d_model=16, n_layers=2, n_heads=2, positions="none").specs[0]


def model(std: float = 0.5, queries: float = 1.0) -> Transformer:
    made = Transformer(SPEC.model, initial(SPEC.model, [0]))
    made.flat.copy_(std * torch.randn(made.flat.shape, generator=torch.Generator().manual_seed(0)))
    for name, weight in made.params.items():
        if name.endswith("QKV"):
            weight[..., :16] *= queries
    return made


def given_of(made: Transformer) -> ProbeInput:
    batches = probe_batches(SPEC, torch.device("cpu"), n=32)
    return ProbeInput(Stacked(made), batches, tuple(genlab.tasks.make(SPEC.task).vocab.tokens), SPEC)


def lines(figure: Figure, panel: int) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in figure.axes[panel].lines}


def test_no_weight_is_above_its_bound_and_uniform_heads_reach_it():
    lengths = [3, 6, 12]
    sharp, uniform = (dispersion(model(queries=q), SPEC, lengths, n=8) for q in (1.0, 0.0))
    names = ["bound $e^\\delta/n$", "largest weight", "uniform $1/n$"]
    for panel in range(4):
        bound, weight, least = (lines(sharp, panel)[name] for name in names)
        assert (weight <= bound + 1e-6).all()
        assert (weight >= least - 1e-6).all()
        assert weight.max() > 1.05 * least[weight.argmax()]
        bound, weight, least = (lines(uniform, panel)[name] for name in names)
        assert bound == pytest.approx(least, rel=1e-5)
        assert weight == pytest.approx(least, rel=1e-5)
    shaded = sharp.axes[0].patches[0].get_extents().transformed(sharp.axes[0].transData.inverted())
    assert (shaded.x0, shaded.x1) == pytest.approx((SPEC.train.min_len - 0.5, 5.5))


def test_largest_weights_are_of_each_head_and_averaged_over_scored_queries():
    made = model(queries=0.0)  # every query attends to all keys up to its own alike
    batch = given_of(made).batches[0]
    names, found = top_weights(Stacked(made), batch.tokens, batch.scored, batch.offsets)
    assert names == ["layer 0 head 0", "layer 0 head 1", "layer 1 head 0", "layer 1 head 1"]
    keys = np.nonzero(batch.scored.numpy())[1] + 1
    expected = [np.mean(np.where(keys > rank, 1 / keys, 0.0)) for rank in range(TOP)]
    assert found == pytest.approx(np.tile(expected, (4, 1)), rel=1e-5)
    assert 0 < np.count_nonzero(found[0]) < TOP


def test_ablation_bars_are_the_signal_and_the_title_says_what_it_cost():
    given = given_of(model())
    values = values_of(chosen(["ablate_head"])[0], given)
    before = values_of(chosen(["accuracy"])[0], given)["accuracy"][0]
    figure = ablation(given, "zero")
    for axis, what in zip(figure.axes, ("exact_match", "loss"), strict=True):
        drawn = [bar.get_height() for bar in axis.containers[0]]
        assert drawn == pytest.approx(values[f"ablate_head.zero.{what}"][0].flatten())
    lost = values["ablate_head.zero.exact_match"][0]
    layer, head = np.unravel_index(lost.argmax(), lost.shape)
    done, cost = figure.get_suptitle().split("\n")
    assert done == "One head's output set to zero, in distribution"
    assert cost == f"layer {layer} head {head} costs most: exact match {before:.2f} to {before - lost.max():.2f}"
    with pytest.raises(UserError, match="unknown kind of ablation 'zeros'; did you mean 'zero'"):
        ablation(given, "zeros")


def test_maps_are_light_and_show_where_the_answer_begins():
    given = given_of(model())
    seen = given.seen[-1]
    start = prompt_length(seen.batch.scored[0])
    assert given.vocab[int(seen.batch.tokens[0, start - 1])] == ">"
    figure = attention(given)
    axis = figure.axes[0]
    assert [float(line.get_xdata()[0]) for line in axis.lines[1:]] == [start - 0.5]
    weights = [label.get_fontweight() for label in axis.get_xticklabels()]
    assert weights == ["normal"] * start + ["bold"] * (len(weights) - start)
    image = axis.images[0]
    assert sum(image.cmap(0.0)[:3]) > 2.8  # a weight of 0 is nearly white
    assert sum(image.cmap(1.0)[:3]) < 1.0
    drawn = image.get_array()
    assert drawn.mask.tolist() == np.triu(np.ones(drawn.shape, dtype=bool), 1).tolist()
    assert drawn.filled(0) == pytest.approx(np.tril(seen.pattern(0)[0, 0, 0, : len(weights), : len(weights)].numpy()))


def test_a_quantity_has_one_color():
    first = curves([1, 2], {"exact match": [0, 1], "layer 0 head 0": [1, 0]}, "length", "value", "")
    second = curves([1, 2], {"layer 1 head 1": [1, 0], "exact match": [0, 1]}, "length", "value", "", trained=(1, 1))
    for figure in (first, second):
        colors = {str(line.get_label()): line.get_color() for line in figure.axes[0].lines}
        assert colors["exact match"] == COLORS["exact match"]
        assert len(set(colors.values())) == 2
