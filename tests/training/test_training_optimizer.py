"""The stacked optimiser against torch's own, one run at a time; the learning rate against its definition."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_runs import first, run
from torch import Tensor

from genlab.models import count, views
from genlab.models.kinds import decay_mask
from genlab.spec import RunSpec, TrainConfig
from genlab.training.optimizer import Adam, learning_rate

CASES: tuple[dict[str, Any], ...] = (
    {"lr": 0.01, "weight_decay": 0.3, "grad_clip": 1.0},
    {"lr": 0.1, "weight_decay": 0.0, "grad_clip": 0.0},
    {"lr": 0.003, "weight_decay": 2.0, "grad_clip": 50.0, "warmup": 3, "schedule": "constant"},
)
"""Three runs of one stack: each with its own learning rate, schedule, weight decay and clip."""


def specs(**shared: Any) -> list[RunSpec]:
    return [run(first(), seed, steps=8, **{**shared, **case}) for seed, case in enumerate(CASES)]


def gradients(cfg_size: int, steps: int) -> Tensor:
    """Small and large ones, so that some are clipped."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.001, 0.5, 3.0, 0.1]).repeat(steps)[:steps, None, None]
    return scale.double() * torch.randn(steps, len(CASES), cfg_size, generator=generator, dtype=torch.float64)


def by_torch(spec: RunSpec, weights: Tensor, grads: Tensor) -> list[Tensor]:
    """The weights after each step of torch's optimiser on one run, decaying and other parameters in two groups."""
    train = spec.train
    decays = views(decay_mask(spec.model, train.decay)[None], spec.model)
    params = {name: w[0].clone().requires_grad_() for name, w in views(weights[None].clone(), spec.model).items()}
    groups = [
        {"params": [p for name, p in params.items() if bool(decays[name].any()) == on], "weight_decay": decay}
        for on, decay in ((True, train.weight_decay), (False, 0.0))
    ]
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind([g for g in groups if g["params"]], lr=train.lr, betas=train.betas, eps=train.eps)
    found = []
    for step, grad in enumerate(grads):
        for name, g in views(grad[None].clone(), spec.model).items():
            params[name].grad = g[0]
        if train.grad_clip:
            torch.nn.utils.clip_grad_norm_(params.values(), train.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(train, step)
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in params.values()]))
    return found


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("decay", ["matrices", "linear", "all"])
def test_every_run_of_a_stack_steps_as_torch_does(optimizer: str, decay: str) -> None:
    made = specs(optimizer=optimizer, decay=decay, betas=(0.8, 0.95), eps=1e-4)
    size = count(made[0].model)
    grads = gradients(size, 8)
    start = torch.randn(3, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat, zeros = start.clone(), torch.zeros_like(start)
    ours = Adam(made[0].model, [s.train for s in made], zeros, zeros.clone())
    wanted = [by_torch(spec, start[i], grads[:, i]) for i, spec in enumerate(made)]
    for step in range(8):
        ours.update(
            flat, grads[step].clone(), grads[step].norm(dim=1), ours.rates(step), torch.ones(3, dtype=torch.bool)
        )
        for i in range(3):
            assert torch.allclose(flat[i], wanted[i][step], rtol=1e-12, atol=1e-13), (step, i)


def test_a_run_that_is_not_alive_keeps_its_weights_and_the_others_do_not_notice() -> None:
    made = specs()
    size = count(made[0].model)
    grads = gradients(size, 2)
    start = torch.randn(3, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for alive in ([True, True, True], [True, True, False]):
        flat, zeros = start.clone(), torch.zeros_like(start)
        optimizer = Adam(made[0].model, [s.train for s in made], zeros, zeros.clone())
        for step in range(2):
            given = grads[step].clone()
            if not alive[2]:
                given[2] = float("nan")
            optimizer.update(flat, given, given.norm(dim=1), optimizer.rates(step), torch.tensor(alive))
        found.append(flat)
    assert torch.equal(found[1][2], start[2])
    assert not torch.equal(found[0][2], start[2])
    assert torch.equal(found[0][:2], found[1][:2])


def rates(**given: Any) -> list[float]:
    train = TrainConfig(**{"train_len": 5, "lr": 2.0, **given})
    return [learning_rate(train, step) for step in range(train.steps)]


def test_learning_rate_warms_up_linearly() -> None:
    assert rates(steps=8, warmup=4, schedule="constant") == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert rates(steps=3, schedule="constant") == [2.0, 2.0, 2.0]


def test_learning_rate_falls_on_a_cosine() -> None:
    assert rates(steps=4) == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)])
    # from the end of warm-up to final_lr times lr, which the step after the last would have
    assert rates(steps=6, warmup=2, final_lr=0.5) == pytest.approx(
        [1.0, 2.0, 2.0, 1.5 + 0.5 * math.sqrt(0.5), 1.5, 1.5 - 0.5 * math.sqrt(0.5)]
    )
    train = TrainConfig(train_len=5, lr=2.0, steps=6, warmup=2, final_lr=0.5)
    assert learning_rate(train, 6) == pytest.approx(1.0)


def test_learning_rate_falls_on_a_line() -> None:
    assert rates(steps=4, schedule="linear") == [2.0, 1.5, 1.0, 0.5]
    assert rates(steps=6, warmup=2, final_lr=0.5, schedule="linear") == [1.0, 2.0, 2.0, 1.75, 1.5, 1.25]


def test_learning_rate_when_warm_up_is_all_there_is() -> None:
    assert rates(steps=2, warmup=4) == [0.5, 1.0]
    assert rates(steps=2, warmup=2) == [1.0, 2.0]
