"""Training laws of runs: which evaluations are in distribution, and how lengths are weighted.

The law of a run, the distribution of its training lengths, is stored in its record, so tables can be read without the
code of the task. For older records without a law it is derived from the task.
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
"""Fields of a spec that determine its law, together with the task's parameters."""


def law_of(spec: RunSpec) -> TrainingLaw:
    """Return the training law of a spec, derived from its task."""
    return _from_task(spec.task.model_dump_json(), spec.train.train_split, spec.train.min_len, spec.train.train_len)


@lru_cache(maxsize=4096)
def _from_task(task: str, train_split: str, low: int, high: int) -> TrainingLaw:
    spec, train = (
        TaskSpec.model_validate_json(task),
        build(TrainConfig, {"train_split": train_split, "min_len": low, "train_len": high}),
    )
    try:
        # The current version of the task is the best available approximation for an old run.
        current = spec.model_copy(update={"version": task_class(spec.name).version})
        return training_law(make(current), train)
    except UserError:  # a plugin that is not loaded, or an option that was removed since
        return TrainingLaw(train_split, train_split, low, high, (low,), (1.0,)).flat()


def laws_of(about: pd.DataFrame, spec: Callable[[str], RunSpec]) -> dict[str, TrainingLaw]:
    """Return run_id -> training law for rows of `Store.runs`. Equal laws are one object.

    Args:
        about: rows of `Store.runs`.
        spec: returns the spec of a run whose record has no law.
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
        for _, runs in old.groupby(keys, dropna=False)["run_id"]:
            law = law_of(spec(runs.iloc[0]))
            found |= dict.fromkeys(runs, law)
    return found


def placed(rows: pd.DataFrame, laws: Mapping[str, TrainingLaw]) -> pd.DataFrame:
    """Add `inside`, `outside` (see `TrainingLaw`) and `relative` to rows of (run_id, split, length).

    `laws` must contain all of their runs.
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
    """Probability of each length under the law of its row, relative to the most likely length."""
    if not len(code):
        return np.zeros(0)
    reach = 1 + max(int(length.max()), *(law.train_len for law in laws))
    keys = np.concatenate([i * reach + np.asarray(law.lengths) for i, law in enumerate(laws)])
    values = np.concatenate([law.relative(law.lengths) for law in laws])
    wanted = code * reach + length
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0.0)


def weight_lengths(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Add `weight` to rows of `placed`: the weight in a mean over rows with equal `keys` and split.

    Training lengths are weighted as training draws them, with a mean weight of one; every other length has weight one
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
    """Mean of `value` over lengths of rows of `placed`, grouped by `keys`."""
    weighted = weight_lengths(rows, keys)
    weighted = weighted.assign(sum=weighted["value"] * weighted["weight"])
    sums = weighted.groupby(list(keys))[["sum", "weight"]].sum()
    return (sums["sum"] / sums["weight"]).rename("value")
