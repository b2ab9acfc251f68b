"""Signals on compiled models: which mechanisms each detects, and that the rows say so."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.probes.calibrated import ALL, DOSE, REFERENCE, ROWS, Row, calibrated, shipped, verdicts, write_rows
from genlab.probes.calibration import Axes, Reading, Specimen, _spec, _working, rows_of
from genlab.probes.mechanisms import MECHANISMS, UNCALIBRATED, find_mechanisms
from genlab.probes.signal import all_signals, chosen
from genlab.rasp.checker import tokens_of
from genlab.rasp.compiler.runs import find_program
from genlab.rasp.programs.constructions import CONSTRUCTIONS
from genlab.rasp.running import predict
from genlab.report.calibration import Calibration, calibration
from genlab.report.output import show
from genlab.runs.gridfile import levels_of
from genlab.tasks import make

ONE = Axes(noise=(1.0,), decoys=(2,), width=(), length=(), seeds=(0,))


@pytest.fixture(scope="module")
def read() -> Calibration:
    return calibration(find_mechanisms(["end-of-prompt"]), chosen(["end_token"]), ONE)


class TestTable:
    def test_every_mechanism_has_two_constructions_on_both_sides(self):
        for mechanism in MECHANISMS:
            assert len(set(mechanism.has)) >= 2
            assert mechanism.is_dose or len(set(mechanism.lacks)) >= 2
            assert not set(mechanism.has) & set(mechanism.lacks)
            assert mechanism.pool

    def test_every_signal_is_calibrated_or_not_for_a_reason(self):
        claimed = {value.partition(".")[0] for mechanism in MECHANISMS for value in mechanism.claims}
        for one in all_signals():
            reason = one.name in UNCALIBRATED or one.family in UNCALIBRATED
            assert (one.name in claimed) != reason, one.name
        names = {s.name for s in all_signals()} | {s.family for s in all_signals()}
        assert claimed <= names
        assert set(UNCALIBRATED) <= names

    def test_a_value_has_one_direction_within_a_pool(self):
        for mechanism in MECHANISMS:
            assert not set(mechanism.signals) & set(mechanism.falling)

    def test_an_unknown_mechanism_names_the_nearest(self):
        with pytest.raises(UserError, match="did you mean 'induction'"):
            find_mechanisms(["inductoin"])


@pytest.mark.parametrize(("task", "format"), [key for key in CONSTRUCTIONS if key[0] != "brackets"])
def test_constructions_answer_their_task(task: str, format: str):
    made = make(task, 9, format)
    values = tokens_of(made)
    for program in CONSTRUCTIONS[task, format]:
        for length in made.lengths_between("id", 1, 9).tolist():
            examples = made.sample(np.random.default_rng(length), "id", np.full(50, length))
            own = find_program(program.__name__, made)
            said = values.decode(predict(own, values.encode(examples.tokens)))
            assert (said == examples.targets)[examples.scored].all(), (program.__name__, length)


class TestSpecimens:
    has = ("copy_repeats", "copy_resting_on_self")

    def test_all_answer_right_without_noise_and_not_with_much(self, read: Calibration):
        assert len(read.models) == 4 * 2
        assert all(one.right == 1.0 for one in read.models if one.axis == REFERENCE)
        assert max(one.right for one in read.models if one.axis == "noise") < 0.5

    def test_the_head_that_is_compiled_in_is_found_and_matters(self, read: Calibration):
        for one in read.models:
            if one.program in self.has and one.axis == REFERENCE:
                assert one.values["max end_token"] > 0.99
                assert one.kept["max end_token"] < 0.5

    def test_what_lacks_it_is_not_taken_for_it(self, read: Calibration):
        lacking = [one for one in read.models if one.program not in self.has and one.axis == REFERENCE]
        assert max(one.values["max end_token"] for one in lacking) < 0.9

    def test_empty_heads_are_not_read(self):
        """The second layer of `majority` has no operation; heads of zero weights would attend uniformly."""
        spec = _spec("letters", find_mechanisms(["by-position"])[0].lacks[1], REFERENCE, 2, 0, 2)
        working = _working(spec)
        assert working[0].all()
        assert working[1].tolist() == [False] + [True] * (spec.model.n_heads - 1)

    def test_models_of_a_pool_have_about_as_many_heads(self):
        copies = {c for m in MECHANISMS if m.pool == "copy" for c in (*m.has, *m.lacks)}
        heads = {c.program: int(_working(_spec("copy", c, REFERENCE, 2, 0, 2)).sum()) for c in copies}
        assert max(heads.values()) - min(heads.values()) <= 2, heads

    def test_slow_signals_are_read_under_few_conditions(self):
        violations, axes = find_mechanisms(["violations"])[0], Axes()
        slow, fast = (axes.conditions(violations, chosen([name])[0]) for name in ("linear_probe", "bracket_neg"))
        assert {axis for axis, _ in slow} == {REFERENCE, "noise"}
        assert {axis for axis, _ in fast} == {REFERENCE, "noise", "decoys", "width", "length"}


class TestReading:
    values = np.array([[np.nan, 0.5], [0.2, 0.9]])

    def test_maximum_and_minimum_have_a_head_and_a_mean_has_none(self):
        assert Reading("x", "max").of(self.values) == (0.9, (1, 1))
        assert Reading("x", "min").of(self.values) == (0.2, (1, 0))
        value, at = Reading("x", "mean").of(self.values)
        assert (value, at) == (pytest.approx(1.6 / 3), ())

    def test_without_a_value_it_is_nan(self):
        assert math.isnan(Reading("x", "max").of(np.full((1, 2), np.nan))[0])


def specimen(program: str, value: float, axis: str = REFERENCE, level: float = 2, right: float = 1.0) -> Specimen:
    return Specimen(
        "copy", program, axis, level, 0, right, {"max previous_token": value}, {"max previous_token": 0.25}
    )


class TestRows:
    mechanism = find_mechanisms(["previous-token"])[0]

    def rows(self, *models: Specimen) -> list[Row]:
        return rows_of(self.mechanism, ["previous_token"], models)

    def test_auroc_by_construction_and_by_what_lacks_it(self):
        rows = self.rows(
            specimen("copy_unique", 0.9),
            specimen("copy_by_recency", 0.1),
            specimen("copy_repeats", 0.2),
            specimen("copy_by_count", 0.5),
        )
        scores = {(row.has, row.lacks): row.score for row in rows}
        assert scores["copy_unique", ALL] == 1.0
        assert scores["copy_by_recency", ALL] == 0.0
        assert scores["copy_unique", "copy_repeats"] == 1.0
        first = next(row for row in rows if (row.has, row.lacks) == ("copy_unique", ALL))
        assert (first.n_has, first.n_lacks, first.has_low, first.lacks_high) == (1, 2, 0.9, 0.5)
        assert first.has_kept == 0.25

    def test_other_pools_do_not_count(self):
        other = Specimen("letters", "copy_unique", REFERENCE, 2, 0, 1.0, {"max previous_token": 0.0}, {})
        rows = self.rows(specimen("copy_unique", 0.9), other, specimen("copy_repeats", 0.2))
        assert next(row for row in rows if row.lacks == ALL).n_has == 1

    def test_rounding_errors_are_no_order(self):
        rows = self.rows(specimen("copy_unique", 0.5 + 1e-9), specimen("copy_repeats", 0.5))
        assert next(row for row in rows if row.lacks == ALL and row.has == "copy_unique").score == 0.5

    def test_a_dose_is_a_rank_correlation_and_falling_signals_are_turned(self):
        dose = find_mechanisms(["sharpness"])[0]
        models = [
            Specimen("letters", "sort", DOSE, gap, 0, 1.0, {"mean attention_entropy": 1 / gap}, {})
            for gap in (1.0, 2.0, 4.0)
        ]
        rows = rows_of(dose, ["attention_entropy"], models)
        assert rows[0].measure == "spearman"
        assert rows[0].score == pytest.approx(1.0)


def row(has: str, score: float, lacks: str = ALL, axis: str = REFERENCE, level: float = 2, right: float = 1.0) -> Row:
    return Row(
        "m", "s", has, lacks, axis, level, "auroc", score, 3, 6, has_right=right, lacks_right=1.0, has_kept=0.2
    )


class TestVerdicts:
    def test_noise_at_which_it_fails(self):
        found = verdicts([row("a", 1), row("a", 0.9, axis="noise", level=0.1), row("a", 0.6, axis="noise", level=1)])[
            0
        ]
        assert (found.holds, found.fails) == (0.1, 1)
        assert math.isnan(found.breaks)
        assert found.text == "detects m (AUROC 1.00, up to noise 0.1)"

    def test_noise_at_which_models_are_wrong_is_told(self):
        found = verdicts(
            [row("a", 1), row("a", 1, axis="noise", level=0.1), row("a", 0.9, axis="noise", level=1, right=0.5)]
        )[0]
        assert (found.holds, found.breaks) == (1, 1)
        assert found.text == "detects m (AUROC 1.00, at every noise up to 1, where models answer wrong from 1 on)"

    def test_scores_are_means_over_conditions_without_noise_whose_models_are_right(self):
        found = verdicts(
            [
                row("a", 0.9),
                row("a", 0.5, axis="decoys", level=6),
                row("a", 0.0, axis="width", level=0.9, right=0.5),
                row("a", 0.0, axis="noise", level=0.1),
            ]
        )[0]
        assert found.missed == {"a": pytest.approx(0.7)}

    def test_what_it_misses_and_what_fools_it(self):
        found = verdicts([row("a", 0.9), row("b", 0.4), row("a", 0.5, "p"), row("a", 1.0, "q"), row("b", 0.0, "q")])[
            0
        ]
        assert found.found == {"a": 0.9}
        assert found.missed == {"b": 0.4}
        assert found.fooled == {"p": 0.5}
        assert found.text == "detects m (AUROC 0.40 to 0.90, up to noise 0); misses b; fooled by p"

    def test_a_head_that_does_nothing_is_told(self):
        idle = replace(row("a", 1), has_kept=1.0)
        assert verdicts([idle])[0].text.endswith("idle: ablating it changes no answers")
        assert "idle" not in verdicts([row("a", 1)])[0].text

    def test_one_that_finds_none(self):
        assert verdicts([row("a", 0.5), row("a", 0.5, "p")])[0].text == "does not detect m (AUROC 0.50); fooled by p"

    def test_a_condition_without_a_value_says_nothing(self):
        found = verdicts([row("a", 1), row("a", math.nan, axis="length", level=0.5), row("b", math.nan)])[0]
        assert (found.lost, found.missed) == ((), {})

    def test_other_conditions_under_which_it_is_lost(self):
        rows = [row("a", 1), row("a", 1, axis="length", level=0.5), row("a", 0.5, axis="decoys", level=6)]
        assert verdicts(rows)[0].lost == ("decoys 6",)


def test_a_value_that_is_not_read_under_a_condition_has_a_dash_there(capsys: pytest.CaptureFixture[str]):
    """Slow signals are read under fewer conditions than others of the mechanism."""
    mechanism = find_mechanisms(["violations"])[0]
    rows = [replace(row("nested", 1), mechanism="violations", value="bracket_neg")]
    rows.append(replace(rows[0], axis="decoys", level=6))
    rows.append(replace(rows[0], value="linear_probe.violated.accuracy"))
    show(Calibration([mechanism], [], rows))
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("linear_probe")).split()[-2:] == ["1.00", "-"]


class TestShipped:
    def test_rows_cover_every_claim(self):
        """Large models take long to measure: their mechanisms may have no rows yet, and `lab signals` says so."""
        measured = {row.mechanism for row in shipped()}
        mechanisms = [m for m in MECHANISMS if m.name in measured or not m.slow]
        claims = {(m.name, value, c.program) for m in mechanisms for value in m.claims for c in m.has}
        assert {(r.mechanism, r.value, r.has) for r in shipped()} == claims

    def test_every_signal_has_a_line(self):
        for one in all_signals():
            assert calibrated(one)
            assert "no mechanism is declared" not in calibrated(one)[0]
        assert calibrated(chosen(["weight_norm"])[0]) == ["no: names no mechanism: the size of weights"]
        assert calibrated(chosen(["previous_token"])[0])[0].startswith("detects previous-token")

    def test_what_is_written_is_read_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        write_rows(shipped(), tmp_path / "rows.csv")
        assert (tmp_path / "rows.csv").read_text() == ROWS.read_text()


@pytest.mark.parametrize("text", ["0,x", "-1", "nan", "1,,2"])
def test_levels_that_are_no_numbers(text: str):
    with pytest.raises(UserError, match="--noise"):
        levels_of(text, "--noise", 0)


def test_a_signal_without_a_mechanism_is_refused():
    with pytest.raises(UserError, match="no mechanism for signals weight_norm"):
        calibration(find_mechanisms(["induction"]), chosen(["weight_norm"]), ONE)
