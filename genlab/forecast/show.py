"""Render an evaluation of forecasts as text and as JSON, with claims no stronger than the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from genlab.forecast.compare import Difference, overall
from genlab.forecast.judge import Judgement, Scored
from genlab.forecast.predictions import FEWEST_RUNS
from genlab.forecast.reliability import Reliability, reliability_words
from genlab.forecast.roles import part
from genlab.forecast.scores import FEWEST, blocks_of, words
from genlab.forecast.targets import Kind
from genlab.text import columns_of, counted

# -- Claims

MEASURE = {"yes/no": "AUROC", "furthest": "concordance", "number": "Spearman's correlation"}
"""Ranking score for each kind of target."""
_NEW = {"random": "new runs", "setting": "unseen settings", "task": "unseen tasks", "length": "larger lengths"}
_ENOUGH_PAIRS = 100


def claim(found: Judgement, gap: Difference) -> str:
    """Say in one sentence whether the signal adds to a baseline, on what, and by how much."""
    tasks = len(found.predictions.settings) if found.descriptive else None
    text = sentence(gap, found.predictions.kind, _NEW[found.by], tasks)
    known = found.reliability.get(found.signal or "")
    if known is None or not known.is_noise:
        return text
    return f"{text} (its values here are mostly reading noise: reliability {known.value:.2f})"


def sentence(gap: Difference, kind: Kind, new: str, tasks: int | None = None) -> str:
    """Return the sentence of a claim.

    Args:
        gap: the gain of the signal over a baseline.
        kind: of the target.
        new: in what the test runs are new.
        tasks: number of tasks, if too few for a claim.

    >>> from genlab.forecast.scores import Interval
    >>> gap = Difference("baselines + head", "baselines", Interval(0.12, 0.02, 0.22, "t"), 0.1, {}, None)
    >>> sentence(gap, "yes/no", "unseen settings")
    'head adds +0.120 (+0.020 to +0.220) AUROC over baselines on unseen settings'
    """
    measure = MEASURE[kind]
    what = f"{words(gap.interval)} {measure} over {gap.over} on {new}"
    whom = gap.of.removeprefix("baselines + ")
    low, high = gap.interval.low, gap.interval.high
    if tasks is not None:
        return f"{whom}: {words(gap.interval)} {measure} over {gap.over}; descriptive only, with {tasks} tasks"
    if low is None or high is None:
        return f"{whom}: whether it adds to {gap.over} is inconclusive ({what}; {gap.interval.how})"
    if low > 0:
        return f"{whom} adds {what}"
    verb = "reduces the score" if high < 0 else "adds nothing detectable"
    return f"{whom} {verb}: {what}"


def suspects(found: Judgement) -> list[str]:
    """Return signals that suggest a leak: they rank runs perfectly, or better than repeated measurements do.

    A signal cannot know more about a run than a second measurement of the same run.
    """
    table, values = found.population.table, found.population.values
    setting = found.predictions.setting[np.argsort(found.predictions.row, kind="stable")]
    blocks = blocks_of(found.population.kind, values.value, values.censored, setting, np.zeros(len(setting)))
    flat = 0.0 if found.population.kind == "number" else 1.0
    if sum(len(block.rows) ** 2 for block in blocks) < _ENOUGH_PAIRS:
        return []
    limit = min([0.9999, *found.ceiling.values()])
    names: list[str] = []
    for name, column in part(table, "signal").items():
        score = float(overall(blocks, column.fillna(column.median()).to_numpy(float))[0])
        if max(score, flat - score) > max(limit, 0.95):
            names.append(str(name))
    return names


_SHOWN = 12


def lines(found: Judgement, sealed: str | None = None) -> list[str]:
    """Render an evaluation as lines of text.

    Args:
        found: the evaluation.
        sealed: when the plan of this analysis was sealed; None: all of it is exploratory.
    """
    output = [*_about(found), "", *_scores(found)]
    if (made := found.predictions.intervals) is not None:
        output += ["", interval_line(made.summary(found.predictions.value))]
    if found.claims:
        kind = f"sealed before evaluation, {sealed}" if sealed else "exploratory: not sealed before evaluation"
        output += ["", f"what {found.signal} adds ({kind})"]
        output += [f"  {claim(found, gap)}" for gap in found.claims]
    if found.tried:
        output += [
            "",
            f"{len(found.tried)} signals tried, exploratory: outcomes permuted within settings",
        ]
        output += columns_of(
            ("", "signal", "z", "p alone", f"p of the best of {len(found.tried)}", "reliability"),
            [
                (
                    "",
                    t.name,
                    f"{t.z:+.2f}",
                    f"{t.p:.4f}",
                    f"{t.p_all:.4f}",
                    reliability_cell(found.reliability[t.name]),
                )
                for t in _best(found)
            ],
        )
    return output


def _about(found: Judgement) -> list[str]:
    runs, scored = found.population, found.predictions.scored
    left = [f"{runs.unfit} did not learn the task"] if runs.unfit else []
    left += [f"{runs.unseen} without an evaluation"] if runs.unseen else []
    output = [f"{len(runs.table)} of {runs.runs} runs" + (f" ({', '.join(left)})" if left else "")]
    output.append(f"target: {found.said}; {_spread(found)}")
    new = {"random": "runs", "setting": "a setting", "task": "a task", "length": "larger lengths of other runs"}
    comparable = f"compared within {counted(len(scored), 'setting')} with comparable pairs"
    output.append(f"held out: {new[found.by]}; {comparable}")
    if not scored:
        output.append("nothing is scored: no two runs of a setting and fold have different outcomes")
    if found.unscored:
        output.append(
            f"not scored (constant outcome): {len(found.unscored)} settings ({'; '.join(found.unscored[:4])}" + ")"
        )
    if runs.missing:
        shown = ", ".join(f"{name} {n}" for name, n in list(runs.missing.items())[:6])
        output.append(f"missing values, imputed inside training folds: {shown}")
    measure = MEASURE[found.predictions.kind]
    output += [f"ceiling, {name}: {measure} {value:.3f}" for name, value in found.ceiling.items()]
    if found.signal is not None:
        output.append(reliability_words(found.reliability[found.signal], found.signal))
    output += [f"possible leak: {name} ranks runs better than repeated measurements do" for name in suspects(found)]
    return output


def reliability_cell(found: Reliability) -> str:
    """Format the reliability of a signal for a table.

    >>> kinds = Reliability("halves", 0.171), Reliability("exact"), Reliability("unknown")
    >>> [reliability_cell(one) for one in kinds]
    ['0.17: noise', 'exact', '-']
    """
    if found.kind != "halves":
        return "exact" if found.kind == "exact" else "-"
    return f"{found.value:.2f}" + (": noise" if found.is_noise else "")


def _spread(found: Judgement) -> str:
    values = pd.Series(found.population.values.value)
    if found.predictions.kind == "yes/no":
        return f"{int(values.sum())} yes, {int((values == 0).sum())} no"
    text = f"median {values.median():.3g}, {values.min():.3g} to {values.max():.3g}"
    censored = int(found.population.values.censored.sum())
    return f"{text}; {censored} censored (correct up to the longest tested length)" if censored else text


def _scores(found: Judgement) -> list[str]:
    measure = MEASURE[found.predictions.kind]
    head = ["predictor", f"{measure} within settings"]
    held_out = found.settings_held_out
    picks: list[Callable[[Scored], str]] = [
        lambda one: words(one.mean if held_out else one.weighted).replace("+", "")
    ]
    if held_out:
        head.append("by pairs")
        picks.append(lambda one: f"{one.weighted.value:.3f}")
    else:
        head.append("across settings")
        picks.append(lambda one: f"{one.across:.3f}")
    for name in found.scores[0].means:
        head.append({"r2": "R^2", "mae": "mean abs. error"}.get(name, name))
        picks.append(lambda one, name=name: f"{one.means[name]:.3f}")
    return columns_of(head, [(one.name, *(pick(one) for pick in picks)) for one in found.scores])


def _best(found: Judgement) -> list[Any]:
    return sorted(found.tried, key=lambda t: (t.p_all, -abs(t.z)))[:_SHOWN]


def learning_lines(curve: pd.DataFrame, measure: str) -> list[str]:
    """Render a learning curve: one row per predictor, one column per number of labeled runs."""
    sizes = list(dict.fromkeys(curve["runs"]))
    rows: list[Sequence[str]] = []
    for name, own in curve.groupby("predictor", sort=False):
        by_size = own.set_index("runs")
        cells = [f"{r['mean']:.3f} ({r['low']:.2f} to {r['high']:.2f})" for _, r in by_size.loc[sizes].iterrows()]
        rows.append((str(name), *cells))
    head = ["labeled runs", *map(str, sizes)]
    return [f"{measure} within settings, mean and range over overlapping draws", *columns_of(head, rows)]


def interval_line(made: dict[str, Any]) -> str:
    """Describe prediction intervals in one line, from their `summary`.

    >>> interval_line({"of": "baselines", "share": 0.9, "inside": 0.88, "no_end": 0, "width": 0.31, "runs": 50})
    '90 % prediction intervals of baselines cover 0.880 of 50 outcomes; median width 0.31'
    """
    what = f"{made['share']:.0%} prediction intervals of {made['of']}".replace("%", " %")
    if made["no_end"] == made["runs"]:
        return f"no {what}: they require {FEWEST_RUNS} training runs, from {FEWEST} settings if settings are new"
    width = "unbounded" if made["width"] is None else f"median width {made['width']:.3g}"
    without = f"; {made['no_end']} unbounded" if made["no_end"] else ""
    return f"{what} cover {made['inside']:.3f} of {made['runs']} outcomes; {width}{without}"


def as_json(found: Judgement, sealed: str | None = None) -> dict[str, Any]:
    """Return an evaluation as plain data."""
    population, made = found.population, found.predictions.intervals
    return {
        "target": found.target.text,
        "target_in_words": found.said,
        "kind": found.predictions.kind,
        "by": found.by,
        "signal": found.signal,
        "sealed": sealed,
        "descriptive": found.descriptive,
        "runs": {"used": len(population.table), "all": population.runs, "unfit": population.unfit}
        | {"unseen": population.unseen},
        "settings": {"scored": found.predictions.scored, "not_scored": found.unscored},
        "missing": population.missing,
        "ceiling": found.ceiling,
        "suspects": suspects(found),
        "reliability": None if found.signal is None else found.reliability[found.signal].row(),
        "intervals": None if made is None else made.summary(found.predictions.value),
        "predictors": [
            {
                "name": one.name,
                "within": one.mean.value,
                "interval": [one.mean.low, one.mean.high],
                "by_pairs": one.weighted.value,
                "by_pairs_interval": [one.weighted.low, one.weighted.high],
                "across": one.across,
                "settings": {name: value for name, (value, _) in one.settings.items()},
                **one.means,
            }
            for one in found.scores
        ],
        "claims": [
            {
                "of": gap.of,
                "over": gap.over,
                "difference": gap.interval.value,
                "interval": [gap.interval.low, gap.interval.high],
                "how": gap.interval.how,
                "by_pairs": gap.weighted,
                "sign_flip_p": gap.p,
                "in_words": claim(found, gap),
            }
            for gap in found.claims
        ],
        "signals": [
            {"name": t.name, "z": t.z, "p": t.p, "p_all": t.p_all, "reliability": found.reliability[t.name].row()}
            for t in found.tried
        ],
    }
