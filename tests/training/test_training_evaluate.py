"""Evaluation: teacher forcing against greedy decoding, and every number against its definition."""

from __future__ import annotations

import sys
from functools import cache

import numpy as np
import pytest
import torch
from small_runs import First, first, parity, runs, same_examples

from genlab.models import Transformer
from genlab.spec import ModelConfig, TrainConfig
from genlab.tasks import Examples, Task, Vocab, make
from genlab.training import LengthResult, Stream, eval_examples, evaluate, fresh, train_stack
from genlab.training.batches import eval_offsets, widths
from genlab.training.evaluate import greedy, greedy_answers

evaluate_module = sys.modules["genlab.training.evaluate"]  # its name in the package is the function's
N = 60


def trained(task: Task, steps: int, **options: object) -> Transformer:
    """Three runs that are right on some examples and wrong on others."""
    specs = runs(task, range(3), steps=steps, eval_every=steps, batch_size=16, lr=0.01, **options)
    states = train_stack(task, fresh(specs), torch.device("cpu"))
    return Transformer(specs[0].model, torch.stack([state.weights for state in states]))


@cache
def half_trained() -> Transformer:
    return trained(first(), 40)


def random_model(task: Task, **options: object) -> Transformer:
    specs = runs(task, range(40), model={"init_std": 0.6, "d_model": 8, **options})
    return Transformer(specs[0].model, torch.stack([state.weights for state in fresh(specs)]))


MODELS = {
    "first, half trained": lambda: (first(), half_trained()),
    "first, half trained, rotary": lambda: (first(), trained(first(), 40, model={"positions": "rotary"})),
    "first, random": lambda: (first(), random_model(first(), positions="none")),
    "parity, random": lambda: (parity(), random_model(parity(), bias=False)),
    "running parity, half trained": lambda: (parity("running", 3), trained(parity("running", 3), 60, train_len=3)),
    "scratchpad, half trained": lambda: (parity("scratchpad", 3), trained(parity("scratchpad", 3), 40, train_len=3)),
}


@pytest.fixture(scope="module", params=list(MODELS))
def subject(request: pytest.FixtureRequest) -> tuple[Task, Transformer, Examples, np.ndarray, LengthResult]:
    """A task, a model, the examples of one length with their offsets, and the result of the evaluation."""
    task, model = MODELS[request.param]()
    split = task.split("id").at((2,), N, seed=5)
    examples = eval_examples(task, split, 2)
    return task, model, examples, eval_offsets(task, examples, 5, model.cfg), evaluate(model, task, split)[0]


def test_the_examples_of_an_evaluation_are_those_of_every_version():
    """Runs of today are compared with stored evaluations of earlier ones."""
    task = first()
    drawn = eval_examples(task, task.split("id").at((5,), 4), 5)
    assert ["".join(task.vocab.decode(row[:5])) for row in drawn.tokens.tolist()] == [
        "baabb",
        "aabcc",
        "aacbb",
        "bcbcc",
    ]


def decoded(model: Transformer, examples: Examples, offsets: np.ndarray, may_end: bool) -> np.ndarray:
    """bool[run, example]: whether each run, asked for as many tokens as the answer has, writes the answer."""
    right = np.zeros((model.n_runs, len(examples)), bool)
    counts = examples.scored.sum(axis=1)
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        prompts = torch.from_numpy(examples.tokens[rows, : examples.prompt_len(0)])
        starts = torch.from_numpy(offsets[rows]).expand(model.n_runs, -1)
        length = int(count) - (not may_end)
        written = greedy(model, prompts, length, starts, may_end=may_end).numpy()
        for i, row in enumerate(rows):
            answer = examples.targets[row, examples.scored[row]][:length]
            right[:, row] = [ids.tolist() == answer.tolist() for ids in written[:, i]]
    return right


@pytest.mark.parametrize("may_end", [True, False])
def test_exact_match_is_what_greedy_decoding_writes(subject, may_end: bool) -> None:
    _, model, examples, offsets, result = subject
    metric = "exact_match" if may_end else "exact_match_no_end"
    matches = decoded(model, examples, offsets, may_end)
    assert 0 < matches.mean() < 1  # both kinds are there
    assert result.metrics[metric][0] == pytest.approx(matches.mean(axis=1), abs=0)
    assert result.metrics[metric][1] == N
    if may_end:
        assert np.array_equal(result.correct, matches)


def test_token_accuracy_and_loss_are_means_of_the_examples_means(subject) -> None:
    _, model, examples, offsets, result = subject
    accuracy, loss = np.zeros((2, model.n_runs, N))
    for run in range(model.n_runs):
        single = Transformer(model.cfg, model.flat[run : run + 1])
        logits = single(torch.from_numpy(examples.tokens), torch.from_numpy(offsets)[None])
        logs = logits.double().log_softmax(-1).numpy()
        for row in range(N):
            where = np.flatnonzero(examples.scored[row])
            targets = examples.targets[row, where]
            accuracy[run, row] = np.mean(logs[row, where].argmax(-1) == targets)
            loss[run, row] = -np.mean(logs[row, where, targets])
    assert result.metrics["token_accuracy"][0] == pytest.approx(accuracy.mean(axis=1))
    assert result.metrics["loss"][0] == pytest.approx(loss.mean(axis=1), rel=1e-5)


def test_hashes_are_equal_where_the_tokens_chosen_are_and_only_there(subject) -> None:
    _, model, examples, offsets, result = subject
    stacked = torch.from_numpy(examples.tokens).expand(model.n_runs, -1, -1)
    logits = model(stacked, torch.from_numpy(offsets).expand(model.n_runs, -1))
    chosen = logits.argmax(-1).numpy()
    by_answer: dict[tuple[int, ...], set[int]] = {}
    for run in range(model.n_runs):
        for row in range(N):
            by_answer.setdefault(tuple(chosen[run, row][examples.scored[row]]), set()).add(result.answers[run, row])
    assert len(by_answer) > 3
    assert all(len(hashes) == 1 for hashes in by_answer.values())
    assert len(set().union(*by_answer.values())) == len(by_answer)
    assert result.answers.dtype == np.uint64


def test_hashes_tell_apart_orders_and_places() -> None:
    """Of the answers of 1 to 4 tokens over 5 symbols: no two alike."""
    multipliers = evaluate_module._multipliers(np.array([1, 2, 3, 4]))
    ends = np.cumsum([1, 2, 3, 4])
    seen = []
    for end, count in zip(ends, (1, 2, 3, 4), strict=True):
        answers = np.stack(np.meshgrid(*[np.arange(5)] * count), axis=-1).reshape(-1, count)
        with np.errstate(over="ignore"):
            seen += ((answers + 1) * multipliers[end - count : end]).sum(axis=1).tolist()
    assert len(set(seen)) == len(seen) == 5 + 25 + 125 + 625


def test_factors_divide_the_exact_match() -> None:
    task, model = first(), half_trained()
    split = task.split("id").at((3,), N)
    result, letters = evaluate(model, task, split)[0], eval_examples(task, split, 3).tokens[:, 0]
    for letter in np.unique(letters):
        values, n = result.metrics[f"exact_match|letter={letter}"]
        assert n == int((letters == letter).sum())
        assert values == pytest.approx(result.correct[:, letters == letter].mean(axis=1))
    assert len([name for name in result.metrics if name.startswith("exact_match|")]) == len(np.unique(letters)) == 3


def test_judges_see_what_the_model_writes_by_itself(subject) -> None:
    task, model, examples, offsets, result = subject
    for name in task.judges:
        shares = np.zeros(model.n_runs)
        prompts = torch.from_numpy(examples.tokens[:, : examples.prompt_len(0)])
        starts = torch.from_numpy(offsets).expand(model.n_runs, -1)
        longest_answer = task.width(2) - examples.prompt_len(0)  # with its end token
        for run, answers in enumerate(greedy(model, prompts, longest_answer, starts).tolist()):
            for row, written in enumerate(answers):
                answer = written[: written.index(Vocab.end)] if Vocab.end in written else written
                shares[run] += task.judge(task.read(examples, row)[0], task.vocab.decode(answer))[name] / N
        assert result.metrics[name][0] == pytest.approx(shares)
        assert result.metrics[name][1] == N
        assert (result.metrics[name][0] >= result.metrics["exact_match"][0] - 1e-12).all()
    split = task.split("id").at((2,), N, seed=5)
    assert not set(task.judges) & set(evaluate(model, task, split, judge=False)[0].metrics)


# -- decoding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["learned", "none", "sinusoidal", "rotary", "alibi"])
def test_greedy_decoding_is_the_full_forward_again_and_again(positions: str) -> None:
    task = parity("running")
    model = random_model(task, positions=positions)
    examples = eval_examples(task, task.split("id").at((3,), 5), 3)
    prompts = torch.from_numpy(examples.tokens[:, : examples.prompt_len(0)])
    offsets = torch.from_numpy(eval_offsets(task, examples, 0, model.cfg)).expand(model.n_runs, -1)
    for may_end in (True, False):
        read, ended = prompts.expand(model.n_runs, -1, -1), torch.zeros(model.n_runs, 5, dtype=torch.bool)
        for _ in range(7):
            logits = model(read, offsets)[:, :, -1]
            if not may_end:
                logits[..., Vocab.end] = -torch.inf
            token = logits.argmax(-1).masked_fill(ended, Vocab.pad)
            ended |= token == Vocab.end
            read = torch.cat([read, token[..., None]], dim=-1)
        written = greedy(model, prompts, 7, offsets, may_end=may_end)
        assert torch.equal(written, read[..., prompts.shape[1] :][..., : written.shape[-1]])
        assert ended.any() == may_end


def saying(task: Task, token: int) -> Transformer:
    """A model that always writes one token, whatever it reads."""
    model = trained(task, 1)
    for name, weights in model.params.items():
        weights.zero_()
        if name == "unembed.b_U":
            weights[:, token] = 1.0
    return model


def test_an_answer_ends_at_the_end_token_alone() -> None:
    task = parity("running")
    examples = eval_examples(task, task.split("id").at((3,), 4), 3)
    offsets = np.array([0, 1, 2, 3])
    for token, wanted in ((Vocab.end, []), (Vocab.pad, [Vocab.pad] * 7), (5, [5] * 7)):  # six and the end token
        for answers in greedy_answers(saying(task, token), examples, offsets, widths(task, examples.lengths)):
            assert [answer.tolist() for answer in answers] == [wanted] * 4


def test_prompts_of_several_lengths_are_decoded_each_by_itself() -> None:
    task, model = first(), half_trained()
    examples = task.sample(np.random.default_rng(0), "id", [1, 5, 3, 5, 1, 2])
    offsets, longest = np.array([0, 2, 1, 0, 2, 1]), widths(task, examples.lengths)
    together = greedy_answers(model, examples, offsets, longest)
    for row in range(6):
        alone = greedy_answers(model, examples[row : row + 1], offsets[row : row + 1], longest[row : row + 1])
        for run in range(3):
            assert together[run][row].tolist() == alone[run][0].tolist()


# -- evaluation sets, and the stack ----------------------------------------------------------------------------------


def test_an_evaluation_set_is_fixed_by_task_split_length_and_seed() -> None:
    task = parity("running", 20)
    base = eval_examples(task, task.split("id").at((9,), 50), 9)
    assert same_examples(base, eval_examples(make(task.spec), task.split("id").at((7, 9), 50), 9))
    for name, length, seed in (("id", 9, 1), ("uniform-count", 9, 0), ("id", 8, 0)):
        other = eval_examples(task, task.split(name).at((length,), 50, seed), length)
        assert not same_examples(base, other)
    assert (base.lengths == 9).all()
    assert len(base) == 50
    # splits share no draws: letters that both draw uniformly are not the same ones
    letters = [eval_examples(first(), first().split(name).at((8,), 50), 8).tokens[:, 1:8] for name in ("id", "a")]
    assert (letters[0] == letters[1]).mean() < 0.5


def test_no_example_of_an_evaluation_is_one_of_training() -> None:
    """At a length where chance would not make two alike."""
    task = parity("plain", 40)
    seen = set()
    stream = Stream(task, TrainConfig(train_len=40, min_len=40))
    for step in range(50):
        seen |= {row.tobytes() for row in stream.batch(step).tokens}
    examples = eval_examples(task, task.split("id").at((40,), 500), 40)
    assert not seen & {row.tobytes() for row in examples.tokens}


def test_a_run_is_scored_the_same_alone_in_a_stack_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = parity("running", 3), trained(parity("running", 3), 40, train_len=3)
    split = task.split("id").at((1, 3), N)
    together = evaluate(model, task, split)
    assert [result.length for result in together] == [1, 3]

    def assert_same(found: LengthResult, wanted: LengthResult, chosen: list[int]) -> None:
        assert np.array_equal(found.correct, wanted.correct[chosen])
        assert np.array_equal(found.answers, wanted.answers[chosen])
        assert found.metrics.keys() == wanted.metrics.keys()
        for name, (values, n) in found.metrics.items():
            assert values == pytest.approx(wanted.metrics[name][0][chosen], rel=1e-5)
            assert n == wanted.metrics[name][1]

    for run in range(3):
        alone = evaluate(Transformer(model.cfg, model.flat[run : run + 1]), task, split)
        for found, wanted in zip(alone, together, strict=True):
            assert_same(found, wanted, [run])
    calls = []
    plain = evaluate_module._score
    monkeypatch.setattr(evaluate_module, "_score", lambda *args: calls.append(len(args[1])) or plain(*args))
    monkeypatch.setattr(evaluate_module, "_NUMBERS_AT_ONCE", 3 * 14 * 64 * 7)
    for found, wanted in zip(evaluate(model, task, split), together, strict=True):
        assert_same(found, wanted, [0, 1, 2])
    assert len(calls) > 4
    assert sum(calls) == 2 * N


def test_what_is_scored_together_counts_activations_too() -> None:
    """A wide model with a short answer: its activations, not its logits, are what fills the memory."""
    task = parity("plain", 20)
    cfg = ModelConfig(d_vocab=5, n_ctx=task.n_ctx, n_layers=1, d_model=64)
    model = Transformer(cfg, fresh(runs(task, [0], model={"d_model": 64}))[0].weights.expand(1000, -1))
    examples = eval_examples(task, task.split("id").at((20,), 1000), 20)
    for rows in evaluate_module.chunks(model, examples):
        numbers = model.n_runs * len(examples[rows]) * examples.tokens.shape[1] * cfg.d_mlp
        assert numbers <= evaluate_module._NUMBERS_AT_ONCE


def test_the_tiny_task_says_what_it_means() -> None:
    task = first()
    assert isinstance(task, First)
    examples = task.sample(np.random.default_rng(0), "id", [1, 2, 3, 8] * 5)
    for row in range(20):
        prompt, answer = task.read(examples, row)
        assert answer == task.solve(prompt)
