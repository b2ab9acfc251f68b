"""Content and geometry of the residual stream: linear probes, smoothness, effective rank, neuron coverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genlab.errors import NotApplicable
from genlab.probes.signal import signal
from genlab.tasks import Vocab

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import ProbeInput

_POSITIONS, _SEED = 1200, 15


@signal(
    "linear_probe",
    per="layer",
    about="how well the task's latent states can be decoded linearly from the residual stream",
    formula="accuracy of a logistic regression on the residual after a layer, at positions of held-out examples; "
    "`selectivity` is that minus the accuracy of one trained and tested on shuffled labels",
    blind="What can be decoded need not be used; with wide residual streams much can be decoded from untrained "
    "models.",
    unit="fraction",
    low=-1,
    high=1,
    source="Hewitt and Liang 2019, control tasks, arXiv 1909.03368 (there labels of word types)",
    slow=True,
    version=2,
)
def linear_probe(given: ProbeInput) -> dict[str, Tensor]:
    return probed(given)


def probed(given: ProbeInput, names: Set[str] | None = None) -> dict[str, Tensor]:
    """`linear_probe` for some of the task's latent states, or for all: LATENT.accuracy and LATENT.selectivity."""
    import torch

    name, form, _ = given.task()
    if not given.cfg.n_layers:
        raise NotApplicable("the model has no layers")
    found: dict[str, list[list[float]]] = {}
    for layer in range(given.cfg.n_layers):
        states, labels, held_out = probe_data(given, layer, name, form)
        for latent, values in labels.items():
            if names is not None and latent not in names:
                continue
            for run in range(given.model.n_runs):
                accuracy, control = probe_accuracy(states[run], values, held_out)
                for part, value in (("accuracy", accuracy), ("selectivity", accuracy - control)):
                    of_layer = found.setdefault(f"{latent}.{part}", [[] for _ in range(given.cfg.n_layers)])
                    of_layer[layer].append(value)
    return {part: torch.tensor(values, dtype=torch.float64).T for part, values in found.items()}


def probe_data(
    given: ProbeInput, layer: int, task: str, form: str
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Residuals float[run, position, d_model], labels of each latent (-1: none), and which positions are held out."""
    states, labels, held_out = [], [], []
    for seen in given.seen:
        tokens = seen.batch.tokens.cpu().numpy()
        known = latents(task, form, tokens[:, given.start :], given.own_vocab)
        states.append(seen.residual(layer).flatten(1, 2).cpu().numpy())
        start = ((0, 0), (given.start, 0))
        labels.append({name: np.pad(of, start, constant_values=-1).ravel() for name, of in known.items()})
        half = np.arange(len(tokens)) >= len(tokens) // 2
        held_out.append(np.repeat(half, tokens.shape[1]))
    joined = {name: np.concatenate([of[name] for of in labels]) for name in labels[0]}
    return np.concatenate(states, axis=1), joined, np.concatenate(held_out)


def probe_accuracy(states: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """Held-out accuracy of a probe for the labels, and of one for shuffled labels; NaN if there is only one class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(_SEED)
    train, test = (
        rng.permutation(np.flatnonzero((labels >= 0) & among))[:_POSITIONS] for among in (~held_out, held_out)
    )
    if not len(test) or len(np.unique(labels[train])) < 2:
        return float("nan"), float("nan")
    scores: list[float] = []
    for shuffled in (False, True):
        known, target = labels[train], labels[test]
        if shuffled:
            known, target = rng.permutation(known), rng.permutation(target)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=100, tol=1e-2))
        scores.append(float(probe.fit(states[train], known).score(states[test], target)))
    return scores[0], scores[1]


@signal(
    "unrelated_probe",
    per="layer",
    about="how well the first token of the prompt can be decoded where the answer begins, beyond what the answer "
    "tells",
    formula="accuracy of a logistic regression for that token on the residual after a layer, where the answer "
    "begins, next to the first token of the answer as one-hot, on held-out examples; minus that of the likeliest "
    "token given the first token of the answer; NaN where every prompt begins with the same token",
    blind="A feature counts as unrelated if the first token of the answer does not tell it: in parity the first bit "
    "is needed for the answer, and in reversal for its last token. Some of it is there before training: compare with "
    "the untrained model.",
    unit="fraction",
    low=-1,
    high=1,
    source="after feature contamination, Zhang et al. 2024, arXiv 2406.03345 (there correlations of neurons; the "
    "probe is ours)",
    slow=True,
)
def unrelated_probe(given: ProbeInput) -> Tensor:
    import torch

    begins = [seen.batch.scored.int().argmax(1) for seen in given.seen]
    if min(int(at.min()) for at in begins) <= given.start:
        raise NotApplicable("the answer begins at the first token of the prompt")
    places = [(torch.arange(len(at), device=at.device), at) for at in begins]
    first = torch.cat([seen.batch.tokens[:, given.start] for seen in given.seen]).cpu().numpy()
    answer = torch.cat([seen.batch.targets[at] for seen, at in zip(given.seen, places, strict=True)]).cpu().numpy()
    held_out = np.concatenate([np.arange(len(at)) >= len(at) // 2 for at in begins])
    told, one_hot = _told(first, answer, held_out), np.eye(len(given.vocab), dtype=np.float32)[answer]

    def of(layer: int) -> list[float]:
        there = [seen.residual(layer)[:, *at] for seen, at in zip(given.seen, places, strict=True)]
        states = torch.cat(there, dim=1).cpu().numpy()
        return [probe_accuracy(np.hstack([of_run, one_hot]), first, held_out)[0] - told for of_run in states]

    return torch.tensor([of(layer) for layer in layers_of(given)], dtype=torch.float64).T


def _told(feature: np.ndarray, by: np.ndarray, held_out: np.ndarray) -> float:
    """Held-out accuracy of the likeliest feature given another; where that is new, of the likeliest of all."""
    known, likeliest = feature[~held_out], dict[int, int]()
    for value in np.unique(by):
        same = known[by[~held_out] == value]
        likeliest[int(value)] = int(np.bincount(same if len(same) else known).argmax())
    guesses = np.array([likeliest[int(value)] for value in by[held_out]])
    return float(np.mean(guesses == feature[held_out]))


@signal(
    "layer_smoothness",
    per="layer",
    about="how little a layer changes the direction of the residual stream",
    formula="mean over scored positions of the cosine between the residual before and after a layer",
    blind="Ignores norms: a layer that only rescales the stream looks like one that does nothing.",
    unit="cosine",
    low=-1,
    high=1,
    source="ours",
)
def layer_smoothness(given: ProbeInput) -> Tensor:
    import torch

    def of(layer: int) -> Tensor:
        pairs = [(s.residual(layer - 1)[:, s.batch.scored], s.residual(layer)[:, s.batch.scored]) for s in given.seen]
        return torch.cat([torch.cosine_similarity(a, b, dim=-1) for a, b in pairs], dim=1).mean(1)

    return torch.stack([of(layer) for layer in layers_of(given)], dim=1)


@signal(
    "effective_rank",
    per="layer",
    about="number of directions that the residual stream uses",
    formula="exp of the entropy of the singular values, normalized to sum 1, of the centered residuals at scored "
    "positions",
    blind="Dominated by directions of large variance, such as a token that all sequences share.",
    unit="dimensions",
    low=0,
    high=float("inf"),
    source="Roy and Vetterli 2007, The effective rank (of the centered matrix: ours)",
)
def effective_rank(given: ProbeInput) -> Tensor:
    import torch

    def of(layer: int) -> Tensor:
        states = torch.cat([s.residual(layer)[:, s.batch.scored] for s in given.seen], dim=1).double()
        states = states - states.mean(1, keepdim=True)
        values = torch.linalg.eigvalsh(states.mT @ states).clamp(min=0).sqrt()
        fractions = values / values.sum(-1, keepdim=True).clamp(min=1e-30)
        return torch.special.entr(fractions).sum(-1).exp()

    return torch.stack([of(layer) for layer in layers_of(given)], dim=1)


@signal(
    "neuron_coverage",
    per="layer",
    about="fraction of a layer's neurons that fire strongly on some in-distribution input",
    formula="fraction of neurons whose activation, rescaled to [0, 1] over the layer at each position, exceeds 1/2 "
    "somewhere",
    blind="Counts firing, not use; depends on the threshold.",
    unit="fraction",
    low=0,
    high=1,
    source="Pei et al. 2017, DeepXplore, arXiv 1705.06640",
)
def neuron_coverage(given: ProbeInput) -> Tensor:
    import torch

    if given.cfg.attn_only:
        raise NotApplicable("the model has no MLP")

    def of(layer: int) -> Tensor:
        fired: list[Tensor] = []
        for seen in given.seen:
            x = seen.at(f"blocks.{layer}.mlp.hook_post")[:, seen.batch.real]  # [run, place, neuron]
            low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
            fired.append(((x - low) > 0.5 * (high - low)).any(1))
        return torch.stack(fired).any(0).double().mean(-1)

    return torch.stack([of(layer) for layer in layers_of(given)], dim=1)


def layers_of(given: ProbeInput) -> range:
    """The layers of the models. Raises `NotApplicable` if there are none."""
    if not given.cfg.n_layers:
        raise NotApplicable("the model has no layers")
    return range(given.cfg.n_layers)


# -- Latent states of a task at each position: labels for linear probes

Ints = NDArray[np.int64]
Labels = Mapping[str, Ints]
"""Latent -> int[batch, pos], -1 where it is not defined."""

_MAX_CLASS = 16
"""Larger counts and positions are merged into one class."""


def latents(task: str, form: str, tokens: Ints, vocab: Sequence[str]) -> Labels:
    """The latent states of a task on a batch of token ids; every task has `position` and `to_end_of_prompt`."""
    words = np.array(vocab)[tokens]
    found: dict[str, Ints] = {"position": np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape).copy()}
    if (tokens == Vocab.sep).any():
        end = np.where((tokens == Vocab.sep).any(1), (tokens == Vocab.sep).argmax(1), -1)
        found["to_end_of_prompt"] = np.maximum(end[:, None] - np.arange(tokens.shape[1]), -1)
    for name, label in _OF_TASK.get(task, {}).items():
        found[name] = np.stack([label(list(row), form) for row in words])
    real = tokens != Vocab.pad
    return {name: np.where(real, np.minimum(values, _MAX_CLASS), -1) for name, values in found.items()}


def _prompt(row: list[str]) -> int:
    return row.index(">") if ">" in row else len(row)


def _running_parity(row: list[str], form: str) -> Ints:
    """Parity of the ones up to each bit of the prompt."""
    del form
    found, ones = np.full(len(row), -1), 0
    for i, token in enumerate(row[: _prompt(row)]):
        if token in ("0", "1"):
            ones += token == "1"
            found[i] = ones % 2
    return found


def _depth(row: list[str], form: str) -> Ints:
    """Number of open brackets after each bracket, plus 8 so that it may fall below 0."""
    del form
    found, depth = np.full(len(row), -1), 0
    for i, token in enumerate(row[: _prompt(row)]):
        if token in "()[]{}⟨⟩":
            depth += 1 if token in "([{⟨" else -1
            found[i] = max(0, depth + 8)
    return found


def _violated(row: list[str], form: str) -> Ints:
    """Whether depth has been below 0 so far, at each bracket of one kind and at the end of the prompt."""
    del form
    found, depth, violated = np.full(len(row), -1), 0, False
    for i, token in enumerate(row[: _prompt(row) + 1]):
        depth += (token == "(") - (token == ")")
        violated |= depth < 0
        if token in "()>":
            found[i] = violated
    return found


def _carry(row: list[str], form: str) -> Ints:
    """The carry into the next digit to be written, at the position before it."""
    found, end = np.full(len(row), -1), _prompt(row)
    if "+" not in row[:end]:
        return found
    plus = row.index("+")
    left, right = ([int(t) for t in part if t.isdecimal()][::-1] for part in (row[:plus], row[plus + 1 : end]))
    base = 2 if max([*left, *right], default=0) < 2 else 10
    carries = [0]
    for a, b in zip(left, right, strict=False):
        carries.append((a + b + carries[-1]) // base)
    positions = [i for i in range(end + 1, len(row)) if row[i].isdecimal()]
    columns = range(len(positions)) if form.startswith("reversed") else range(len(positions) - 1, -1, -1)
    for i, column in zip(positions, columns, strict=True):
        if column < len(carries):
            found[i - 1] = carries[column]
    return found


def _main_subject(row: list[str], form: str) -> Ints:
    """Whether the subject of the main verb is plural (from its verb), at the position where the answer begins."""
    del form
    from genlab.probes.families.auxiliaries import main_auxiliary_of

    end = _prompt(row)
    found = np.full(len(row), -1)
    if end < len(row):
        found[end] = int(main_auxiliary_of(row[: end - 2]) in ("do", "don't"))
    return found


_OF_TASK: Mapping[str, Mapping[str, Callable[[list[str], str], Ints]]] = {
    "parity": {"running_parity": _running_parity},
    "addition": {"carry": _carry},
    "brackets": {"depth": _depth, "violated": _violated},
    "dyck": {"depth": _depth},
    "dyck-next": {"depth": _depth},
    "question-formation": {"main_subject_plural": _main_subject},
}
"""Task -> its latent states by name, each with a function of the tokens of an example and the format."""
