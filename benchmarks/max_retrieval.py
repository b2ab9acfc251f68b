"""Max retrieval in a plain loop that shares no code with the lab: what in the protocol sets the level of the curve?

    python benchmarks/max_retrieval.py --seeds 0:3                             # the protocol, at a constant rate
    python benchmarks/max_retrieval.py --seeds 0:3 --schedule cosine
    python benchmarks/max_retrieval.py --seeds 0:3 --steps 20000 --init lecun

Sets of 5 to 16 items, each a priority from U(0, 1) and one of 10 classes; MLPs for items and query, attention of one
head from the query, an output MLP; width 128, AdamW at 1e-3 with weight decay 1e-3, batches of 128 (Velickovic et al.
2024, arXiv 2410.01104). The sources leave open how many steps, whether the rate falls, and how weights start; these
are options. Rows go into `results/max-retrieval.csv`: accuracy by number of items. The claims `softmax-disperses`
and `adaptive-temperature` are held against it.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = Path(__file__).parent / "results" / "max-retrieval.csv"
COLUMNS = ("schedule", "steps", "init", "decay", "seed", "items", "n", "accuracy", "largest_weight", "seconds")
CLASSES, WIDTH = 10, 128
ITEMS = [2**k for k in range(4, 15)]


class SetReader(nn.Module):
    """One head that reads a set from a query."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Sequential(nn.Linear(1 + CLASSES, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.query = nn.Sequential(nn.Linear(1, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.answer = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, CLASSES))

    def forward(self, items: Tensor, query: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[batch, CLASSES]` and attention weights `[batch, item]`; `there` masks the items of each set."""
        x, y = self.items(items), self.query(query)
        scores = torch.einsum("bd,bnd->bn", self.q(y), self.k(x)) / math.sqrt(WIDTH)
        weights = scores.masked_fill(~there, -torch.inf).softmax(-1)
        return self.answer(self.o(torch.einsum("bn,bnd->bd", weights, self.v(x)))), weights


def draw(n: int, sizes: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Items `[n, most, 1 + CLASSES]`, queries `[n, 1]`, mask `[n, most]` and targets `[n]`."""
    most = int(sizes.max())
    priorities, classes = torch.rand(n, most, generator=rng), torch.randint(CLASSES, (n, most), generator=rng)
    there = torch.arange(most) < sizes[:, None]
    largest = priorities.masked_fill(~there, -1.0).argmax(1, keepdim=True)
    items = torch.cat([priorities[..., None], F.one_hot(classes, CLASSES).float()], -1)
    return items, torch.rand(n, 1, generator=rng), there, classes.gather(1, largest).squeeze(1)


def start(model: SetReader, init: str, rng: torch.Generator) -> None:
    """Draw initial weights: `lecun` (normal, variance 1 / fan in), `normal` (deviation .1), `torch` (uniform)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            with torch.no_grad():
                module.bias.zero_()
                if init == "torch":
                    module.weight.uniform_(-bound, bound, generator=rng)
                else:
                    module.weight.normal_(0.0, 0.1 if init == "normal" else bound, generator=rng)


def trained(seed: int, steps: int, schedule: str, init: str, decay: str) -> SetReader:
    """Train one model."""
    rng, model = torch.Generator().manual_seed(seed), SetReader()
    start(model, init, rng)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 1e-3},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 1e-3 if decay == "all" else 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / steps)))
        items, query, there, target = draw(128, torch.randint(5, 17, (128,), generator=rng), rng)
        loss = F.cross_entropy(model(items, query, there)[0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def accuracy(model: SetReader, size: int, n: int, rng: torch.Generator) -> tuple[float, float]:
    """Accuracy and mean largest attention weight on `n` sets of one size."""
    right, largest, block = 0, 0.0, max(1, min(n, 2**18 // size))
    for first in range(0, n, block):
        here = min(block, n - first)
        items, query, there, target = draw(here, torch.full((here,), size), rng)
        logits, weights = model(items, query, there)
        right += int((logits.argmax(1) == target).sum())
        largest += float(weights.amax(1).sum())
    return right / n, largest / n


def main() -> None:
    """Train and evaluate the seeds asked for that have no rows yet."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", default="0:3")
    asked.add_argument("--steps", type=int, default=5000)
    asked.add_argument("--schedule", choices=("constant", "cosine"), default="constant")
    asked.add_argument("--init", choices=("lecun", "normal", "torch"), default="lecun")
    asked.add_argument("--decay", choices=("matrices", "all"), default="all")
    args = asked.parse_args()
    first, last = map(int, args.seeds.split(":"))
    done: set[tuple[str, ...]] = set()
    if ROWS.exists():
        with ROWS.open() as file:
            done = {tuple(row[name] for name in COLUMNS[:5]) for row in csv.DictReader(file)}
    else:
        ROWS.write_text(",".join(COLUMNS) + "\n")
    for seed in range(first, last):
        recipe = (args.schedule, str(args.steps), args.init, args.decay, str(seed))
        if recipe in done:
            continue
        began = time.process_time()
        model = trained(seed, args.steps, args.schedule, args.init, args.decay)
        seconds, rng, curve = time.process_time() - began, torch.Generator().manual_seed(10_000 + seed), []
        for size in ITEMS:
            n = 1024 if size <= 1024 else 256
            value, largest = accuracy(model, size, n, rng)
            curve.append((*recipe, size, n, f"{value:.4f}", f"{largest:.4f}", f"{seconds:.0f}"))
        with ROWS.open("a", newline="") as file:
            csv.writer(file).writerows(curve)
        print(*recipe, " ".join(row[7] for row in curve), f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
