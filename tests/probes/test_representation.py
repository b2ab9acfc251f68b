"""Weights, training curves, representation and Fourier: values known by hand, or from a slow twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_models import batch_of, blank, given_for, induction_pair, part, repeated, shape

import genlab
from genlab.models import Transformer, initial
from genlab.probes import NotApplicable, ProbeInput, chosen, probe_batches, probe_input
from genlab.probes.families.fourier import basis, key_frequencies
from genlab.probes.families.representation import latents, probe_accuracy
from genlab.probes.probing import values_of
from genlab.spec import RunSpec
from genlab.tasks import make
from genlab.tasks.base import hint_names


def values(name: str, given: ProbeInput) -> dict[str, np.ndarray]:
    return values_of(chosen([name])[0], given)


def spec_of(task: str, train_len: int, **options: object) -> RunSpec:
    return genlab.plan(task, train_len, train_len, seeds=[0], steps=0, **options).specs[0]


# -- weights and training --------------------------------------------------------------------------------------------


def test_norms_and_distance():
    spec = spec_of("sort", 5, n_layers=1)
    specs = [spec.with_seeds(seed, 0) for seed in (0, 1)]
    flat = initial(spec.model, [0, 1])
    moved = flat.clone()
    moved[1] += 1.0
    given = probe_input(specs, Transformer(spec.model, moved))
    wanted = [0.0, moved.shape[1] ** 0.5 / float(flat[1].norm())]
    assert values("distance_from_init", given)["distance_from_init"] == pytest.approx(wanted, rel=1e-5)
    assert values("weight_norm", given)["weight_norm"][0] == pytest.approx(float(flat[0].norm()), rel=1e-5)


def test_spectral_norms_fold_the_gain_in():
    model = blank(shape(4, 4, extra=0, d_head=4, n_layers=1))
    part(model, 0, "Q")[:4] = torch.diag(torch.tensor([3.0, 1.0, 0.0, 0.0]))
    part(model, 0, "K")[:4] = torch.eye(4)
    part(model, 0, "V")[:4] = torch.diag(torch.tensor([3.0, 4.0, 0.0, 0.0]))
    part(model, 0, "O")[:, :4] = torch.eye(4)
    given = given_for(model, batch_of(torch.zeros(1, 2, dtype=torch.int64)))
    assert values("qk_spectral_norm", given)["qk_spectral_norm"][0, 0, 0] == pytest.approx(3 / 4**0.5)
    assert values("ov_spectral_norm", given)["ov_spectral_norm"][0, 0, 0] == pytest.approx(4.0)
    assert values("ov_norm", given)["ov_norm"][0, 0, 0] == pytest.approx(5.0)
    normed = spec_of("sort", 5, n_layers=1)
    plain = Transformer(normed.model, initial(normed.model, [0]))
    doubled = Transformer(normed.model, plain.flat.clone())
    doubled.params["blocks.0.ln1.w"][:] *= 2
    ratio = [values("ov_norm", probe_input([normed], m))["ov_norm"] for m in (doubled, plain)]
    assert ratio[0] == pytest.approx(2 * ratio[1], rel=1e-5)


def test_curves():
    spec = spec_of("sort", 5, n_layers=1)
    history = {
        "step": np.array([10, 20, 40, 95, 100]),
        "loss": np.array([4.0, 2.0, 1.0, 0.5, 0.1]),
        "lr": np.ones(5),
        "exact_match": np.array([0.0, 0.5, 0.99, 0.98, 1.0]),
    }
    given = probe_input([spec], Transformer(spec.model, initial(spec.model, [0])), history=[history])
    found = {n: float(values(n, given)[n][0]) for n in
             ("time_to_fit", "final_training_loss", "loss_area", "late_loss_variance")}  # fmt: skip
    assert found["time_to_fit"] == 40
    assert found["final_training_loss"] == 0.1
    assert found["loss_area"] == pytest.approx((10 * 4 + 10 * 2 + 20 * 1 + 55 * 0.5 + 5 * 0.1) / 100)
    assert found["late_loss_variance"] == pytest.approx(0.04)


GRADIENTS = ("late_gradient_norm", "late_gradient_variance", "largest_gradient_norm", "gradient_norm_ratio")


def history_of(norms: list[float], **columns: list[float]) -> dict[str, np.ndarray]:
    own = {
        "step": [10, 20, 80, 95, 100],
        "loss": [4.0, 2.0, 1.0, 0.5, 0.1],
        "lr": [1.0] * 5,
        "exact_match": [0.0] * 5,
    }
    given = {**own, "grad_norm": norms, "grad_norm_max": [2 * norm for norm in norms], **columns}
    return {name: np.array(column) for name, column in given.items()}


def gradients_of(*histories: dict[str, np.ndarray]) -> dict[str, list[float]]:
    spec = spec_of("sort", 5, n_layers=1)
    model = Transformer(spec.model, initial(spec.model, [0] * len(histories)))
    given = probe_input([spec] * len(histories), model, history=histories)
    return {name: values(name, given)[name].tolist() for name in GRADIENTS}


def test_curves_of_the_gradient():
    found = gradients_of(history_of([4.0, 5.0, 2.0, 1.0, 3.0]))
    assert found == {n: pytest.approx([v]) for n, v in zip(GRADIENTS, (2.0, 1.0, 10.0, 0.75), strict=True)}


def test_gradients_that_are_not_known():
    """Of a run that was trained before they were kept, of a part of a run, of a run that diverged, of no steps."""
    nan = float("nan")
    old = history_of([nan] * 5)
    without = {name: column for name, column in old.items() if not name.startswith("grad")}
    for history in (old, without):
        with pytest.raises(NotApplicable, match="it was trained before they were recorded"):
            gradients_of(history)
    resumed = history_of([nan, nan, 2.0, 1.0, 3.0])
    assert gradients_of(resumed)["gradient_norm_ratio"] == [1.5]
    mixed = gradients_of(resumed, old, without)
    assert all(np.isfinite(found).tolist() == [True, False, False] for found in mixed.values())
    diverged = history_of([nan] * 5, loss=[nan] * 5)
    none = {name: column[:0] for name, column in old.items()}
    for history in (diverged, none):
        assert np.isnan(list(gradients_of(history).values())).all()


def test_the_trace_of_the_hessian_is_that_of_the_hessian():
    """Against the exact trace by second derivatives, one parameter at a time; sign vectors leave a spread."""
    model = blank(shape(3, 4, extra=0, d_head=1, n_layers=1))
    generator = torch.Generator().manual_seed(0)
    double = Transformer(model.cfg, 0.5 * torch.randn(1, model.flat.shape[1], generator=generator).double())
    given = given_for(double, batch_of(repeated(3, 1, 3)))

    def loss(flat: torch.Tensor) -> torch.Tensor:
        from genlab.probes.families.training import mean_loss
        from genlab.probes.model import Stacked

        return mean_loss(given, Stacked(Transformer(model.cfg, flat[None])))[0]

    hessian = torch.autograd.functional.hessian(loss, double.flat[0])
    assert isinstance(hessian, torch.Tensor)
    off = (hessian - hessian.diagonal().diag()).pow(2).sum().sqrt()
    found = values("hessian_trace", given)["hessian_trace"][0]
    assert abs(found - float(hessian.trace())) < 3 * float(off) * (2 / 8) ** 0.5
    assert abs(found - float(hessian.trace())) < 0.5 * abs(float(hessian.trace()))


# -- latent states and linear probes ---------------------------------------------------------------------------------


def labels(task: str, form: str, text: str) -> dict[str, list[int]]:
    vocab = list(dict.fromkeys(["<pad>", "<end>", ">", *text.split()]))
    tokens = np.array([[vocab.index(token) for token in text.split()]])
    return {name: of[0].tolist() for name, of in latents(task, form, tokens, vocab).items()}


def test_latent_states_by_hand():
    assert labels("parity", "plain", "1 0 1 1 > 1")["running_parity"] == [1, 1, 0, 1, -1, -1]
    assert labels("parity", "running", "a 1 b 1 > a 1")["running_parity"] == [-1, 1, -1, 0, -1, -1, -1]
    # 58 + 67 = 125: ones carry 1, tens carry 1. Forward the hundreds come first.
    assert labels("addition", "forward", "0 5 8 + 0 6 7 > 1 2 5")["carry"][7:] == [1, 1, 0, -1]
    assert labels("addition", "reversed", "0 5 8 + 0 6 7 > 5 2 1")["carry"][7:] == [0, 1, 1, -1]
    found = labels("brackets", "plain", "<start> ( ) ) ( > False")
    assert found["depth"] == [-1, 9, 8, 7, 8, -1, -1]
    assert found["violated"] == [-1, 0, 0, 1, 1, 1, -1]
    assert found["to_end_of_prompt"] == [5, 4, 3, 2, 1, 0, -1]
    assert found["position"] == list(range(7))
    sentence = "my otters do sing . quest > do my otters sing"
    assert labels("question-formation", "plain", sentence)["main_subject_plural"][6] == 1


def test_carries_of_a_task_s_own_examples():
    """Against the sum computed digit by digit."""
    task = make("addition", max_len=4, format="reversed-hints")
    examples = task.sample(np.random.default_rng(0), "id", [4] * 20)
    found = latents("addition", "reversed-hints", examples.tokens, task.vocab.tokens)["carry"]
    hints = set(hint_names(99))
    for row in range(20):
        prompt, answer = task.read(examples, row)
        digits = [[t for t in part.split() if t not in hints] for part in " ".join(prompt[:-1]).split("+")]
        left, right = (int("".join(d)) for d in digits)
        carries = [((left % 10**i) + (right % 10**i)) // 10**i for i in range(5)]
        assert [c for c in found[row].tolist() if c >= 0] == carries[: len(answer) // 2]


def test_a_probe_reads_what_is_there_and_shuffled_labels_do_not():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(2000, 8)).astype(np.float32)
    known = (states[:, 2] > 0).astype(int)
    held_out = np.arange(2000) >= 1000
    accuracy, control = probe_accuracy(states, known, held_out)
    assert accuracy > 0.97
    assert control == pytest.approx(0.5, abs=0.05)
    assert probe_accuracy(states, rng.integers(2, size=2000), held_out)[0] == pytest.approx(0.5, abs=0.05)
    assert np.isnan(probe_accuracy(states, np.zeros(2000, int), held_out)).all()


def test_linear_probes_of_a_model():
    """The residual holds the position (learned vectors), while the running parity of random weights is not linear."""
    spec = spec_of("parity", 6, n_layers=1, d_model=32, positions="sinusoidal")
    model = Transformer(spec.model, initial(spec.model, [0]))
    found = values("linear_probe", probe_input([spec], model))
    assert found["linear_probe.position.accuracy"][0, 0] > 0.95
    assert found["linear_probe.running_parity.accuracy"][0, 0] < 0.8
    assert found["linear_probe.position.selectivity"][0, 0] > 0.7


def test_a_first_token_counts_as_unrelated_where_the_answer_does_not_tell_it():
    """A head brings the first of three tokens to the last place, where the answer is the second or the first."""
    model = blank(shape(4, 3, extra=4, d_head=4, n_layers=1))
    part(model, 0, "K")[4, 0] = 100.0  # position 0, for every query at position 2
    part(model, 0, "Q")[6, 0] = 1.0
    part(model, 0, "V")[:4] = torch.eye(4)
    part(model, 0, "O")[:, 7:11] = torch.eye(4)
    tokens = torch.randint(4, (1000, 3), generator=torch.Generator().manual_seed(0))
    last = torch.zeros_like(tokens, dtype=torch.bool)
    last[:, 2] = True
    batch = batch_of(tokens, scored=last)
    first, second = (replace(batch, targets=tokens[:, [i]].expand(-1, 3)) for i in (0, 1))
    name = "unrelated_probe"
    assert values(name, given_for(model, second, vocab="abcd"))[name][0, 0] == pytest.approx(0.75, abs=0.05)
    assert values(name, given_for(model, first, vocab="abcd"))[name][0, 0] == pytest.approx(0.0, abs=1e-9)
    part(model, 0, "O")[:] = 0.0
    assert values(name, given_for(model, second, vocab="abcd"))[name][0, 0] == pytest.approx(0.0, abs=0.05)
    assert values(name, given_for(model, first, vocab="abcd"))[name][0, 0] == pytest.approx(0.0, abs=1e-9)  # told
    with pytest.raises(NotApplicable, match="begins at the first token"):
        values(name, given_for(model, batch_of(tokens)))


# -- shape -----------------------------------------------------------------------------------------------------------


def test_smoothness_rank_and_coverage():
    """A layer that adds nothing; 4 one-hot tokens at one position span 3 dimensions about their mean."""
    model = blank(shape(4, 1, extra=0, d_head=4, n_layers=1, d_mlp=4))
    tokens = torch.arange(4)[:, None]
    given = given_for(model, batch_of(tokens))
    assert values("layer_smoothness", given)["layer_smoothness"][0] == pytest.approx([1.0])
    assert values("effective_rank", given)["effective_rank"][0] == pytest.approx([3.0])
    assert values("neuron_coverage", given)["neuron_coverage"][0] == pytest.approx(
        [0.0]
    )  # none fires more than others
    model.params["blocks.0.mlp.W_in"][0, :2] = torch.eye(4)[:2]
    given = given_for(model, batch_of(tokens))
    assert values("neuron_coverage", given)["neuron_coverage"][0] == pytest.approx([0.5])
    with pytest.raises(NotApplicable, match="no MLP"):
        values("neuron_coverage", given_for(blank(shape(4, 8, extra=0, d_head=4)), batch_of(repeated(4, 1, 4))))
    half = induction_pair(4, 8)
    assert 0 < values("layer_smoothness", given_for(half, batch_of(repeated(4, 2, 4))))["layer_smoothness"][0, 0] < 1


# -- Fourier ---------------------------------------------------------------------------------------------------------


def rotation(frequencies: tuple[int, ...], p: int = 11) -> tuple[RunSpec, Transformer]:
    """Embeddings of few frequencies, and logits sum_w cos(w (a + b - c)) at `>`, put there by hand."""
    spec = genlab.plan("modular", 1, 1, seeds=[0], steps=0, params={"p": p, "train_fraction": 0.8}, d_model=32).specs[
        0
    ]
    model = Transformer(spec.model, initial(spec.model, [0]))
    numbers = model.params["embed.W_E"][0, 3 : 3 + p]
    numbers[:] = 0
    for i, k in enumerate(frequencies):
        angle = 2 * np.pi * k * torch.arange(p) / p
        numbers[:, 2 * i], numbers[:, 2 * i + 1] = angle.cos(), angle.sin()
    return spec, model


def with_logits(spec: RunSpec, model: Transformer, frequencies: tuple[int, ...], p: int = 11) -> ProbeInput:
    given = probe_input([spec], model, probe_batches(spec, torch.device("cpu")))

    class Rotates:
        cfg, n_runs, flat, weights = model.cfg, 1, model.flat, given.model.weights

        def __call__(self, tokens: torch.Tensor, offsets: object = None, tap: object = None) -> torch.Tensor:
            total = tokens[:, 0] + tokens[:, 2] - 6
            angle = 2 * np.pi * (total[:, None] - torch.arange(p)) / p
            logits = torch.zeros(1, *tokens.shape, model.cfg.d_vocab)
            logits[..., 3 : 3 + p] = 20 * sum((k * angle).cos() for k in frequencies)[None, :, None]  # pyright: ignore
            return logits

    return ProbeInput(Rotates(), given.batches, given.vocab, spec)  # pyright: ignore


def test_few_frequencies():
    spec, model = rotation((2, 5))
    given = probe_input([spec], model)
    assert values("fourier_key_frequencies", given)["fourier_key_frequencies"][0] == 2
    assert values("fourier_gini", given)["fourier_gini"][0] == pytest.approx(3 / 5)  # two of five hold one half each
    flat = torch.full((1, 5), 0.2, dtype=torch.float64)
    assert key_frequencies(flat).sum() == 5
    spec, model = rotation((1, 2, 3, 4, 5))
    assert values("fourier_gini", probe_input([spec], model))["fourier_gini"][0] == pytest.approx(0.0, abs=1e-6)


def test_losses_with_and_without_the_key_frequencies():
    """Logits made of the key frequencies: alone they answer, without them nothing is left but chance, ln 11."""
    spec, model = rotation((2, 5))
    given = with_logits(spec, model, (2, 5))
    assert values("restricted_loss", given)["restricted_loss"][0] < 0.01
    assert values("excluded_loss", given)["excluded_loss"][0] == pytest.approx(np.log(11), rel=1e-4)
    other = with_logits(spec, model, (3,))  # logits at a frequency that the embeddings do not have
    assert values("restricted_loss", other)["restricted_loss"][0] == pytest.approx(np.log(11), rel=1e-3)
    assert values("excluded_loss", other)["excluded_loss"][0] < 1
    assert not chosen(["restricted_loss"])[0].admissible
    assert basis(torch.arange(11), 11, torch.tensor([True, False])).shape == (11, 3)


def test_only_sums_on_a_circle_have_a_spectrum():
    spec = spec_of("sort", 5)
    with pytest.raises(NotApplicable, match="not added or subtracted"):
        values("fourier_gini", probe_input([spec], Transformer(spec.model, initial(spec.model, [0]))))
