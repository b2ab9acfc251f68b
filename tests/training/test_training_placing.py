"""Where examples stand: ids of tasks, random positions, and that neither depends on the answer or on padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from small_runs import run

from genlab.errors import UserError
from genlab.models import Transformer, initial, model_of
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import Examples, Task, Vocab, make, names, task_class
from genlab.training import Stream, fresh, train_stack
from genlab.training.batches import eval_offsets, positions_of, widest
from genlab.training.evaluate import eval_examples, greedy
from genlab.training.loop import precision

CASES = [
    ("addition", "reversed-hints", "abacus"),
    ("addition", "forward", "coupled"),
    ("copy", "unique", "coupled"),
    ("copy", "reverse", "coupled"),
]


def shape(task: Task, **options: Any) -> ModelConfig:
    return ModelConfig(d_vocab=len(task.vocab), n_ctx=task.n_ctx, n_layers=1, d_model=16, n_heads=2, **options)


def batch_of(task: Task, lengths: list[int], seed: int = 0) -> Examples:
    return task.sample(np.random.default_rng(seed), "id", lengths)


@pytest.mark.parametrize(("name", "format", "kind"), CASES)
def test_ids_are_moved_as_far_as_those_of_the_longest_examples_go(name: str, format: str, kind: str) -> None:
    task = make(name, max_len=9, format=format)
    batch = batch_of(task, [3, 2] * 400)
    cfg = shape(task, positions=kind, offsets="random")
    found = positions_of(task, batch, [1, 2], cfg)
    base = task.placed(batch, kind, widest(task, batch.lengths)).position_ids
    assert base is not None
    moved = found - base
    assert (moved[base == 0] == 0).all()
    shift = moved.max(axis=1)
    assert (moved == shift[:, None] * (base > 0)).all()
    for length in (3, 2):
        room = task.id_reach(kind, 9) - task.id_reach(kind, length)
        assert set(shift[batch.lengths == length]) == set(range(room + 1))
    assert found.max() < task.n_ctx


def test_random_positions_are_distinct_in_order_below_their_number_and_uniform() -> None:
    task = make("sort", max_len=5)
    batch = batch_of(task, [3] * 3000)
    found = positions_of(task, batch, [0], shape(task, random_positions=30))
    assert found.shape == (3000, widest(task, batch.lengths))
    assert (np.diff(found, axis=1) > 0).all()
    counts = np.bincount(found.ravel(), minlength=30)
    assert len(counts) == 30
    # Each of 30 places is among the 7 drawn with probability 7/30: within five standard deviations of it.
    assert abs(counts / 3000 - 7 / 30).max() < 5 * np.sqrt(7 / 30 * 23 / 30 / 3000)


@pytest.mark.parametrize("kind", ["abacus", "coupled"])
def test_random_places_keep_which_ids_are_equal_and_their_order(kind: str) -> None:
    task = make("addition", max_len=6, format="reversed-hints")
    batch = batch_of(task, [4, 3])
    base = positions_of(task, batch, [0], shape(task, positions=kind).model_copy(update={"n_ctx": 10_000}))
    found = positions_of(task, batch, [0], shape(task, positions=kind, random_positions=500))
    for ids, places in zip(base, found, strict=True):
        assert (np.sign(ids[:, None] - ids) == np.sign(places[:, None] - places)).all()
    assert (found[base == 0] == 0).all()
    assert found.max() > 50


def test_positions_are_those_of_the_seed_whatever_the_batch_is_padded_to() -> None:
    task = make("copy", max_len=8)
    batch = batch_of(task, [4, 2, 3])
    wider = Examples(
        *(np.pad(a, ((0, 0), (0, 5))) for a in (batch.tokens, batch.targets, batch.scored)), batch.lengths
    )
    for options in (
        {"positions": "coupled"},
        {"random_positions": 60},
        {"positions": "coupled", "random_positions": 60},
    ):
        cfg = shape(task, **options)
        first = positions_of(task, batch, [7], cfg)
        assert np.array_equal(first, positions_of(task, wider, [7], cfg))
        assert not np.array_equal(first, positions_of(task, batch, [8], cfg))


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "coupled"},
        {"positions": "rotary", "random_positions": 64},
        {"loop_growth": 0.5},
        {"attn_weights": "selective"},
        {"architecture": "lstm"},
    ],
)
def test_what_a_model_writes_is_right_in_a_teacher_forced_pass_too(options: dict[str, Any]) -> None:
    """Two models read what they wrote themselves, in the place of the true answer: every token of it is right."""
    task = make("copy", max_len=6)
    cfg = shape(task, init_std=0.1, **options)
    stack = model_of(cfg, initial(cfg, [3, 4]).double())
    batch = batch_of(task, [3] * 8)
    offsets = torch.from_numpy(positions_of(task, batch, [5], cfg)).expand(2, 8, -1)
    offsets = offsets if cfg.needs_ids else offsets[..., 0]
    lengths = torch.from_numpy(batch.lengths).expand(2, -1)
    prompts = torch.from_numpy(batch.tokens[:, :4])
    written = greedy(stack, prompts, 4, offsets, may_end=False, lengths=lengths)
    whole = torch.cat([prompts.expand(2, -1, -1), written[..., :-1]], dim=-1)
    logits = stack(whole, offsets, lengths=lengths)
    logits[..., Vocab.end] = float("-inf")
    assert torch.equal(logits[..., 3:, :].argmax(-1), written)
    assert len(written.unique()) > 2


@pytest.mark.parametrize("options", [{"positions": "coupled"}, {"random_positions": 64}, {"loop_growth": 0.5}])
def test_a_run_alone_and_in_a_stack_trains_alike(options: dict[str, Any]) -> None:
    task = make("copy", max_len=6)
    specs = [run(task, seed, model=options, steps=3, train_len=4, dtype="float64") for seed in (0, 1, 2)]
    together = train_stack(task, fresh(specs), torch.device("cpu"))
    (single,) = train_stack(task, fresh(specs[1:2]), torch.device("cpu"))
    assert together[1].history[-1]["loss"] == pytest.approx(single.history[-1]["loss"], rel=1e-9)
    assert torch.allclose(together[1].weights, single.weights, atol=1e-7)


def test_streams_of_plain_positions_give_what_they_gave_before() -> None:
    task = make("sort", max_len=6)
    made = Stream(task, TrainConfig(train_len=4, data_seed=3), shape(task))  # an old record: `offsets` is batch
    batch = made.batch(5)
    room = task.n_ctx - widest(task, batch.lengths)
    assert np.array_equal(made.offsets(5, batch), np.random.default_rng([5, 3, 5]).integers(0, room + 1, size=64))


def test_a_task_without_such_ids_says_so_in_one_line() -> None:
    task = make("sort", max_len=6)
    with pytest.raises(UserError, match=r"^task 'sort' gives no position ids .* 'abacus' \(it gives none\)$"):
        Stream(task, TrainConfig(train_len=4), shape(task, positions="abacus")).offsets(0, batch_of(task, [3]))


def test_initial_weights_of_tables_have_a_row_for_every_random_position() -> None:
    task = make("sort", max_len=6)
    cfg = shape(task, random_positions=99)
    assert Transformer(cfg, initial(cfg, [0])).params["pos_embed.W_pos"].shape == (1, 99, 16)


# -- one law everywhere ------------------------------------------------------------------------------------------

PLACED = [
    {"positions": "learned", "offsets": "random"},
    {"positions": "learned", "offsets": "zero"},
    {"positions": "learned", "offsets": "random", "random_positions": 90},
    {"positions": "rotary", "random_positions": 90, "offsets": "random"},
    {"positions": "coupled", "offsets": "random"},
    {"positions": "coupled", "offsets": "zero"},
    {"positions": "coupled", "offsets": "random", "random_positions": 90},
]


@pytest.mark.parametrize("options", PLACED, ids=lambda o: "-".join(map(str, o.values())))
def test_an_example_stands_where_it_stands_whatever_else_is_in_its_batch(options: dict[str, Any]) -> None:
    task = make("copy", max_len=12)
    cfg = shape(task, **options)
    short, mixed = [3, 5, 2, 4], [3, 12, 2, 7, 11, 9]
    alone, beside = (batch_of(task, lengths) for lengths in (short, mixed))
    one, other = (positions_of(task, batch, [4], cfg) for batch in (alone, beside))
    for row in (0, 2):  # the rows whose lengths are the same
        if cfg.needs_ids:
            own = task.width(short[row]) - 1
            assert np.array_equal(one[row, :own], other[row, :own])
        else:
            assert one[row] == other[row]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [*PLACED, {"positions": "alibi"}], ids=lambda o: "-".join(map(str, o.values())))
def test_logits_of_an_example_do_not_depend_on_the_rest_of_its_batch(options: dict[str, Any], dtype: str) -> None:
    """To 1e-5 in float32; to 0.05 of logits of size 1 under bfloat16, which rounds each product to 8 bits."""
    task = make("copy", max_len=12)
    cfg = shape(task, init_std=0.3, **options)
    stack = model_of(cfg, initial(cfg, [3, 4]))
    rng = np.random.default_rng(0)
    alone = task.sample(rng, "id", [3, 5])
    wide = task.sample(rng, "id", [12, 12, 9])
    pad = ((0, 0), (0, wide.tokens.shape[1] - alone.tokens.shape[1]))
    tokens = np.concatenate([np.pad(alone.tokens, pad), wide.tokens])
    blank = Examples(tokens, tokens, tokens > 0, np.concatenate([alone.lengths, wide.lengths]))
    found = []
    for batch in (alone, blank):
        offsets = torch.from_numpy(positions_of(task, batch, [4], cfg))
        with precision(dtype, torch.device("cpu")), torch.no_grad():
            found.append(stack(torch.from_numpy(batch.tokens), offsets.expand(2, *offsets.shape)).float())
    for row, length in enumerate((3, 5)):
        own = task.width(length) - 1
        ours, theirs = found[0][:, row, :own], found[1][:, row, :own]
        assert (ours - theirs).abs().max() < (1e-5 if dtype == "float32" else 0.05) * max(
            1.0, float(ours.abs().max())
        )


def shapes_of(name: str) -> list[tuple[Task, ModelConfig]]:
    """A task in each of its formats, with every encoding of positions that it can have."""
    found = []
    for format in task_class(name).formats:
        task = make(name, max_len=10, format=format)
        kinds = ["learned", "random", *(k for k in task.id_kinds if not refused(task, k))]
        for kind in kinds if not task.d_values else []:
            places = {"random_positions": 3 * task.n_ctx} if kind == "random" else {"positions": kind}
            found.append((task, shape(task, offsets="random", **places)))
    return found


def refused(task: Task, kind: str) -> bool:
    try:
        task.check_ids(kind)
    except UserError:
        return True
    return False


@pytest.mark.parametrize("name", [name for name in names() if name != "maze"])  # drawing takes long
def test_evaluation_and_probes_stand_where_training_has_stood(name: str) -> None:
    """Per length, places of an evaluation and those that training met are two samples of one law."""
    for task, cfg in shapes_of(name):
        lengths = task.lengths_between(task.train_split, 0, max(task.max_len // 2, task.min_len(task.split("id"))))
        spans = {"train_len": int(lengths[-1]), "min_len": int(lengths[0]), "train_split": task.train_split}
        made = Stream(task, TrainConfig(**spans, batch_size=64, lengths_per_batch=8), cfg)
        met: dict[int, list[int]] = {}
        for step in range(40):
            batch = made.batch(step)
            for length, place in zip(batch.lengths.tolist(), firsts(made.offsets(step, batch)), strict=True):
                met.setdefault(length, []).append(place)
        often = sorted(length for length, places in met.items() if len(places) >= 100)
        assert often
        for length in {often[0], often[-1]}:
            split = task.split(task.train_split).at((length,), 400, 1)
            evaluated = firsts(eval_offsets(task, eval_examples(task, split, length), 1, cfg))
            assert ks_2samp(met[length], evaluated).pvalue > 1e-6, (task.format, cfg.positions, length)


def firsts(positions: np.ndarray) -> list[int]:
    """Where each example stands: its offset, or the largest of its ids (that of its last token moves with all)."""
    return (positions if positions.ndim == 1 else positions.max(axis=1)).tolist()
