"""Each kind of rule on planted rows: it passes, it fails, and it is undecided where it must be."""

from __future__ import annotations

import pytest
from planted_claims import claim_with, rows_of

from genlab.claims.judging import fisher_p, judge

ALL = '[[rule]]\nkind = "all"\nmeasure = "score"\nat_least = 0.9\n'
SHARE = ALL + "share = 0.75\n"
NEAR = '[[rule]]\nkind = "all"\nmeasure = "score"\nnear = 0.5\nwithin = 0.1\n'
MEDIAN = '[[rule]]\nkind = "median"\nmeasure = "score"\nat_least = 0.9\nwhere = { n_layers = 1 }\n'
ORDERING = '[[rule]]\nkind = "ordering"\nmeasure = "score"\nabove = { n_layers = 1 }\nbelow = { n_layers = 0 }\n'
MEANS = ORDERING + 'by = "means"\nlargest_se = 0.1\n'
FALLING = '[[rule]]\nkind = "monotone"\nmeasure = "curve"\ndirection = "falling"\nwhere = { n_layers = 1 }\n'
CURVE = '[[rule]]\nkind = "all"\nmeasure = "curve"\nat_least = 0.8\nwhere = { n_layers = 1 }\n'
PRINTED = '[[published]]\nmeasure = "score"\nwhere = { n_layers = 1 }\nvalue = 0.8\nse = 0.02\n'
WITHIN = (
    '[[rule]]\nkind = "interval"\nmeasure = "score"\nwithin = 0.1\nlargest_se = 0.05\nwhere = { n_layers = 1 }\n'
    + PRINTED
)
JOINT = WITHIN.replace("within = 0.1\n", "")
FISHER = (
    '[[rule]]\nkind = "fisher"\nmeasure = "score"\nat_least = 0.5\nalpha = 0.05\nleast_runs = 4\n'
    'where = { n_layers = 1 }\n[[published]]\nmeasure = "score"\nwhere = { n_layers = 1 }\ncount = 28\nof = 30\n'
)


def curves(*values: tuple[float, float, float]) -> list[dict[int, float]]:
    return [dict(zip((6, 7, 8), own, strict=True)) for own in values]


def scores(none: list[float], one: list[float]) -> dict[str, dict[int, list[object]]]:
    return {"score": {0: [*none], 1: [*one]}}


GOOD, HALF = [0.95, 0.96, 0.97, 1.0], [0.5, 0.5, 0.5, 0.5]
UNFIT = {"trained": {0: [1.0] * 4, 1: [1.0, 0.5, 1.0, 1.0]}}
DIVERGED = {"trained": {0: [1.0] * 4, 1: [1.0, 1.0, 1.0, "diverged"]}}

CASES = [
    ("all", ALL, scores(GOOD, GOOD), "pass"),
    ("all but one", ALL, scores(GOOD, [0.8, 1.0, 1.0, 1.0]), "fail"),
    ("all, exactly at the bound", ALL, scores([0.9] * 4, [0.9] * 4), "pass"),
    ("all, one did not fit: 7 of 8 are enough", ALL, scores(GOOD, [0.95, 0.2, 0.97, 1.0]) | UNFIT, "pass"),
    ("a share of all", SHARE, scores(GOOD, [0.8, 0.7, 1.0, 1.0]), "pass"),
    ("less than a share of all", SHARE, scores(GOOD, [0.8, 0.7, 0.8, 1.0]), "fail"),
    ("near", NEAR, scores([0.41] * 4, [0.59] * 4), "pass"),
    ("not near, below", NEAR, scores([0.39] * 4, [0.5] * 4), "fail"),
    ("not near, above", NEAR, scores([0.5] * 4, [0.61] * 4), "fail"),
    ("all of a curve", CURVE, {"curve": {1: curves(*[(1.0, 0.9, 0.8)] * 4)}}, "pass"),
    ("all of a curve but one length", CURVE, {"curve": {1: curves(*[(1.0, 0.7, 0.8)] * 4)}}, "fail"),
    ("median", MEDIAN, scores(HALF, [0.1, 0.95, 0.95, 0.95]), "pass"),
    ("median below", MEDIAN, scores(GOOD, [0.1, 0.2, 0.95, 0.95]), "fail"),
    ("median, three of four fit", MEDIAN, scores(HALF, GOOD) | UNFIT, "undecided"),
    ("median of fitted or not", MEDIAN + 'runs = "all"\n', scores(HALF, GOOD) | UNFIT, "pass"),
    ("median, one diverged", MEDIAN + 'runs = "all"\n', scores(HALF, GOOD) | DIVERGED, "undecided"),
    ("median, too few runs", MEDIAN + "least_runs = 5\n", scores(HALF, GOOD), "undecided"),
    ("ordering", ORDERING, scores(HALF, GOOD), "pass"),
    ("ordering with one exception", ORDERING, scores([0.5, 0.5, 0.5, 0.955], GOOD), "fail"),
    ("ordering, equal", ORDERING, scores(HALF, HALF), "fail"),
    ("ordering, unfit", ORDERING, scores(HALF, GOOD) | UNFIT, "undecided"),
    ("ordering of means with one exception", MEANS, scores([0.5, 0.5, 0.5, 0.6], [0.55, 0.8, 0.9, 0.8]), "pass"),
    ("ordering of means, reversed", MEANS, scores([0.9] * 4, [0.8, 0.85, 0.8, 0.8]), "fail"),
    ("ordering of means, too noisy", MEANS, scores([0.0, 0.1, 0.9, 0.0], [1.0, 0.2, 0.9, 0.1]), "undecided"),
    ("falling", FALLING, {"curve": {1: curves(*[(1.0, 0.9, 0.8)] * 4)}}, "pass"),
    ("falling on average", FALLING, {"curve": {1: curves((1, 0.5, 0.4), (1, 1, 0.6), *[(1, 0.9, 0.8)] * 2)}}, "pass"),
    ("not falling", FALLING, {"curve": {1: curves(*[(1.0, 0.8, 0.8)] * 4)}}, "fail"),
    ("falling, a length missing", FALLING, {"curve": {1: [{6: 1.0}, *curves(*[(1, 0.9, 0.8)] * 3)]}}, "undecided"),
    ("within", WITHIN, scores(HALF, [0.7, 0.75, 0.72, 0.75]), "pass"),
    ("not within", WITHIN, scores(HALF, [0.6, 0.65, 0.62, 0.65]), "fail"),
    ("within, too noisy", WITHIN, scores(HALF, [0.4, 1.0, 0.6, 1.0]), "undecided"),
    ("within joint errors", JOINT, scores(HALF, [0.75, 0.8, 0.7, 0.83]), "pass"),
    ("beyond joint errors", JOINT, scores(HALF, [0.71, 0.72, 0.73, 0.72]), "fail"),
    ("beyond joint errors, too noisy to be", JOINT, scores(HALF, [0.2, 0.9, 0.7, 0.4]), "undecided"),
    ("count as published", FISHER, scores(HALF, GOOD), "pass"),
    ("count not as published", FISHER, scores(HALF, [0.1, 0.2, 0.1, 0.9]), "fail"),
    ("count of too few", FISHER.replace("runs = 4", "runs = 5"), scores(HALF, [0.1] * 4), "undecided"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "values", "verdict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_rule_on_planted_rows(rule, values, verdict: str):
    claim = claim_with(rule)
    judgment = judge(claim, rows_of(claim, values))
    assert judgment.verdict == verdict, judgment.findings


@pytest.mark.parametrize("rule", [ALL, MEDIAN, ORDERING, MEANS, WITHIN, FISHER])
def test_a_missing_run_leaves_it_undecided(rule: str):
    claim = claim_with(rule)
    judgment = judge(claim, rows_of(claim, scores(HALF, GOOD), lost=1))
    assert (judgment.verdict, judgment.ended, judgment.planned) == ("undecided", 7, 8)
    assert "3 of 4 runs have ended" in judgment.findings[0].why or "7 of 8 runs" in judgment.findings[0].why


def test_one_rule_that_fails_outweighs_others_and_undecided_outweighs_pass():
    undecided = MEDIAN + "least_runs = 5\n"
    for rules, verdict in [(ORDERING + undecided, "undecided"), (ORDERING + undecided + ALL, "fail")]:
        claim = claim_with(rules)
        assert judge(claim, rows_of(claim, scores(HALF, GOOD))).verdict == verdict


def test_fit_follows_from_the_value_not_from_the_column():
    claim = claim_with(MEDIAN)
    rows = rows_of(claim, scores(HALF, GOOD) | UNFIT)
    assert rows["fitted"].all()
    assert judge(claim, rows).fitted == 7


def test_what_never_happens_is_infinite_and_not_missing():
    claim = claim_with('[[rule]]\nkind = "all"\nmeasure = "score"\nat_least = 61\n')
    judgment = judge(claim, rows_of(claim, scores([float("inf")] * 4, [float("inf")] * 4)))
    assert (judgment.verdict, "the farthest has never" in judgment.findings[0].why) == ("pass", True)
    assert judge(claim, rows_of(claim, scores([float("inf")] * 4, [60.0] + [float("inf")] * 3))).verdict == "fail"
    claim = claim_with('[[rule]]\nkind = "all"\nmeasure = "score"\nat_most = 60\n')
    assert judge(claim, rows_of(claim, scores([10.0] * 4, [10.0, 20.0, 60.0, float("inf")]))).verdict == "fail"
    assert judge(claim, rows_of(claim, scores([10.0] * 4, [10.0, 20.0, 60.0, 30.0]))).verdict == "pass"


def test_fishers_test_by_the_sum_over_tables():
    from math import comb

    def exact(a: int, n: int, b: int, m: int) -> float:
        k = a + b
        p = {i: comb(n, i) * comb(m, k - i) / comb(n + m, k) for i in range(max(0, k - m), min(n, k) + 1)}
        return sum(value for value in p.values() if value <= p[a] * (1 + 1e-9))

    for case in [(3, 10, 27, 30), (10, 10, 29, 30), (0, 10, 14, 30), (5, 9, 10, 30)]:
        assert fisher_p(*case) == pytest.approx(exact(*case))
