"""`lab reproduce` as a user types it: a claim trained, judged and written; bad input; what is read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_claims import HEAD, MEASURES, claim_with, rows_of

from genlab.claims.claim import parse_claim
from genlab.claims.folders import checkout, claim_files
from genlab.claims.judging import judge
from genlab.claims.rows import Rows, csv_text, parse_csv
from genlab.errors import UserError
from genlab.report.reproduce import affordable, all_states, output_folder, parse_budget
from genlab.report.reproductions import PAGE, State, page

RULES = """
[[measure]]
name = "when"
reads = "steps"
lengths = "trained"
at_least = 0.9

[[measure]]
name = "gap"
reads = "difference"
of = ["trained", "score"]

[[measure]]
name = "norm"
reads = "signal"
signal = "weight_norm"

[[measure]]
name = "large"
reads = "signal_steps"
signal = "weight_norm"
at_least = 1

[[measure]]
name = "huge"
reads = "signal_steps"
signal = "weight_norm"
at_least = 1000

[[measure]]
name = "small"
reads = "signal_steps"
signal = "weight_norm"
at_most = 1000

[[rule]]
kind = "all"
measure = "small"
near = 20
within = 0.5
where = { n_layers = 1 }

[[rule]]
kind = "all"
measure = "large"
near = 20
within = 0.5
where = { n_layers = 1 }

[[rule]]
kind = "all"
measure = "huge"
at_least = 61
where = { n_layers = 1 }

[[rule]]
kind = "ordering"
measure = "trained"
above = { n_layers = 1 }
below = { n_layers = 0 }
runs = "all"

[[rule]]
kind = "all"
measure = "when"
at_most = 60
where = { n_layers = 1 }

[[rule]]
kind = "all"
measure = "gap"
near = 0
within = 0.3
where = { n_layers = 1 }

[[rule]]
kind = "all"
measure = "norm"
at_least = 1
where = { n_layers = 1 }

[[rule]]
kind = "all"
measure = "curve"
at_least = 0.5
where = { n_layers = 1 }

[[published]]
measure = "trained"
where = { n_layers = 1 }
value = 1.0
"""
TEXT = HEAD.replace("100:104", "100:102") + "keep_steps = [20, 40]\n" + MEASURES + RULES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "layers.toml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


HERE = ("--claims", "claims", "--out", "out")


def test_a_claim_from_training_to_the_page(lab, folder: Path):
    status, out, err = lab("reproduce", "layers", *HERE, "--workers", "1", "--device", "cpu")
    assert status == 0, err
    assert "verdict: pass (4 of 4 runs, 2 fitted)" in out
    claim = parse_claim(TEXT, "layers.toml")
    written = folder / "out" / "reproductions"
    rows = parse_csv((written / "layers.csv").read_text(), "layers.csv", claim)
    assert judge(claim, rows.table).verdict == "pass"
    assert len(rows.table) == 4 * (8 + 3)
    assert rows.seconds > 0
    assert (written / "layers.png").read_bytes().startswith(b"\x89PNG")
    _bits_agree(pd.read_parquet(written / "layers.bits.parquet"), rows.table)
    before = (folder / "out" / PAGE).read_text()
    assert "**pass**" in before
    (folder / "out" / PAGE).unlink()
    again = json.loads(lab("reproduce", "--page", "--json", *HERE)[1])["file"]
    assert Path(again).absolute() == folder / "out" / PAGE
    assert (folder / "out" / PAGE).read_text() == before
    listed = json.loads(lab("reproduce", "--json", *HERE)[1])
    assert [(row["claim"], row["verdict"], row["runs"]) for row in listed] == [("layers", "pass", 4)]
    assert "layers" in lab("reproduce", *HERE)[1]
    _another_rule(lab, folder, before)


def _bits_agree(bits: pd.DataFrame, rows: pd.DataFrame) -> None:
    """The bits are those that the rows are means of: with the evaluation's own attention weights too."""
    curve = rows[rows["measure"] == "curve"].set_index(["run_id", "length"])["value"]
    own = bits[bits["attn_weights"] == "adaptive"]
    assert len(own) == len(curve) == 4 * 3
    for row in own.to_dict("records"):
        share = np.unpackbits(np.frombuffer(row["correct"], np.uint8))[: row["n"]].mean()
        assert share == pytest.approx(curve[row["run_id"], row["length"]])


def _another_rule(lab, folder: Path, before: str) -> None:
    """A rule that is changed afterwards gives another verdict of the same rows, and the page says so."""
    file = folder / "claims" / "layers.toml"
    file.write_text(TEXT.replace("at_most = 60", "at_most = 1"))
    assert lab("reproduce", "--page", *HERE)[0] == 0
    after = (folder / "out" / PAGE).read_text()
    assert "**fail**" in after
    assert "The rule was changed after these rows were made" in after
    assert "The rule was changed" not in before
    status, out, _ = lab("reproduce", "layers", "--check", *HERE)
    assert (status, "verdict: fail" in out) == (0, True)
    assert "The rule was changed" not in (folder / "out" / PAGE).read_text()


BAD = [
    (["reproduce", "layer", *HERE], "unknown claim 'layer'; did you mean 'layers'?"),
    (["reproduce", "gone.toml", *HERE], "claim file 'gone.toml' cannot be read"),
    (["reproduce", "layers", "--check", *HERE], "has none of the 4 runs of claim 'layers'; lab reproduce without"),
    (["reproduce", "--all", "--check", *HERE], "no claim was run; layers: no runs in the store"),
    (["reproduce", "--all", "--budget", "0h", *HERE], "--budget '0h' is not allowed"),
    (["reproduce", "--all", "--budget", "2", *HERE], "a time above zero, such as 2h, 30m or 90s"),
    (["reproduce", "--all", "--budget", "1s", *HERE], "5 s exceed the rest of the budget"),
    (["reproduce", "layers", "--budget", "2h", *HERE], "--budget requires --all"),
    (["reproduce", "layers", "--all", *HERE], "takes one of: a claim, --all, --page"),
    (["reproduce", "--check", *HERE], "--check takes a claim or --all"),
    (["reproduce", "--claims", "gone"], "no folder of claims 'gone'"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words[1:3]) for words, _ in BAD])
def test_bad_input_is_one_line_and_status_2(lab, folder: Path, words: list[str], said: str):
    status, out, err = lab(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not (folder / "store").exists()
    assert not (folder / "out").exists()


def test_a_claim_for_a_gpu_is_not_started_on_a_cpu(lab, folder: Path):
    (folder / "claims" / "layers.toml").write_text(TEXT.replace("cost = 5", "cost = 5\ngpu = true"))
    status, _, err = lab("reproduce", "layers", "--device", "cpu", *HERE)
    assert (status, "needs a GPU (5 s there, estimated)" in err) == (2, True)
    status, _, err = lab("reproduce", "--all", "--device", "cpu", *HERE)
    assert (status, "layers: needs a GPU" in err) == (2, True)
    assert not (folder / "store").exists()


def test_a_claim_file_with_errors_starts_nothing(lab, folder: Path):
    (folder / "claims" / "layers.toml").write_text(TEXT.replace("at_most = 60", "at_mots = 60"))
    status, out, err = lab("reproduce", "layers", *HERE)
    assert (status, out) == (2, "")
    assert "did you mean 'at_most'?" in err
    assert not (folder / "store").exists()


def test_rows_survive_the_file():
    claim = claim_with('[[rule]]\nkind = "all"\nmeasure = "score"\nat_most = 60\n')
    values = {"score": {0: [1.5, 0.25, float("inf"), 2.0], 1: [1.0] * 4}, "trained": {0: ["diverged", 1, 1, 1]}}
    rows = Rows(claim.rule_hash, claim.grid_hash, "2026-01-31", "0.1.0", rows_of(claim, values))
    back = parse_csv(csv_text(rows), "planted.csv", claim)
    assert (back.rule, back.grid, back.date, back.genlab) == (rows.rule, rows.grid, rows.date, rows.genlab)
    pd.testing.assert_frame_equal(back.table, rows.table[list(back.table.columns)], check_dtype=False)
    assert judge(claim, back.table) == judge(claim, rows.table)
    assert csv_text(back) == csv_text(Rows(back.rule, back.grid, back.date, back.genlab, back.table))
    with pytest.raises(UserError, match="it lacks value"):
        parse_csv(csv_text(rows).replace("value", "valu"), "planted.csv", claim)


def test_the_cheapest_claims_that_fit_a_budget_are_chosen():
    claims = [
        claim_with(
            '[[rule]]\nkind = "all"\nmeasure = "score"\nat_least = 0\n', HEAD.replace("cost = 5", f"cost = {c}")
        )
        for c in (30, 10, 20)
    ]
    states = [State(claim, None, None) for claim in claims]
    chosen, left = affordable(states, parse_budget("35s"), cpu=True)
    assert (len(chosen), len(left)) == (2, 1)
    assert "30 s exceed" in left[0]
    assert len(affordable(states, None, cpu=True)[0]) == 3


def test_the_page_of_the_checkout_is_what_its_rows_and_claims_give():
    out = output_folder(None)
    assert out is not None
    assert out == checkout() / "docs"
    assert (out / PAGE).read_text("utf-8") == page(all_states(out)), "run: lab reproduce --page"


def test_rows_of_the_checkout_belong_to_claims():
    out = checkout() / "docs" / "reproductions"
    names = {path.name.partition(".")[0] for path in out.glob("*")}
    assert names <= set(claim_files())
