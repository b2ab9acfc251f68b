"""Monitors: scores fitted inside the training distribution that should tell wrong answers outside it from right ones.

A monitor sees what the model writes, and never the truth: scores are read at the tokens of the *written* answer,
after the prompt and what was written before. (Teacher forcing would show it the true tokens.) What is fitted, and
the threshold, come from examples drawn as training draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from genlab.errors import NotApplicable, UserError, unknown
from genlab.models import Model, StackedModel
from genlab.probes.families.confidence import Scores, Wrong, aupr, auroc, autc, fpr95, risk_coverage
from genlab.probes.input_scores import (
    answers_of,
    fitted_scores,
    jacobian_norms,
    largest,
    of_logits,
    smoothness,
)
from genlab.probes.inputs import PROBE_N, Batch, probe_batches
from genlab.probes.model import Stacked
from genlab.probes.scores import SCORES
from genlab.spec import RunSpec, Split
from genlab.tasks import Examples, Task, TrainingLaw, Vocab, in_distribution, spread, training_law
from genlab.training.batches import eval_offsets, widths
from genlab.training.evaluate import eval_examples, greedy

SEQUENCE = {
    "sequence_entropy": (
        "sum over written tokens of the entropy -sum p ln p of the distribution that each was taken from",
        "Malinin and Gales 2020, arXiv 2002.07650 (the chain-rule estimate from one sequence, here the greedy one)",
    ),
    "sequence_nll": (
        "-ln of the probability that the model gives to all that it wrote",
        "Malinin and Gales 2020, arXiv 2002.07650 (the maximum sequence probability)",
    ),
}
"""Scores of a written answer as a whole -> (formula, source). The others are maxima over its tokens."""
BLOOD = ("blood", "blood_last")
"""Read only on request: their Jacobians take about twenty times as long as all other scores."""
NAMES = (*SCORES, *SEQUENCE)
"""Scores that are read by default."""
BASELINES = ("msp", "sequence_entropy")
"""What every score is compared with: 1 - max p, and the entropy of the written answer."""
COVERAGE = 0.95
"""Fraction of the answers inside that a threshold lets pass."""
_INSIDE_SEED = 14
"""Seed of the examples that choose the threshold: other ones than the reference, evaluations and training."""
_NUMBERS_AT_ONCE = 16_000_000
"""Numbers in the largest tensor of a pass."""
_PLACES = 8
"""Default number of lengths per split."""


# -- Measures: is this answer wrong (failure), is this input from outside (oddness)?


def excess_risk_coverage(score: Scores, wrong: Wrong) -> float:
    """Area under the risk-coverage curve minus that of an oracle, which lets every right answer pass first.

    The oracle's area depends on accuracy alone, so that the excess can be compared between lengths and runs
    (Geifman et al. 2018, arXiv 1805.08206, E-AURC; there the oracle's area is approximated, here it is exact).

    >>> excess_risk_coverage(np.array([0.1, 0.2, 0.9]), np.array([False, False, True]))
    0.0
    """
    return risk_coverage(score, wrong) - risk_coverage(wrong.astype(float), wrong)


def threshold(inside: Scores) -> float:
    """The smallest score that lets 95 % of the answers inside pass; NaN if one of them is.

    >>> threshold(np.arange(1.0, 101.0))
    95.0
    """
    if np.isnan(inside).any():
        return float("nan")
    return float(np.sort(inside)[int(np.ceil(COVERAGE * len(inside) - 1e-9)) - 1])


def measure(inside: Scores, score: Scores, wrong: Wrong) -> dict[str, float]:
    """How well a score tells wrong answers from right ones at one place, and that place from inside.

    Args:
        inside: the score of answers inside, which choose the threshold.
        score: the score of the answers at the place.
        wrong: whether they are wrong.

    Returns:
        `auroc`, `aupr_wrong`, `aupr_right` (right answers as the positive class), `fpr95`, `aurc`, `excess_aurc`,
        `autc` (NaN where all answers are right or all wrong, except `aurc` and `excess_aurc`); `coverage`, the
        fraction of answers at or below the threshold; `risk`, the fraction of wrong ones among these (NaN if there
        are none); `oddness`, the probability that an answer of the place scores higher than one inside.
    """
    passing = score <= threshold(inside)
    known = not (np.isnan(score).any() or np.isnan(inside).any())
    both, outside = np.concatenate([inside, score]), np.arange(len(inside) + len(score)) >= len(inside)
    return {
        "auroc": auroc(score, wrong),
        "aupr_wrong": aupr(score, wrong),
        "aupr_right": aupr(-score, ~wrong),
        "fpr95": fpr95(score, wrong),
        "aurc": risk_coverage(score, wrong),
        "excess_aurc": excess_risk_coverage(score, wrong),
        "autc": autc(score, wrong),
        "coverage": float(passing.mean()) if known else float("nan"),
        "risk": float(wrong[passing].mean()) if known and passing.any() else float("nan"),
        "oddness": auroc(both, outside),
    }


# -- Written answers


@dataclass(frozen=True, eq=False)
class Written:
    """What one run writes after prompts.

    Attributes:
        tokens: int[n, pos], prompt and answer as the model reads them, padded on the right.
        chosen: int[n, pos], the token that it wrote next, where `scored`.
        scored: bool[n, pos], positions that wrote a token of the answer, its end included.
        wrong: bool[n], whether the answer is none of the right ones.
        offsets: positions of the examples.
    """

    tokens: Tensor
    chosen: Tensor
    scored: Tensor
    wrong: np.ndarray
    offsets: Tensor


@torch.inference_mode()
def write(model: StackedModel, task: Task, examples: Examples, offsets: np.ndarray) -> Written:
    """Decode greedily after each prompt, with one run.

    An answer without an end token is cut at the longest possible sequence; it is wrong if the task ends its answers.
    """
    device, n = model.flat.device, len(examples)
    longest, prompts = widths(task, examples.lengths), examples.scored.argmax(axis=1) + 1
    tokens = np.full((n, int(longest.max())), Vocab.pad)
    chosen, scored, wrong = np.zeros_like(tokens), np.zeros(tokens.shape, bool), np.ones(n, bool)
    for prompt, reach in np.unique(np.stack([prompts, longest], axis=1), axis=0).tolist():
        rows = np.flatnonzero((prompts == prompt) & (longest == reach))
        begun = torch.from_numpy(examples.tokens[rows, :prompt]).to(device)
        starts, lengths = (torch.from_numpy(x[rows]).to(device)[None] for x in (offsets, examples.lengths))
        new = greedy(model, begun, reach - prompt + 1, starts, lengths=lengths)[0].cpu().numpy()
        ended = np.cumsum(new == Vocab.end, axis=1) - (new == Vocab.end) > 0  # after the end token
        tokens[rows, :prompt] = examples.tokens[rows, :prompt]
        span = slice(prompt - 1, prompt - 1 + new.shape[1])
        tokens[rows, prompt : prompt + new.shape[1] - 1] = np.where(ended[:, 1:], Vocab.pad, new[:, :-1])
        chosen[rows, span], scored[rows, span] = new, ~ended
        for row, ids, past in zip(rows.tolist(), new, ended, strict=True):
            wrong[row] = not _right(task, examples, row, ids[~past])
    read, following, marks, starts = (torch.from_numpy(x).to(device) for x in (tokens, chosen, scored, offsets))
    return Written(read, following, marks, wrong, starts)


def _right(task: Task, examples: Examples, row: int, ids: np.ndarray) -> bool:
    truth = examples.targets[row, examples.scored[row]]
    if np.array_equal(ids, truth):
        return True
    if type(task).accepts is Task.accepts or not len(ids) or ids[-1] != Vocab.end:
        return False
    return task.accepts(task.read(examples, row)[0], task.vocab.decode(ids[:-1]))


# -- Scores of written answers


@dataclass(frozen=True, eq=False)
class _Looked:
    """Scored positions of one run: logits float64[1, P, V], residual streams float64[1, P, D] before the first and
    after every layer, `next` int[P], `whose` int[P]; blood float64[layer, 1, P] if asked for."""

    logits: Tensor
    states: list[Tensor]
    next: Tensor
    whose: Tensor
    blood: Tensor | None = None


@torch.no_grad()
def _look(model: Stacked, tokens: Tensor, following: Tensor, scored: Tensor, offsets: Tensor, blood: bool) -> _Looked:
    cfg, n = model.cfg, len(tokens)
    rows = max(1, _NUMBERS_AT_ONCE // (tokens.shape[1] * max(cfg.d_vocab, 4 * cfg.d_model, tokens.shape[1])))
    parts: list[_Looked] = []
    for start in range(0, n, rows):
        own = slice(start, start + rows)
        kept: list[Tensor] = []

        def tap(name: str, x: Tensor, kept: list[Tensor] = kept) -> Tensor:
            if name == "blocks.0.hook_resid_pre" or name.endswith(".hook_resid_post"):
                kept.append(x)
            return x

        logits, at = model(tokens[own], offsets[own], tap=tap), scored[own]
        norms = jacobian_norms(model.model, kept[1:-1], at, offsets[own]) if blood else None
        states = [x[:, at].double() for x in kept]
        whose = at.nonzero()[:, 0] + start
        parts.append(_Looked(logits[:, at].double(), states, following[own][at], whose, norms))
    return _joined(parts)


def _joined(parts: Sequence[_Looked], starts: Sequence[int] | None = None) -> _Looked:
    """The positions of several parts in a row; `starts`: what is added to the example numbers of each."""
    shifts = starts or [0] * len(parts)
    return _Looked(
        torch.cat([part.logits for part in parts], 1),
        [torch.cat(states, 1) for states in zip(*(part.states for part in parts), strict=True)],
        torch.cat([part.next for part in parts]),
        torch.cat([part.whose + shift for part, shift in zip(parts, shifts, strict=True)]),
        None if parts[0].blood is None else torch.cat([part.blood for part in parts if part.blood is not None], -1),
    )


def _scores(model: Stacked, known: _Looked, read: _Looked, examples: int, names: Sequence[str]) -> dict[str, Scores]:
    """Every requested score of the read answers, float64[example], fitted on the positions of `known`."""
    at = of_logits(read.logits) | {"smoothness": smoothness(read.states)}
    if set(names) - {*at, *SEQUENCE, *BLOOD}:
        fitted = answers_of(model.model, (read.logits, read.states[-1]), (known.logits, known.states[-1]), known.next)
        at |= fitted_scores(fitted)
    if read.blood is not None:
        at |= {"blood": read.blood.mean(0), "blood_last": read.blood[-1]}
    own = read.logits.log_softmax(-1).gather(-1, read.next.expand(1, -1)[..., None])[..., 0]
    sums = {"sequence_entropy": at["entropy"], "sequence_nll": -own}
    found = {name: largest(x, read.whose, examples)[0] for name, x in at.items()}
    for name, x in sums.items():
        found[name] = x.new_zeros(examples).index_add_(0, read.whose, x[0]).float().double()
    return {name: found[name].cpu().numpy() for name in names}


# -- One run


@dataclass(frozen=True, eq=False)
class RunScores:
    """The scores of one run's answers.

    Attributes:
        inside: name -> float64[example], answers inside that choose the threshold; `wrong_inside` bool[example].
        places: (split, length) -> (name -> float64[example], bool[example] wrong), outside.
    """

    inside: dict[str, Scores]
    wrong_inside: Wrong
    places: dict[tuple[str, int], tuple[dict[str, Scores], Wrong]] = field(default_factory=dict)

    def rows(self) -> list[dict[str, float | str | int]]:
        """A row per place and score: `split`, `length`, `score`, `n`, `wrong` (their number), and `measure`."""
        return [
            {"split": split, "length": length, "score": name, "n": len(wrong), "wrong": int(wrong.sum())}
            | measure(self.inside[name], score, wrong)
            for (split, length), (scores, wrong) in self.places.items()
            for name, score in scores.items()
        ]


def score_run(
    spec: RunSpec, model: Model, task: Task, places: Sequence[Split], names: Sequence[str] = NAMES
) -> RunScores:
    """Fit scores of one run inside its training distribution, and read them on what it writes outside.

    Args:
        spec: the run; model: its weights, a stack of one; task: its task.
        places: splits with their lengths, number of examples and seed.
        names: scores to read.

    Raises:
        NotApplicable: the model does not read tokens, has no attention or, for BLOOD, fewer than two layers.
    """
    blood = bool(set(names) & set(BLOOD))
    stacked, device = Stacked(model), model.flat.device
    if blood and stacked.cfg.n_layers < 2:
        raise NotApplicable("BLOOD compares the outputs of two layers; the model has fewer")
    known = _joined([_reference(stacked, batch) for batch in probe_batches(spec, device, n=PROBE_N)])
    written = [_inside(spec, stacked, task), *_outside(spec, stacked, task, places)]
    looked = [_look(stacked, w.tokens, w.chosen, w.scored, w.offsets, blood) for w in written]
    starts = np.cumsum([0, *(len(w.wrong) for w in written)])
    every = _scores(stacked, known, _joined(looked, starts[:-1].tolist()), int(starts[-1]), names)
    cut = [{name: score[a:b] for name, score in every.items()} for a, b in pairwise(starts)]
    keys = [(split.name, length) for split in places for length in split.lengths]
    outside = {key: (own, w.wrong) for key, own, w in zip(keys, cut[1:], written[1:], strict=True)}
    return RunScores(cut[0], written[0].wrong, outside)


def _reference(model: Stacked, batch: Batch) -> _Looked:
    assert batch.offsets is not None
    return _look(model, batch.tokens, batch.targets, batch.scored, batch.offsets, blood=False)


def _inside(spec: RunSpec, model: Stacked, task: Task) -> Written:
    """Answers to prompts drawn as training draws them, other ones than the reference."""
    law, inside = training_law(task, spec.train), in_distribution(task, spec.train)
    rng = np.random.default_rng([_INSIDE_SEED])
    lengths = np.sort(rng.choice(law.lengths, size=PROBE_N, p=law.probabilities))
    available = set(task.lengths_between(inside, law.min_len, law.train_len).tolist())
    examples = task.sample(rng, inside, lengths[np.isin(lengths, list(available))])
    return write(model.model, task, examples, eval_offsets(task, examples, _INSIDE_SEED, spec.model))


def _outside(spec: RunSpec, model: Stacked, task: Task, places: Sequence[Split]) -> list[Written]:
    found: list[Written] = []
    for split in places:
        for length in split.lengths:
            examples = eval_examples(task, split, length)
            found.append(write(model.model, task, examples, eval_offsets(task, examples, split.seed, spec.model)))
    return found


# -- Where to look


def places_of(
    spec: RunSpec, task: Task, splits: Sequence[str], lengths: Sequence[int] | None, n: int, seed: int
) -> list[Split]:
    """Splits with the lengths at which they are outside the training distribution of a run.

    Args:
        spec: the run; task: its task.
        splits: names of splits; none: the split that the run is tested on in distribution.
        lengths: only these; None: up to 8 of those that are outside, evenly spread.
        n: examples per length; seed: of the examples.

    Raises:
        UserError: an unknown split, or none of the lengths is outside and possible.
    """
    law = training_law(task, spec.train)
    found: list[Split] = []
    for name in dict.fromkeys(splits) or (law.split,):
        split = task.split(name)
        makes = task.lengths_between(split, 0, task.max_len)
        outside = makes[law.outside(name, makes)]
        chosen = [int(x) for x in outside if lengths is None or x in set(lengths)]
        if not chosen or (lengths is not None and chosen != sorted(set(lengths))):
            raise UserError(_no_place(law, name, lengths, outside))
        found.append(split.at(spread(chosen, _PLACES) if lengths is None else tuple(chosen), n, seed))
    return found


def _no_place(law: TrainingLaw, split: str, lengths: Sequence[int] | None, outside: np.ndarray) -> str:
    within = f"split {split!r} between {law.min_len} and {law.train_len} is what the run was trained on"
    has = f"it has {outside.min()} to {outside.max()} outside" if len(outside) else "it has no length outside"
    asked = "" if lengths is None else f" at lengths {','.join(map(str, lengths[:8]))}{',...' * (len(lengths) > 8)}"
    return f"nothing outside on split {split!r}{asked}: {has} ({within})"


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The requested scores, with the baselines. Raises `UserError` for an unknown one."""
    for name in names:
        if name not in (*NAMES, *BLOOD):
            raise unknown("score", name, (*NAMES, *BLOOD))
    return tuple(dict.fromkeys([*BASELINES, *names])) if names else NAMES
