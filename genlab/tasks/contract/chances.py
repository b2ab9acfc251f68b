"""Clauses on distributions: symbols, mixed lengths, chance, and what training shares with the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from genlab.tasks.base import Examples, Ints, Task, Vocab
from genlab.tasks.contract.batches import answer_keys, draw, lengths_of, prompt_keys, splits_of, whole
from genlab.tasks.contract.chisquare import fit_z, homogeneity_z

__all__ = [
    "draws_tokens_as_it_says",
    "keeps_test_from_training",
    "knows_its_chance",
    "mixes_lengths_without_bias",
]

_FAR = 5.0
"""Standard deviations beyond which a count is no chance: one in three million."""


def draws_tokens_as_it_says(task: Task) -> Iterator[str]:
    """Where `token_shares` says how often tokens stand in prompts, they do (chi-square, one place an example)."""
    for name in splits_of(task):
        for length in lengths_of(task, name, most=3)[1:]:
            said = task.token_shares(task.splits[name], length)
            if not said:
                continue
            if set(said) - set(task.vocab.tokens) or abs(sum(said.values()) - 1) > 1e-6:
                yield f"split {name!r}, length {length}: token_shares are no distribution over the vocabulary"
                continue
            shares = np.array([said.get(token, 0.0) for token in task.vocab.tokens])
            x = draw(task, name, np.full(5000, length))
            counts = _tokens_at_random(task, x.tokens, np.argmax(x.scored, axis=1) + 1)
            if (z := fit_z(counts, shares)) > _FAR:
                yield f"split {name!r}, length {length}: tokens are not drawn as token_shares says ({z:.0f} sd off)"


def _tokens_at_random(task: Task, tokens: Ints, sizes: Ints) -> Ints:
    """How often each token of the vocabulary stands at a random one of the first `sizes` places of a row."""
    rows = np.arange(len(tokens))
    place = np.random.default_rng(7).integers(0, sizes)
    return np.bincount(tokens[rows, place], minlength=len(task.vocab))


def mixes_lengths_without_bias(task: Task) -> Iterator[str]:
    """Examples of a length are drawn alike whether the batch holds one length or several."""
    for split in splits_of(task):
        lengths = lengths_of(task, split)
        length, longest = lengths[len(lengths) // 2 - 1], lengths[-1]
        if length == longest:
            continue
        alone = draw(task, split, np.full(2000, length), state=1)
        mixed = draw(task, split, np.resize([length, longest], 4000), state=2)[::2]
        counts = [
            _tokens_at_random(task, tokens := whole(x), (tokens != Vocab.pad).sum(axis=1)) for x in (alone, mixed)
        ]
        if (z := homogeneity_z(*counts)) > _FAR:
            yield f"split {split!r}: length {length} is drawn otherwise beside length {longest} ({z:.0f} sd apart)"


def knows_its_chance(task: Task) -> Iterator[str]:
    """`chance` is how often one example's answer answers another one of its length (measured at short lengths)."""
    for length in task.lengths_between("id", 0, task.max_len)[:3].tolist():
        n, chance = 2000, task.chance(length)
        first, second = (draw(task, "id", np.full(n, length), state) for state in (3, 4))
        hits = sum(_answer_each_other(task, first, second))
        if abs(hits - n * chance) > _FAR * (n * chance * (1 - chance)) ** 0.5 + 3:
            yield f"chance {chance:.4g} at length {length}, but {hits} of {n} pairs of answers agree"


def _answer_each_other(task: Task, first: Examples, second: Examples) -> list[bool]:
    """Whether the answer of each example of the second batch is right for the same row of the first."""
    if type(task).accepts is Task.accepts:
        return [a == b for a, b in zip(answer_keys(first), answer_keys(second), strict=True)]
    rows = range(len(first))
    return [task.accepts(task.read(first, row)[0], task.read(second, row)[1]) for row in rows]


def keeps_test_from_training(task: Task) -> Iterator[str]:
    """Training and test share prompts as often as chance brings two draws together; none if `id` is held out.

    Two draws coincide at most as often as their answers do, and two batches as often as the examples within them.
    """
    for length in sorted({*lengths_of(task, "id", most=6)} & {*lengths_of(task, task.train_split, most=6)}):
        n = 300
        train, test = (
            Counter(prompt_keys(draw(task, split, np.full(n, length), state)))
            for split, state in ((task.train_split, 5), ("id", 6))
        )
        shared = sum(count * test[key] for key, count in train.items())
        if task.train_split != "id":
            if shared:
                yield f"length {length}: training examples stand in the held-out split 'id'"
            continue
        within = sum(count * (count - 1) // 2 for batch in (train, test) for count in batch.values())
        if shared - within > _FAR * (shared + within) ** 0.5 + 5:
            yield f"length {length}: {shared} coincidences of training and test, {within} within them"
        due = n * n * task.chance(length)
        if type(task).accepts is Task.accepts and shared - due > _FAR * due**0.5 + 5:
            yield f"length {length}: {shared} coincidences of training and test, where chance allows {due:.1f}"
