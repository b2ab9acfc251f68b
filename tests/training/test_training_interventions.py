"""Interventions in training: mixed batches, spectral decoupling, averaged weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import first, run, runs

from genlab.runs.weights import load_checkpoints, save_checkpoint
from genlab.spec import TrainConfig
from genlab.tasks import make
from genlab.training import Stack, Stream, fresh, train_stack

CPU = torch.device("cpu")


# -- mixed batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "mixed"), [(0.25, 4), (1.0, 16), (0.01, 0)])
def test_a_share_of_a_batch_is_longer_and_the_rest_is_what_it_was(share: float, mixed: int):
    task, train = make("sort", max_len=12), TrainConfig(train_len=5, batch_size=16, data_seed=3)
    batch = Stream(task, train.model_copy(update={"mix": share, "mix_len": 9})).batch(7)
    assert len(batch) == 16
    inside, longer = batch.lengths[: 16 - mixed], batch.lengths[16 - mixed :]
    assert (inside <= 5).all()
    assert ((longer > 5) & (longer <= 9)).all()
    plain = Stream(task, train).batch(7)
    assert (inside == plain.lengths[: 16 - mixed]).all()
    for row in range(16):
        prompt, answer = task.read(batch, row)
        assert answer == task.solve(prompt)


def test_lengths_of_the_share_cover_their_range_and_are_alike_for_all_seeds():
    task, options = make("sort", max_len=12), {"train_len": 5, "batch_size": 8, "mix": 0.5, "mix_len": 9}
    one, other = (Stream(task, TrainConfig(**options, data_seed=seed)) for seed in (1, 2))
    seen: set[int] = set()
    for step in range(60):
        a, b = one.batch(step), other.batch(step)
        assert (a.lengths == b.lengths).all()
        assert not np.array_equal(a.tokens, b.tokens)
        seen |= set(a.lengths[4:].tolist())
    assert seen == {6, 7, 8, 9}


def test_a_share_can_be_of_another_split_at_the_training_lengths():
    task = first()  # on split `a` every string begins with an a
    train = TrainConfig(train_len=5, batch_size=40, mix=0.5, mix_split="a")
    batch = Stream(task, train).batch(0)
    a = task.vocab.id("a")
    assert (batch.tokens[20:, 0] == a).all()
    assert not (batch.tokens[:20, 0] == a).all()
    assert batch.lengths.max() <= 5


# -- spectral decoupling ----------------------------------------------------------------------


def test_spectral_decoupling_adds_the_gradient_of_half_the_squared_norm_of_the_logits():
    """The gradient with it, less that without, against finite differences of the penalty alone."""
    from genlab.models import Transformer
    from genlab.training.loop import losses_and_gradients

    task = first()
    stack = Stack(task, fresh([run(task, dtype="float64")]), CPU)
    batch, model = stack.batch(), stack._model
    plain, with_it = (losses_and_gradients(model, batch, decoupling=d) for d in (0.0, 0.3))
    assert torch.equal(plain[0], with_it[0])  # the loss that is told is without it

    def penalty(flat: torch.Tensor) -> float:
        logits = Transformer(model.cfg, flat)(batch.inputs, batch.offsets, at=batch.at, lengths=batch.lengths)
        return float(0.15 * (logits.square().sum(-1) * batch.weights).sum())

    way = torch.randn(model.flat.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope = (penalty(model.flat + 1e-5 * way) - penalty(model.flat - 1e-5 * way)) / 2e-5
    assert float(((with_it[1] - plain[1]) * way).sum()) == pytest.approx(slope, rel=1e-6)


def test_spectral_decoupling_keeps_logits_small():
    task = first()
    losses = [
        train_stack(task, fresh([run(task, steps=60, spectral_decoupling=d)]), CPU)[0].history[-1]["loss"]
        for d in (0.0, 10.0)
    ]
    assert losses[1] > losses[0]


# -- diversity of heads ----------------------------------------------------------------------


def by_hand(outputs: list[torch.Tensor], real: torch.Tensor) -> float:
    """Mean cosine over pairs of heads, tokens and layers, one at a time, of one run."""
    found = []
    for z in outputs:
        own = [
            float(torch.nn.functional.cosine_similarity(z[0, e, t, i], z[0, e, t, j], dim=0))
            for e, t in real[0].nonzero().tolist()
            for i in range(z.shape[-2])
            for j in range(z.shape[-2])
            if i < j
        ]
        found.append(sum(own) / len(own))
    return sum(found) / len(found)


def test_head_diversity_adds_the_gradient_of_the_mean_cosine_of_heads():
    """The gradient with it, less that without, against finite differences of the penalty counted by hand."""
    from genlab.models import Transformer
    from genlab.training.loop import losses_and_gradients

    task = first()
    stack = Stack(task, fresh([run(task, model={"n_heads": 4}, dtype="float64")]), CPU)
    batch, model = stack.batch(), stack._model
    plain, with_it = (losses_and_gradients(model, batch, diversity=d) for d in (0.0, 0.3))
    torch.testing.assert_close(plain[0], with_it[0], rtol=1e-12, atol=0)  # the loss that is told is without it
    assert (batch.inputs == 0).any()  # padding has no part in it

    def penalty(flat: torch.Tensor) -> float:
        kept: list[torch.Tensor] = []

        def tap(name: str, x: torch.Tensor) -> torch.Tensor:
            if name.endswith("hook_z"):
                kept.append(x)
            return x

        Transformer(model.cfg, flat)(batch.inputs, batch.offsets, lengths=batch.lengths, tap=tap)
        return 0.3 * by_hand(kept, batch.inputs != 0)

    way = torch.randn(model.flat.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope = (penalty(model.flat + 1e-5 * way) - penalty(model.flat - 1e-5 * way)) / 2e-5
    assert abs(slope) > 1e-3
    assert float(((with_it[1] - plain[1]) * way).sum()) == pytest.approx(slope, rel=1e-5)


def test_with_head_diversity_heads_are_less_alike():
    from genlab.training.loop import head_likeness

    def likeness(diversity: float) -> float:
        task = first()
        spec = run(task, steps=40, head_diversity=diversity, model={"n_heads": 4})
        state = train_stack(task, fresh([spec]), CPU)[0]
        stack = Stack(task, fresh([spec]), CPU)
        model, batch = type(stack._model)(spec.model, state.weights[None]), stack.batch()
        kept: list[torch.Tensor] = []
        model(batch.inputs, batch.offsets, lengths=batch.lengths, tap=lambda n, x: _kept(kept, n, x))
        return float(head_likeness(kept, batch.inputs != 0))

    assert likeness(3.0) < likeness(0.0) - 0.05


def _kept(outputs: list[torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    if name.endswith("hook_z"):
        outputs.append(x)
    return x


# -- averaged weights ----------------------------------------------------------------------


def weights_by_step(task, spec) -> list[torch.Tensor]:
    plain = spec.model_copy(update={"train": spec.train.model_copy(update={"average_steps": 0})})
    seen: list[torch.Tensor] = []
    stack = Stack(task, fresh([plain]), CPU)
    for _ in range(spec.train.steps):
        stack.take_step()
        seen.append(stack.states()[0].weights)
    return seen


def test_final_weights_are_the_mean_after_each_of_the_last_steps():
    task = first()
    spec = run(task, average_steps=4, dtype="float64")
    (state,) = train_stack(task, fresh([spec]), CPU)
    wanted = torch.stack(weights_by_step(task, spec)[-4:]).mean(0)
    assert torch.allclose(state.weights, wanted, atol=1e-12)
    assert not torch.allclose(state.weights, weights_by_step(task, spec)[-1], atol=1e-6)


def test_what_is_measured_last_are_the_averaged_weights():
    task = first()
    spec = run(task, average_steps=4)
    (state,) = train_stack(task, fresh([spec]), CPU)
    looked = replace(state, step=state.step, status="training", history=[])
    again = Stack(task, [looked], CPU)
    again.measure()
    assert again.ended[0].history[-1]["exact_match"] == state.history[-1]["exact_match"]
    assert [row["value"] for row in again.ended[0].trace[-4:]] == [row["value"] for row in state.trace[-4:]]


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_an_average_goes_on_from_a_checkpoint(tmp_path: Path, stop: int):
    """Stopped before the last steps, at the first of them, and among them."""
    task = first()
    specs = runs(task, [0, 1], average_steps=4, dtype="float64")
    whole = train_stack(task, fresh(specs), CPU)
    half = train_stack(task, fresh(specs), CPU, after_step=lambda stack: stack.step < stop)
    assert [s.step for s in half] == [stop, stop]
    save_checkpoint(tmp_path / "half.safetensors", half)
    kept = load_checkpoints([tmp_path / "half.safetensors"], specs)
    ended = train_stack(task, [kept[s.run_id] for s in specs], CPU)
    for one, other in zip(whole, ended, strict=True):
        assert torch.allclose(one.weights, other.weights, atol=1e-12)


def test_an_average_of_a_run_does_not_depend_on_the_stack():
    task = first()
    specs = runs(task, [0, 1, 2], average_steps=3, dtype="float64")
    together = train_stack(task, fresh(specs), CPU)
    (alone,) = train_stack(task, fresh(specs[1:2]), CPU)
    assert torch.allclose(together[1].weights, alone.weights, atol=1e-9)
