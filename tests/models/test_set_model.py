"""The set model against its definition, one item at a time, and what holds of any function of sets."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from genlab.models import SetModel, Transformer, count, model_of
from genlab.spec import ModelConfig


def config(**given: object) -> ModelConfig:
    sizes = {"d_vocab": 5, "n_ctx": 9, "d_model": 6, "n_heads": 3, "d_head": 4, "d_mlp": 7, "d_values": 3}
    return ModelConfig.model_validate({**sizes, **given})


def model(cfg: ModelConfig, runs: int = 1) -> SetModel:
    generator = torch.Generator().manual_seed(0)
    return SetModel(cfg, 0.5 * torch.randn(runs, count(cfg), generator=generator, dtype=torch.float64))


def some_values(*shape: int) -> Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def at_end_of(lengths: list[int], pos: int, runs: int) -> Tensor:
    """Queries after so many items each, as places in batch * pos."""
    return torch.tensor([row * pos + length for row, length in enumerate(lengths)]).expand(runs, -1)


def twin(stack: SetModel, run: int, items: Tensor, query: Tensor) -> Tensor:
    """Logits `[d_vocab]` from the definition: an MLP on each item and on the query, attention, an MLP."""
    w = {name: weights[run] for name, weights in stack.params.items()}

    def linear(place: str, name: str, x: Tensor) -> Tensor:
        y = x @ w[f"{place}.W_{name}"]
        return y + w[f"{place}.b_{name}"] if stack.cfg.bias else y

    def mlp(name: str, x: Tensor) -> Tensor:
        hidden = linear(f"{name}.mlp", "in", x)
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        return linear(f"{name}.mlp", "out", hidden)

    q = linear("blocks.0.attn", "Q", mlp("query", query))
    keys_and_values = [linear("blocks.0.attn", "KV", mlp("items", item)) for item in items]
    width, heads = stack.cfg.d_head, stack.cfg.n_heads
    z: list[Tensor] = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        weights = [math.exp(float(q[own] @ kv[own]) / math.sqrt(width)) for kv in keys_and_values]
        mixed = [a / sum(weights) * kv[heads * width :][own] for a, kv in zip(weights, keys_and_values, strict=True)]
        z.append(torch.stack(mixed).sum(dim=0))
    return mlp("answer", linear("blocks.0.attn", "O", torch.cat(z)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("runs", [1, 3])
def test_logits_are_those_of_the_definition_at_mixed_sizes(runs: int, bias: bool) -> None:
    stack, lengths = model(config(bias=bias), runs), [2, 5, 1, 2, 4]
    values = some_values(runs, 5, 7)
    logits = stack(values, at=at_end_of(lengths, 7, runs))
    for run in range(runs):
        for row, length in enumerate(lengths):
            wanted = twin(stack, run, values[run, row, :length], values[run, row, length])
            torch.testing.assert_close(logits[run, row], wanted)


def test_the_order_of_items_and_what_follows_the_query_do_not_matter() -> None:
    stack, values = model(config(), runs=2), some_values(2, 4, 8)
    at = at_end_of([5, 5, 3, 5], 8, 2)
    logits = stack(values, at=at)
    values[:, :, :3] = values[:, :, [2, 0, 1]]
    values[:, :, 6:] += 1
    torch.testing.assert_close(stack(values, at=at), logits)
    values[:, :, 0] += 1
    assert not torch.allclose(stack(values, at=at), logits)


def test_without_places_the_last_position_is_the_query() -> None:
    stack, values = model(config()), some_values(4, 6)
    torch.testing.assert_close(stack(values), stack(values, at=at_end_of([5] * 4, 6, 1)))
    assert stack(values).shape == (4, 5)  # a stack of one drops its run axis


@pytest.mark.parametrize("runs", [1, 2])
def test_taps_see_attention_and_may_change_it(runs: int) -> None:
    stack, values = model(config(), runs), some_values(runs, 4, 6)
    seen: dict[str, Tensor] = {}

    def look(name: str, x: Tensor) -> Tensor:
        seen[name] = x
        return x

    torch.testing.assert_close(stack(values, tap=look), stack(values))
    pattern = seen["blocks.0.attn.hook_pattern"]
    assert pattern.shape == (runs, 4, 3, 1, 5)  # run, batch, head, query, key
    torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern.sum(-1)))

    def first_item_alone(name: str, x: Tensor) -> Tensor:
        return torch.eye(5, dtype=x.dtype)[0].expand_as(x) if name.endswith("pattern") else x

    only = torch.cat([values[:, :, :1], values[:, :, -1:]], dim=2)
    torch.testing.assert_close(stack(values, tap=first_item_alone), stack(only))


def test_dropout_reaches_items_query_and_attention() -> None:
    shapes: list[torch.Size] = []

    def drop(x: Tensor) -> Tensor:
        shapes.append(x.shape)
        return 0 * x

    stack = model(config())
    logits = stack(some_values(1, 4, 6), drop=drop)
    assert sorted(map(tuple, shapes)) == [(1, 4, 3, 1, 5), (1, 4, 5, 6), (1, 4, 6)]
    torch.testing.assert_close(logits, logits[:, :1].expand_as(logits))  # nothing of the values is left


def test_queries_that_are_not_one_an_example_are_refused() -> None:
    stack, values = model(config(), runs=2), some_values(2, 3, 6)
    for places in ([[5, 11], [5, 11]], [[5, 11, 17], [5, 11, 16]], [[5, 4, 17], [5, 4, 17]]):
        with pytest.raises(ValueError, match="one query per example"):
            stack(values, at=torch.tensor(places))


def test_a_configuration_says_which_model_it_is() -> None:
    cfg = config()
    assert (cfg.n_layers, cfg.positions, cfg.final_norm) == (1, "none", False)
    assert isinstance(model_of(cfg, torch.zeros(2, count(cfg))), SetModel)
    other = config(d_values=0)
    assert isinstance(model_of(other, torch.zeros(2, count(other))), Transformer)
    for given in ({"n_layers": 2}, {"positions": "rotary"}, {"normalization_type": "LN"}, {"attn_only": True}):
        with pytest.raises(ValidationError, match=f"conflicts: {next(iter(given))}"):
            config(**given)
    with pytest.raises(ValueError, match="3 weights given"):
        SetModel(cfg, torch.zeros(1, 3))
