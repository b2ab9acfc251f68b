"""The best constant answer: marginals, distances against loops, planted outputs, the signal, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import genlab
from genlab.outside.constant import Marginals, counted, distances, marginals
from genlab.probes import chosen, probe_input
from genlab.report.constant import constants
from genlab.tasks import Examples
from genlab.training.batches import eval_offsets
from genlab.training.evaluate import eval_examples


@pytest.fixture(scope="module")
def loaded(trained):
    run = genlab.load(trained[1][0], store=trained[0])
    return run.spec, run.model, run.task


def test_marginals_count_the_tokens_at_each_place_of_an_answer():
    targets = np.array([[9, 3, 4, 1], [9, 9, 3, 1]])
    scored = np.array([[False, True, True, True], [False, False, True, True]])
    found = counted(Examples(targets, targets, scored, np.array([2, 1])), 10)
    assert found.at.argmax(1).tolist() == [3, 1, 1]
    assert found.at[0, 3] == 1.0
    assert found.at[1, [1, 4]].tolist() == [0.5, 0.5]
    assert found.overall[[1, 3, 4]] == pytest.approx([2 / 5, 2 / 5, 1 / 5])
    assert found.of(np.array([0, 7])).argmax(1).tolist() == [3, 1]  # no answer has a place 7


def test_marginals_are_those_of_training_answers(loaded):
    spec, _, task = loaded
    found = marginals(spec, task)
    ids = [task.vocab.id(str(i)) for i in range(10)]
    assert len(found.at) == 3  # two items and the end
    # Half of the answers have one item, uniform; of two, the smaller one is i with probability 2 (9 - i) / 90.
    wanted = [0.5 * 0.1 + 0.5 * 2 * (9 - i) / 90 for i in range(10)]
    assert found.at[0, ids] == pytest.approx(wanted, abs=0.02)
    assert found.at[1, 1] == pytest.approx(0.5, abs=0.02)


def test_distances_are_those_of_loops(loaded):
    spec, model, task = loaded
    known = marginals(spec, task)
    split = task.split("id").at((4,), 12, 0)
    found = distances(spec, model, task, split, 4, known)
    examples = eval_examples(task, split, 4)
    offsets = torch.from_numpy(eval_offsets(task, examples, 0, spec.model))
    means: dict[int, list[np.ndarray]] = {}
    for row in range(12):
        logits = model(torch.from_numpy(examples.tokens[[row]])[None], offsets[[row]][None])[0, 0].double()
        own, true, right = [], [], True
        for place, pos in enumerate(np.flatnonzero(examples.scored[row])):
            p = logits[pos].softmax(-1).numpy()
            q = known.at[place] if place < len(known.at) else known.overall
            target = examples.targets[row, pos]
            own.append(np.abs(p - q).sum() / 2)
            true.append(np.abs(np.eye(len(q))[target] - q).sum() / 2)
            right &= p.argmax() == target
            means.setdefault(place, []).append(p)
        assert found.own[row] == pytest.approx(np.mean(own), abs=1e-5)
        assert found.true[row] == pytest.approx(np.mean(true), abs=1e-5)
        assert found.right[row] == right
    off = [
        np.abs(np.mean(p, axis=0) - (known.at[place] if place < len(known.at) else known.overall)).sum() / 2
        for place, p in means.items()
    ]
    assert found.mean_output == pytest.approx(np.mean(off), abs=1e-5)


def test_a_model_whose_output_is_the_constant_has_distance_0(loaded, monkeypatch: pytest.MonkeyPatch):
    import genlab.outside.constant as module

    spec, model, task = loaded
    known = marginals(spec, task)
    flat = Marginals(np.tile(known.overall, (3, 1)), known.overall)
    monkeypatch.setattr(
        module,
        "_outputs",
        lambda _model, e, *_others: torch.from_numpy(np.tile(known.overall, (int(e.scored.sum()), 1))),
    )
    found = distances(spec, model, task, task.split("id").at((4,), 12, 0), 4, flat)
    assert found.own == pytest.approx(np.zeros(12), abs=1e-12)
    assert found.mean_output == pytest.approx(0, abs=1e-12)


def test_noise_is_added_to_embeddings_and_drawn_alike_for_every_chunk(loaded, monkeypatch: pytest.MonkeyPatch):
    import genlab.outside.constant as module

    spec, model, task = loaded
    known, split = marginals(spec, task), task.split("id").at((2,), 32, 0)
    clean, none = (distances(spec, model, task, split, 2, known, *more) for more in ((), (0.0,)))
    assert none.own.tolist() == clean.own.tolist()
    whole = distances(spec, model, task, split, 2, known, 0.5)
    monkeypatch.setattr(
        module, "chunks", lambda _model, examples: [slice(i, i + 8) for i in range(0, len(examples), 8)]
    )
    parts = distances(spec, model, task, split, 2, known, 0.5)
    assert parts.own == pytest.approx(whole.own, abs=1e-5)
    assert np.abs(whole.own - clean.own).max() > 0.01
    # Twin: 0.5 times the root mean square of the embedding matrix, on every token.
    examples = eval_examples(task, split, 2)
    drawn = torch.Generator().manual_seed(int(np.random.default_rng([17, 0, 2]).integers(2**62)))
    shape = (1, *examples.tokens.shape, spec.model.d_model)
    noise = 0.5 * model.params["embed.W_E"].pow(2).mean().sqrt() * torch.randn(shape, generator=drawn)
    offsets = torch.from_numpy(eval_offsets(task, examples, 0, spec.model))
    logits = model(
        torch.from_numpy(examples.tokens)[None],
        offsets[None],
        tap=lambda name, x: x + noise if name == "hook_embed" else x,
    )[0]
    right = ((logits.argmax(-1).numpy() == examples.targets) | ~examples.scored).all(1)
    assert whole.right.tolist() == right.tolist()
    assert right.mean() < clean.right.mean()


def test_the_signal_is_that_of_a_loop(loaded):
    spec, model, _ = loaded
    given, (one,) = probe_input([spec], model, n=16), chosen(["constant_distance"])
    answers = [(seen, row) for seen in given.seen for row in range(len(seen.batch.tokens))]
    true = [seen.batch.targets[row][seen.batch.scored[row]].tolist() for seen, row in answers]
    vocab, values = len(given.vocab), []
    for (seen, row), own in zip(answers, true, strict=True):
        p = seen.logits[0, row][seen.batch.scored[row]].softmax(-1)
        off = []
        for place in range(len(own)):
            at = [answer[place] for answer in true if len(answer) > place]
            q = torch.tensor([at.count(token) / len(at) for token in range(vocab)])
            off.append(float((p[place] - q).abs().sum() / 2))
        values.append(np.mean(off))
    assert float(one.read(given)[0]) == pytest.approx(np.mean(values), abs=1e-5)


def test_the_command_gives_a_curve_json_and_a_figure(trained, lab, tmp_path: Path):
    words = ["constants", *trained[1], "--store", str(trained[0]), "--eval-n", "24"]
    status, out, err = lab(*words, "--figure", str(tmp_path / "c.png"))
    assert status == 0, err
    assert "AUROC for wrong answers of being close to the constant" in out
    assert (tmp_path / "c.png").stat().st_size > 10_000
    found = json.loads(lab(*words, "--json", "--lengths", "2,4")[1])
    assert [(row["length"], row["outside"], row["runs"]) for row in found["curve"]] == [(2, False, 4), (4, True, 4)]
    noisy = json.loads(lab(*words, "--json", "--lengths", "2", "--noise", "0,2")[1])["curve"]
    assert [(row["noise"], row["outside"]) for row in noisy] == [(0, False), (2, True)]
    assert noisy[1]["accuracy"] < noisy[0]["accuracy"]
    again = constants(trained[1], lengths=[2, 4], store=trained[0], n=24)
    assert again.rows["distance"].tolist() == [row["distance"] for row in found["rows"]]
    evals = genlab.results(trained[1], store=trained[0]).query("metric == 'exact_match' and length == 2")
    assert again.curve()["accuracy"][0] == pytest.approx(evals["value"].mean(), abs=0.05)


def test_wrong_inputs_are_one_line(trained, lab):
    for words, said in (
        (["--split", "reversed"], "was evaluated on split reversed"),
        (["--eval-n", "0"], "at least 1"),
        (["--noise", "-1"], "numbers of at least 0"),
    ):
        status, out, err = lab("constants", *trained[1], "--store", str(trained[0]), *words)
        assert (status, out) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) == 1
