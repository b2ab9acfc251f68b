"""Item response models: which runs are right on which test inputs, by abilities of runs and properties of inputs.

Models, x_ri whether run r is right on item i, s the logistic function:

- `rates`: the fraction of right answers of the run on items of the same split and length; items have no numbers.
- `1pl`: s(a_r - b_i) (Rasch 1960).
- `2pl`: s(d_i (a_r - b_i)), d_i > 0 (Birnbaum 1968).
- `vectors`: s(a_r . v_i / |v_i| - |v_i|), a_r and v_i in one space: the direction of an item is its kind, its norm
  its difficulty (the geometry of JE-IRT, Yao et al. 2025, arXiv 2509.22888; there v_i comes from a question's text).

Numbers are estimated by maximum a posteriori, found by L-BFGS: abilities have normal priors around 0, the
numbers of items around means that are estimated with them. How far items spread around these means is chosen on
hidden answers, since a population of runs is small and each item has few answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

Kind = Literal["rates", "1pl", "2pl", "vectors"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ABILITY, _MEAN, _LOG_SLOPE = 3.0, 10.0, 0.5
"""Standard deviations of the priors of abilities and of the means of items; that of ln d, relative to that of b."""
SPREADS = (0.3, 1.0, 3.0)
"""Standard deviations of items around their mean that are tried."""
_HIDDEN = 0.2
"""Fraction of the answers on which the spread is chosen."""
_RESTARTS = 3
"""Starts of `vectors`, whose objective has several minima; the best on the data that it is fitted to is kept."""
_ITERATIONS = 300
_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class Responses:
    """Which runs are right on which items.

    Attributes:
        right: float64[run, item], 1 or 0; anything where `known` is false.
        known: bool[run, item], whether the run was tested on the item.
        place: int[item], the split and length that it belongs to.
    """

    right: np.ndarray
    known: np.ndarray
    place: np.ndarray

    def hidden(self, cells: np.ndarray) -> Responses:
        """Without some cells, bool[run, item]."""
        return Responses(self.right, self.known & ~cells, self.place)

    def items(self, chosen: np.ndarray) -> Responses:
        """Only some items, bool[item] or int[some]."""
        return Responses(self.right[:, chosen], self.known[:, chosen], self.place[chosen])


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model.

    Attributes:
        kind: which; abilities: float64[run, dim]; items: float64[item, number]: b; b and ln d; or v.
        mean: float64[number], of the items; spread: standard deviation of the prior of items around it.
        loss: penalized log likelihood, negated, of the data that it was fitted to.
    """

    kind: Kind
    abilities: np.ndarray
    items: np.ndarray
    mean: np.ndarray
    spread: float
    loss: float = 0.0

    def logits(self) -> np.ndarray:
        """The log odds of a right answer, float64[run, item]."""
        return _logits(self.kind, self.abilities, self.items)

    def difficulty(self) -> np.ndarray:
        """The difficulty of each item, float64[item]: b, the ability at which half are right, or |v|."""
        return np.linalg.norm(self.items, axis=1) if self.kind == "vectors" else self.items[:, 0]

    def directions(self) -> np.ndarray:
        """The unit vector of each item, float64[item, dim]."""
        return self.items / np.maximum(np.linalg.norm(self.items, axis=1, keepdims=True), _TINY)


def _logits(kind: Kind, a: np.ndarray, v: np.ndarray) -> np.ndarray:
    if kind == "1pl":
        return a - v[:, 0]
    if kind == "2pl":
        return (a - v[:, 0]) * np.exp(v[:, 1])
    norm = _norm(v)
    return a @ (v / norm).T - norm[:, 0]


def _norm(v: np.ndarray) -> np.ndarray:
    """Norms that have a derivative at 0, float64[item, 1]."""
    return np.sqrt((v**2).sum(1, keepdims=True) + _TINY**2)


def _slopes(kind: Kind, a: np.ndarray, v: np.ndarray, of_logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives by abilities and items, given those by the log odds, float64[run, item]."""
    if kind == "1pl":
        return of_logits.sum(1, keepdims=True), -of_logits.sum(0)[:, None]
    if kind == "2pl":
        d = np.exp(v[:, 1])
        of_items = np.stack([-of_logits.sum(0) * d, (of_logits * _logits(kind, a, v)).sum(0)], axis=1)
        return (of_logits * d).sum(1, keepdims=True), of_items
    norm = _norm(v)
    u, of_u = v / norm, of_logits.T @ a
    along = (of_u * u).sum(1, keepdims=True)
    return of_logits @ u, (of_u - along * u) / norm - of_logits.sum(0)[:, None] * u


def fit(
    kind: Kind,
    data: Responses,
    rng: np.random.Generator,
    dims: int = 2,
    spread: float | None = None,
) -> Fitted:
    """Estimate abilities and items.

    Args:
        kind: the model, not `rates`.
        data: the responses.
        rng: of the starting points, and of the answers that are hidden to choose the spread.
        dims: dimensions of the space of `vectors`.
        spread: of items around their mean; None: the one of `SPREADS` that predicts hidden answers best, and then the
            better of two starts.
    """
    chosen = chosen_spread(kind, data, rng, dims) if spread is None else spread
    numbers = dims if kind == "vectors" else 2 if kind == "2pl" else 1
    best: Fitted | None = None
    for _ in range(_RESTARTS if kind == "vectors" and spread is None else 1):
        start = Fitted(
            kind,
            _start((len(data.right), dims if kind == "vectors" else 1), rng),
            _start((data.right.shape[1], numbers), rng),
            _start((numbers,), rng) * (np.array([1.0, 0.0]) if kind == "2pl" else 1.0),
            chosen,
        )
        found = _minimize(start, data, free=("abilities", "items", "mean"))
        best = found if best is None or found.loss < best.loss else best
    assert best is not None
    return best


def fit_runs(fitted: Fitted, data: Responses, rng: np.random.Generator) -> Fitted:
    """Estimate the abilities of other runs from their responses to the items of a fitted model."""
    start = replace(fitted, abilities=_start((len(data.right), fitted.abilities.shape[1]), rng))
    return _minimize(start, data, free=("abilities",))


def fit_items(fitted: Fitted, data: Responses, rng: np.random.Generator) -> Fitted:
    """Estimate other items from the responses of the runs of a fitted model."""
    start = replace(fitted, items=fitted.mean + _start((data.right.shape[1], fitted.items.shape[1]), rng))
    return _minimize(start, data, free=("items",))


def chosen_spread(kind: Kind, data: Responses, rng: np.random.Generator, dims: int) -> float:
    """The spread of items that predicts a fifth of the answers best from the others."""
    hidden = rng.random(data.right.shape) < _HIDDEN
    losses: dict[float, float] = {}
    for spread in SPREADS:
        logits = fit(kind, data.hidden(hidden), rng, dims, spread).logits()
        losses[spread] = float(np.nansum(log_losses(logits, data, hidden)))
    return min(losses, key=lambda spread: losses[spread])


def _start(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return 0.5 * rng.standard_normal(shape)


def objective(at: Fitted, data: Responses) -> tuple[float, dict[str, np.ndarray]]:
    """Negative log likelihood of the known responses plus that of the priors up to a constant, and its derivatives.

    Returns:
        The value, and the derivatives by `abilities`, by `items` (with the mean as it is) and by `mean` (with the
        offsets of the items from it as they are).
    """
    logits, offsets = at.logits(), at.items - at.mean
    deviations = np.full(offsets.shape[1], at.spread) * ([1.0, _LOG_SLOPE] if at.kind == "2pl" else [1.0])
    loss = float((np.logaddexp(0, logits) - data.right * logits)[data.known].sum())
    priors = (
        ((at.abilities / _ABILITY) ** 2).sum() + ((offsets / deviations) ** 2).sum() + ((at.mean / _MEAN) ** 2).sum()
    )
    of_logits = np.where(data.known, expit(logits) - data.right, 0.0)
    of_abilities, of_items = _slopes(at.kind, at.abilities, at.items, of_logits)
    of_mean = of_items.sum(0) + at.mean / _MEAN**2
    if at.kind == "2pl":  # the mean of ln d stays 0: one scale is enough, that of the abilities
        of_mean[1] = 0.0
    slopes = {"abilities": of_abilities + at.abilities / _ABILITY**2, "mean": of_mean}
    return loss + float(priors) / 2, slopes | {"items": of_items + offsets / deviations**2}


def _minimize(start: Fitted, data: Responses, free: tuple[str, ...]) -> Fitted:
    """The model with the smallest objective over the free numbers. Free items move with a free mean."""
    values = {name: start.items - start.mean if name == "items" else getattr(start, name) for name in free}
    ends = np.cumsum([0, *(x.size for x in values.values())])

    def model(flat: np.ndarray) -> Fitted:
        parts = zip(values.items(), ends[:-1], ends[1:], strict=True)
        read = {name: flat[a:b].reshape(x.shape) for (name, x), a, b in parts}
        mean = read.get("mean", start.mean)
        return replace(start, **{**read, "items": mean + read["items"]} if "items" in read else read)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slopes = objective(model(flat), data)
        return loss, np.concatenate([slopes[name].ravel() for name in values])

    whole = np.concatenate([x.ravel() for x in values.values()])
    options = {"maxiter": _ITERATIONS, "maxcor": 20, "gtol": 1e-5}
    found = minimize(value, whole, jac=True, method="L-BFGS-B", options=options)
    return replace(model(found.x), loss=float(found.fun))


# -- How well responses are predicted that were not seen


def rates(data: Responses) -> np.ndarray:
    """Log odds of the fraction of right answers of each run on items of the same place, float64[run, item].

    One right and one wrong answer at the run's own rate over all places are added, so that no rate is 0 or 1.
    """
    right = np.where(data.known, data.right, 0.0)
    whole = (right.sum(1) + 0.5) / (data.known.sum(1) + 1)
    p = np.empty_like(data.right)
    for place in np.unique(data.place):
        own = data.place == place
        p[:, own] = ((right[:, own].sum(1) + 2 * whole) / (data.known[:, own].sum(1) + 2))[:, None]
    return np.log(p) - np.log1p(-p)


def log_losses(logits: np.ndarray, data: Responses, cells: np.ndarray) -> np.ndarray:
    """Mean log loss of each run on some cells, bool[run, item], float64[run]; NaN without one."""
    each = np.logaddexp(0, logits) - data.right * logits
    use = cells & data.known
    counts = use.sum(1)
    return np.divide(np.where(use, each, 0).sum(1), counts, out=np.full(len(counts), np.nan), where=counts > 0)


Losses = dict[str, np.ndarray]
"""Model -> log loss of each run on what was held out, float64[run]."""


def held_out_cells(data: Responses, dims: int, rng: np.random.Generator, folds: int = 5) -> Losses:
    """Predict cells, a fifth at a time, from the other answers of the run and the other answers to the item."""
    fold = rng.integers(0, folds, size=data.right.shape)
    predicted = {kind: np.zeros_like(data.right) for kind in KINDS}
    spread: dict[Kind, float] = {}
    for number in range(folds):
        cells = fold == number
        seen = data.hidden(cells)
        spread = spread or _spreads(seen, rng, dims)
        for kind in KINDS:
            logits = rates(seen) if kind == "rates" else fit(kind, seen, rng, dims, spread[kind]).logits()
            predicted[kind][cells] = logits[cells]
    whole = np.ones_like(data.known)
    return {kind: log_losses(logits, data, whole) for kind, logits in predicted.items()}


def held_out_runs(data: Responses, dims: int, rng: np.random.Generator, known: int = 32) -> Losses:
    """Predict each run's answers from those to a few items, with items estimated from the other runs.

    Args:
        known: number of the run's answers, at items drawn at random, that its ability is estimated from.
    """
    runs, count = data.right.shape
    losses, spread = {kind: np.full(runs, np.nan) for kind in KINDS}, dict[Kind, float]()
    for run in range(runs):
        others = np.arange(runs) != run
        shown = np.zeros(count, bool)
        shown[rng.choice(count, size=min(known, count // 2), replace=False)] = True
        rest = Responses(data.right[others], data.known[others], data.place)
        own = Responses(data.right[[run]], data.known[[run]], data.place)
        spread = spread or _spreads(rest, rng, dims)
        for kind in KINDS:
            if kind == "rates":
                logits = rates(own.hidden(~shown[None]))
            else:
                fitted = fit(kind, rest, rng, dims, spread[kind])
                logits = fit_runs(fitted, own.hidden(~shown[None]), rng).logits()
            losses[kind][run] = log_losses(logits, own, ~shown[None])[0]
    return losses


def held_out_items(
    data: Responses, features: np.ndarray, dims: int, rng: np.random.Generator, shown: int, folds: int = 5
) -> tuple[Losses, Losses]:
    """Predict the answers to items that were not fitted: from their features, and from the answers of a few runs.

    From features: the numbers of an item by a ridge regression on those of fitted items (`rates` needs none: it knows
    split and length). From a few runs: the numbers of an item from the answers of `shown` runs, drawn per fold, with
    abilities from the fitted items; the other runs are predicted.

    Args:
        features: float64[item, feature].
        shown: number of runs whose answers to a new item are seen.
    """
    runs, count = data.right.shape
    fold = rng.permutation(count) % folds
    by_features = {kind: np.zeros_like(data.right) for kind in KINDS}
    by_runs = {kind: np.zeros_like(data.right) for kind in KINDS}
    tested, spread = np.ones_like(data.known), dict[Kind, float]()
    for number in range(folds):
        new = fold == number
        seen = np.isin(np.arange(runs), rng.choice(runs, size=shown, replace=False))
        tested[np.ix_(seen, new)] = False
        base = rates(data.hidden(np.broadcast_to(new, data.known.shape)))[:, new]
        by_features["rates"][:, new] = by_runs["rates"][:, new] = base
        old, fresh = data.items(~new), data.items(new)
        spread = spread or _spreads(old, rng, dims)
        for kind in KINDS[1:]:
            fitted = fit(kind, old, rng, dims, spread[kind])
            guessed = _ridge(features[~new], fitted.items, features[new])
            by_features[kind][:, new] = replace(fitted, items=guessed).logits()
            own = fit_items(fitted, fresh.hidden(np.broadcast_to(~seen[:, None], fresh.known.shape)), rng)
            by_runs[kind][:, new] = own.logits()
    whole = np.ones_like(data.known)
    return (
        {kind: log_losses(logits, data, whole) for kind, logits in by_features.items()},
        {kind: log_losses(logits, data, tested) for kind, logits in by_runs.items()},
    )


def _ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Ridge regression with penalty 1 on standardized features."""
    mean, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    z, fresh = (x - mean) / spread, (new - mean) / spread
    slopes = np.linalg.solve(z.T @ z + np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    return y.mean(0) + fresh @ slopes


def _spreads(data: Responses, rng: np.random.Generator, dims: int) -> dict[Kind, float]:
    """The spread of each model, chosen once on the first of the parts that are fitted: it is one of three."""
    return {kind: chosen_spread(kind, data, rng, dims) for kind in KINDS[1:]}


# -- What directions mean


def main_axis(directions: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Position of each item along the axis on which directions vary most, float64[item]."""
    w = np.ones(len(directions)) if weight is None else weight
    centered = directions - np.average(directions, axis=0, weights=w)
    _, vectors = np.linalg.eigh((centered * w[:, None]).T @ centered)
    return centered @ vectors[:, -1]


def axis_tells(position: np.ndarray, kinds: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How well a position tells items on which a rule is right from those on which it is wrong: AUROC, .5 to 1.

    The sign of an axis is arbitrary, so that the larger of AUROC and 1 - AUROC is taken. Rules that are right on all
    items, or on none, are left out.
    """
    from genlab.probes.families.confidence import auroc

    values = {rule: auroc(position, right) for rule, right in kinds.items() if right.any() and not right.all()}
    return {rule: max(value, 1 - value) for rule, value in values.items()}
