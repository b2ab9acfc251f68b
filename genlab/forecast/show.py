"""A judgement on the terminal, and as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

# -- What a judgement says, in words that do not say more than it found

MEASURE = {"yes/no": "AUROC", "furthest": "concordance", "number": "Spearman's correlation"}
"""What ranking is scored by, by the kind of the target."""
_NEW = {"random": "new runs", "setting": "unseen settings", "task": "unseen tasks", "length": "larger lengths"}
_ENOUGH_PAIRS = 100


def claim(found: Judgement, gap: Difference) -> str:
    """One sentence: does the signal add to a baseline, on what, and by how much?"""
    tasks = len(found.predictions.settings) if found.descriptive else None
    said = sentence(gap, found.predictions.kind, _NEW[found.by], tasks)
    known = found.reliability.get(found.signal or "")
    if known is None or not known.is_noise:
        return said
    return f"{said} (its values here are mostly reading noise: reliability {known.value:.2f})"


def sentence(gap: Difference, kind: Kind, new: str, tasks: int | None = None) -> str:
    """The sentence of a claim.

    Args:
        new: what the runs are new in, in words.
        tasks: how many tasks there are, where they are too few for a claim.

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
        return f"{whom}: {words(gap.interval)} {measure} over {gap.over}; {tasks} tasks describe, they prove nothing"
    if low is None or high is None:
        return f"{whom}: whether it adds to {gap.over} cannot be said ({what}; {gap.interval.how})"
    if low > 0:
        return f"{whom} adds {what}"
    verb = "takes away" if high < 0 else "does not add detectably"
    return f"{whom} {verb}: {what}"


def suspects(found: Judgement) -> list[str]:
    """Signals that rank runs better than the target measured again does, or without a fault: look for a leak.

    A signal cannot know of a run what a second measurement of the same run does not.
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
    """A judgement as lines of text.

    Args:
        sealed: when the plan of this analysis was sealed, or None: all of it is exploratory.
    """
    told = [*_about(found), "", *_scores(found)]
    if (made := found.predictions.intervals) is not None:
        told += ["", interval_line(made.summary(found.predictions.value))]
    if found.claims:
        kind = (
            f"sealed before looking, {sealed}" if sealed else "exploratory: not sealed before the outcomes were seen"
        )
        told += ["", f"what {found.signal} adds ({kind})"]
        told += [f"  {claim(found, gap)}" for gap in found.claims]
    if found.tried:
        told += [
            "",
            f"{len(found.tried)} signals tried, exploratory: outcomes permuted within settings",
        ]
        told += columns_of(
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
    return told


def _about(found: Judgement) -> list[str]:
    runs, scored = found.population, found.predictions.scored
    left = [f"{runs.unfit} did not fit in distribution"] if runs.unfit else []
    left += [f"{runs.unseen} without an evaluation"] if runs.unseen else []
    told = [f"{len(runs.table)} of {runs.runs} runs" + (f" ({', '.join(left)})" if left else "")]
    told.append(f"target: {found.said}; {_spread(found)}")
    new = {"random": "runs", "setting": "a setting", "task": "a task", "length": "larger lengths of other runs"}
    told.append(f"held out: {new[found.by]}; compared within {len(scored)} settings with a pair of known order")
    if not scored:
        told.append("nothing is scored: no two runs of a setting and fold differ in their outcome")
    if found.unscored:
        told.append(
            f"not scored, one outcome only: {len(found.unscored)} settings ({'; '.join(found.unscored[:4])}" + ")"
        )
    if runs.missing:
        shown = ", ".join(f"{name} {n}" for name, n in list(runs.missing.items())[:6])
        told.append(f"missing values, filled inside training folds: {shown}")
    measure = MEASURE[found.predictions.kind]
    told += [f"ceiling, {name}: {measure} {value:.3f}" for name, value in found.ceiling.items()]
    if found.signal is not None:
        told.append(reliability_words(found.reliability[found.signal], found.signal))
    told += [f"leak? {name} ranks runs as no honest signal could" for name in suspects(found)]
    return told


def reliability_cell(found: Reliability) -> str:
    """The reliability of a signal in a table.

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
    said = f"median {values.median():.3g}, {values.min():.3g} to {values.max():.3g}"
    censored = int(found.population.values.censored.sum())
    return f"{said}; {censored} censored (right as far as was tested)" if censored else said


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


def columns_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows of text in columns."""
    every = [tuple(head), *map(tuple, rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in every]


def learning_lines(curve: pd.DataFrame, measure: str) -> list[str]:
    """A learning curve as lines: a row a predictor, a column a number of labelled runs."""
    sizes = list(dict.fromkeys(curve["runs"]))
    rows: list[Sequence[str]] = []
    for name, own in curve.groupby("predictor", sort=False):
        by_size = own.set_index("runs")
        cells = [f"{r['mean']:.3f} ({r['low']:.2f} to {r['high']:.2f})" for _, r in by_size.loc[sizes].iterrows()]
        rows.append((str(name), *cells))
    head = ["labelled runs", *map(str, sizes)]
    return [f"{measure} within settings, mean and range over draws that overlap", *columns_of(head, rows)]


def interval_line(made: dict[str, Any]) -> str:
    """One line about prediction intervals, from their `summary`.

    >>> interval_line({"of": "baselines", "share": 0.9, "inside": 0.88, "no_end": 0, "width": 0.31, "runs": 50})
    '90 % prediction intervals of baselines hold 0.880 of 50 outcomes; median width 0.31'
    """
    what = f"{made['share']:.0%} prediction intervals of {made['of']}".replace("%", " %")
    if made["no_end"] == made["runs"]:
        return f"no {what}: they need {FEWEST_RUNS} training runs, of {FEWEST} settings where settings are new"
    width = "no end" if made["width"] is None else f"median width {made['width']:.3g}"
    without = f"; {made['no_end']} without an end" if made["no_end"] else ""
    return f"{what} hold {made['inside']:.3f} of {made['runs']} outcomes; {width}{without}"


def as_json(found: Judgement, sealed: str | None = None) -> dict[str, Any]:
    """A judgement as plain data."""
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
