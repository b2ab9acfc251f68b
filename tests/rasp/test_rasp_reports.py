"""What a user sees: lists, runs, tables, tokens, the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from genlab.cli import app
from genlab.errors import UserError
from genlab.rasp import prediction, reports
from genlab.rasp.programs.failed import TRIED
from genlab.rasp.programs.shortcuts import SHORTCUTS
from genlab.rasp.reports import list_programs, run_program, trace_program
from genlab.rasp.sealing import sealed
from genlab.rasp.tokens import SPECIALS, token_map, word_value
from genlab.tasks import make


def command(*arguments):
    return CliRunner().invoke(app, ["rasp", *arguments])


class TestRun:
    @pytest.mark.parametrize(
        ("task", "format", "prompt", "answer"),
        [
            ("sort", "plain", "7 3 5 >", "3 5 7 <end>"),
            ("count", "plain", "3 7 >", "3 4 5 6 7 <end>"),
            ("addition", "reversed-hints", "a 0 b 5 + a 0 b 7 >", "b 2 a 1 <end>"),
            ("parity", "scratchpad", "a 0 b 0 c 1 d 1 e 0 >", "+ c - d + <end>"),
            ("repeats", "text", "5 1 2 3 4 7 8 6 1 2 3 4", "7 8 6"),
            ("repeats", "text", "3 1 9 5 0 0 3 1 7 8 6 0 0 3 1", "7 8 6"),  # before the text stands no 0
        ],
    )
    def test_answers(self, task, format, prompt, answer):
        params = {"n_tokens": 64} if task == "repeats" else {}
        assert " ".join(run_program(make(task, 20, format, params), prompt)) == answer

    def test_unknown_tokens(self):
        with pytest.raises(UserError, match="unknown token 'x'"):
            run_program(make("sort", 20), "7 x >")
        with pytest.raises(UserError, match="the prompt is empty"):
            run_program(make("sort", 20), " ")

    def test_an_unknown_token_gets_the_vocabulary_in_a_few_words(self):
        with pytest.raises(UserError) as error:
            run_program(make("sort", 100), "7 x >")
        assert str(error.value) == "unknown token 'x' (allowed: 0 to 199, <pad>, <end>, >)"
        with pytest.raises(UserError, match=r"'A' .allowed: 0 to 1, .*, a, b, .*, and \d+ more.$"):
            run_program(make("parity", 100, "scratchpad"), "A 0 >")

    def test_a_prompt_that_is_not_whole(self):
        with pytest.raises(UserError, match="the prompt has no `>`, and every prompt of task 'sort' ends with one"):
            run_program(make("sort", 20), "7 3 5")

    def test_a_prompt_that_the_task_does_not_make(self):
        with pytest.raises(UserError, match="did not end within 50 tokens: is this a possible prompt of task 'copy'"):
            run_program(make("copy", 20), "5 5 >", limit=50)  # its symbols do not repeat

    def test_a_prediction_that_is_no_token(self):
        with pytest.raises(UserError, match="not a token of task 'mode': is the prompt complete"):
            run_program(make("mode", 20, "by-symbol"), "a " * 40 + ">")  # 40 is above the vocabulary


class TestTokens:
    def test_values(self):
        tokens = token_map(["<pad>", "<end>", ">", "7", "c", "+", "isn't", "(0,1)"])
        assert tokens.values.tolist() == [-1, -2, -3, 7, 1002, -4, word_value("isn't"), -107]
        assert tokens.decode([7, 1002, 5]).tolist() == [3, 4, -1]
        assert tokens.name(55) == "[55]"

    def test_specials_are_negative_and_differ(self):
        assert len(set(SPECIALS.values())) == len(SPECIALS)
        assert all(-100 < value < 0 for value in SPECIALS.values())

    def test_every_vocabulary_has_one_value_for_each_token(self):
        from genlab.tasks import names, task_class

        for name in names():
            for format in task_class(name).formats:
                values = token_map(make(name, 12, format).vocab.tokens, name, format).values
                assert len(set(values.tolist())) == len(values), name

    def test_growing_alphabets_are_hints(self):
        sort, mode = make("sort", 20), make("mode", 20)
        assert token_map(sort.vocab.tokens, "sort", "plain").domain.kind == "hint"
        assert token_map(mode.vocab.tokens, "mode", "plain").domain.kind == "token"


class TestTrace:
    @pytest.mark.parametrize(
        ("task", "prompt"),
        [("count", "2 10 > 2 3 4 5 6 7 8 9 10"), ("sort", "17 3 11 5 20 > 3 5 11 17 20")],
    )
    def test_twelve_positions_fit_a_terminal(self, task, prompt):
        assert len(prompt.split()) in (11, 12)
        table = trace_program(make(task, 20), prompt)
        assert max(len(line) for line in table.splitlines()) < 80

    def test_rows_are_named_as_in_the_program(self):
        table = trace_program(make("count", 20), "3 5 > 3 4")
        lines = [line.split(maxsplit=0)[0] for line in table.splitlines()]
        assert lines[1].split() == ["input", "3", "5", ">", "3", "4"]
        assert "larger = min where key > query" in table
        assert lines[-1].split()[-5:] == ["end", "end", "3", "4", "5"]

    def test_minus_one_means_none(self):
        table = trace_program(make("dyck-next", 12), "( [ ] >")
        lines = [line.split() for line in table.splitlines()]
        assert lines[1] == ["input", "(", "[", "]", ">"]
        assert ["where", "1", "2", "-", "-"] in lines


@pytest.fixture
def few_programs(monkeypatch):
    """The list and the predictions of three tasks alone, for speed."""
    few = tuple(entry for entry in reports.PROGRAMS if (entry.task, entry.format) in FEW)
    for module in (reports, prediction):
        monkeypatch.setattr(module, "PROGRAMS", few)


PARITY = """
from genlab.rasp import full, num_prev, seq_map

def program(x):
    ones = num_prev(x, full(x, 1))
    return seq_map(x, ones % 2, lambda token, odd: odd if token == -3 else -2)
"""
FEW = {("parity", "plain"), ("sort", "plain"), ("dyck-next", "next")}


@pytest.mark.usefixtures("few_programs")
class TestCommandLine:
    def test_list(self):
        lines = command("list").stdout.splitlines()
        assert lines[0].split() == ["task", "format", "program", "legal", "ops", "depth", "heads", "right", "to"]
        assert any(line.split()[:4] == ["parity", "plain", "parity", "no:"] for line in lines)
        assert lines[-1].startswith("no program: binary-multiplication")

    def test_list_of_wrong_programs(self):
        lines = [line.split() for line in command("list", "--wrong").stdout.splitlines()]
        assert lines[0] == ["task", "format", "program", "what", "ops", "wrong", "on"]
        assert ["parity", "plain", "parity_of_known", "shortcut", "6", "split", "id,", "length", "60"] in lines
        assert ["copy", "repeats", "after_two_tokens", "tried", "16", "0", "0", "0", "1", ">"] in lines
        assert len(lines) == 1 + len(SHORTCUTS) + len(TRIED)

    @pytest.mark.parametrize(
        "options", [["--wrong", "--check"], ["--lengths", "1:5"], ["-n", "5"], ["--check", "-n", "0"]]
    )
    def test_options_that_do_not_go_together(self, options):
        assert isinstance(command("list", *options).exception, UserError)

    def test_parameters_of_the_task(self):
        asked = ["addition", "a 0 b 1 + a 0 b 1 >", "--format", "reversed-hints", "--param", "base=2"]
        assert command("run", *asked).stdout == "b 0 a 1 <end>\n"
        assert command("run", "repeats", "5 1 2 3 4 7 8 6 1 2 3 4").stdout == "7 8 6\n"

    def test_run_trace_and_check(self, tmp_path):
        assert command("run", "sort", "7 3 5 >").stdout == "3 5 7 <end>\n"
        assert "min where key > query" in command("trace", "sort", "7 3 5 >").stdout
        path = tmp_path / "mine.py"
        path.write_text(PARITY)
        out = command("check", str(path), "--task", "parity", "--lengths", "1:7", "-n", "20").stdout
        assert "right at every length checked up to 7" in out

    def test_predict(self):
        out = command("predict", "--no-reasons").stdout
        assert "parity (plain): not expected" in out
        assert f"SHA-256 {sealed()['hash']}" in out
        assert "changed since" not in out

    def test_generate(self, tmp_path):
        path = tmp_path / "pairs.py"
        result = command("generate", "--out", str(path), "--pairs", "1", "--seed", "4")
        assert result.exit_code == 0
        assert "breaks" in result.stdout
        assert sealed()["hash"] in path.read_text()
        for out, *options in ((path,), (tmp_path / "a.txt",), (tmp_path / "a.py", "--seed", "-1")):
            refused = command("generate", "--out", str(out), *options)
            assert isinstance(refused.exception, UserError)
        assert not (tmp_path / "a.py").exists()
        assert not (tmp_path / "a.txt").exists()

    def test_a_list_that_is_checked(self):
        rows = list_programs(lengths=[5, 6], n=5)
        furthest = {(row.task, row.format): row.right_up_to for row in rows}
        assert furthest["sort", "plain"] == 6
        assert set(furthest.values()) <= {5, 6}


def test_the_language_is_what_the_package_gives():
    names: dict[str, object] = {}
    exec("from genlab.rasp import *", names)
    assert {"full", "kqv", "induct_prev", "elementwise", "Seq"} <= set(names)
    assert "lang" not in names
