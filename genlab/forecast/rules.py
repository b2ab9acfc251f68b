"""Which rule did a run learn? Agreement of its answers with candidate rules and with other runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.runs.laws import means_by, placed, weight_lengths
from genlab.runs.store import Store
from genlab.tasks import TrainingLaw

_RULE = "rule|"
"""Prefix of the metrics that give the fraction of a run's answers that agree with a rule."""
_CUT = 0.2


@dataclass(frozen=True)
class Rules:
    """Answers of runs on one split.

    Attributes:
        split: the split.
        runs: one row per run: the fraction of its answers that agree with each rule (columns `rule|NAME`), its
            `cluster`, and `exact_match` on the split.
        same: float[run, run], the fraction of examples on which two runs give the same answer.
        examples: number of examples compared.
        lengths: their lengths; in `runs`, training lengths are weighted as training draws them.
        laws: training length distributions of the runs.
    """

    split: str
    runs: pd.DataFrame
    same: np.ndarray
    examples: int
    lengths: tuple[int, ...]
    laws: tuple[TrainingLaw, ...]

    def by_cluster(self) -> pd.DataFrame:
        """Return one row per cluster, the largest first: runs, and the mean of each column."""
        means = self.runs.groupby("cluster").mean(numeric_only=True)
        return means.assign(runs=self.runs.groupby("cluster").size()).sort_values("runs", ascending=False)


def rules_learned(store: Store, run_ids: Sequence[str], split: str, cut: float = _CUT) -> Rules:
    """Compare the answers of runs with the candidate rules of their task, and cluster runs with similar answers.

    Only evaluation sets that all runs share are compared.

    Args:
        store: the store of the runs.
        run_ids: runs of one task.
        split: a split that distinguishes the rules, such as `matched-unnested` of the task `brackets`.
        cut: maximum mean fraction of different answers within a cluster.

    Raises:
        UserError: no runs, runs of several tasks, or no evaluation of the split that all runs share.
    """
    if not run_ids:
        raise UserError("there are no runs to compare: none has completed without diverging")
    specs = [store.spec(run).task for run in run_ids]
    if any(spec != specs[0] for spec in specs):
        names = sorted({f"{spec.name} ({spec.format}, max_len {spec.max_len})" for spec in specs})
        raise UserError(f"rules belong to one task; these runs are of {len(names)}: {', '.join(names)}")
    laws = {run: store.law(run) for run in run_ids}
    rows = placed(store.evals(run_ids, answers=True), laws)
    rows = rows[rows["split"] == split]
    answers = _answers(rows, run_ids)
    if answers is None:
        has = ", ".join(sorted(store.evals(run_ids)["split"].unique())) or "none"
        raise UserError(f"the {len(run_ids)} runs have no evaluation of split {split!r} in common (splits: {has})")
    same = agreement(answers)
    found = pd.DataFrame({"cluster": clusters(same, cut)}, index=pd.Index(run_ids, name="run_id"))
    fractions = rows[rows["metric"].str.startswith(_RULE) | (rows["metric"] == "exact_match")]
    n = fractions["n"] * weight_lengths(fractions, ["run_id", "metric"])["weight"]
    weighted = fractions.assign(hits=fractions["value"] * n, n=n).groupby(["run_id", "metric"])[["hits", "n"]].sum()
    table = (weighted["hits"] / weighted["n"]).unstack("metric")
    lengths = tuple(sorted(int(length) for length in fractions["length"].unique()))
    about = found.join(table).rename_axis(columns=None)
    return Rules(split, about, same, answers.shape[1], lengths, tuple(laws.values()))


def _answers(rows: pd.DataFrame, run_ids: Sequence[str]) -> np.ndarray | None:
    """uint64[run, example]: a hash of each answer, on the sets that all runs share; None if there are none."""
    exact = rows[(rows["metric"] == "exact_match") & rows["answers"].notna()]
    parts = [hashes(own) for _, own in shared_sets(exact, run_ids, ["length", "n", "seed"])]
    return np.concatenate(parts, axis=1) if parts else None


def shared_sets(
    rows: pd.DataFrame, run_ids: Sequence[str], keys: list[str], sort: bool = True
) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Yield the evaluation sets that all runs share: the values of `keys`, and one row per run, in order, by run id.

    Args:
        rows: evaluations of one metric.
        run_ids: the runs.
        keys: columns that identify an evaluation set.
        sort: whether sets are sorted by their keys, rather than in the order of rows.
    """
    for key, same in rows.groupby(keys, sort=sort):
        own = same.drop_duplicates("run_id", keep="last").set_index("run_id")
        if own.index.isin(run_ids).sum() == len(run_ids):
            yield cast("tuple[Any, ...]", key), own.loc[list(run_ids)]


def hashes(own: pd.DataFrame) -> np.ndarray:
    """The hash of each answer to a shared evaluation set, uint64[run, example]."""
    return np.stack([np.frombuffer(blob, np.uint64) for blob in own["answers"]])


def agreement(answers: np.ndarray) -> np.ndarray:
    """Return the fraction of examples on which two runs give the same answer, float[run, run].

    >>> agreement(np.array([[1, 2, 3, 4], [1, 2, 0, 0]])).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    return np.stack([(answers == own).mean(axis=1) for own in answers])


def clusters(same: np.ndarray, cut: float = _CUT) -> np.ndarray:
    """Cluster runs by average linkage of the fraction of different answers: int[run], 0 being the largest cluster.

    >>> clusters(np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]])).tolist()
    [0, 0, 1]
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(same) < 2:
        return np.zeros(len(same), int)
    apart = squareform(1 - same, checks=False)
    labels = fcluster(linkage(apart, "average"), cut, "distance")
    names, counts = np.unique(labels, return_counts=True)
    order = {name: i for i, name in enumerate(names[np.argsort(-counts, kind="stable")])}
    return np.array([order[label] for label in labels])


def in_and_out(store: Store, run_ids: Sequence[str], split: str) -> pd.DataFrame:
    """Return ID and OOD accuracy over training: rows of (run_id, step, inside, outside).

    `outside` is the mean over the lengths of `split` that are out of distribution for the run, on the few examples
    evaluated during training; these lengths are in `attrs["lengths"]`.
    """
    trace = placed(store.trace(run_ids), {run: store.law(run) for run in run_ids})
    trace = trace[(trace["metric"] == "exact_match") & (trace["split"] == split) & trace["outside"]]
    outside = means_by(trace, ["run_id", "step"]).rename("outside").reset_index()
    inside = store.history(run_ids)[["run_id", "step", "exact_match"]].rename(columns={"exact_match": "inside"})
    found = inside.merge(outside, on=["run_id", "step"]).reset_index(drop=True)
    found.attrs["lengths"] = sorted(int(length) for length in trace["length"].unique())
    return found
