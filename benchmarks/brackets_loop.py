"""The published bracket protocol in a plain loop that shares no code with the lab.

    python benchmarks/brackets_loop.py --seeds 60:62                    # three layers, weight decay .01, as published
    python benchmarks/brackets_loop.py --seeds 60:62 --decay 0
    python benchmarks/brackets_loop.py --seeds 60:62 --logits vocab     # the lab's unembedding, over all tokens

Does weight decay move three layers to counting? Li et al. 2025 (arXiv 2507.06445): a small GPT reads start, brackets,
end, and answers with two logits at the end whether the string is nested; 200,000 distinct strings, half of them
nested, the others of unequal counts; five passes in batches of 8, Adam at 1e-4 with L2 on all parameters. Every 5,000
updates a row goes into `results/brackets-loop.csv`: accuracy on 1,000 strings like the training ones, and on 1,000
shuffles of equal counts that are not nested. To be held against `recipes/study-2-pilot-published.toml`
(docs/decisions/0461).
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = Path(__file__).parent / "results" / "brackets-loop.csv"
COLUMNS = ("layers", "decay", "logits", "seed", "step", "loss", "inside", "equal_counts", "seconds")
PAD, START, END, OPEN, CLOSE = range(5)
LONGEST, WIDTH, HEADS = 40, 64, 2


# -- Strings


def pairs_law(rng: np.random.Generator) -> int:
    """Half the length of a string: 1 + Binomial(19, .5)."""
    return 1 + int(rng.binomial(19, 0.5))


def dyck(pairs: int, rng: np.random.Generator) -> tuple[int, ...]:
    """A uniform Dyck word, by the cycle lemma: of the rotations of n + 1 opening and n closing brackets exactly one
    stays above 0, and without its first bracket it is a uniform Dyck word."""
    steps = rng.permutation([1] * (pairs + 1) + [-1] * pairs)
    first = int(np.argmin(np.cumsum(steps)[::-1]))  # after the last minimum
    rotated = np.roll(steps, first)
    return tuple(OPEN if step > 0 else CLOSE for step in rotated[1:])


def unequal(pairs: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Uniform brackets, drawn anew while their counts are equal."""
    while True:
        found = rng.integers(OPEN, CLOSE + 1, size=2 * pairs)
        if int((found == OPEN).sum()) != pairs:
            return tuple(found.tolist())


def nested(string: tuple[int, ...]) -> bool:
    """Never below depth 0, and at 0 in the end."""
    depth = np.cumsum([1 if token == OPEN else -1 for token in string])
    return bool(depth.min() >= 0 and depth[-1] == 0)


def shuffled(pairs: int, rng: np.random.Generator) -> tuple[int, ...]:
    """A shuffle of equal counts that is not nested."""
    while True:
        found = tuple(rng.permutation([OPEN, CLOSE] * pairs).tolist())
        if not nested(found):
            return found


def training_strings(count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Distinct strings, half of them nested; a repeated one is drawn anew, its length too."""
    found: dict[tuple[int, ...], None] = {}
    for draw in (dyck, unequal):
        wanted = len(found) + count // 2
        while len(found) < wanted:
            found.setdefault(draw(pairs_law(rng), rng))
    return list(found)


def batch_of(strings: list[tuple[int, ...]]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens `[batch, 2 + longest]`, the place of each end, and whether each string is nested."""
    width = 2 + max(map(len, strings))
    tokens = torch.full((len(strings), width), PAD)
    for row, string in zip(tokens, strings, strict=True):
        row[: len(string) + 2] = torch.tensor([START, *string, END])
    ends = torch.tensor([len(string) + 1 for string in strings])
    return tokens, ends, torch.tensor([int(nested(string)) for string in strings])


# -- The model


class Block(nn.Module):
    """Causal attention and an MLP, each after a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """x `[batch, pos, WIDTH]`."""
        q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in self.qkv(self.ln1(x)).chunk(3, -1))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(z.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Reader(nn.Module):
    """Answers at the end of each string."""

    def __init__(self, layers: int, logits: int, rng: torch.Generator):
        super().__init__()
        self.tokens, self.places = nn.Embedding(5, WIDTH), nn.Embedding(LONGEST + 2, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(layers)), nn.LayerNorm(WIDTH)
        self.answer = nn.Linear(WIDTH, logits, bias=False)
        for name, p in self.named_parameters():
            with torch.no_grad():
                if p.ndim > 1:
                    into_residual = name.endswith(("out.weight", "down.weight"))
                    p.normal_(0.0, 0.02 / math.sqrt(2 * layers) if into_residual else 0.02, generator=rng)
                elif name.endswith("bias"):
                    p.zero_()

    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Logits `[batch, logits]`."""
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.answer(self.norm(x[torch.arange(len(ends)), ends]))


@torch.no_grad()
def accuracy(model: Reader, strings: list[tuple[int, ...]]) -> float:
    """Fraction of right answers."""
    tokens, ends, targets = batch_of(strings)
    return float((model(tokens, ends).argmax(1) == targets).float().mean())


def train(args: argparse.Namespace, seed: int) -> None:
    """Train one model, and add its rows."""
    rng = np.random.default_rng(seed)
    pool = training_strings(args.pool, rng)
    tests = [training_strings(1000, rng), [shuffled(pairs_law(rng), rng) for _ in range(1000)]]
    model = Reader(args.layers, 5 if args.logits == "vocab" else 2, torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=args.decay)
    began, step = time.process_time(), 0
    for _ in range(5):
        order = rng.permutation(len(pool))
        for rows in order.reshape(-1, 8):
            tokens, ends, targets = batch_of([pool[row] for row in rows])
            loss = F.cross_entropy(model(tokens, ends), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % args.look == 0:
                read = [f"{accuracy(model, strings):.4f}" for strings in tests]
                row = (args.layers, args.decay, args.logits, seed, step, f"{loss.item():.2g}", *read)
                with ROWS.open("a", newline="") as file:
                    csv.writer(file).writerow((*row, f"{time.process_time() - began:.0f}"))
                print(*row, flush=True)


def main() -> None:
    """Train the seeds asked for that are not trained to their end yet; one that was interrupted starts anew."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", default="60:62")
    asked.add_argument("--layers", type=int, default=3)
    asked.add_argument("--decay", type=float, default=0.01)
    asked.add_argument("--logits", choices=("two", "vocab"), default="two")
    asked.add_argument("--pool", type=int, default=200_000, help="strings; five passes")
    asked.add_argument("--look", type=int, default=5_000, help="updates between rows")
    args = asked.parse_args()
    if not ROWS.exists():
        ROWS.write_text(",".join(COLUMNS) + "\n")
    last = 5 * args.pool // 8
    first, beyond = map(int, args.seeds.split(":"))
    for seed in range(first, beyond):
        key = [str(args.layers), str(args.decay), args.logits, str(seed)]
        with ROWS.open() as file:
            kept = list(csv.reader(file))
        if any(row[:4] == key and row[4] == str(last) for row in kept[1:]):
            continue
        with ROWS.open("w", newline="") as file:
            csv.writer(file).writerows(row for row in kept if row[:4] != key)
        train(args, seed)


if __name__ == "__main__":
    main()
