"""A user's own program: loading, examination, checking, and the errors for faulty ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from genlab.errors import UserError
from genlab.rasp.lang.graph import ProgramError
from genlab.rasp.own_files import check_file, load_program
from genlab.tasks import make

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

    def test_a_program_in_the_encoding_that_it_declares(self, tmp_path):
        path = tmp_path / "mine.py"
        path.write_bytes(f"# coding: latin-1\n# Parität\n{PARITY}".encode("latin-1"))
        assert "library: legal" in "\n".join(check_file(path, make("parity", 5), range(1, 4), n=5).lines)

    def test_a_right_program(self, tmp_path):
        report = check_file(self.write(tmp_path, PARITY), make("parity", 20), range(1, 21), n=50)
        lines = "\n".join(report.lines)
        assert "strict: not legal" in lines
        assert "scales: mine.py:6: tok_map % 2 does more with a count" in lines
        assert "library: legal" in lines
        assert "right at every length checked up to 20" in lines
        assert "probably all inputs of these lengths were checked: 1 to 5" in lines
        assert (
            "calls: full 1, sel_width 1, select 1, seq_map 1, tok_map 1 (1 of the maps written as operators)" in lines
        )
        assert "grows with the length: count 2, " in lines
        assert " at lengths 1, 9, 16" in lines

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
                "returned a sequence of another run",
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
        assert "not checked, since the task has no examples of these lengths: 3" in report.lines
        assert [score.length for score in report.scores] == [2, 4]

    def test_too_many_tokens_are_a_fault_of_the_input(self, tmp_path):
        report = check_file(self.write(tmp_path, PARITY), make("sort", 20), [3])
        assert "wrong at the first length checked" in report.lines
        large = check_file(self.write(tmp_path, PARITY), make("modular", 1, params={"p": 300}), [1], n=5)
        assert any(line.startswith("  int8: input: takes") for line in large.lines)


def test_errors_of_programs_are_errors_of_users():
    assert issubclass(ProgramError, UserError)


def test_the_program_of_the_documentation(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "rasp.md").read_text()
    path = tmp_path / "mine.py"
    path.write_text(text.split("```python\n")[1].split("```")[0])
    report = check_file(path, make("copy", 20, "unique"), range(1, 13), n=20)
    assert report.examination.strict.legal
    assert "right at every length checked up to 12" in report.lines
