"""Causal check of a head signal: ablate the head with the largest value in each run, and measure the target again.

A forecast from a head signal implies a direction: if more of it goes with more of the target, ablating it should
lower the target. Li et al. 2025 (arXiv 2507.06445) found that it does not. Since any head may matter, the effect is
compared with that of ablating the other heads of the same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import pandas as pd

from genlab.errors import UserError, unknown
from genlab.forecast.compare import overall
from genlab.forecast.judge import choose
from genlab.forecast.scores import Interval, blocks_of, bootstrap_interval, multiplicities, words
from genlab.forecast.splits import settings_of, twins_of
from genlab.forecast.tables import read_at_the_end
from genlab.forecast.targets import Target, places_of, target_in_words

if TYPE_CHECKING:
    from genlab.models.stacked import Tap
    from genlab.runs.store import Store


Kind = Literal["uniform", "mean", "zero", "resample"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Ablations: uniform attention over all visible keys, or the head output replaced by its batch mean, by zero, or by
that of another example."""
USUAL: tuple[Kind, ...] = ("uniform", "mean")
"""Default ablations."""
_DRAWS, _RUNS = 2000, 16


@dataclass(frozen=True)
class Removal:
    """Effect of ablating one head per run.

    Attributes:
        kind: the ablation.
        target: what is measured.
        signal: selects the head.
        runs: one row per run: the head (`layer`, `head`) and its `signal`; the target `before` and `after`, and its
            mean over ablations of each other head (`others`); ID accuracy `inside_before`, `inside_after`.
        implied: Spearman's correlation of signal and target within settings; ablation should move the target the
            other way.
        change: mean of `after` - `before`.
        beyond: mean of `after` - `others`.
        inside: mean of `inside_after` - `inside_before`.
        said: description of the target.
    """

    kind: Kind
    target: Target
    signal: str
    runs: pd.DataFrame
    implied: float
    change: Interval
    beyond: Interval
    inside: Interval
    said: str

    @property
    def verdict(self) -> str:
        """Whether the target moves as implied, by more than when other heads are ablated."""
        low, high = self.beyond.low, self.beyond.high
        if low is None or high is None or np.isnan(self.implied):
            return "cannot be said"
        if low <= 0 <= high:
            return "no more than taking out another head does"
        return "as the forecast implies" if (high < 0) == (self.implied > 0) else "against what the forecast implies"

    def as_json(self) -> dict[str, Any]:
        """Return plain data, without the rows of single runs."""
        about = {"kind": self.kind, "implied": self.implied, "verdict": self.verdict}
        return about | {name: asdict(getattr(self, name)) for name in ("change", "beyond", "inside")}


def remove_head(
    store: Store,
    table: pd.DataFrame,
    target: Target,
    signal: str,
    kind: Kind,
    rng: np.random.Generator,
    fit_only: bool = True,
) -> Removal:
    """Ablate, in each run, the head with the largest value of a signal, and measure the target again.

    Args:
        store: the store of the runs.
        table: a forecast table (`genlab.forecast.table`); the evaluation sets are those of its outcomes.
        target: a mean of a metric.
        signal: a head signal, `NAME` or `NAME.max`, whose values are in the store (`lab probe`).
        kind: the ablation.
        rng: of the bootstrap over runs (twins are drawn together).
        fit_only: only runs that learned their task.

    Raises:
        UserError: not a head signal, a target that is not a mean of a metric, or an unknown kind.
    """
    if kind not in KINDS:
        raise unknown("ablation", kind, KINDS)
    if target.split is None or target.furthest is not None:
        raise UserError(f"target {target.text!r}: a causal check needs METRIC@split=S or METRIC@length=L")
    chosen = choose(table, target, fit_only).table
    heads = _heads(store, [str(run) for run in chosen.index], signal.removesuffix(".max"))
    lengths = tuple(places_of(chosen, target).values())
    rows = pd.concat([_measure(store, runs, heads, target, lengths, kind) for runs in _stacks(store, heads)])
    rows = rows.set_index("run_id").loc[chosen.index].reset_index()
    twins = twins_of(chosen)
    draws = multiplicities(twins, _DRAWS, rng)
    setting, number = settings_of(chosen), rows["before"].to_numpy(float)
    blocks = blocks_of("number", number, np.zeros(len(rows), bool), setting, np.zeros(len(rows)))
    implied = float(overall(blocks, rows["signal"].to_numpy(float))[0]) if blocks else float("nan")

    def mean(of: str, less: str) -> Interval:
        gap = rows[of].to_numpy(float) - rows[less].to_numpy(float)
        return bootstrap_interval(float(gap.mean()), draws @ gap / draws.sum(1), len(np.unique(twins)))

    change, beyond = mean("after", "before"), mean("after", "others")
    inside = mean("inside_after", "inside_before")
    return Removal(kind, target, signal, rows, implied, change, beyond, inside, target_in_words(target, chosen))


def removal_lines(found: Sequence[Removal]) -> list[str]:
    """Describe the results of ablations."""
    first = found[0]
    lines = [f"causal check: in each of {len(first.runs)} runs the head with the largest {first.signal} is ablated"]
    said = "no correlation within settings: one of them does not vary"
    if not np.isnan(first.implied):
        said = f"correlation {first.implied:+.3f} within settings"
    lines.append(f"  {first.signal} and {first.said}: {said}")
    for one in found:
        lines.append(
            f"  {one.kind}: the target changes by {words(one.change)}, beyond other heads by {words(one.beyond)}: "
            f"{one.verdict} (ID accuracy {words(one.inside)})"
        )
    return lines


def _heads(store: Store, runs: list[str], name: str) -> pd.DataFrame:
    """Layer, head and value of the head with the largest value in each run."""
    rows = read_at_the_end(store, runs)
    of_heads = rows[rows["head"] >= 0].dropna(subset=["value"])
    mine = of_heads[of_heads["name"] == name]
    if mine.empty:
        raise unknown("signal of heads", name, sorted(set(of_heads["name"])))
    if missing := sorted(set(runs) - set(mine["run_id"])):
        raise UserError(
            f"signal {name!r} is missing in {len(missing)} of {len(runs)} runs ({missing[0]}, ...): run lab probe"
        )
    return mine.loc[mine.groupby("run_id")["value"].idxmax()].set_index("run_id")[["layer", "head", "value"]]


def _stacks(store: Store, heads: pd.DataFrame) -> list[list[str]]:
    from genlab.probes.probing import alike

    groups = alike({str(run): store.spec(str(run)) for run in heads.index})
    return [runs[i : i + _RUNS] for runs in groups for i in range(0, len(runs), _RUNS)]


def _measure(
    store: Store, runs: list[str], heads: pd.DataFrame, target: Target, lengths: tuple[int, ...], kind: Kind
) -> pd.DataFrame:
    """The target of a stack of runs, intact and with each head ablated."""
    from genlab.models import model_of
    from genlab.probes.families.ablations import head_tap
    from genlab.probes.model import check_readable
    from genlab.runs.sources import live_task
    from genlab.tasks import mean_over_lengths
    from genlab.training import evaluate
    from genlab.training.evaluate import check_of

    spec = store.spec(runs[0])
    check_readable(spec.model)
    model, task = model_of(spec.model, store.weights(runs)), live_task(store, runs[0])
    law = store.law(runs[0])
    n, seed = _eval_set(store, runs[0], target)
    outside = task.split(cast(str, target.split)).at(lengths, n, seed)

    def measure(tap: Tap | None) -> tuple[np.ndarray, np.ndarray]:
        parts = [(outside, target.metric), (check_of(task, spec), "exact_match")]
        results = [[r.metrics[m][0] for r in evaluate(model, task, s, judge=False, tap=tap)] for s, m in parts]
        means = [
            mean_over_lengths(np.stack(r, axis=-1), law.relative(s.lengths))
            for r, (s, _) in zip(results, parts, strict=True)
        ]
        return means[0], means[1]

    own = heads.loc[runs]
    at = own["layer"].to_numpy(int) * spec.model.n_heads + own["head"].to_numpy(int)
    layers = range(spec.model.n_layers * spec.model.loops)
    cut = [measure(head_tap(layer, head, kind)) for layer in layers for head in range(spec.model.n_heads)]
    after, inside = (np.stack([one[i] for one in cut])[at, np.arange(len(runs))] for i in (0, 1))
    every = np.sum([one[0] for one in cut], axis=0)
    whole, whole_inside = measure(None)
    others = (every - after) / (len(cut) - 1) if len(cut) > 1 else whole
    named = {"layer": own["layer"].to_numpy(), "head": own["head"].to_numpy(), "signal": own["value"].to_numpy()}
    named |= {"before": whole, "after": after, "others": others}
    return pd.DataFrame({"run_id": runs, **named, "inside_before": whole_inside, "inside_after": inside})


def _eval_set(store: Store, run: str, target: Target) -> tuple[int, int]:
    """Examples per length and seed of the first evaluation set of the target."""
    rows = store.evals([run], metric=target.metric)
    rows = rows[rows["split"] == target.split].sort_values("seed")
    return int(rows["n"].iloc[0]), int(rows["seed"].iloc[0])
