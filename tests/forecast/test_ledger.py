"""What is sealed stays sealed, what was seen is never forecast as unseen, and nothing is fed back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import Planted, draw

from genlab.errors import DamagedFileError, UserError
from genlab.forecast import parse_target
from genlab.forecast.commands import score_locks
from genlab.forecast.ledger import Ledger, check_not_fed_back, inputs_hash, seen_at
from genlab.forecast.roles import columns, part
from genlab.forecast.sealing import Forecaster, load_forecaster, lock, save_forecaster, score_lock, seal_plan
from genlab.runs.files import read_json, write_json
from genlab.runs.store import Store, now

TARGET = parse_target("exact_match@length=50>=0.5")
OUTCOME, PLACE = "exact_match@split=id,length=50", "split=id,length=50"


@pytest.fixture(autouse=True)
def _no_trees(monkeypatch: pytest.MonkeyPatch):
    import genlab.forecast.sealing as forecasting

    made = forecasting.make_predictors
    quick = ("baselines", "head alone", "leak alone", "baselines + head", "baselines + leak")
    monkeypatch.setattr(forecasting, "make_predictors", lambda *a: [p for p in made(*a) if p.name in quick])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def seen(rng: int = 0, prefix: str = "old") -> pd.DataFrame:
    """Sixty runs of two settings that were looked at an hour before all else."""
    table = draw(Planted(settings=2, runs=30, effect=2.0), np.random.default_rng(rng))
    table = table.rename(columns={"generalises": OUTCOME}, level=1)
    table[("seen_at", PLACE)] = "2026-01-01T00:00:00.000000+00:00"
    table[("seed", "init_seed")] += 1000 * rng
    table.index = pd.Index([f"{prefix}{i:02d}" for i in range(len(table))])
    return table


def unseen() -> tuple[pd.DataFrame, pd.DataFrame]:
    """New runs as they are before anybody looks, and the same after."""
    after = seen(1, "new")
    before = after.copy()
    before[("outcome", OUTCOME)], before[("seen_at", PLACE)] = np.nan, None
    return before, after


@pytest.fixture
def forecaster(store: Store) -> Forecaster:
    return save_forecaster(store, seen(), TARGET, "head", "linear", True, 0, "first")


def looked(table: pd.DataFrame) -> pd.DataFrame:
    """The same runs, evaluated this moment."""
    found = table.copy()
    found[("seen_at", PLACE)] = now()
    return found


def test_a_forecaster_that_is_read_again_is_the_same(store: Store, forecaster: Forecaster):
    again = load_forecaster(store, "first")
    assert again.hash == forecaster.hash
    before, _ = unseen()
    assert again.forecast(before) == forecaster.forecast(before)
    other = save_forecaster(store, seen().iloc[1:], TARGET, "head", "linear", True, 0, "second")
    assert other.hash != forecaster.hash


def test_forecasts_are_sealed_before_and_scored_after(store: Store, forecaster: Forecaster):
    before, after = unseen()
    ledger = Ledger(store)
    entry, left_out = lock(ledger, before, "new", forecaster)
    assert (len(entry["runs"]), left_out) == (60, 0)
    with pytest.raises(UserError, match=r"60 of 60 runs have no evaluation .* yet"):
        score_lock(entry, before)
    told, gaps = score_lock(entry, looked(after))
    assert told["scores"]["baselines + head"]["within"] > 0.85
    assert told["changed"] == ""
    assert gaps[0].interval.low is not None
    assert gaps[0].interval.low > 0
    ledger.append("score", told)
    assert ledger.unscored() == []
    assert [e["kind"] for e in ledger.entries()] == ["forecasts", "score"]


def test_what_was_seen_is_not_forecast_as_unseen(store: Store, forecaster: Forecaster):
    before, after = unseen()
    with pytest.raises(UserError, match="was seen for all 60 runs"):
        lock(Ledger(store), after, "new", forecaster)
    before.loc[before.index[:10], ("seen_at", PLACE)] = "2026-01-01T00:00:00+00:00"
    entry, left_out = lock(Ledger(store), before, "new", forecaster)
    assert (len(entry["runs"]), left_out) == (50, 10)
    assert not set(entry["runs"]) & set(before.index[:10])


def test_a_run_that_was_looked_at_before_the_seal_is_not_scored(store: Store, forecaster: Forecaster):
    before, after = unseen()
    entry, _ = lock(Ledger(store), before, "new", forecaster)
    with pytest.raises(UserError, match="were evaluated before the forecasts were sealed"):
        score_lock(entry, after)


def test_a_look_at_another_length_counts_where_the_target_is_over_all(store: Store):
    _, after = unseen()
    assert seen_at(after, parse_target("exact_match@length=60")).isna().all()
    assert seen_at(after, parse_target("furthest@0.9")).notna().all()
    assert seen_at(after, parse_target("exact_match@split=id")).notna().all()
    assert seen_at(after, parse_target("exact_match@split=longer")).isna().all()


def test_outcomes_of_sealed_runs_are_not_fed_back_until_they_are_scored(store: Store, forecaster: Forecaster):
    before, after = unseen()
    ledger = Ledger(store)
    entry, _ = lock(ledger, before, "new", forecaster)
    check_not_fed_back(ledger, seen(), TARGET)
    with pytest.raises(UserError, match="are sealed in lock 1 and not scored yet"):
        check_not_fed_back(ledger, after, TARGET)
    ledger.append("score", score_lock(entry, looked(after))[0])
    check_not_fed_back(ledger, after, TARGET)


def test_a_forecaster_does_not_forecast_what_it_was_trained_on(store: Store, forecaster: Forecaster):
    own = seen()
    own[("seen_at", PLACE)] = None
    with pytest.raises(UserError, match="was trained on 60 of these runs"):
        lock(Ledger(store), own, "old", forecaster)


def test_a_signal_made_from_the_outcome_cannot_be_had_before_it(store: Store):
    leaking = seen()
    leaking[("signal", "leak")] = leaking["outcome"][OUTCOME]
    forecaster = save_forecaster(store, leaking, TARGET, "leak", "linear", True, 0, "leaking")
    before, _ = unseen()
    before[("signal", "leak")] = before["outcome"][OUTCOME]
    with pytest.raises(UserError, match="uses 'leak', which was not measured for any of these runs"):
        lock(Ledger(store), before, "new", forecaster)


def test_an_entry_that_is_changed_or_taken_out_is_noticed(store: Store, forecaster: Forecaster):
    before, _ = unseen()
    ledger = Ledger(store)
    for _ in range(2):
        lock(ledger, before, "new", forecaster)
    first = store.path / "forecasts" / "0001.json"
    text = first.read_text()
    entry = read_json(first)
    entry["forecasts"]["baselines"]["new00"][1] = 0.99
    write_json(first, entry)
    with pytest.raises(DamagedFileError, match="changed after it was sealed"):
        ledger.entries()
    first.unlink()
    with pytest.raises(DamagedFileError, match="missing or was changed"):
        ledger.entries()
    first.write_text(text)
    assert len(ledger.entries()) == 2


def test_inputs_that_were_measured_anew_are_told(store: Store, forecaster: Forecaster):
    before, after = unseen()
    entry, _ = lock(Ledger(store), before, "new", forecaster)
    other = after.copy()
    other[("signal", "later")] = 1.0
    assert score_lock(entry, looked(other))[0]["changed"] == ""
    after.loc["new00", ("signal", "head")] += 1e-9
    assert "measured anew" in score_lock(entry, looked(after))[0]["changed"]
    used = columns(before, ["signal"])
    assert inputs_hash(before, before.index, used) == inputs_hash(before.iloc[::-1], before.index, used)


def test_a_plan_counts_only_if_it_was_sealed_before_the_first_look(store: Store):
    before, _ = unseen()
    ledger, options = Ledger(store), {"signal": "head", "seed": 0}
    entry = seal_plan(ledger, before, "new", TARGET, "setting", options)
    assert ledger.plan_for("new", TARGET, "setting", "head", now()) == entry["at"]
    assert ledger.plan_for("new", TARGET, "setting", "head", "2026-01-01T00:00:00+00:00") is None
    assert ledger.plan_for("new", TARGET, "setting", "other", now()) is None
    assert ledger.plan_for("new", TARGET, "random", "head", now()) is None


def test_what_cannot_be_sealed_is_told(store: Store, forecaster: Forecaster):
    before, after = unseen()
    with pytest.raises(UserError, match="was seen for 60 of 60 runs"):
        seal_plan(Ledger(store), after, "new", TARGET, "setting", {"signal": "head"})
    with pytest.raises(UserError, match="a plan needs --signal"):
        seal_plan(Ledger(store), before, "new", TARGET, "setting", {"signal": None})
    with pytest.raises(UserError, match="exists; it is not overwritten"):
        save_forecaster(store, seen(), TARGET, "head", "linear", True, 0, "first")
    with pytest.raises(UserError, match="did you mean 'first'"):
        load_forecaster(store, "frist")
    with pytest.raises(UserError, match="not allowed"):
        save_forecaster(store, seen(), TARGET, "head", "linear", True, 0, "../x")
    assert part(before, "outcome").isna().all().all()
    assert Ledger(store).entries() == []


def test_a_damaged_forecaster_is_not_a_lock_that_waits_for_its_outcomes(tmp_path: Path):
    store = Store(tmp_path / "store")
    Ledger(store).append("forecasts", {"runs": ["a"], "forecaster": {"name": "old", "hash": "x"}})
    (store.path / "forecasters").mkdir()
    (store.path / "forecasters" / "old.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"old\.json is damaged"):
        score_locks(store)
    (store.path / "forecasters" / "old.json").unlink()
    with pytest.raises(UserError, match="unknown forecaster 'old'"):
        score_locks(store)
