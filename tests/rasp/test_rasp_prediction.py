"""What the rule predicts, the seal on it, and the tasks that are drawn to be predicted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from genlab.errors import UserError
from genlab.forecast.tables import rasp_facts
from genlab.rasp.generating import KINDS, draw_pairs
from genlab.rasp.plugin import pair_predictions, plugin_text
from genlab.rasp.prediction import Prediction, predict_all, predict_task
from genlab.rasp.sealing import KNOWN, changed_since, check_seal, fingerprint, misses, score, seal, sealed
from genlab.spec import ModelConfig
from genlab.tasks import check_task, load_plugin, make, registry


def settings(task: str, positions: str, format: str = "plain") -> pd.DataFrame:
    return pd.DataFrame({"task": [task], "format": [format], "positions": [positions]})


class TestPrediction:
    def test_what_the_rule_says(self):
        copies = predict_task("copy", "unique")
        assert (copies.expected, copies.encodings) == (True, ("learned", "rotary", "alibi"))
        assert "tokens at a fixed distance" in copies.reason
        parity = predict_task("parity", "plain")
        assert (parity.expected, parity.encodings) == (False, ())
        assert "parity breaks scales (tok_map % 2 does more with a count than compare it" in parity.reason
        more = predict_task("compare-occurrence", "plain")
        assert "compares counts" in more.reason
        assert "its values grow as the length does (at length 16 to count " in more.reason
        long = predict_task("addition", "forward-hints")
        assert not long.expected
        assert "too large: 45 operations" in long.reason
        assert "real numbers" in predict_task("max-retrieval", "values").reason

    def test_encodings_of_all_legal_programs_count(self):
        brackets = predict_task("dyck-next", "next")
        assert "none" in brackets.encodings
        assert (
            "; or by closing_next_counting: legal in 37 operations at depth 2, asks for no places" in brackets.reason
        )

    def test_what_asks_for_no_places_is_expected_with_every_encoding(self):
        every = get_args(ModelConfig.model_fields["positions"].annotation)
        majority = predict_task("majority", "plain")
        assert set(majority.encodings) == set(every)
        assert majority.unknown == ()
        assert all(majority.expects(one) for one in every)
        assert rasp_facts(settings("majority", "t5"))["rasp_expected"].tolist() == [1.0]

    def test_an_encoding_that_the_rule_does_not_judge_is_unknown_and_not_a_no(self):
        copies = predict_task("copy", "unique")
        assert copies.unknown == ("hard-alibi", "t5", "fire", "abacus", "coupled")
        assert [copies.expects(one) for one in ("rotary", "none", "fire")] == [True, False, None]
        facts = rasp_facts(pd.concat([settings("copy", one, "unique") for one in ("rotary", "none", "fire")]))
        assert facts["rasp_expected"].isna().tolist() == [False, False, True]
        assert facts["rasp_expected"].tolist()[:2] == [1.0, 0.0]
        parity = predict_task("parity", "plain")
        assert parity.expects("fire") is False  # no program is legal: that holds whatever the positions

    def test_an_outcome_of_an_unjudged_encoding_is_no_miss(self, monkeypatch):
        from genlab.rasp import sealing as outcomes

        monkeypatch.setattr(outcomes, "KNOWN", (outcomes.Outcome("copy", "unique", True, "x", "fire"),))
        assert score([predict_task("copy", "unique")]) == {"right": 0, "wrong": 0}

    def test_one_length_is_nothing_to_generalise_from(self):
        modular = predict_task("modular", "plain")
        assert "its examples have one length" in modular.reason
        assert modular.verdict == "nothing to expect"
        assert rasp_facts(settings("modular", "learned")).isna().all(axis=None)

    def test_retrodictions_are_scored_apart(self):
        right = [Prediction("parity", "plain", False, (), ""), Prediction("sort", "plain", True, ("learned",), "")]
        assert score(right) == {"right": 4, "wrong": 0}
        wrong = [Prediction("parity", "plain", True, ("learned",), ""), Prediction("sort", "plain", False, (), "")]
        assert score(wrong) == {"right": 0, "wrong": 4}
        assert score([Prediction("needle", "text", True, (), "")]) == {"right": 0, "wrong": 0}

    def test_an_outcome_of_one_position_encoding_is_held_against_that_one(self):
        copies = Prediction("copy", "unique", True, ("learned", "rotary"), "")
        (miss,) = misses([copies])
        assert str(miss).startswith("copy (unique) with positions rotary, which did not generalize (own runs")
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
        rows = predict_all()
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
        monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
        monkeypatch.setattr(registry, "_sources", dict(registry._sources))
        text = plugin_text(draw_pairs(1, np.random.default_rng(11), prefix="drawn-11"), "hash", "2026-11-23", "x")
        path = tmp_path / "pairs.py"
        path.write_text(text)
        load_plugin(path)
        document = json.loads(text.split('"""')[1].split("\n\n", 2)[2])
        assert fingerprint(document) in text
        assert {row["task"] for row in document["predictions"]} == {"drawn-11-0a", "drawn-11-0b"}
        check_task(make("drawn-11-0a", 8))
        check_task(make("drawn-11-0b", 8))
