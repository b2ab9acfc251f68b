"""The plain loop of benchmarks/learning.py is the lab's engine written apart: equal losses on the same batches."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.training import Stack, Stream, fresh

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import learning
from learning import ALONE, Batch, Case, Lab, Plain, Recipe, Source

SMALL = Case("copy", "unique", 6, 12, n_heads=2, d_model=16, steps=20, horizon=20)
FAST = ("batch=8", "lr=0.01", "weight_decay=0.1")
"""So that twenty steps move the weights far, and decay tells."""


@pytest.mark.parametrize(
    "settings",
    [
        ("schedule=linear", "warmup=3"),
        ("schedule=cosine",),
        ("schedule=cosine", "start=off", "tied=off", "clip=0.1", "warmup=5"),
        ("schedule=constant", "lengths=4", "offsets=batch", "loss=all"),
        ("schedule=constant", "residual_scaling=off", "offsets=zero", "init_std=0.2"),
    ],
    ids=" ".join,
)
def test_plain_loop_and_engine_give_the_same_losses_on_the_same_batches(settings: tuple[str, ...]) -> None:
    source = Source(SMALL, Recipe().changed([*FAST, *settings]), seed=3)
    plain, lab = Plain(source), Lab(source)
    batches = [source.batch(step % 2) for step in range(20)]  # seen again and again, so that the loss falls
    losses = np.array([(plain.step(batch), lab.step(batch)) for batch in batches])
    assert losses[:2].mean() - losses[-2:].mean() > 0.3, "twenty steps that learn nothing compare nothing"
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=2e-5)


def test_plain_loop_gives_the_losses_of_the_lab_s_own_steps() -> None:
    """On the batches that the lab draws, at one length in a context that it fills: no room for an offset."""
    case = Case("copy", "unique", 6, 6, n_heads=2, d_model=16, steps=20, horizon=20, min_len=6)
    source = Source(case, Recipe().changed([*FAST, "schedule=cosine", "start=off", "warmup=3", "clip=0.5"]), seed=1)
    plain, spec = Plain(source), learning.lab_spec(source)
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"min_len": 6})})
    stack = Stack(source.task, fresh([spec]), torch.device("cpu"))
    plain.take_weights(stack.states()[0])
    stream, before = Stream(source.task, spec.train, spec.model), 0.0
    for step in range(20):
        drawn = stream.batch(step)
        offsets = np.zeros(len(drawn), np.int64)
        loss = plain.step(Batch(drawn.tokens, drawn.targets, drawn.scored, drawn.scored, offsets, drawn.lengths))
        stack.take_step()
        after = stack.states()[0].loss_sum
        assert loss == pytest.approx(after - before, rel=2e-5)
        before = after


def test_pieces_of_a_batch_give_the_loss_and_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    source, found = Source(SMALL, Recipe().changed(FAST), seed=0), []
    for count in (1, 3):
        monkeypatch.setattr(learning, "PIECES", count)
        loop = Plain(source)
        found.append([loop.step(source.batch(step)) for step in range(5)])
    np.testing.assert_allclose(found[0], found[1], rtol=2e-5)


def test_examples_stand_as_the_recipe_says() -> None:
    """In the room of their own, of the widest in the batch, or at the start; always inside the context."""
    for start in ("on", "off"):
        most = {}
        for law in ("own", "batch", "zero"):
            source = Source(SMALL, Recipe(batch=64).changed([f"offsets={law}", f"start={start}"]), seed=0)
            batches = [source.batch(step) for step in range(20)]
            widths = [(batch.targets != 0).sum(axis=1) for batch in batches]
            ends = [(batch.offsets + width).max() for batch, width in zip(batches, widths, strict=True)]
            assert max(ends) <= source.n_ctx
            most[law] = max(b.offsets[b.lengths == 1].max() for b in batches)
        assert most == {
            "own": source.n_ctx - (3 + (start == "on")),
            "batch": source.n_ctx - (13 + (start == "on")),
            "zero": 0,
        }


def test_names_of_recipes_say_all_that_differs() -> None:
    for change in ALONE:
        recipe = Recipe().changed(change)
        assert recipe.name == " ".join(change)
        assert Recipe().changed(recipe.name.split()) == recipe
    with pytest.raises(ValueError, match=r"unknown flag 'tied_embedding'; there are .*tied"):
        Recipe().changed(["tied_embedding=off"])
    with pytest.raises(ValueError, match="offsets is one of own, batch, zero, not 'random'"):
        Recipe().changed(["offsets=random"])


def test_finished_runs_are_kept_and_interrupted_ones_done_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "ROWS", tmp_path / "rows.csv")
    monkeypatch.setattr(learning, "CHECK", 1)
    monkeypatch.setitem(learning.CASES, "small", Case("copy", "unique", 2, 4, d_model=16, steps=3, horizon=3))
    for seed in (0, 1):
        learning.run("small", Recipe(batch=4), seed)
    whole = learning.ROWS.read_text()
    assert [row["step"] for row in csv.DictReader(whole.splitlines())] == ["1", "2", "3"] * 2
    learning.run("small", Recipe(batch=4), 0)
    assert learning.ROWS.read_text() == whole
    learning.ROWS.write_text(
        "\n".join(whole.splitlines()[:-1]) + "\n"
    )  # as if seed 1 had been ended before its last row
    learning.run("small", Recipe(batch=4), 1)
    kept = list(csv.DictReader(learning.ROWS.read_text().splitlines()))
    for before, after in zip(csv.DictReader(whole.splitlines()), kept, strict=True):
        assert {**before, "seconds": ""} == {**after, "seconds": ""}
