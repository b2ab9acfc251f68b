"""What a user sees: lists, runs, tables, checks of own files, predictions, generated tasks, the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genlab.cli import app
from genlab.errors import UserError
from genlab.rasp import prediction, reports
from genlab.rasp.generating import draw_pairs
from genlab.rasp.generating_kinds import KINDS
from genlab.rasp.lang.graph import ProgramError
from genlab.rasp.outcomes import KNOWN, misses, score
from genlab.rasp.own_files import check_file, load_program
from genlab.rasp.plugin import pair_predictions, plugin_text
from genlab.rasp.prediction import Prediction, predict_all, predict_task
from genlab.rasp.programs.shortcuts import SHORTCUTS
from genlab.rasp.programs.tried import TRIED
from genlab.rasp.reports import list_programs, run_program, trace_program
from genlab.rasp.sealing import changed_since, check_seal, fingerprint, seal, sealed
from genlab.rasp.tokens import SPECIALS, token_map, word_value
from genlab.tasks import check_task, load_plugin, make, registry


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
        with pytest.raises(UserError, match="the prompt has no `>`, and every prompt of task 'sort' ends in one"):
            run_program(make("sort", 20), "7 3 5")

    def test_a_prediction_that_is_no_token(self):
        with pytest.raises(UserError, match="no token of task 'count': is the prompt whole"):
            run_program(make("count", 20), "39 5 >")  # counts up from 39 and never meets 5


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
        assert "first = index_select" in table
        assert lines[-1].split()[-5:] == ["4", "end", "3", "4", "5"]


PARITY = """
from genlab.rasp import full, num_prev, seq_map

def program(x):
    ones = num_prev(x, full(x, 1))
    return seq_map(x, ones % 2, lambda token, odd: odd if token == -3 else -2)
"""


class TestOwnFiles:
    def write(self, tmp_path, text):
        path = tmp_path / "mine.py"
        path.write_text(text)
        return path

    def test_a_right_program(self, tmp_path):
        report = check_file(self.write(tmp_path, PARITY), make("parity", 20), range(1, 21), n=50)
        lines = "\n".join(report.lines)
        assert "strict: not legal" in lines
        assert "scales: mine.py:6: tok_map % 2 does more with a count" in lines
        assert "library: legal" in lines
        assert "right at every length checked up to 20" in lines
        assert "all inputs of these lengths were tried, as far as drawing tells: 1 to" in lines

    def test_a_wrong_program_is_shown_where(self, tmp_path):
        wrong = PARITY.replace("ones % 2", "ones > 0")
        report = check_file(self.write(tmp_path, wrong), make("parity", 20), range(1, 5), n=50)
        assert "right at every length checked up to 1" in report.lines
        assert any("length 2: 3 of 4 right; 1 1 > -> 1 <end>, not 0 <end>" in line for line in report.lines)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("def program(x):\n    return x +\n", "mine.py:2: syntax error"),
            ("def program(x):\n    return [1, 2]\n", "returned 2 plain values, not a sequence of 3 positions"),
            ("def program(x):\n    pass\n", "returned NoneType"),
            (
                "from genlab.rasp import sequence\ndef program(x):\n    return sequence(x.values)\n",
                "returned a sequence of its own making",
            ),
            (
                "from genlab.rasp import tok_map\ndef program(x):\n    return tok_map(x, {0: 1}.__getitem__)\n",
                "mine.py:3: KeyError",
            ),
            ("def program(x):\n    for value in x:\n        pass\n", "mine.py:2: the program loops over the values"),
            ("def program(x):\n    return x + y\n", "mine.py:2: NameError: name 'y' is not defined"),
            ("y = 1 / 0\n", "mine.py does not run: ZeroDivisionError"),
            ("y = 1\n", "mine.py defines no function"),
            ("def one(x): return x\ndef two(x): return x\n", "unknown program of mine.py"),
        ],
    )
    def test_faulty_files(self, tmp_path, text, said):
        with pytest.raises(UserError) as error:
            check_file(self.write(tmp_path, text), make("parity", 20), [1])
        assert said in str(error.value)
        assert "\n" not in str(error.value)

    def test_which_function(self, tmp_path):
        path = self.write(tmp_path, "def helper(x): return x\ndef even_pairs(x): return x + 1\n")
        assert load_program(path, "even-pairs").__name__ == "even_pairs"
        with pytest.raises(UserError, match="is not a file"):
            load_program(tmp_path / "no.py")

    def test_lengths_that_a_task_does_not_make(self, tmp_path):
        with pytest.raises(UserError, match="no example of length"):
            check_file(self.write(tmp_path, PARITY), make("parity", 20), [50])
        with pytest.raises(UserError, match="no example of the lengths 1, 3 on split 'id'"):
            check_file(self.write(tmp_path, PARITY), make("brackets", 20), [1, 3])
        report = check_file(self.write(tmp_path, PARITY), make("brackets", 20), [4, 3, 2], n=10)
        assert "not checked, for the task has none of these lengths: 3" in report.lines
        assert [score.length for score in report.scores] == [2, 4]

    def test_too_many_tokens_are_a_fault_of_the_input(self, tmp_path):
        report = check_file(self.write(tmp_path, PARITY), make("sort", 20), [3])
        assert "wrong at the first length already" in report.lines
        large = check_file(self.write(tmp_path, PARITY), make("modular", 1, params={"p": 300}), [1], n=5)
        assert any(line.startswith("  int8: input: takes") for line in large.lines)


class TestPrediction:
    def test_what_the_rule_says(self):
        copies = predict_task("copy", "unique", make)
        assert (copies.expected, copies.encodings) == (True, ("learned", "rotary", "alibi"))
        assert "tokens at a fixed distance" in copies.reason
        parity = predict_task("parity", "plain", make)
        assert (parity.expected, parity.encodings) == (False, ())
        assert "parity breaks scales (tok_map % 2 does more with a count than compare it" in parity.reason
        majority = predict_task("majority", "plain", make)
        assert "compares counts" in majority.reason
        assert "its values grow as the length does (at length 16 to count " in majority.reason
        long = predict_task("addition", "forward-hints", make)
        assert not long.expected
        assert "too large: 45 operations" in long.reason
        assert "real numbers" in predict_task("max-retrieval", "values", make).reason

    def test_encodings_of_all_legal_programs_count(self):
        brackets = predict_task("dyck-next", "next", make)
        assert "none" in brackets.encodings
        assert (
            "; or by closing_next_counting: legal in 37 operations at depth 2, asks for no places" in brackets.reason
        )

    def test_one_length_is_nothing_to_generalise_from(self):
        assert "its examples have one length" in predict_task("modular", "plain", make).reason

    def test_retrodictions_are_scored_apart(self):
        right = [Prediction("parity", "plain", False, (), ""), Prediction("sort", "plain", True, ("learned",), "")]
        assert score(right) == {"right": 4, "wrong": 0}
        wrong = [Prediction("parity", "plain", True, ("learned",), ""), Prediction("sort", "plain", False, (), "")]
        assert score(wrong) == {"right": 0, "wrong": 4}
        assert score([Prediction("needle", "text", True, (), "")]) == {"right": 0, "wrong": 0}

    def test_an_outcome_of_one_position_encoding_is_held_against_that_one(self):
        copies = Prediction("copy", "unique", True, ("learned", "rotary"), "")
        (miss,) = misses([copies])
        assert str(miss).startswith("copy (unique) with positions rotary, which did not generalise (own runs")
        assert misses([replace(copies, encodings=("learned",))]) == []

    def test_the_seal(self):
        document = seal([Prediction("sort", "plain", True, ("none",), "short")], "2026-11-23")
        assert check_seal(json.loads(json.dumps(document))) == document
        (row,) = document["rows"]
        assert (row["counts_as"], row["sealed"]) == ("retrodiction", "2026-11-23")
        assert [outcome["source"][:4] for outcome in row["known_by_then"]] == ["Zhou", "own "]
        row["expected"] = False
        with pytest.raises(UserError, match="sealed on 2026-11-23 have been changed"):
            check_seal(document)
        with pytest.raises(UserError, match="have been changed"):  # the hash of the whole does not cover for a row's
            check_seal({**document, "hash": fingerprint(document)})

    def test_what_was_sealed_before_keeps_its_date(self):
        sort, needle = Prediction("sort", "plain", True, (), ""), Prediction("needle", "text", True, (), "")
        first = seal([sort, needle], "2026-11-23")
        later = seal([sort, replace(needle, expected=False)], "2026-12-01", before=first)
        assert [row["sealed"] for row in later["rows"]] == ["2026-11-23", "2026-12-01"]
        assert check_seal(later)["rows"][0] == first["rows"][0]

    def test_what_comes_with_the_package_is_what_the_rule_says(self):
        rows = predict_all(make)
        assert changed_since(sealed(), rows) == []
        assert score(rows) == {"right": len(KNOWN) - 1, "wrong": 1}

    def test_changes_since_the_sealing_are_named(self):
        document = seal([Prediction("sort", "plain", True, ("none",), "")], "2026-11-23")
        later = [Prediction("sort", "plain", False, (), ""), Prediction("new", "plain", True, (), "")]
        assert changed_since(document, later) == [("new", "plain"), ("sort", "plain")]


class TestGenerating:
    def test_pairs(self):
        pairs = draw_pairs(len(KINDS), np.random.default_rng(3))
        assert {pair.rule for pair in pairs} == {"scales", "mean", "count-select", "count-order"}
        for pair, legal, illegal in pair_predictions(pairs):
            assert pair.legal.verdict().legal
            assert pair.illegal.verdict().broken == (pair.rule,)
            assert (legal.expected, illegal.expected) == (True, False)
            assert legal.length == illegal.length == pair.operations

    def test_the_fast_answer_is_the_slow_one(self):
        rng = np.random.default_rng(5)
        for pair in draw_pairs(len(KINDS), rng):
            for task in (pair.legal, pair.illegal):
                for length in (1, 2, 3, 9):
                    strings = rng.integers(0, 6, (30, length))
                    slow = [int(task.solve([*map(str, row), ">"])[0]) for row in strings.tolist()]
                    assert task.answers(strings).tolist() == slow

    def test_the_same_seed_draws_the_same_tasks(self):
        first, second, other = (draw_pairs(2, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first == second != other

    def test_the_file_is_a_plugin_of_the_lab(self, tmp_path, monkeypatch):
        # What is registered here is forgotten after the test.
        monkeypatch.setattr(registry, "_added", dict(registry._added))
        monkeypatch.setattr(registry, "_plugins", list(registry._plugins))
        text = plugin_text(draw_pairs(1, np.random.default_rng(11), prefix="drawn-11"), "hash", "2026-11-23", "x")
        path = tmp_path / "pairs.py"
        path.write_text(text)
        load_plugin(path)
        document = json.loads(text.split('"""')[1].split("\n\n", 2)[2])
        assert fingerprint(document) in text
        assert {row["task"] for row in document["predictions"]} == {"drawn-11-0a", "drawn-11-0b"}
        check_task(make("drawn-11-0a", 8))
        check_task(make("drawn-11-0b", 8))


@pytest.fixture
def few_programs(monkeypatch):
    """The list and the predictions of three tasks alone, for speed."""
    few = tuple(entry for entry in reports.PROGRAMS if (entry.task, entry.format) in FEW)
    for module in (reports, prediction):
        monkeypatch.setattr(module, "PROGRAMS", few)


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
        out = command("check", str(path), "--task", "parity", "--lengths", "1:8", "-n", "20").stdout
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
        for out, *options in ((path,), (tmp_path / "no" / "a.py",), (tmp_path / "a.py", "--seed", "-1")):
            refused = command("generate", "--out", str(out), *options)
            assert isinstance(refused.exception, UserError)
        assert not (tmp_path / "a.py").exists()

    def test_a_list_that_is_checked(self):
        rows = list_programs(make, lengths=[5, 6], n=5)
        furthest = {(row.task, row.format): row.right_up_to for row in rows}
        assert furthest["sort", "plain"] == 6
        assert set(furthest.values()) <= {5, 6}


def test_errors_of_programs_are_errors_of_users():
    assert issubclass(ProgramError, UserError)


def test_the_program_of_the_documentation(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "rasp.md").read_text()
    path = tmp_path / "mine.py"
    path.write_text(text.split("```python\n")[1].split("```")[0])
    report = check_file(path, make("copy", 20, "unique"), range(1, 13), n=20)
    assert report.found.strict.legal
    assert "right at every length checked up to 12" in report.lines


def test_the_language_is_what_the_package_gives():
    names: dict[str, object] = {}
    exec("from genlab.rasp import *", names)
    assert {"full", "kqv", "induct_prev", "elementwise", "Seq"} <= set(names)
    assert "lang" not in names
