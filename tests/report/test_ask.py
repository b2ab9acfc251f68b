"""`lab ask`: what a run writes, with its probabilities, beside the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import genlab
from genlab.report.ask import ask_split
from genlab.runs import Store
from genlab.training.evaluate import evaluate

SIZE = {"n_layers": 1, "d_model": 32, "n_heads": 2, "lr": 0.01}


@pytest.fixture(scope="session")
def _sorting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has half learned to sort four numbers, and one of a format that is read in its own positions."""
    path = tmp_path_factory.mktemp("asked") / "store"
    genlab.train(genlab.plan("sort", 4, 8, seeds=[0], steps=150, **SIZE), store=path, workers=1, group="sorting")
    plan = genlab.plan("maze", 2, 3, seeds=[0], steps=20, **SIZE)
    genlab.train(plan, store=path, workers=1, group="mazes")
    return path


@pytest.fixture
def store(_sorting: Path, monkeypatch: pytest.MonkeyPatch, lab) -> Store:
    monkeypatch.setenv("GENLAB_STORE", str(_sorting))
    return Store(_sorting)


def run_of(store: Store, group: str):
    return genlab.load(store.find(group)[0], store)


def test_tokens_and_probabilities_are_those_of_a_plain_loop(store: Store):
    run = run_of(store, "sorting")
    answer = genlab.ask(run, "7 3 5 >").answers[0]  # the start token may be left out
    assert genlab.ask(run, "<start> 7 3 5 >").answers[0] == answer
    ids, vocab = run.task.vocab.encode("<start> 7 3 5 >").tolist(), run.task.vocab.tokens
    for token in answer.tokens:
        chances = run.model(torch.tensor([ids]))[0, -1].softmax(-1)
        best, second = chances.topk(2).indices.tolist()
        assert (token.text, token.runner_up) == (vocab[best], vocab[second])
        assert token.p == pytest.approx(float(chances[best]), abs=1e-5)
        assert token.runner_up_p == pytest.approx(float(chances[second]), abs=1e-5)
        ids.append(best)
    assert answer.truth == ("3", "5", "7", "<end>")
    assert answer.right == (answer.written == answer.truth)
    assert [token.wrong for token in answer.tokens] == [t.text != t.truth for t in answer.tokens]


def test_as_many_are_wrong_as_an_evaluation_finds(store: Store):
    run = run_of(store, "sorting")
    split = run.task.split("id").at((4,), 512, 0, "zero")
    exact = evaluate(run.model, run.task, split)[0].metrics["exact_match"][0][0]
    asked = ask_split(run, "id", 4, 3, wrong_only=True)
    assert 0.02 < exact < 0.98  # or the test shows nothing
    assert f"wrong: {round(512 * (1 - exact))} of 512" in asked.about
    assert [answer.right for answer in asked.answers] == [False] * 3
    assert all(any(token.wrong for token in answer.tokens) for answer in asked.answers)


def test_an_answer_that_has_begun_goes_on(store: Store):
    run = run_of(store, "sorting")
    whole, rest = genlab.ask(run, ["7 3 5 >", "7 3 5 > 3"]).answers
    assert rest.truth == ("5", "7", "<end>")
    if whole.written[0] == "3":
        assert rest.written == whole.written[1:]
    assert genlab.ask(run, "7 3 5 > 7").answers[0].truth is None  # after a wrong token there is no true one


def test_an_offset_is_where_the_prompt_begins(store: Store, tmp_path: Path):
    (run,) = genlab.train(
        genlab.plan("sort", 4, 8, seeds=[0], steps=5, positions="learned", **SIZE), store=tmp_path / "s", workers=1
    )
    moved = genlab.ask(run, "7 3 5 >", offset=3).answers[0].tokens[0]
    ids = torch.tensor([run.task.vocab.encode("<start> 7 3 5 >").tolist()])
    chances = run.model(ids[None], torch.tensor([[3]]))[0, 0, -1].softmax(-1)
    assert moved.p == pytest.approx(float(chances.max()), abs=1e-5)
    assert moved.p != pytest.approx(genlab.ask(run, "7 3 5 >").answers[0].tokens[0].p, abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"positions": "abacus"}, {"positions": "learned", "random_positions": 40}, {"loop_growth": 0.5}],
    ids=str,
)
def test_a_typed_prompt_is_read_as_a_drawn_one(tmp_path: Path, options: dict):
    task, format = ("addition", "reversed") if "abacus" in options.values() else ("copy", None)
    plan = genlab.plan(task, 4, 6, format=format, seeds=[0], steps=5, **{**SIZE, **options})
    (run,) = genlab.train(plan, store=tmp_path / "s", workers=1)
    drawn = ask_split(run, "id", 4, 1).answers[0]
    typed = genlab.ask(run, " ".join(drawn.prompt)).answers[0]
    assert typed.length == drawn.length == 4
    assert typed.written == drawn.written
    assert typed.truth == drawn.truth


def test_the_command_marks_wrong_tokens_and_fits_the_terminal(lab, store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "60")
    run = store.find("sorting")[0]
    status, out, _ = lab("ask", run, "--length", "8", "--wrong-only", "-n", "1")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 60
    for name in ("truth", "writes", "runner-up", "^"):
        assert name in out
    rows = json.loads(lab("ask", run, "--length", "8", "--wrong-only", "-n", "2", "--json")[1])
    assert [row["right"] for row in rows] == [False, False]
    assert rows[0]["tokens"][0].keys() == {"text", "p", "runner_up", "runner_up_p", "truth", "wrong"}


def test_a_maze_is_drawn_with_both_paths(lab, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from matplotlib.axes import Axes

    labels: list[str | None] = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: labels.append(k.get("label")) or plot(self, *a, **k))
    file = tmp_path / "maze.png"
    status, out, err = lab("ask", store.find("mazes")[0], "-n", "1", "--png", str(file))
    assert (status, err) == (0, "")
    assert [label for label in labels if label] == ["true", "written"]
    assert file.read_bytes().startswith(b"\x89PNG")
    assert "┌" in out


BAD = [
    (["nope", "7 >"], "no run or group 'nope'"),
    (["sorting", ""], "the prompt is empty"),
    (["sorting", "7 x 5 >"], "unknown token 'x' (allowed: 0 to"),
    (["sorting", "7 3 5"], "has no `>`"),
    (["sorting", " ".join(["1"] * 60) + " >"], "the prompt has 61 tokens; run"),
    (["sorting", "7 >", "--offset", "900"], "--offset 900 is not allowed"),
    (["sorting", "7 >", "--offset", "-1"], "the first position is 0"),
    (["sorting", "7 >", "-n", "3"], "-n applies to examples of a split"),
    (["sorting", "7 >", "--wrong-only"], "--wrong-only applies to examples of a split"),
    (["sorting", "--split", "revrsed"], "did you mean 'reversed'?"),
    (["sorting", "--length", "99"], "cannot make length 99"),
    (["sorting", "-n", "0"], "-n 0 --seed 0 is not allowed"),
    (["sorting", "--png", "x.png"], "mazes have one"),
    (["mazes", "--png", "x.tiff"], "names that end in .png, .svg or .pdf"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words)[-30:] for words, _ in BAD])
def test_bad_input_is_one_line_and_status_2(lab, store: Store, words: list[str], said: str):
    status, out, err = lab("ask", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
