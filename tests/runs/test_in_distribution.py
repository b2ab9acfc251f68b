"""One meaning of "in distribution": every table, mean and figure follows the same rule, which is written out here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import genlab
from genlab.errors import UserError
from genlab.forecast import parse_target, table
from genlab.forecast.judge import choose
from genlab.forecast.roles import part
from genlab.forecast.rules import in_and_out, rules_learned
from genlab.forecast.targets import values_of
from genlab.report.tables import run_table, summary
from genlab.report.train import outcome
from genlab.runs import Evals, laws
from genlab.runs.plan import plan
from genlab.runs.store import Store, now
from genlab.spec import RunSpec, canonical_json
from genlab.tasks import make
from genlab.training import fresh, train_stack

Lab = Callable[..., tuple[int, str, str]]
SMALL = {"n_layers": 1, "d_model": 8, "n_heads": 2, "steps": 2, "eval_every": 1, "batch_size": 4}
KEPT = Path(__file__).parents[2] / "benchmarks" / "pairs" / "store"
"""A store that was written when records held no law of lengths."""


def trained(path: Path, task: str, train_len: int, test_len: int, **options: Any) -> tuple[Store, str]:
    """A store with one tiny run that was evaluated nowhere."""
    chosen = {**SMALL, **options}
    made = plan(task, train_len, test_len, evals=Evals(), **chosen)
    store = Store(path)
    store.ready()
    (spec,) = made.specs
    store.commit(train_stack(made.task, fresh([spec]), torch.device("cpu")), {})
    return store, spec.run_id


def planted(store: Store, run: str, values: Mapping[tuple[str, int], float], metric: str = "exact_match") -> None:
    """Give a run these results at (split, length)."""
    about = {"run_id": run, "step": 2, "metric": metric, "n": 100, "seed": 0, "at": now()}
    store.add_evals(
        [{**about, "split": split, "length": length, "value": value} for (split, length), value in values.items()]
    )


CASES = [
    ("sort", {"train_len": 10, "test_len": 20, "min_len": 6}, "id"),
    ("brackets", {"train_len": 40, "test_len": 60, "lengths_per_batch": 1}, "id"),
    ("brackets", {"train_len": 20, "test_len": 30, "lengths_per_batch": 1, "train_split": "length-matched"}, None),
    ("question-formation", {"train_len": 12, "test_len": 14, "min_len": 4, "lengths_per_batch": 2}, "id"),
    ("modular-icl", {"train_len": 6, "test_len": 8, "min_len": 4}, "id"),
]


@pytest.mark.parametrize(("task", "options", "home"), CASES, ids=[f"{t}-{i}" for i, (t, *_) in enumerate(CASES)])
def test_every_table_follows_the_rule(tmp_path: Path, task: str, options: dict[str, Any], home: str | None):
    store, run = trained(tmp_path / "s", task, **options)
    spec = store.spec(run)
    low, high, drawn = spec.train.min_len, spec.train.train_len, spec.train.train_split
    home = home or drawn
    made, rng = make(spec.task), np.random.default_rng(0)
    values = {
        (split, int(length)): float(rng.integers(0, 100) / 100)
        for split in made.splits
        for length in made.lengths_between(split, 0, options["test_len"])
    }
    planted(store, run, values)
    law = dict(zip(*(x.tolist() for x in made.length_law(drawn, low, high)), strict=True))
    inside = [(law.get(n, 0.0), v) for (split, n), v in values.items() if split == home and low <= n <= high]
    expected = sum(p * v for p, v in inside) / sum(p for p, _ in inside)

    found = table(store, [run])
    assert run_table(store)["exact_match_in"].item() == pytest.approx(expected)
    assert part(found, "metric")["exact_match"].item() == pytest.approx(expected)
    fit = outcome(store, [run]).fit
    assert fit is not None
    assert fit["fraction"] == (expected >= 0.99)
    places = {str(name).partition("@")[2] for name in part(found, "outcome")}
    wanted = {k for k in values if not (k[0] in (home, drawn) and low <= k[1] <= high)}
    assert places == {f"split={split},length={length}" for split, length in wanted}
    for row in outcome(store, [run]).lengths.to_dict("records"):
        assert row["in_distribution"] == ((row["split"], row["length"]) not in wanted)
        assert row["trained"] == (low <= row["length"] <= high)


@pytest.mark.parametrize(("task", "options", "home"), CASES[:3], ids=["sort", "brackets", "shifted"])
def test_means_of_a_shifted_split_weigh_training_lengths_as_training_does(
    tmp_path: Path, task: str, options: dict[str, Any], home: str | None
):
    """Its training lengths share their part of the mean as they are drawn; lengths beyond count one each."""
    del home
    store, run = trained(tmp_path / "s", task, **options)
    spec, rng = store.spec(run), np.random.default_rng(1)
    made, train = make(spec.task), spec.train
    law = dict(
        zip(*(x.tolist() for x in made.length_law(train.train_split, train.min_len, train.train_len)), strict=True)
    )
    for split in set(made.splits) - {"id", train.train_split}:
        lengths = [int(n) for n in made.lengths_between(split, 0, options["test_len"])]
        if not lengths:
            continue
        values = {(split, n): float(rng.integers(0, 100) / 100) for n in lengths}
        planted(store, run, values)
        planted(store, run, values, "rule|ONE")
        within = [(law[n], values[split, n]) for n in lengths if n in law]
        beyond = [values[split, n] for n in lengths if n not in law]
        mean_within = sum(p * v for p, v in within) / sum(p for p, _ in within) if within else 0.0
        expected = (len(within) * mean_within + sum(beyond)) / len(lengths)
        found = values_of(table(store, [run]), parse_target(f"exact_match@split={split}")).value
        assert found.item() == pytest.approx(expected)
        rules = outcome(store, [run]).rules.set_index("split").loc[split]
        assert not within or rules["within"] == pytest.approx(mean_within)


def test_the_means_out_of_distribution_of_a_run_are_over_all_of_its_splits(tmp_path: Path):
    store, run = trained(tmp_path / "s", "brackets", 40, 60, lengths_per_batch=1)
    planted(store, run, {("id", 42): 0.5, ("id", 60): 0.7, ("id", 20): 0.0})
    assert run_table(store)["exact_match_out"].item() == pytest.approx(0.6)
    planted(store, run, {("matched-unnested", 2): 1.0, ("matched-unnested", 20): 0.2})
    p2, p20 = np.array(make("brackets", 60).length_law("id", 2, 40)[1])[[0, 9]]
    mean = (p2 * 1.0 + p20 * 0.2) / (p2 + p20)
    assert run_table(store)["exact_match_out"].item() == pytest.approx((0.5 + 0.7 + 2 * mean) / 4)


def test_a_run_that_is_wrong_at_lengths_that_it_never_met_has_fitted(tmp_path: Path):
    """`lab train --task sort --train-len 10 --min-len 6`, then `lab eval last --lengths 2:6`."""
    store, run = trained(tmp_path / "s", "sort", 10, 12, min_len=6)
    planted(store, run, {("id", n): float(n >= 6) for n in range(2, 13)})
    found = outcome(store, [run])
    assert found.fit is not None
    assert (found.fit["fraction"], found.fit["runs"]) == (1.0, 1)
    assert found.lengths.set_index("length")["trained"].to_dict() == {n: 6 <= n <= 10 for n in range(2, 13)}
    assert summary(run_table(store), ["task"])["fit"].item() == 1.0


def test_the_command_marks_no_length_below_the_shortest_as_trained(tmp_path: Path, lab: Lab):
    store, run = trained(tmp_path / "s", "sort", 10, 12, min_len=6)
    code, out, wrong = lab("eval", run, "--lengths", "2:6", "--eval-n", "8", "--store", str(store.path))
    assert code == 0, wrong
    lines = [line.split() for line in out.splitlines()]
    marked = {line[0]: line[1] == "trained" for line in lines if line and line[0] in ("2", "3", "4", "5", "6")}
    assert marked == {"2": False, "3": False, "4": False, "5": False, "6": True}


def test_lengths_that_training_hardly_draws_do_not_make_a_run_unfitted(tmp_path: Path):
    """Brackets of 2 and of 40 are one training string in 500,000 each."""
    store, run = trained(tmp_path / "s", "brackets", 40, 60, lengths_per_batch=1)
    lengths = (2, 8, 12, 18, 24, 30, 34, 40)
    planted(store, run, {("id", n): 0.5 if n in (2, 40) else 0.995 for n in lengths})
    planted(store, run, {("matched-unnested", n): 0.5 for n in lengths})
    fit = outcome(store, [run]).fit
    assert fit is not None
    assert fit["fraction"] == 1.0
    assert summary(run_table(store), ["task"])["fit"].item() == 1.0
    found, target = table(store, [run]), parse_target("exact_match@split=matched-unnested")
    with pytest.raises(genlab.errors.UserError, match=r"is 0\.5 for all 1 runs"):  # it is among those that fit
        choose(found, target)


# -- while training ----------------------------------------------------------------------------------------------


def law_mean(store: Store, run: str) -> pd.Series:
    """The mean over the lengths of the check, by step, from the rows that were kept of it."""
    spec, trace = store.spec(run), store.trace([run])
    lengths, law = make(spec.task).length_law("id", spec.train.min_len, spec.train.train_len)
    rows = trace[(trace["metric"] == "exact_match") & (trace["split"] == "id")]
    p = rows["length"].map(dict(zip(lengths.tolist(), law.tolist(), strict=True)))
    return (rows["value"] * p).groupby(rows["step"]).sum() / p.groupby(rows["step"]).sum()


def test_the_check_while_training_weighs_lengths_as_training_does(tmp_path: Path):
    options = {"lengths_per_batch": 1, "steps": 60, "eval_every": 20, "batch_size": 16, "lr": 0.01}
    store, run = trained(tmp_path / "s", "brackets", 16, 16, **options)
    history = store.history([run]).set_index("step")["exact_match"]
    np.testing.assert_allclose(history, law_mean(store, run).loc[history.index])


def test_until_goes_by_what_its_spec_says(tmp_path: Path):
    """Runs from before there was a choice stop where they stopped; new plans choose the law where it matters."""
    options = {**SMALL, "until": 0.9, "lengths_per_batch": 1}
    (new,), (even,) = (plan(task, 16, 16, **options).specs for task in ("brackets", "sort"))
    assert (new.train.until_weights, even.train.until_weights) == ("law", "equal")
    old = RunSpec.model_validate(
        {**new.model_dump(), "train": {k: v for k, v in new.train.model_dump().items() if k != "until_weights"}}
    )
    assert "until_weights" not in canonical_json(old)
    assert old.train.until_weights == "equal"
    task = make(old.task)
    for spec, weights in ((old, None), (new, "law")):
        (state,) = train_stack(task, fresh([spec]), torch.device("cpu"))
        rows = [r for r in state.trace if r["metric"] == "exact_match" and r["step"] == 2]
        lengths, law = task.length_law("id", 2, 16)
        p = dict(zip(lengths.tolist(), law.tolist(), strict=True))
        values, chances = [float(r["value"]) for r in rows], [p[int(r["length"])] for r in rows]
        expected = np.average(values, weights=chances) if weights else np.mean(values)
        assert state.history[-1]["exact_match"] == pytest.approx(expected, abs=1e-12)
        if not weights:
            assert state.history[-1]["exact_match"] == expected  # bit for bit: it decides where the run ends
    with pytest.raises(genlab.errors.UserError, match="has no effect without until"):
        plan("brackets", 16, 16, **SMALL, lengths_per_batch=1, until_weights="law")


# -- stores --------------------------------------------------------------------------------------------------------


def numbers(store: Store, ids: list[str]) -> list[pd.DataFrame]:
    return [run_table(store, ids), part(table(store, ids), "metric"), store.history(ids)]


def test_a_store_from_before_laws_were_kept_is_read_whole(tmp_path: Path):
    shutil.copytree(KEPT, tmp_path / "old")
    old = Store(tmp_path / "old")
    ids = old.run_ids()
    assert all(old.index.law(run) is None for run in ids)
    before = numbers(old, ids)
    assert before[0]["exact_match_in"].notna().all()
    train = old.spec(ids[0]).train
    law = make(old.spec(ids[0]).task).length_law("id", train.min_len, train.train_len)
    assert old.law(ids[0]).probabilities == tuple(law[1].tolist())
    old.index.compact({})
    for one, other in zip(numbers(Store(tmp_path / "old"), ids), before, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_laws_stay_with_the_records_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Tables of a store need no code of its tasks, in new records, in tables of many, and beside old ones."""
    shutil.copytree(KEPT, tmp_path / "s")
    store, run = trained(tmp_path / "s", "brackets", 16, 20, lengths_per_batch=1)
    planted(store, run, {("id", 2): 0.0, ("id", 8): 1.0, ("id", 20): 0.5})
    before, law = run_table(store), store.law(run)
    store.index.compact({})
    again = Store(tmp_path / "s")
    pd.testing.assert_frame_equal(run_table(again), before)
    assert again.law(run) == law

    def gone(_name: str) -> None:
        raise AssertionError("a table asked for the code of a task")

    monkeypatch.setattr("genlab.runs.laws.make", gone)
    monkeypatch.setattr("genlab.runs.laws.task_class", gone)
    mine = run_table(Store(tmp_path / "s"), [run])
    assert mine["exact_match_in"].item() == before.set_index("run_id")["exact_match_in"][run]


def test_a_run_whose_task_is_gone_is_listed_with_even_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def gone(*_: object, **_more: object) -> None:
        raise UserError("unknown task")

    shutil.copytree(KEPT, tmp_path / "s")
    monkeypatch.setattr("genlab.runs.laws.make", gone)
    monkeypatch.setattr("genlab.runs.laws.task_class", gone)
    monkeypatch.setattr("genlab.runs.laws._from_task", laws._from_task.__wrapped__)  # nothing is known from before
    store = Store(tmp_path / "s")
    exact = store.evals(metric="exact_match").query("split == 'id'").groupby("run_id")["value"].mean()
    found = run_table(store).set_index("run_id")["exact_match_in"]
    np.testing.assert_allclose(found, exact.loc[found.index])


# -- what people read ----------------------------------------------------------------------------------------------


def read_report(store: Store, grid: str, target: str | None, path: Path) -> str:
    from genlab.report.html import write_report

    write_report(store, grid, path, target, None, "random", False)
    return path.read_text()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Eight seeds of sorting lengths 3 to 4, tested below, within and beyond them."""
    store = Store(tmp_path_factory.mktemp("seen") / "store")
    made = genlab.plan("sort", 4, 8, seeds=range(8), evals=Evals(test_len=8, n=8), min_len=3, **SMALL)
    genlab.runs.grid([made], name="g", store=store, workers=1)
    genlab.runs.evaluate(store.find("g"), [made.task.split("id").at((2,), 8)], store)
    return store


Reader = Callable[[Store, Path], str]
READERS: dict[str, Reader] = {
    "report": lambda store, path: read_report(store, "g", "exact_match@split=id", path / "r.html"),
    "report of one length": lambda store, path: read_report(store, "g", "token_accuracy@length=8", path / "r.html"),
}
COMMANDS = {
    "forecast": ["forecast", "evaluate", "--grid", "g", "--target", "loss@split=id", "--all-runs", "--by", "random"],
    "eval": ["eval", "g", "--lengths", "2:6:2", "--eval-n", "8"],
    "compare": ["compare", "g", "g"],
}
SPOKEN = re.compile(r"(?<![\w=\"#-])id(?![\w=\"-])|split=id")


@pytest.mark.parametrize("name", READERS)
def test_a_page_tells_lengths_where_it_means_them(seen: Store, tmp_path: Path, name: str):
    text = READERS[name](seen, tmp_path)
    shown = re.sub(r"<(script|style)>.*?</\1>|train_split</th><td>id<", "", text, flags=re.DOTALL)
    assert not SPOKEN.findall(shown)
    wanted = "token accuracy, length 8" if "one" in name else "exact match, lengths 2 and 5 to 8"
    assert f"<p>Target: {wanted}.</p>" in text
    assert "training lengths 3 to 4" in text
    assert f'"title": "{wanted}"' in text  # an axis


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_tells_lengths_where_it_means_them(seen: Store, lab: Lab, name: str):
    code, told, wrong = lab(*COMMANDS[name], "--store", str(seen.path))
    assert code == 0, wrong
    assert told.strip()
    assert not SPOKEN.findall(told)
    if name == "forecast":
        assert "loss, lengths 2 and 5 to 8" in told


def test_training_lengths_alone_are_shaded(seen: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from matplotlib.axes import Axes

    shaded: list[tuple[float, float]] = []
    monkeypatch.setattr(Axes, "axvspan", lambda _self, low, high, **_: shaded.append((low, high)))
    outcome(seen, seen.find("g")).draw(tmp_path / "f.png")
    assert shaded == [(2.5, 4.5)]


def test_over_training_what_is_out_of_distribution_stands_beside_what_is_in(tmp_path: Path):
    store, run = trained(tmp_path / "s", "brackets", 16, 20, lengths_per_batch=1)
    made = plan("brackets", 16, 20, **SMALL, lengths_per_batch=1)
    watched = [made.task.split(name).at((2, 8, 18), 8) for name in ("id", "matched-unnested")]
    (state,) = train_stack(made.task, fresh([store.spec(run)]), torch.device("cpu"), watched=lambda _s: watched)
    store.commit([state], {}, again=True)
    assert in_and_out(store, [run], "id").attrs["lengths"] == [18]
    assert in_and_out(store, [run], "matched-unnested").attrs["lengths"] == [2, 8, 18]


def test_rules_weigh_lengths_as_training_does(tmp_path: Path):
    store, run = trained(tmp_path / "s", "brackets", 40, 60, lengths_per_batch=1)
    rows = [
        {"run_id": run, "step": 2, "split": "matched-unnested", "length": n, "n": 4, "seed": 0, "at": now()}
        | {"metric": metric, "value": value}
        | ({"correct": b"0", "answers": np.arange(4, dtype=np.uint64).tobytes()} if metric == "exact_match" else {})
        for n, value in ((2, 0.0), (20, 1.0))
        for metric in ("exact_match", "rule|NESTED")
    ]
    store.add_evals(rows)
    found = rules_learned(store, [run], "matched-unnested").runs.loc[run]
    assert found["exact_match"] > 0.999
    assert found["rule|NESTED"] > 0.999
