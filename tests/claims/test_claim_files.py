"""Claim files: those of the checkout are valid, and every error of a wrong one is told, by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_claims import FIRST_RULE, HEAD, MEASURES, claim_with

from genlab.claims import folders
from genlab.claims.claim import parse_claim, read_claim
from genlab.claims.folders import add_claims, claim_files, find_claim
from genlab.errors import UserError

GOOD = HEAD + MEASURES + FIRST_RULE
SCORE = 'measure = "scroe"'
MONOTONE = '[[rule]]\nkind = "monotone"\nmeasure = "score"\ndirection = "falling"\n'


@pytest.mark.parametrize("path", claim_files().values(), ids=lambda path: path.stem)
def test_every_claim_of_the_checkout(path: Path):
    claim = read_claim(path)
    assert all(min(spec.train.init_seed, spec.train.data_seed) >= 100 for spec in claim.runs)
    assert claim.fitted.share >= 0.8


def test_the_claim_of_head_signals_trains_nothing_of_its_own():
    heads, depth = find_claim("brackets-heads"), find_claim("brackets-depth")
    assert heads.grid_hash == depth.grid_hash


WRONG = [
    ("paper =", "papre =", "unknown key 'papre'; did you mean 'paper'?", "papre"),
    ('place = "table 1"', "", "place is missing", ""),
    ("cost = 5", "cost = 0", "cost is missing: processor seconds, above 0", "cost"),
    ("lr = 1e-2", "lr = 0", "lr: 0 is not allowed (input should be greater than 0)", "lr"),
    ("steps = 60", "stpes = 60", "unknown field 'stpes'; did you mean 'steps'?", "stpes"),
    ("grad_clip = 0.0\n", "", "the grid leaves to the lab: grad_clip; write them out", "[grid.base]"),
    ('kind = "all"', 'kind = "al"', "unknown kind 'al'; did you mean 'all'?", "kind"),
    ('measure = "score"', 'measure = "scroe"', "rule: unknown measure 'scroe'; did you mean 'score'?", SCORE),
    ("at_least = 0.5", "", "rule: give at_least, at_most, or near with within", "[[rule]]"),
    ("at_least = 0.5", "at_laest = 0.5", "rule: unknown key 'at_laest'; did you mean 'at_least'?", "at_laest"),
    ("at_least = 0.5", "at_least = 0.5\nwhere = { layers = 1 }", "'layers' does not vary in the grid", "[[rule]]"),
    ("at_least = 0.5", "at_least = 0.5\nwhere = { n_layers = 2 }", "no configuration has n_layers 2", "[[rule]]"),
    (FIRST_RULE, MONOTONE, "monotone needs a measure by length", "[[rule]]"),
    (FIRST_RULE, "", "a claim needs at least one [[rule]]", ""),
    ('"fixed-zero"\nlengths = [8]', '"fixed-zero"\nlengths = [7]', "at lengths 7, which nothing", "[[measure]] 1"),
    ('attn_weights = "adaptive"\n\n[[measure]]', "\n[[measure]]", "'adaptive', which", "[[measure]] 2"),
    ("lengths = [6, 7, 8]\nn = 32", "lengths = [6, 9]\nn = 32", "cannot make length 9", "[[evaluate]]"),
    ("at_least = 0.9\n", "at_least = 0.9\nshare = 0.5\n", "greater than or equal to 0.8", "share"),
    ('measure = "trained"', 'measure = "curve"', "fitted: measure 'curve' is read by length", "[fitted]"),
    ("scale =", "scale = 3 #", "scale must be a text", "scale"),
]  # fmt: skip
"""What is replaced by what, the error, and the text in whose line it is (of equal ones, the number)."""


@pytest.mark.parametrize(("old", "new", "said", "place"), WRONG, ids=lambda v: str(v)[:40])
def test_a_wrong_file_is_told_by_line(old: str, new: str, said: str, place: str):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(UserError, match="nothing was started") as error:
        parse_claim(text, "wrong.toml")
    assert said in str(error.value)
    key, _, number = place.partition("] ") if "] " in place else (place, "", "")
    lines = [i for i, line in enumerate(text.splitlines(), start=1) if key and line.startswith(key)]
    assert f"line {lines[int(number or 0)] if lines else 1}:" in str(error.value)


def test_all_errors_are_told_at_once():
    wrong = GOOD.replace("cost = 5", "cost = -1").replace("steps = 60", "stpes = 60").replace("at_least = 0.5", "")
    with pytest.raises(UserError) as error:
        parse_claim(wrong, "wrong.toml")
    assert str(error.value).startswith("wrong.toml has 3 errors, nothing was started")


RULES_WITHOUT_NUMBERS = [
    ('kind = "interval"\nmeasure = "score"\nwithin = 0.1\nlargest_se = 0.1\n', "needs a [[published]] with value"),
    ('kind = "fisher"\nmeasure = "score"\nat_least = 0.5\nalpha = 0.05\n', "needs a [[published]] with count and of"),
    ('kind = "fisher"\nmeasure = "curve"\nat_least = 0.5\nalpha = 0.05\n', "cannot use 'curve', which is read"),
    ('kind = "ordering"\nmeasure = "score"\nabove = {}\nbelow = {}\nby = "means"\n', "largest_se goes with by"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "said"), RULES_WITHOUT_NUMBERS, ids=[said for _, said in RULES_WITHOUT_NUMBERS])
def test_a_rule_that_cannot_be_computed_is_refused(rule: str, said: str):
    with pytest.raises(UserError) as error:
        claim_with(f"[[rule]]\n{rule}")
    assert said in str(error.value)


def test_the_hash_is_of_the_rule_part_alone():
    plain = claim_with(FIRST_RULE)
    assert claim_with(FIRST_RULE, HEAD.replace("More layers", "Fewer layers")).rule_hash == plain.rule_hash
    assert claim_with(FIRST_RULE.replace("0.5", "0.4")).rule_hash != plain.rule_hash
    assert claim_with(FIRST_RULE, HEAD.replace("steps = 60", "steps = 80")).grid_hash != plain.grid_hash


def test_a_plugin_brings_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folders, "_added", {})
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "planted.toml").write_text(GOOD)
    add_claims(tmp_path / "more")
    assert find_claim("planted").claim == "More layers are better."
    with pytest.raises(UserError, match="unknown claim 'plantd'; did you mean 'planted'"):
        find_claim("plantd")
    (tmp_path / "planted.toml").write_text(GOOD)
    with pytest.raises(UserError, match="claim 'planted' was added from"):
        add_claims(tmp_path / "planted.toml")
    with pytest.raises(UserError, match="no claim file at"):
        add_claims(tmp_path / "gone")
