"""Signals on compiled models: the bracket signals detect violation heads, and are blind to a form without them."""

from __future__ import annotations

import pytest

from genlab.errors import UserError
from genlab.probes.signal import chosen
from genlab.report.calibration import Calibration, calibration, noises_of
from genlab.tasks import Task, make, spec


def brackets() -> Task:
    return make(spec("brackets", 12))


@pytest.fixture(scope="module")
def read() -> Calibration:
    return calibration(brackets(), "NESTED", ["EQUAL-COUNT"], chosen(["bracket_neg"]), [0.0, 1.0], [0, 1])


def test_every_construction_answers_as_its_rule(read: Calibration):
    assert len(read.models) == 5 * 2 * 2
    assert all(one.right == 1.0 for one in read.models if not one.noise)
    assert min(one.right for one in read.models if one.noise) < 0.9


def test_a_violation_head_is_detected_and_its_ablation_changes_answers(read: Calibration):
    for one in read.models:
        if one.program == "nested" and not one.noise:
            assert one.values["bracket_neg"] == 1.0
            assert one.kept["bracket_neg"] < 0.95
    assert read.auroc("bracket_neg", "nested", 0.0) == 1.0


def test_a_rule_without_it_is_not_taken_for_it(read: Calibration):
    for one in read.models:
        if one.rule == "EQUAL-COUNT" and not one.noise:
            assert one.values["bracket_neg"] < 0.6


def test_a_form_that_is_computed_at_brackets_looks_like_none(read: Calibration):
    values = [m.values["bracket_neg"] for m in read.models if m.program == "nested_at_brackets" and not m.noise]
    assert max(values) < 0.6


@pytest.mark.parametrize(
    ("has", "lacks", "message"),
    [("NESTD", ["EQUAL-COUNT"], "did you mean 'NESTED'"), ("NESTED", ["NESTED"], "is given in both")],
)
def test_wrong_rules(has: str, lacks: list[str], message: str):
    with pytest.raises(UserError, match=message):
        calibration(brackets(), has, lacks, chosen(["bracket_neg"]), [0.0], [0])


def test_other_mistakes():
    with pytest.raises(UserError, match="no programs for its rules"):
        calibration(make(spec("sort", 5)), "NESTED", ["EQUAL-COUNT"], chosen(["bracket_neg"]), [0.0], [0])
    with pytest.raises(UserError, match="one value per head"):
        calibration(brackets(), "NESTED", ["EQUAL-COUNT"], chosen(["weight_norm"]), [0.0], [0])
    for text in ("0,x", "-1", "nan"):
        with pytest.raises(UserError, match="--noise"):
            noises_of(text)
