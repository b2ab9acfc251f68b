"""Tables as the terminal shows them."""

from __future__ import annotations

import io

import pandas as pd
from rich.console import Console

from genlab.report.display import print_lengths, print_rules
from genlab.report.tables import by_length, by_rule
from genlab.tasks import TrainingLaw


def law(train_len: int, min_len: int = 1, split: str = "id") -> TrainingLaw:
    """Training lengths that are all equally likely."""
    return TrainingLaw(split, split, min_len, train_len, (min_len,), (1.0,)).flat()


def shown(print_table, *arguments, width: int = 150) -> list[list[str]]:
    """The words of each line."""
    out = io.StringIO()
    print_table(Console(file=out, width=width), *arguments)
    return [line.split() for line in out.getvalue().splitlines()]


def evals(metric: str, values: dict[tuple[str, int], float]) -> pd.DataFrame:
    rows = [
        {"run_id": "r", "split": split, "length": length, "metric": metric, "value": value, "n": 50}
        for (split, length), value in values.items()
    ]
    return pd.DataFrame(rows)


def test_baselines_stand_beside_each_length_of_their_split():
    table = by_length(evals("exact_match", {("id", 2): 0.9, ("id", 4): 0.5, ("far", 4): 0.25}), law(2))
    known = {("id", 2): {"copying": 0.75, "never": 0.001}, ("id", 4): {"copying": 0.5, "late": 0.1}}
    lines = shown(print_lengths, table, law(2), "shots", known)
    far, inside = lines[:3], lines[3:]
    assert far[1][-2:] == ["(95", "%)"]  # no baseline is known there
    assert inside[1][-4:] == ["(95", "%)", "copying", "late"]
    assert inside[2][-2:] == ["0.750", "-"]
    assert inside[3][-2:] == ["0.500", "0.100"]


def test_four_baselines_leave_every_number_whole_in_80_columns():
    table = by_length(evals("exact_match", {("id", 12): 0.9}), law(12))
    known = {"query already shown": 0.2, "ratio matching": 0.3, "full regression": 0.4, "lookup of the tasks": 0.5}
    last = shown(print_lengths, table, law(12), "shots", {("id", 12): known}, width=80)[-1]
    whole = ["12", "trained", "0.900", "0.900", "0.900", "0/1", "(0.00-0.79)", "0.200", "0.300", "0.400", "0.500"]
    assert last == whole


def test_rules_are_a_line_each():
    found = evals("rule|NESTED", {("matched", 4): 0.25, ("matched", 9): 1.0})
    lines = shown(print_rules, by_rule(found, law(4)), law(4))
    assert lines[-1] == ["matched", "NESTED", "0.250", "(0.250-0.250)", "1.000", "(1.000-1.000)"]
    assert shown(print_rules, by_rule(evals("rule|NESTED", {("matched", 9): 1.0}), law(4)), law(4))[-1][:3] == [
        "matched",
        "NESTED",
        "-",
    ]
    assert shown(print_rules, by_rule(evals("loss", {("id", 4): 1.0}), law(4)), law(4)) == []
