"""One step of a stack: where the loss is taken, its gradient, dropout, precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import first, parity, run, runs
from torch import Tensor
from torch.nn import functional as F

from genlab.models import Transformer
from genlab.spec import RunSpec
from genlab.tasks import Examples, Task, Vocab, make
from genlab.training import Stream, fresh
from genlab.training import batches as batches_module
from genlab.training.batches import Places, arrange, pack_tokens, shortest_first, stack_examples, to_device
from genlab.training.loop import dropout, losses_and_gradients, precision

CPU = torch.device("cpu")


def model_of(specs: list[RunSpec]) -> Transformer:
    return Transformer(specs[0].model, torch.stack([s.weights for s in fresh(specs)]).double())


def batches_of(task: Task, specs: list[RunSpec], step: int = 0) -> list[Examples]:
    return [Stream(task, spec.train).batch(step) for spec in specs]


def placed(model: Transformer, batches: list[Examples], loss: str = "scored") -> Places:
    offsets = np.zeros((len(batches), len(batches[0])), np.int64)
    return to_device(arrange(stack_examples(batches), offsets, loss), model.flat)


def plain_loss(model: Transformer, run_index: int, batch: Examples, where: np.ndarray) -> Tensor:
    """Mean cross-entropy of one run, place by place."""
    single = Transformer(model.cfg, model.flat[run_index : run_index + 1])
    logits = single(torch.from_numpy(batch.tokens))
    each = [
        -F.log_softmax(logits[row, column], dim=-1)[int(batch.targets[row, column])]
        for row, column in zip(*np.nonzero(where), strict=True)
    ]
    return torch.stack(each).mean()


@pytest.mark.parametrize("loss", ["scored", "all", "trained"])
@pytest.mark.parametrize("task", [first(), parity("scratchpad")], ids=lambda task: task.name)
def test_loss_is_the_mean_over_a_run_s_own_places(task: Task, loss: str) -> None:
    """Of runs whose numbers of places and widths differ; `trained` is what a task says, in place of `scored`."""
    specs = runs(task, [0, 1, 2, 3], min_len=5)
    model, batches = model_of(specs), batches_of(task, specs)
    if loss == "trained":
        batches = [replace(b, trained=b.scored & (np.arange(len(b)) % 2 == 0)[:, None]) for b in batches]
    found, gradients = losses_and_gradients(model, placed(model, batches, "all" if loss == "all" else "scored"))
    counts = set()
    for i, batch in enumerate(batches):
        where = {"scored": batch.scored, "all": batch.targets != Vocab.pad, "trained": batch.trained}[loss]
        counts.add(int(where.sum()))
        flat = model.flat.clone().requires_grad_()
        wanted = plain_loss(Transformer(model.cfg, flat), i, batch, where)
        assert found[i].item() == pytest.approx(wanted.item(), rel=1e-12)
        gradient = torch.autograd.grad(wanted, flat)[0]
        assert torch.allclose(gradients[i], gradient[i], rtol=1e-9, atol=1e-14)
    assert len(counts) > 1


def test_a_fresh_model_gives_every_token_about_the_same_chance() -> None:
    specs = runs(first(), [0, 1], model={"init_std": 1e-4})
    model = model_of(specs)
    losses, _ = losses_and_gradients(model, placed(model, batches_of(first(), specs)))
    assert torch.allclose(losses, torch.full_like(losses, np.log(6)), atol=1e-3)


# -- dropout -----------------------------------------------------------------------------------------------------


def test_masks_come_from_the_run_and_the_step_and_not_from_the_stack() -> None:
    specs = runs(first(), [0, 1, 2], dropout=0.25)
    x = torch.ones(3, 5, 7)

    def masks(chosen: list[int], step: int) -> list[Tensor]:
        drop = made_drop([specs[i] for i in chosen], step)
        return [drop(x[chosen]), drop(x[chosen])]

    together = masks([0, 1, 2], 4)
    assert not torch.equal(*together)  # each call draws anew
    for chosen in ([1], [2, 1], [1, 0]):
        for mask, wanted in zip(masks(chosen, 4), together, strict=True):
            assert torch.equal(mask[chosen.index(1)], wanted[1])
    assert not torch.equal(together[0][0], together[0][1])
    assert not torch.equal(masks([1], 5)[0][0], together[0][1])


def made_drop(specs: list[RunSpec], step: int = 0) -> Callable[[Tensor], Tensor]:
    drop = dropout(specs, step, CPU)
    assert drop is not None
    return drop


def test_dropout_keeps_the_mean() -> None:
    dropped = made_drop(runs(first(), [0], dropout=0.2))(torch.ones(1, 100, 1000))
    assert dropped.unique().tolist() == [0.0, 1.25]
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.005)
    assert dropout(runs(first(), [0]), 0, CPU) is None


def test_dropout_reaches_embeddings_attention_and_both_sublayers() -> None:
    """A rate of nearly 1 leaves nothing but the final norm's shift: what is not dropped would show."""
    specs = runs(first(), [0], model={"n_layers": 2})
    model, seen = model_of(specs), []

    def drop(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return torch.zeros_like(x)

    tokens = torch.from_numpy(batches_of(first(), specs)[0].tokens)
    b, t = tokens.shape
    logits = model(tokens, drop=drop)
    block = [(1, b, 2, t, t), (1, b, t, 16), (1, b, t, 16)]  # pattern, attention out, MLP out
    assert seen == [(1, b, t, 16), *block, *block]
    assert torch.allclose(logits, logits[:1, :1].expand_as(logits))


def test_masks_do_not_depend_on_how_many_places_the_loss_has() -> None:
    specs = runs(first(), [0, 1], dropout=0.3, min_len=5)
    model, tokens = model_of(specs), torch.from_numpy(stack_examples(batches_of(first(), specs)).tokens)
    full = model(tokens, drop=made_drop(specs)).flatten(1, 2)
    for at in ([[3, 9], [8, 1]], [[0, 1, 2], [2, 1, 0]]):
        found = model(tokens, at=torch.tensor(at), drop=made_drop(specs))
        assert torch.allclose(found, torch.stack([full[i, at[i]] for i in range(2)]), atol=1e-12)


# -- precision ---------------------------------------------------------------------------------------------------


def settings() -> tuple[Any, ...]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.allow_tf32,
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )


@pytest.fixture(params=["unset", "highest", "high", "medium"])
def found_at(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param != "unset":
        torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16", "float64"])
def test_precision_leaves_torch_as_it_found_it(dtype: str, found_at: str) -> None:
    before = settings()
    with precision(dtype, CPU):
        assert torch.backends.cuda.matmul.allow_tf32 == (dtype == "tf32" or found_at in ("high", "medium"))
        assert torch.is_autocast_enabled("cpu") == (dtype == "bfloat16")
    assert settings() == before
    with pytest.raises(RuntimeError, match="on the way"), precision(dtype, CPU):
        raise RuntimeError("on the way")
    assert settings() == before


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi"])
def test_bfloat16_rounds_products_and_keeps_weights_and_losses(positions: str) -> None:
    specs = runs(first(), [0, 1], model={"positions": positions})
    model = Transformer(specs[0].model, model_of(specs).flat.float())
    batch = placed(model, batches_of(first(), specs))
    exact, exact_gradients = losses_and_gradients(model, batch)
    with precision("bfloat16", CPU):
        losses, gradients = losses_and_gradients(model, batch)
    assert losses.dtype == gradients.dtype == torch.float32
    assert torch.allclose(losses, exact, rtol=0.02)
    assert not torch.equal(losses, exact)
    cosine = F.cosine_similarity(gradients, exact_gradients, dim=1)
    assert (cosine > 0.99).all()


def test_float64_runs_start_from_the_same_weights() -> None:
    single, double = (fresh([run(first(), 7, dtype=dtype)])[0] for dtype in ("float32", "float64"))
    assert double.weights.dtype == torch.float64
    assert torch.equal(double.weights, single.weights.double())


# -- packing -------------------------------------------------------------------------------------------------------

PACKED = [
    {},
    {"attn_only": True},
    {"n_layers": 1},
    {"loops": 2},
    {"positions": "rotary", "random_positions": 40},
    {"attn_weights": "stick-breaking"},
    {"attn_weights": "selective", "positions": "sinusoidal"},
    {"attn_weights": "scalable-entmax"},
    {"normalization_type": "RMS", "bias": False, "tie_word_embeddings": True},
    *({"positions": name} for name in ("none", "rotary", "alibi", "hard-alibi", "t5", "fire", "coupled")),
]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("loss", ["scored", "all"])
@pytest.mark.parametrize("options", PACKED, ids=lambda o: "-".join(map(str, o.values())) or "plain")
def test_a_packed_batch_gives_the_loss_and_gradients_of_the_padded_one(
    options: dict[str, Any], loss: str, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two runs whose examples differ in width, at offsets of their own, with attention in one or three groups."""
    monkeypatch.setattr(batches_module, "_GROUP_ABOVE", 0)
    monkeypatch.setattr(batches_module, "_GROUPS", groups)
    task = make("copy", 12, format="unique") if options.get("positions") == "coupled" else first(12)
    shape = {"n_layers": 2, "offsets": "random", **options}
    specs = runs(task, [0, 1], model=shape, batch_size=12, lengths_per_batch=12, train_len=10)
    model = model_of(specs)
    streams = [Stream(task, spec.train, spec.model) for spec in specs]
    batches = [stream.batch(0) for stream in streams]
    own = [stream.offsets(0, batch) for stream, batch in zip(streams, batches, strict=True)]
    batches, own = zip(*(shortest_first(*pair) for pair in zip(batches, own, strict=True)), strict=True)
    reach = max(a.shape[-1] for a in own)
    offsets = np.stack([a if a.ndim == 1 else np.pad(a, ((0, 0), (0, reach - a.shape[1])), mode="edge") for a in own])
    stacked = stack_examples(list(batches))
    arrays, fields = arrange(stacked, offsets, loss), pack_tokens(stacked, specs[0].model)
    assert fields["packed_groups"].shape[1] == groups
    assert 0 < fields["packed_places"].shape[1] < 0.87 * 12 * stacked.tokens.shape[-1]
    (losses, gradients), (wanted, padded) = (
        losses_and_gradients(model, to_device(each, model.flat)) for each in (arrays | fields, arrays)
    )
    assert torch.allclose(losses, wanted, rtol=1e-10)
    assert torch.allclose(gradients, padded, rtol=1e-8, atol=1e-12)
    assert gradients.abs().max() > 1e-3


def test_batches_with_little_padding_and_models_that_take_none_are_not_packed() -> None:
    task = first(12)
    even = stack_examples([task.sample(np.random.default_rng(0), "id", [9, 9, 9, 10])])
    uneven = stack_examples([task.sample(np.random.default_rng(0), "id", [1, 2, 1, 10])])
    cfg = run(task).model
    assert pack_tokens(even, cfg) == {}
    assert pack_tokens(uneven, cfg)
    assert pack_tokens(uneven, run(task, model={"loop_growth": 0.5}).model) == {}
    assert pack_tokens(uneven, run(task, model={"architecture": "lstm"}).model) == {}
