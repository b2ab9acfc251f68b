"""AND with fixed bits: which strings training holds, and what tells the two rules apart."""

import numpy as np
import pytest
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make


def strings(split, lengths, seed=1):
    task = make("and-fixed-bits", 20)
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    return [task.read(examples, row) for row in range(len(examples))]


@pytest.mark.parametrize(("bits", "answer"), [("111111", "1"), ("111110", "0"), ("0111111", "0"), ("000000", "0")])
def test_solve_by_hand(bits, answer):
    assert make("and-fixed-bits", 8).solve([*bits, ">"]) == (answer,)


def test_half_of_the_strings_are_ones_and_half_hold_one_free_zero():
    drawn = ["".join(prompt[:-1]) for prompt, _ in strings("id", [20] * 4000)]
    ones = drawn.count("1" * 20)
    assert stats.binomtest(ones, 4000, 0.5).pvalue > 1e-4
    zeros = [bits.index("0") for bits in drawn if "0" in bits]
    assert all(bits.count("0") <= 1 for bits in drawn)
    assert stats.chisquare(np.bincount(zeros, minlength=15)).pvalue > 1e-4
    assert max(zeros) == 14


@pytest.mark.parametrize(
    ("split", "places"),
    [
        ("fixed-zero", range(-5, 0)),
        ("any-zero", range(-12, 0)),
        ("many-zeros", range(-12, -5)),
        ("id", range(-12, -5)),
    ],
)
def test_where_the_zeros_are(split, places):
    found = [[i - 12 for i, bit in enumerate(p[:-1]) if bit == "0"] for p, _ in strings(split, [12] * 1500)]
    assert {i for zeros in found for i in zeros} == set(places)
    assert np.mean([not zeros for zeros in found]) == pytest.approx(0.5, abs=0.05)
    assert (max(map(len, found)) > 1) == (split == "many-zeros")


def test_the_two_rules_fit_training_alike_and_part_on_fixed_zero():
    task = make("and-fixed-bits", 20)
    agree = {}
    for split in ("id", "many-zeros", "fixed-zero"):
        drawn = strings(split, [20, 6, 13] * 300)
        agree[split] = np.mean([task.rules(p)["AND of the free bits"] == answer for p, answer in drawn])
        assert all(task.rules(p)["AND of all bits"] == answer for p, answer in drawn)
    assert agree["id"] == agree["many-zeros"] == 1
    assert agree["fixed-zero"] == pytest.approx(0.5, abs=0.06)


def test_a_string_needs_a_free_bit():
    with pytest.raises(UserError, match=r"5 bits leave no free bits with 5 fixed ones \(at least 6\)"):
        make("and-fixed-bits", 5)
    with pytest.raises(UserError, match="allowed are 6 to 20"):
        strings("id", [5])
