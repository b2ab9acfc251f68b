"""Scores of single inputs against slow twins: each written out from its paper's formula, in float64 with loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hand_models import batch_of
from numpy.typing import NDArray

import genlab
from genlab.models import Transformer, count, initial
from genlab.probes import NotApplicable, ProbeInput, chosen, hooked_input, probe_input, scores
from genlab.probes.families.confidence import SCORES
from genlab.probes.input_scores import jacobian_norm
from genlab.probes.inputs import Batch, probe_batches
from genlab.probes.model import Stacked
from genlab.probes.probing import values_of
from genlab.spec import ModelConfig

Floats = NDArray[np.float64]


def value(name: str, given: ProbeInput) -> Floats:
    return values_of(chosen([name])[0], given)[name]


def test_settings_are_those_of_the_papers():
    """Twins below take them from the package; here they are as published (sources: `lab signals NAME`)."""
    assert (scores.GAMMA, scores.TOP) == (0.1, 100)
    assert (scores.STEEPNESS, scores.BINS, scores.FILLED) == (100.0, 50, 500 / 50_000)
    assert (scores.NEIGHBORS, scores.VARIANCE, scores.CLIP, scores.PRUNED) == (10, 0.9, 0.9, 0.85)


# -- twins -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One run: features h and logits z of positions read, those of positions fitted on, and the unembedding."""

    h: Floats
    z: Floats
    known_h: Floats
    known_z: Floats
    labels: Sequence[int]
    W: Floats
    b: Floats


def log_sum_exp(z: Floats) -> float:
    top = max(z)
    return float(top + math.log(math.fsum(math.exp(v - top) for v in z)))


def softmax(z: Floats) -> list[float]:
    total = log_sum_exp(z)
    return [math.exp(v - total) for v in z]


def logits_of(case: Case, h: Floats) -> Floats:
    """h W + b, unit by unit."""
    return np.array(
        [math.fsum([*(h[i] * case.W[i, v] for i in range(len(h))), case.b[v]]) for v in range(len(case.b))]
    )


def msp(case: Case) -> list[float]:
    return [1 - max(softmax(z)) for z in case.z]


def energy(case: Case) -> list[float]:
    return [-log_sum_exp(z) for z in case.z]


def entropy(case: Case) -> list[float]:
    return [-math.fsum(p * math.log(p) for p in softmax(z) if p) for z in case.z]


def gen(case: Case) -> list[float]:
    """Sum over the top M classes of p^0.1 (1 - p)^0.1."""
    found = []
    for z in case.z:
        p = softmax(z)
        order = sorted(range(len(p)), key=lambda v: -p[v])[:100]
        found.append(math.fsum((p[v] * math.fsum(p[w] for w in range(len(p)) if w != v)) ** 0.1 for v in order))
    return found


def kl_matching(case: Case) -> list[float]:
    groups: dict[int, list[list[float]]] = {}
    for z in case.known_z:
        groups.setdefault(int(np.argmax(z)), []).append(softmax(z))
    means = [[math.fsum(p[v] for p in group) / len(group) for v in range(len(case.b))] for group in groups.values()]
    return [
        min(math.fsum(p * math.log(p / q) for p, q in zip(softmax(z), mean, strict=True) if p) for mean in means)
        for z in case.z
    ]


def mahalanobis(case: Case) -> list[float]:
    means = {c: np.mean([h for h, d in zip(case.known_h, case.labels, strict=True) if d == c], axis=0)
             for c in case.labels}  # fmt: skip
    width = case.h.shape[1]
    covariance = np.zeros((width, width))
    for h, c in zip(case.known_h, case.labels, strict=True):
        covariance += np.outer(h - means[c], h - means[c]) / len(case.known_h)
    precision = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    return [min(float((h - m) @ precision @ (h - m)) for m in means.values()) for h in case.h]


def knn(case: Case) -> list[float]:
    unit = [h / math.sqrt(math.fsum(h * h)) for h in case.known_h]
    return [sorted(float(np.linalg.norm(h / np.linalg.norm(h) - u)) for u in unit)[10 - 1] for h in case.h]


def vim(case: Case) -> list[float]:
    """Origin -(W^T)^+ b; alpha |x^P| - log sum exp z; eigenvectors of X^T X beyond the first half."""
    origin = -np.linalg.pinv(case.W.T) @ case.b
    x = case.known_h - origin
    _, _, right = np.linalg.svd(x)  # squared singular values are the eigenvalues, largest first
    rest = right[case.h.shape[1] // 2 :]
    sizes = [math.sqrt(math.fsum(float(v @ row) ** 2 for v in rest)) for row in x]
    alpha = np.mean([max(z) for z in case.known_z]) / np.mean(sizes)
    return [
        float(alpha) * math.sqrt(math.fsum(float(v @ (h - origin)) ** 2 for v in rest)) - log_sum_exp(z)
        for h, z in zip(case.h, case.z, strict=True)
    ]


def neco(case: Case) -> list[float]:
    """max z |P h| / |h| as scikit-learn's PCA projects; the fewest components with 90 % of the variance."""
    from sklearn.decomposition import PCA

    pca = PCA(svd_solver="full").fit(case.known_h)
    kept = int(np.where(np.cumsum(pca.explained_variance_ratio_) >= 0.9)[0][0]) + 1
    parts = pca.transform(case.h)[:, :kept]
    return [
        -float(np.linalg.norm(part) / np.linalg.norm(h) * max(z))
        for part, h, z in zip(parts, case.h, case.z, strict=True)
    ]


def react(case: Case) -> list[float]:
    bound = np.percentile(case.known_h.flatten(), 90)
    return [-log_sum_exp(logits_of(case, np.array([min(v, bound) for v in h]))) for h in case.h]


def scale(case: Case) -> list[float]:
    found = []
    for h in case.h:
        kept = len(h) - int(np.round(len(h) * 85 / 100))
        r = math.fsum(h) / math.fsum(sorted(h)[-kept:])
        found.append(-log_sum_exp(logits_of(case, h * math.exp(r))))
    return found


def coverage(case: Case) -> list[float]:
    """Of bins [m/50, (m+1)/50): min(count / O, 1), averaged over units."""

    def states(h: Floats, z: Floats) -> list[int]:
        p, classes = softmax(z), len(z)
        found = []
        for i, unit in enumerate(h):
            slope = math.fsum(case.W[i, v] * (p[v] - 1 / classes) for v in range(classes))
            state = 1 / (1 + math.exp(-min(700.0, max(-700.0, 100 * unit * slope))))
            found.append(min(49, int(state * 50)))
        return found

    usual = [states(h, z) for h, z in zip(case.known_h, case.known_z, strict=True)]
    filled = max(1.0, len(usual) / 100)
    found = []
    for h, z in zip(case.h, case.z, strict=True):
        covered = [min(1.0, sum(one[i] == m for one in usual) / filled) for i, m in enumerate(states(h, z))]
        found.append(-float(np.mean(covered)))
    return found


TWINS: dict[str, Callable[[Case], list[float]]] = {
    "msp": msp, "energy": energy, "entropy": entropy, "gen": gen, "kl_matching": kl_matching,
    "mahalanobis": mahalanobis, "knn": knn, "vim": vim, "neco": neco, "react": react, "scale": scale,
    "coverage": coverage,
}  # fmt: skip


def test_every_score_that_is_credited_to_a_paper_has_a_twin():
    credited = {name for name, score in SCORES.items() if not score.source.startswith("ours")}
    assert credited == {*TWINS}


# -- models ----------------------------------------------------------------------------------------------------------


def stack_of_runs(runs: int = 2, **shape: object) -> Transformer:
    """Random weights everywhere, biases and gains of norms among them."""
    sizes = {"d_vocab": 9, "n_ctx": 12, "n_layers": 2, "d_model": 12, "n_heads": 2, "d_head": 6, "d_mlp": 16}
    cfg = ModelConfig.model_validate({**sizes, **shape})
    generator = torch.Generator().manual_seed(0)
    return Transformer(cfg, 0.4 * torch.randn(runs, count(cfg), generator=generator))


def answers_of(model: Transformer, rows: int = 24) -> ProbeInput:
    """Two batches; answers at the last positions, of which some are left out, and mostly what the model says."""
    generator = torch.Generator().manual_seed(1)
    batches: list[Batch] = []
    for pos in (7, 10):
        tokens = torch.randint(9, (rows, pos), generator=generator)
        scored = torch.zeros_like(tokens, dtype=torch.bool)
        scored[:, -3:] = True
        scored[1::3, -1] = False
        batch = batch_of(tokens, pos, scored)
        likeliest = model(tokens.expand(model.n_runs, -1, -1))[0].argmax(-1)
        noise = torch.rand(tokens.shape, generator=generator) < 0.3
        batch.targets[:] = torch.where(noise, batch.targets, likeliest)
        batches.append(batch)
    return ProbeInput(Stacked(model), tuple(batches), ())


def trained() -> ProbeInput:
    """A few steps of sort, so that features stand in classes and some answers are wrong."""
    from genlab.tasks import make
    from genlab.training import fresh, train_stack

    plan = genlab.plan("sort", 3, 3, seeds=(0, 1), steps=60, n_layers=1, d_model=16, n_heads=2, lr=3e-3)
    states = train_stack(make(plan.specs[0].task), fresh(list(plan.specs)), torch.device("cpu"))
    model = Transformer(plan.specs[0].model, torch.stack([state.weights for state in states]))
    batches = tuple(batch.first(24) for batch in probe_batches(plan.specs[0], torch.device("cpu")))
    return probe_input(plan.specs, model, batches)


GIVEN: dict[str, Callable[[], ProbeInput]] = {
    "norm and bias": lambda: answers_of(stack_of_runs()),
    "RMS, no bias": lambda: answers_of(stack_of_runs(normalization_type="RMS", bias=False)),
    "tied, attention alone": lambda: answers_of(stack_of_runs(tie_word_embeddings=True, attn_only=True)),
    "no final norm": lambda: answers_of(stack_of_runs(final_norm=False)),
    "trained": trained,
}


def normed(model: Transformer, run: int, x: Floats) -> Floats:
    """The final norm, by hand."""
    cfg, params = model.cfg, model.params
    if cfg.normalization_type == "none" or not cfg.final_norm:
        return x
    gain = params["ln_final.w"][run].double().numpy()
    if cfg.normalization_type == "RMS":
        return x / math.sqrt(np.mean(x**2) + 1e-5) * gain
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * gain + params["ln_final.b"][run].double().numpy()


def cases(given: ProbeInput) -> tuple[list[Case], list[int]]:
    """The case of each run, and whose example each of its positions is."""
    assert isinstance(given.model, Stacked)
    model, found, whose = given.model.model, [], []
    last = given.cfg.n_layers - 1
    for run in range(model.n_runs):
        parts: dict[bool, list[tuple[Floats, Floats, int]]] = {True: [], False: []}
        whose, examples = [], 0
        for seen in given.seen:
            batch = seen.batch
            for row in range(len(batch.tokens)):
                known = row < len(batch.tokens) // 2
                for pos in range(batch.tokens.shape[1]):
                    if batch.scored[row, pos]:
                        h = normed(model, run, seen.residual(last)[run, row, pos].double().numpy())
                        z = seen.logits[run, row, pos].double().numpy()
                        parts[known].append((h, z, int(batch.targets[row, pos])))
                        whose += [] if known else [examples]
                examples += not known
        W = model.params["embed.W_E"][run].T if model.cfg.tie_word_embeddings else model.params["unembed.W_U"][run]
        b = model.params["unembed.b_U"][run] if "unembed.b_U" in model.params else torch.zeros(model.cfg.d_vocab)
        (known_h, known_z, labels), (h, z, _) = (list(zip(*parts[which], strict=True)) for which in (True, False))
        found.append(Case(np.array(h), np.array(z), np.array(known_h), np.array(known_z), labels,
                          W.double().numpy(), b.double().numpy()))  # fmt: skip
    return found, whose


@pytest.mark.parametrize("which", GIVEN)
def test_scores_equal_their_twins(which: str):
    given = GIVEN[which]()
    of_runs, whose = cases(given)
    for case in of_runs:  # what the twins are given is right
        assert case.z[3] == pytest.approx(logits_of(case, case.h[3]), abs=1e-4)
    for name, twin in TWINS.items():
        wanted: list[float] = []
        for case in of_runs:
            worst: dict[int, float] = {}
            for example, score in zip(whose, twin(case), strict=True):
                worst[example] = max(score, worst.get(example, -math.inf))
            wanted.append(float(np.mean(list(worst.values()))))
        # Of float32: scores are rounded to it, and logits are not exactly the features times the unembedding.
        assert value(f"confidence_{name}", given) == pytest.approx(wanted, rel=2e-6, abs=1e-6), name


def test_activation_states_take_the_slope_of_the_divergence_from_uniform():
    """What the twin of `coverage` calls dKL/dh is the finite difference of KL(uniform || p)."""
    case = cases(answers_of(stack_of_runs()))[0][0]
    h, classes = case.h[0], len(case.b)
    p = softmax(logits_of(case, h))

    def divergence(h: Floats) -> float:
        return -math.log(classes) - math.fsum(math.log(q) for q in softmax(logits_of(case, h))) / classes

    for i in range(len(h)):
        step = np.eye(len(h))[i] * 1e-5
        slope = (divergence(h + step) - divergence(h - step)) / 2e-5
        assert slope == pytest.approx(
            math.fsum(case.W[i, v] * (p[v] - 1 / classes) for v in range(classes)), abs=1e-7
        )


# -- between layers --------------------------------------------------------------------------------------------------

KINDS: tuple[dict[str, object], ...] = (
    {},
    {"n_layers": 3, "positions": "rotary", "normalization_type": "RMS"},
    {"positions": "alibi", "attn_only": True, "attn_weights": "entmax15"},
    {"positions": "none", "attn_weights": "selective"},
    {"n_layers": 1, "loops": 2, "act_fn": "relu", "attn_weights": "stick-breaking"},
)


@pytest.mark.parametrize("shape", KINDS, ids=str)
def test_blood_is_the_norm_of_a_jacobian(shape: dict[str, object]):
    """Of the whole forward pass in float64: the residual after a layer, by what is added to it before that layer."""
    model = stack_of_runs(runs=1, **shape)
    double = Transformer(model.cfg, model.flat.double())
    given = answers_of(model, rows=4)
    wanted: dict[str, list[float]] = {"blood": [], "blood_last": []}
    for batch in given.batches:
        for row in range(2, 4):  # the half that is read
            norms: list[list[float]] = []
            for pos in batch.scored[row].nonzero()[:, 0].tolist():
                layers = range(1, given.cfg.n_layers)
                norms.append([jacobian(double, batch.tokens[row : row + 1], layer, pos) for layer in layers])
            wanted["blood"].append(max(float(np.mean(of)) for of in norms))
            wanted["blood_last"].append(max(of[-1] for of in norms))
    for name, of_examples in wanted.items():
        assert value(name, given) == pytest.approx([np.mean(of_examples)], rel=1e-3), name


def jacobian(model: Transformer, tokens: torch.Tensor, layer: int, pos: int) -> float:
    def after(added: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []

        def tap(name: str, x: torch.Tensor) -> torch.Tensor:
            if name == f"blocks.{layer}.hook_resid_pre":
                x = x.clone()
                x[0, 0, pos] = x[0, 0, pos] + added
            if name == f"blocks.{layer}.hook_resid_post":
                kept.append(x[0, 0, pos])
            return x

        model(tokens[None], tap=tap)
        return kept[0]

    zero = torch.zeros(model.cfg.d_model, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(after, zero)
    assert isinstance(matrix, torch.Tensor)
    return float(matrix.pow(2).sum())


def test_a_jacobian_at_the_second_token_has_the_first_before_it():
    model = stack_of_runs(runs=1)
    double = Transformer(model.cfg, model.flat.double())
    tokens = answers_of(model, rows=4).batches[0].tokens[:1, :2]
    kept: list[torch.Tensor] = []

    def tap(name: str, x: torch.Tensor) -> torch.Tensor:
        if name == "blocks.1.hook_resid_pre":
            kept.append(x)
        return x

    double(tokens[None], tap=tap)
    found = jacobian_norm(double, 1, kept[0], None)
    assert found[0, 0] == pytest.approx(jacobian(double, tokens, 1, 1), rel=1e-6)


def test_runs_of_a_stack_have_the_blood_that_they_have_alone():
    both = stack_of_runs()
    found = value("blood", answers_of(both, rows=4))
    for run in range(2):
        given = answers_of(both, rows=4)
        alone = ProbeInput(Stacked(Transformer(both.cfg, both.flat[run : run + 1])), given.batches, ())
        assert value("blood", alone) == pytest.approx(found[run : run + 1], rel=1e-4)
    wrong = values_of(chosen(["wrong_by_blood_auroc"])[0], answers_of(both))
    assert set(wrong) == {"wrong_by_blood_auroc.blood", "wrong_by_blood_auroc.blood_last"}
    assert 0 < wrong["wrong_by_blood_auroc.blood"][0] < 1  # that run is right at times, the other never


# -- what models cannot give -----------------------------------------------------------------------------------------


def test_what_a_model_cannot_give_says_why():
    one = answers_of(stack_of_runs(n_layers=1))
    with pytest.raises(NotApplicable, match="two layers"):
        value("blood", one)
    few = answers_of(stack_of_runs(), rows=2)
    with pytest.raises(NotApplicable, match="too few positions"):
        value("confidence_vim", few)
    assert np.isfinite(value("confidence_msp", few)).all()


def test_a_model_from_elsewhere_has_the_scores_of_its_logits():
    pytest.importorskip("transformer_lens")
    from genlab.models import as_hooked
    from genlab.tasks import make

    spec = genlab.plan("sort", 6, 16, seeds=[0], positions="none").specs[0]
    model = Transformer(spec.model, initial(spec.model, [0]))
    task = make(spec.task)
    examples = [task.sample(np.random.default_rng(n), "id", [n] * 8) for n in (3, 6)]
    given = hooked_input(as_hooked(model), examples, task.vocab.tokens)
    assert np.isfinite(value("confidence_gen", given)).all()
    for name in ("confidence_knn", "blood"):
        with pytest.raises(NotApplicable, match="external model"):
            value(name, given)


def test_features_that_fill_half_the_space_have_no_virtual_logit():
    """All weights but the embedding 0: the features are as many directions as tokens."""
    model = stack_of_runs(runs=1, final_norm=False, normalization_type="none", positions="none", bias=False)
    for name, weight in model.params.items():
        weight.zero_()
        if name == "embed.W_E":
            weight[0, :3, :3] = torch.eye(3)
    given = answers_of(model)
    assert np.isnan(value("confidence_vim", given)).all()
    assert np.isfinite(value("confidence_knn", given)).all()


# -- runs that are no numbers ----------------------------------------------------------------------------------------


def test_a_run_of_nans_is_nan_in_every_signal_and_leaves_the_others_alone():
    for task, length, families in (("sort", 4, ["all"]), ("modular", 1, ["fourier"])):
        spec = genlab.plan(task, length, length, seeds=[0], d_model=16, n_heads=2).specs[0]
        specs = [spec.with_seeds(seed, 0) for seed in range(3)]
        flat = initial(spec.model, [0, 1, 2])
        batches = tuple(batch.first(24) for batch in probe_batches(spec, torch.device("cpu")))
        sound = probe_input([specs[0], specs[2]], Transformer(spec.model, flat[[0, 2]]), batches)
        flat = flat.clone()
        flat[1] = torch.nan
        given = probe_input(specs, Transformer(spec.model, flat), batches)
        for one in chosen(families):
            if one.slow and one.name != "linear_probe":
                continue
            try:
                found = values_of(one, given)
            except NotApplicable:
                continue
            wanted = values_of(one, sound)
            for name, values in found.items():
                assert np.isnan(values[1]).all(), name
                np.testing.assert_allclose(values[[0, 2]], wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_nothing_but_nans_is_nan():
    spec = genlab.plan("sort", 5, 5, seeds=[0]).specs[0]
    flat = torch.full_like(initial(spec.model, [0]), torch.nan)
    given = probe_input([spec], Transformer(spec.model, flat))
    for name in ("confidence_vim", "effective_rank", "subspace_match", "blood"):
        found = values_of(chosen([name])[0], given)
        assert np.isnan(found[name]).all()
