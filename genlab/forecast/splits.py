"""Splits without leakage: test runs are new in the sense of the claim, and none of their twins is trained on.

Runs that share an initialization or a data order are twins. Twins of a test run, in whatever setting, are never in
its training set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.forecast.roles import part, varying

_SEED_FOLDS = 2


@dataclass(frozen=True)
class Fold:
    """A split into training and test rows, int[n] each; pairs of test rows are compared only within one fold."""

    name: str
    train: np.ndarray
    test: np.ndarray


def settings_of(table: pd.DataFrame, factors: Sequence[str] | None = None) -> np.ndarray:
    """Return the setting of each run as text, over the settings that vary, or `factors`."""
    names = varying(table, factors)
    found = part(table, "setting")[names] if names else pd.DataFrame(index=table.index)
    words = [[f"{name} {value}" for value in found[name]] for name in names]
    return np.array([", ".join(row) for row in zip(*words, strict=True)] or ["all runs"] * len(table), dtype=object)


def twins_of(table: pd.DataFrame, folds: int = 5) -> np.ndarray:
    """Return the twin group of each run, int[run]; runs of one group share seeds.

    Groups are the connected components of runs that share an init seed or a data seed. If that gives fewer groups
    than `folds` (init and data seeds are crossed), runs of one group share both. Without seeds each run is its own
    group.
    """
    seeds = part(table, "seed")
    if not seeds.shape[1]:
        return np.arange(len(table))
    # Equal seeds of different tasks need not be related, but separating such runs does no harm.
    codes = np.stack([pd.factorize(seeds[name])[0] for name in seeds], axis=1)
    linked = _linked(codes)
    if linked.max() + 1 >= folds:
        return linked
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)


def _linked(codes: np.ndarray) -> np.ndarray:
    """Connected components of rows that share a code in some column."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sizes = codes.max(axis=0) + 1
    nodes = codes + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    first = np.repeat(nodes[:, 0], codes.shape[1])
    graph = coo_array((np.ones(nodes.size), (first, nodes.reshape(-1))), shape=(int(sizes.sum()),) * 2)
    return connected_components(graph, directed=False)[1][nodes[:, 0]]


def random_runs(table: pd.DataFrame, rng: np.random.Generator, folds: int = 5) -> list[Fold]:
    """Return random folds over runs; twins are in the same fold.

    Raises:
        UserError: fewer than two groups of twins, which leaves nothing to train on.
    """
    group = twins_of(table, folds)
    part_of = dealt(group, min(folds, len(np.unique(group))), rng)
    if part_of.max() < 1:
        raise UserError("a random split over runs leaves nothing to train on: all runs share seeds")
    return [Fold(f"fold {i}", *_rows(part_of != i, part_of == i)) for i in range(part_of.max() + 1)]


def leave_one_out(
    table: pd.DataFrame, held_out: np.ndarray, rng: np.random.Generator, keep_twins: bool = False
) -> list[Fold]:
    """Return folds that each test one setting (or task); twins of the test runs are not trained on.

    If settings share seeds, each setting is tested in two parts, one per half of the seeds.

    Args:
        table: a forecast table.
        held_out: the setting of each run.
        rng: assigns seeds to parts.
        keep_twins: also train on twins in other settings, as is common in the literature.

    Raises:
        UserError: there is only one setting.
    """
    names = list(dict.fromkeys(held_out.tolist()))
    if len(names) < 2:
        raise UserError(f"leaving one setting out leaves nothing to train on: there is only one setting ({names[0]})")
    group = twins_of(table, _SEED_FOLDS)
    shared = not keep_twins and any(len(set(held_out[group == g].tolist())) > 1 for g in np.unique(group))
    part_of = dealt(group, min(_SEED_FOLDS, len(np.unique(group))), rng) if shared else np.zeros(len(table), int)
    if shared and part_of.max() < 1:
        raise UserError("leaving one setting out leaves nothing to train on: all runs share seeds")
    return list(_held_out_folds(names, held_out, part_of, shared))


def _held_out_folds(names: list[str], held_out: np.ndarray, part_of: np.ndarray, shared: bool) -> Iterator[Fold]:
    for name in names:
        here = held_out == name
        for i in range(part_of.max() + 1):
            test = here & (part_of == i)
            train = ~here & (part_of != i) if shared else ~here
            if test.any():
                yield Fold(f"{name} / {i}", *_rows(train, test))


def small_to_large(
    table: pd.DataFrame, lengths: np.ndarray, longest: int, rng: np.random.Generator, folds: int = 5
) -> list[Fold]:
    """Return folds that train on lengths up to `longest` and test on longer ones of other runs.

    Args:
        table: one row per (run, length).
        lengths: the length of each row.
        longest: longest training length.
        rng: assigns runs to folds.
        folds: number of folds.

    Raises:
        UserError: all lengths are on one side, or the runs cannot be split.
    """
    small = lengths <= longest
    if small.all() or not small.any():
        between = f"{int(lengths.min())} to {int(lengths.max())}"
        raise UserError(f"no lengths on both sides of {longest}: lengths with an outcome are {between}")
    group = twins_of(table, folds)
    part_of = dealt(group, min(folds, len(np.unique(group))), rng)
    if part_of.max() < 1:
        raise UserError("training on small lengths leaves nothing to train on: all runs share seeds")
    both = [_rows((part_of != i) & small, (part_of == i) & ~small) for i in range(part_of.max() + 1)]
    return [Fold(f"fold {i}", train, test) for i, (train, test) in enumerate(both) if len(train) and len(test)]


def few_runs(
    table: pd.DataFrame, rng: np.random.Generator, sizes: Sequence[int] = (5, 10, 20, 50, 100), draws: int = 10
) -> dict[int, list[Fold]]:
    """Return, for each size, folds that train on that many random runs and test on all others except their twins.

    Raises:
        UserError: even the smallest size leaves no runs to test.
    """
    group = twins_of(table)
    found: dict[int, list[Fold]] = {}
    for size in sizes:
        folds = []
        for draw in range(draws):
            train = np.sort(rng.permutation(len(table))[:size])
            test = np.flatnonzero(~np.isin(group, group[train]))
            if len(train) == size and len(test):
                folds.append(Fold(f"{size} runs, draw {draw}", train, test))
        if folds:
            found[size] = folds
    if not found:
        raise UserError(f"{len(table)} runs are too few for a learning curve over {', '.join(map(str, sizes))}")
    return found


def dealt(group: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Assign rows to folds, whole groups at a time, with folds as equal in size as the groups allow."""
    names, index, sizes = np.unique(group, return_inverse=True, return_counts=True)
    filled, fold = np.zeros(folds), np.zeros(len(names), int)
    for g in sorted(rng.permutation(len(names)), key=lambda g: -sizes[g]):
        fold[g] = int(filled.argmin())
        filled[fold[g]] += sizes[g]
    return fold[index.reshape(-1)]


def _rows(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(train), np.flatnonzero(test)
