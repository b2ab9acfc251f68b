"""The table of a grid, a user's own table, and targets."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genlab
from genlab.errors import UserError
from genlab.forecast import parse_target, read_table, table
from genlab.forecast.roles import frame_of, part, varying
from genlab.forecast.targets import values_of
from genlab.runs import Evals
from genlab.runs.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two settings of sorting at two seeds, looked at on two evaluation sets."""
    kept = Store(tmp_path_factory.mktemp("forecast") / "store")
    small = {"n_layers": 1, "d_model": 16, "steps": 4, "eval_every": 2}
    evals = Evals(test_len=6, n=8)
    plans = [
        genlab.plan("sort", 4, 6, seeds=[0, (0, 1)], evals=evals, positions=positions, **small)
        for positions in ("learned", "none")
    ]
    from genlab.runs import evaluate, grid

    grid(plans, name="two", store=kept, workers=1)
    ids = kept.find("two")
    again = plans[0].task.split("id").at((5, 6), 8, 1)
    evaluate(ids, [again], kept)
    return kept


def test_a_row_a_run_with_all_roles(store: Store):
    found = table(store, "two")
    assert list(found.index) == store.find("two")
    assert {"setting", "seed", "metric", "fact", "outcome", "second", "earlier", "seen_at"} == set(
        found.columns.get_level_values("role")
    )
    assert varying(found) == ["positions"]
    assert list(part(found, "seed").columns) == ["init_seed", "data_seed"]
    assert part(found, "fact")["rasp_expected"].tolist() == [
        float(p in predicted_encodings()) for p in found["setting"]["positions"]
    ]


def predicted_encodings() -> tuple[str, ...]:
    from genlab.rasp.prediction import predict_task

    return predict_task("sort", "plain").encodings


def test_runs_without_a_record_are_named(store: Store):
    with pytest.raises(UserError, match="1 of 2 runs have no record in the store: 0123456789ab"):
        table(store, [store.run_ids()[0], "0123456789ab"])


def test_in_distribution_is_a_metric_and_all_else_an_outcome(store: Store):
    found = table(store, "two")
    evals = store.evals(metric="exact_match")
    inside = evals[(evals["length"] <= 4)].groupby("run_id")["value"].mean()
    np.testing.assert_allclose(part(found, "metric")["exact_match"], inside.loc[found.index])
    assert "exact_match@split=id,length=5" in part(found, "outcome")
    assert not [name for name in part(found, "outcome") if name.endswith("length=4")]
    second = evals[(evals["length"] == 5) & (evals["seed"] == 1)].set_index("run_id")["value"]
    np.testing.assert_allclose(part(found, "second")["exact_match@split=id,length=5"], second.loc[found.index])


def test_the_checkpoint_before_is_the_last_look_before_the_end(store: Store):
    trace = store.trace(store.find("two"))
    looked = trace[(trace["step"] == 2) & (trace["metric"] == "exact_match") & (trace["length"] == 5)]
    found = part(table(store, "two"), "earlier")["exact_match@split=id,length=5"]
    np.testing.assert_allclose(found, looked.set_index("run_id")["value"].loc[found.index])


def test_seen_at_is_the_first_look_and_a_look_while_training_counts(store: Store):
    seen = part(table(store, "two"), "seen_at")
    run = store.find("two")[0]
    assert seen.loc[run, "split=id,length=5"] == store.entry(run)["at"]
    at = store.evals([run], metric="exact_match")
    assert seen.loc[run, "split=id,length=5"] < at.loc[at["length"] == 5, "at"].min()


def test_signals_are_columns_and_a_head_is_given_by_the_largest(store: Store):
    ids = store.find("two")
    rows = [
        {"run_id": run, "name": "induction", "layer": 0, "head": h, "value": 0.1 * h} for run in ids for h in range(3)
    ]
    rows += [{"run_id": run, "name": "margin", "value": 1.0, "role": "confidence"} for run in ids]
    rows += [{"run_id": run, "name": "rank", "layer": 1, "value": 2.0} for run in ids[:1]]
    rows += [{"run_id": ids[0], "name": "far", "value": 2.0, "admissible": False}]
    made = pd.DataFrame(rows)
    made["admissible"] = made["admissible"].fillna(True)
    found = table(store, "two", signals=made)
    assert part(found, "signal")["max induction"].tolist() == pytest.approx([0.2] * 4)
    assert part(found, "signal")["rank layer 1"].isna().sum() == 3
    assert list(part(found, "confidence").columns) == ["margin"]
    assert "far" not in part(found, "signal")
    assert "far" in part(table(store, "two", signals=made, inadmissible=True), "signal")


# -- a user's own table ----------------------------------------------------------------------------------------


ROWS = "run_id,depth,seed,head,ood\na,2,0,0.9,0.8\nb,2,1,0.1,0.2\nc,3,0,,1.0\n"


def test_metrics_that_are_signals_stand_beside_those_of_evaluations(store: Store):
    ids = store.run_ids()
    rows = [{"run_id": run, "name": name, "value": 7.0, "role": "metric"} for run in ids for name in ("norm", "loss")]
    plain, found = table(store, ids), table(store, ids, pd.DataFrame(rows))
    assert set(part(found, "metric")) == {*part(plain, "metric"), "norm"}
    assert (part(found, "metric")["norm"] == 7.0).all()
    pd.testing.assert_frame_equal(part(found, "metric")[list(part(plain, "metric"))], part(plain, "metric"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_users_own_table(tmp_path: Path, ending: str):
    (tmp_path / "t.csv").write_text(ROWS)
    if ending == "parquet":
        pd.read_csv(tmp_path / "t.csv").to_parquet(tmp_path / "t.parquet")
    declared = {"setting": ["depth"], "seed": ["seed"], "signal": ["head"], "outcome": ["ood"]}
    found = read_table(tmp_path / f"t.{ending}", declared)
    assert list(found.index) == ["a", "b", "c"]
    assert values_of(found, parse_target("ood>=0.5")).value.tolist() == [1, 0, 1]
    assert np.isnan(part(found, "signal")["head"].iloc[2])


def test_names_that_look_like_missing_values_are_names(tmp_path: Path):
    rows = "run_id,norm,head,ood\nNA,None,1,0.5\nb,NA,NA,1\nc,null,3,nan\n"
    (tmp_path / "t.csv").write_text(rows)
    found = read_table(tmp_path / "t.csv", {"setting": ["norm"], "signal": ["head"], "outcome": ["ood"]})
    assert list(found.index) == ["NA", "b", "c"]
    assert part(found, "setting")["norm"].tolist() == ["None", "NA", "null"]
    assert part(found, "signal")["head"].isna().tolist() == [False, True, False]
    assert part(found, "outcome")["ood"].isna().tolist() == [False, False, True]


BAD = [
    ("inf.csv", {"signal": ["head"], "outcome": ["ood"]}, "'head' is declared as signal but contains inf"),
    ("inf.csv", {"setting": ["head"], "outcome": ["ood"]}, "'head' is declared as setting but contains inf"),
    ("t.csv", {"signal": ["heat"], "outcome": ["ood"]}, "did you mean 'head'?"),
    ("t.csv", {"signal": ["head"], "outcome": ["head"]}, "declared twice"),
    ("t.csv", {"outcome": ["ood"]}, "needs columns declared"),
    ("t.csv", {"sign": ["head"], "outcome": ["ood"]}, "did you mean 'signal'?"),
    ("t.csv", {"signal": ["run_id"], "outcome": ["ood"]}, "'a', which is not a number"),
    ("t.txt", {"signal": ["head"], "outcome": ["ood"]}, ".csv or .parquet"),
    ("gone.csv", {"signal": ["head"], "outcome": ["ood"]}, "is not a file"),
    ("empty.csv", {"signal": ["head"], "outcome": ["ood"]}, "cannot be read"),
    ("twice.csv", {"signal": ["head"], "outcome": ["ood"]}, "holds run 'a' twice"),
    ("damaged.parquet", {"signal": ["head"], "outcome": ["ood"]}, "cannot be read"),
]


@pytest.mark.parametrize(("name", "columns", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_tables_are_one_line(tmp_path: Path, name: str, columns: dict[str, list[str]], said: str):
    (tmp_path / "t.csv").write_text(ROWS)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "inf.csv").write_text("head,ood\n1,1\n-inf,0\n")
    (tmp_path / "twice.csv").write_text(ROWS.replace("b,2", "a,2"))
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=re.escape(said)) as told:
        read_table(tmp_path / name, columns)
    assert "\n" not in str(told.value)


# -- targets ---------------------------------------------------------------------------------------------------


def exact(values: list[list[float]], lengths: list[int]) -> pd.DataFrame:
    names = [f"exact_match@split=id,length={n}" for n in lengths]
    return frame_of({"outcome": pd.DataFrame(values, columns=names)})


def test_the_furthest_length_is_censored_at_the_longest_tested():
    found = exact([[1, 0.95, 0.2], [1, 1, 1], [0.5, 1, 1], [1, 0.91, np.nan], [np.nan] * 3], [11, 20, 50])
    values = values_of(found, parse_target("furthest@0.9"))
    np.testing.assert_array_equal(values.value, [20, 50, 10, 20, np.nan])
    assert values.censored.tolist() == [False, True, False, True, False]


def test_a_censored_length_below_the_threshold_is_neither_yes_nor_no():
    found = exact([[1, 0.95, 0.2], [1, 1, np.nan], [1, 1, 1]], [11, 20, 50])
    np.testing.assert_array_equal(values_of(found, parse_target("furthest@0.9>=50")).value, [0, np.nan, 1])


def test_a_target_without_a_length_is_the_mean_over_lengths():
    found = exact([[1, 0.5, 0], [1, np.nan, 0.5]], [11, 20, 50])
    assert values_of(found, parse_target("exact_match@split=id")).value.tolist() == [0.5, 0.75]
    assert values_of(found, parse_target("exact_match@length=20>=0.5")).value[0] == 1


@pytest.mark.parametrize(
    "text", ["", "exact_match@len=5", "exact_match@length=x", "furthest@", "furthest@0.9,length=5", "a>=b"]
)
def test_a_target_of_no_form_is_told(text: str):
    with pytest.raises(UserError, match="target"):
        parse_target(text)


def test_no_evaluation_yet_is_told_with_the_nearest():
    with pytest.raises(UserError, match="no evaluation yet; did you mean exact_match@split=id,length=50"):
        values_of(exact([[1.0]], [50]), parse_target("exact_match@split=id,length=500"))
    with pytest.raises(UserError, match="run lab eval"):
        values_of(frame_of({"metric": pd.DataFrame({"loss": [0.1]})}), parse_target("exact_match@length=5"))
