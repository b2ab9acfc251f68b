"""A batch is a pure function: its lengths of (train config, step), its contents of (task, data_seed, step)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_runs import first, parity, run, same_examples

from genlab.errors import UserError
from genlab.spec import TrainConfig
from genlab.tasks import Examples, Task, Vocab, make
from genlab.training import Stream
from genlab.training.batches import batch_lengths, eval_offsets, stack_examples


def stream(task: Task, **train: Any) -> Stream:
    spec = run(task, **{**train, "model": {"offsets": "random", **train.get("model", {})}})
    return Stream(task, spec.train, spec.model)


@pytest.mark.parametrize("pool", [0, 10])
def test_a_batch_does_not_depend_on_what_was_drawn_before(pool: int) -> None:
    task = parity("scratchpad")
    forwards = [stream(task, pool=pool).batch(step) for step in range(12)]
    one = stream(task, pool=pool)
    for step in (11, 0, 5, 5, 3, 10):
        assert same_examples(one.batch(step), forwards[step])
    assert not same_examples(forwards[0], forwards[3])


@pytest.mark.parametrize("pool", [0, 10])
def test_seeds_share_lengths_and_nothing_else(pool: int) -> None:
    task = parity(max_len=20)
    one, other = (stream(task, pool=pool, data_seed=seed, train_len=20) for seed in (0, 1))
    for step in range(8):
        ours, theirs = one.batch(step), other.batch(step)
        assert np.array_equal(ours.lengths, theirs.lengths)
        assert ours.tokens.shape == theirs.tokens.shape
    contents = [np.concatenate([s.batch(step).tokens.ravel() for step in range(8)]) for s in (one, other)]
    assert not np.array_equal(*contents)


def test_contents_depend_on_the_task_the_data_seed_and_the_step_alone() -> None:
    task = first()
    plain = stream(task, data_seed=5, init_seed=5)
    other = stream(task, data_seed=5, init_seed=9, lr=0.3, weight_decay=0.0, dropout=0.1, dtype="float64", steps=99)
    for step in range(5):
        assert same_examples(plain.batch(step), other.batch(step))
        assert np.array_equal(plain.offsets(step, plain.batch(step)), other.offsets(step, other.batch(step)))


def lengths_at(step: int, **train: object) -> set[int]:
    given = {"train_len": 8, "batch_size": 64, "lengths_per_batch": 64, "steps": 100, **train}
    return set(batch_lengths(first(), TrainConfig(**given), step).tolist())


def test_lengths_are_uniform_over_the_steps() -> None:
    train = TrainConfig(train_len=8, min_len=3, batch_size=4, lengths_per_batch=1)
    drawn = [batch_lengths(first(), train, step) for step in range(1200)]
    assert all(len(set(lengths.tolist())) == 1 for lengths in drawn)  # one length a batch
    counts = np.bincount([lengths[0] for lengths in drawn], minlength=9)
    assert counts[:3].sum() == 0
    # chi-square with 5 degrees of freedom: above 20.5 once in a thousand
    assert ((counts[3:] - 200) ** 2 / 200).sum() < 20.5


def test_a_batch_has_as_many_lengths_as_asked() -> None:
    train = TrainConfig(train_len=8, batch_size=64, lengths_per_batch=4)
    seen = [np.unique(batch_lengths(first(), train, step), return_counts=True) for step in range(50)]
    assert max(len(lengths) for lengths, _ in seen) == 4
    assert all(np.isin(counts, (16, 32, 48, 64)).all() for _, counts in seen)


def test_a_curriculum_raises_the_longest_length_linearly_over_its_share_of_the_steps() -> None:
    for step in range(100):
        allowed = 1 + round(min(1.0, (step + 1) / 50) * 7)
        assert max(lengths_at(step, curriculum=0.5)) == allowed
        assert min(lengths_at(step, curriculum=0.5)) == 1
    assert max(lengths_at(0)) == 8


def test_a_curriculum_starts_at_the_shortest_length_that_the_task_makes() -> None:
    task = make("brackets", max_len=8)
    train = TrainConfig(train_len=8, min_len=1, batch_size=4, curriculum=1.0, steps=50)
    shortest = int(task.lengths_between(train.train_split, 1, 8)[0])
    assert shortest > 1
    assert set(batch_lengths(task, train, 0).tolist()) == {shortest}


# -- pools -----------------------------------------------------------------------------------------------------


def rows_of(batch: Examples) -> list[tuple[int, ...]]:
    """The symbols of each example."""
    return [tuple(row[row >= Vocab.first].tolist()) for row in batch.tokens]


@pytest.mark.parametrize("size", [12, 10])
def test_a_pass_visits_each_example_of_the_pool_once(size: int) -> None:
    made = stream(make("parity", max_len=30), pool=size, train_len=30, min_len=20)
    pool = sorted(rows_of(made.pool))
    assert len(set(pool)) == size  # long enough that none comes twice
    passes = [[rows_of(made.batch(3 * epoch + i)) for i in range(3)] for epoch in range(4)]
    for batches in passes:
        assert sorted(key for batch in batches for key in batch) == pool
    assert len({str(batches) for batches in passes}) == 4  # in another order each time


def test_each_pass_over_a_pool_of_brackets_shows_each_string_once() -> None:
    made = stream(make("brackets", max_len=10), pool=60, train_len=10, min_len=2, batch_size=8)
    for epoch in range(2):
        shown = [row for step in range(8) for row in rows_of(made.batch(8 * epoch + step))]
        assert len(shown) == len(set(shown)) == 60


def test_a_pool_batches_alike_lengths_and_pays_no_pads() -> None:
    made = stream(parity(max_len=30), pool=64, train_len=30, batch_size=4, lengths_per_batch=1)
    assert (np.diff(made.pool.lengths) >= 0).all()
    for step in range(16):
        batch = made.batch(step)
        assert batch.tokens.shape[1] == batch.lengths.max() + 2
        inside = made.pool.lengths[(made.pool.lengths >= batch.lengths.min())]
        assert batch.lengths.max() - batch.lengths.min() <= np.diff(inside).max() * 4
    lengths = sorted(length for step in range(16) for length in made.batch(step).lengths.tolist())
    assert lengths == made.pool.lengths.tolist()


def test_a_pool_stays_what_it_is() -> None:
    one, other = (stream(parity("running"), pool=10, batch_size=size) for size in (4, 5))
    assert same_examples(one.pool, other.pool)
    assert not same_examples(one.pool, stream(parity("running"), pool=10, data_seed=1).pool)


def test_a_pool_refuses_a_curriculum_and_some_lengths_a_batch() -> None:
    for given in ({"curriculum": 0.5}, {"lengths_per_batch": 2}):
        with pytest.raises(ValueError, match="not possible with a pool"):
            TrainConfig(train_len=5, pool=10, **given)


def mixed(**options: object) -> Stream:
    return stream(
        make("brackets", max_len=20), train_len=20, min_len=2, batch_size=16, lengths_per_batch=16, **options
    )


def test_a_mixed_pool_shows_each_string_once_a_pass_in_batches_of_all_lengths() -> None:
    made = mixed(pool=200)
    for epoch in range(2):
        batches = [made.batch(13 * epoch + step) for step in range(13)]  # the last one has 8
        assert [len(batch) for batch in batches] == [16] * 12 + [8]
        shown = [row for batch in batches for row in rows_of(batch)]
        assert len(shown) == len(set(shown)) == 200
        assert np.mean([len(np.unique(batch.lengths)) for batch in batches]) > 5
    passes = [np.concatenate([made.batch(13 * epoch + i).lengths for i in range(13)]) for epoch in range(2)]
    assert not np.array_equal(*passes)
    assert np.array_equal(*(np.sort(lengths) for lengths in passes))


def test_mixed_pools_of_several_seeds_have_one_order_of_lengths_and_contents_of_their_own() -> None:
    one, other = mixed(pool=96, data_seed=0), mixed(pool=96, data_seed=1)
    for step in range(6):
        assert np.array_equal(one.batch(step).lengths, other.batch(step).lengths)
    assert rows_of(one.batch(0)) != rows_of(other.batch(0))


# -- offsets ---------------------------------------------------------------------------------------------------


def test_offsets_are_uniform_over_the_room_that_the_context_leaves() -> None:
    task = first(max_len=8)  # a context of 11
    made = stream(task, batch_size=64, min_len=5, train_len=5)
    drawn = np.concatenate([made.offsets(step, made.batch(step)) for step in range(25)])
    counts = np.bincount(drawn)  # inputs of up to 8 tokens start at 0 to 3
    assert len(counts) == 4
    assert ((counts - 400) ** 2 / 400).sum() < 16.3  # chi-square with 3 degrees of freedom: once in a thousand
    assert not np.array_equal(made.offsets(0, made.batch(0)), made.offsets(1, made.batch(0)))


def test_offsets_leave_room_for_the_widest_input_of_a_stack() -> None:
    """In a stack a batch may be padded to the width of another run's."""
    task = first(max_len=5)  # trained at full length, an input has its widest form or one token less
    narrow = False
    for step in range(40):
        for seed in range(4):
            made = stream(task, data_seed=seed, min_len=5)
            batch = made.batch(step)
            narrow |= batch.tokens.shape[1] < task.n_ctx
            assert (made.offsets(step, batch) == 0).all()
    assert narrow


def test_offsets_of_an_evaluation_are_fixed_by_its_seed() -> None:
    task = first()
    batch = stream(task, batch_size=64, train_len=3).batch(0)
    cfg = run(task).model
    assert np.array_equal(eval_offsets(task, batch, 1, cfg), eval_offsets(task, batch, 1, cfg))
    assert not np.array_equal(eval_offsets(task, batch, 1, cfg), eval_offsets(task, batch, 2, cfg))


# -- stacking and purity -----------------------------------------------------------------------------------------


def test_stacked_examples_are_padded_and_nothing_else() -> None:
    batches = [stream(first(), data_seed=seed, min_len=5).batch(1) for seed in range(6)]
    widths = [batch.tokens.shape[1] for batch in batches]
    assert len(set(widths)) > 1
    stacked = stack_examples(batches)
    assert stacked.tokens.shape == (6, 4, max(widths))
    for run_index, (batch, width) in enumerate(zip(batches, widths, strict=True)):
        assert np.array_equal(stacked.tokens[run_index, :, :width], batch.tokens)
        assert np.array_equal(stacked.targets[run_index, :, :width], batch.targets)
        assert np.array_equal(stacked.trained[run_index, :, :width], batch.scored)
        assert (stacked.tokens[run_index, :, width:] == Vocab.pad).all()
        assert not stacked.scored[run_index, :, width:].any()
        assert not stacked.trained[run_index, :, width:].any()
    assert stack_examples(batches, width=20).tokens.shape == (6, 4, 20)


def test_examples_that_the_model_cannot_read_are_refused() -> None:
    batch = stream(first()).batch(0)
    with pytest.raises(UserError, match="its own position ids"):
        stack_examples([batch, replace(batch, position_ids=np.zeros_like(batch.tokens))])


def test_real_valued_items_are_padded_like_tokens() -> None:
    task = make("max-retrieval", 6, "values", {"classes": 3})
    batches = [task.sample(np.random.default_rng(0), "id", [n, 2]) for n in (3, 6)]
    stacked = stack_examples(batches)
    assert stacked.values is not None
    assert stacked.values.shape == (2, 2, 7, 4)
    assert np.array_equal(stacked.values[0, :, :4], batches[0].inputs)
    assert not stacked.values[0, :, 4:].any()
    assert np.array_equal(stacked.values[1], batches[1].inputs)


def test_a_length_that_the_task_cannot_make_is_refused_before_training() -> None:
    with pytest.raises(UserError, match="cannot make length 9"):
        stream(first(max_len=8), train_len=9)


@pytest.mark.parametrize("pool", [0, 24])
def test_a_start_token_stands_before_the_same_examples(pool: int) -> None:
    bare = parity("running", max_len=20)
    led = make(bare.spec.model_copy(update={"start_token": True}))
    options = {"pool": pool, "train_len": 12, "batch_size": 8, "model": {"positions": "learned"}}
    one, other = (stream(task, **options) for task in (bare, led))
    for step in range(4):
        with_start = other.batch(step)
        assert (with_start.tokens[:, 0] == len(led.vocab) - 1).all()
        assert not with_start.scored[:, 0].any()
        assert same_examples(led.bare(with_start), one.batch(step))
        ends = other.offsets(step, with_start) + (with_start.targets != Vocab.pad).sum(axis=1)
        assert ends.max() <= led.n_ctx
