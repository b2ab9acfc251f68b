"""The training laws of runs, and rows of evaluations beside them: what is in distribution, what each length counts.

A run's law is kept in its record, so that tables are read without the code of its task. For records that were written
before there was a law in them it follows from the task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.spec import RunSpec, TaskSpec, TrainConfig, build
from genlab.tasks import TrainingLaw, make, task_class, training_law

_DECIDES = ("task", "task_version", "format", "max_len", "train_split", "min_len", "train_len")
"""Fields of a spec that its law follows from; with the task's parameters."""


def law_of(spec: RunSpec) -> TrainingLaw:
    """The law of a spec, from its task."""
    return _from_task(spec.task.model_dump_json(), spec.train.train_split, spec.train.min_len, spec.train.train_len)


@lru_cache(maxsize=4096)
def _from_task(task: str, train_split: str, low: int, high: int) -> TrainingLaw:
    spec, train = (
        TaskSpec.model_validate_json(task),
        build(TrainConfig, {"train_split": train_split, "min_len": low, "train_len": high}),
    )
    try:
        # A later version of the task is the nearest to what is known of an old run's lengths.
        current = spec.model_copy(update={"version": task_class(spec.name).version})
        return training_law(make(current), train)
    except UserError:  # a plugin's task that is not there, or one that has lost an option since
        return TrainingLaw(train_split, train_split, low, high, (low,), (1.0,)).flat()


def laws_of(about: pd.DataFrame, spec: Callable[[str], RunSpec]) -> dict[str, TrainingLaw]:
    """run_id -> its law, for rows of `Store.runs`. Equal laws are one object.

    Args:
        spec: gives the spec of a run whose record names no law.
    """
    texts: dict[str, TrainingLaw] = {}
    found: dict[str, TrainingLaw] = {}
    kept = about["law"].notna()
    for run, text in zip(about["run_id"][kept], about["law"][kept], strict=True):
        if text not in texts:
            texts[text] = TrainingLaw.from_text(text)
        found[run] = texts[text]
    old = about[~kept]
    if len(old):
        keys = [name for name in old if name in _DECIDES or str(name).startswith("params.")]
        for _, alike in old.groupby(keys, dropna=False)["run_id"]:
            law = law_of(spec(alike.iloc[0]))
            found |= dict.fromkeys(alike, law)
    return found


def placed(rows: pd.DataFrame, laws: Mapping[str, TrainingLaw]) -> pd.DataFrame:
    """Rows of (run_id, split, length) with `inside`, `outside` (see `TrainingLaw`) and `relative`.

    All of their runs must be in `laws`.
    """
    distinct = list({id(law): law for law in laws.values()}.values())
    number = {id(law): i for i, law in enumerate(distinct)}
    codes = np.array([number[id(law)] for law in laws.values()], dtype=np.int64)
    code = codes[pd.Index(list(laws)).get_indexer(pd.Index(rows["run_id"]))]
    split, length = rows["split"].to_numpy(), rows["length"].to_numpy(np.int64)

    def each(name: str) -> np.ndarray:
        return np.array([getattr(law, name) for law in distinct], dtype=object)[code]

    trained = (length >= each("min_len").astype(np.int64)) & (length <= each("train_len").astype(np.int64))
    judged = split == each("split")
    drawn = judged | (split == each("train_split"))
    relative = np.where(trained, _relative(distinct, code, length), np.nan)
    return rows.assign(inside=trained & judged, outside=~(trained & drawn), relative=relative)


def _relative(laws: Sequence[TrainingLaw], code: np.ndarray, length: np.ndarray) -> np.ndarray:
    """How often the law of each row draws its length, the likeliest being 1."""
    if not len(code):
        return np.zeros(0)
    reach = 1 + max(int(length.max()), *(law.train_len for law in laws))
    keys = np.concatenate([i * reach + np.asarray(law.lengths) for i, law in enumerate(laws)])
    values = np.concatenate([law.relative(law.lengths) for law in laws])
    wanted = code * reach + length
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0.0)


def lengths_weighed(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Placed rows with `weight`: what each counts in a mean over those that are equal in `keys` and the split.

    Training lengths share their part of the mean as training draws them; every other length counts one
    (`genlab.tasks.mean_over_lengths`).
    """
    relative = rows["relative"].to_numpy(float)
    trained = ~np.isnan(relative)
    groups = rows.groupby([*keys, "split"], sort=False).ngroup().to_numpy()
    law = np.where(trained, relative, 0.0)
    size = int(groups.max()) + 1 if len(groups) else 0
    sums = np.bincount(groups, weights=law, minlength=size)
    counts = np.bincount(groups, weights=trained, minlength=size)
    scale = np.divide(counts, sums, out=np.zeros(size), where=sums > 0)[groups]
    return rows.assign(weight=np.where(trained & (scale > 0), law * scale, 1.0))


def means_by(rows: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """The mean of `value` over the lengths of placed rows that are equal in `keys`, by these keys."""
    weighed = lengths_weighed(rows, keys)
    weighed = weighed.assign(sum=weighed["value"] * weighed["weight"])
    sums = weighed.groupby(list(keys))[["sum", "weight"]].sum()
    return (sums["sum"] / sums["weight"]).rename("value")
