"""The search for the shortest program: that it is exact, that no right program is lost, and what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.rasp import full, has_seen
from genlab.rasp.checker import size, tokens_of
from genlab.rasp.programs.registry import PROGRAMS, bind
from genlab.rasp.running import predict, trace
from genlab.rasp.search import run as running
from genlab.rasp.search.engine import Batch, Enumeration
from genlab.rasp.search.grammar import GRAMMARS, Function, Grammar, grammar_of
from genlab.rasp.search.program import program_from, program_text
from genlab.rasp.search.run import Search, SearchResult, drawn, failures, forecast
from genlab.rasp.search.table import add_to, rows_of
from genlab.tasks import make


def batch_of(rows: list[list[int]], answers: list[list[int]]) -> Batch:
    """Inputs whose every position is scored."""
    lengths = np.array([len(row) for row in rows])
    values, target = np.concatenate(rows), np.concatenate(answers)
    return Batch(values, np.cumsum(lengths) - lengths, target, np.arange(len(values)))


def random_rows(seed: int, most: int, values: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, values, length).tolist() for length in range(1, most) for _ in range(6)]


# -- The grammar


@pytest.mark.parametrize("rules", GRAMMARS)
def test_an_operation_as_text_does_what_it_does_to_arrays(rules: str):
    tokens = tokens_of(make("parity", 10))
    grammar = grammar_of(rules, tokens, frozenset([0, 1, -3]), frozenset([-10, -11]))
    x, y = (grid.reshape(-1) for grid in np.meshgrid(np.arange(-5, 6), np.arange(-5, 6), indexing="ij"))
    for function in (*grammar.token_maps, *grammar.sequence_maps):
        text = eval(f"lambda x, y=None: {function.text}")
        given = function.func(x) if function in grammar.token_maps else function.func(x, y)
        assert [int(v) for v in given] == [text(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
        if function.symmetric:
            assert np.array_equal(function.func(x, y), function.func(y, x))
    for function in (*grammar.key_predicates, *grammar.predicates):
        text = eval(f"lambda k, q: {function.text}")
        assert function.func(x, y).tolist() == [text(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]


# -- The enumeration is exact

TINY = Grammar(
    "library",
    constants=(),
    token_maps=(Function("x + 1", lambda x: x + 1),),
    sequence_maps=(Function("int(x < y)", lambda x, y: x < y),),
    key_predicates=(Function("k != 0", lambda k, q: (k != 0) & (q == q)),),
    predicates=(Function("k < q", lambda k, q: k < q),),
    defaults=(0,),
    reductions=("max",),
)


def sizes_by_hand(rows: list[list[int]], most: int) -> dict[bytes, int]:
    """The fewest operations that compute each behavior: all sets of operations, one added at a time."""
    starts = np.concatenate([[i] * len(row) for i, row in enumerate(rows)])
    causal = (starts[:, None] == starts) & np.tri(len(starts), dtype=bool)  # [query, key]
    x = np.concatenate(rows)
    places = np.concatenate([np.arange(len(row)) for row in rows])
    shape = causal.shape

    def after(one: frozenset[bytes]) -> set[bytes]:
        size = len(x.tobytes())
        arrays = [x, *(np.frombuffer(b, np.int64) for b in one if len(b) == size)]
        selects = [np.frombuffer(b, bool).reshape(shape) for b in one if len(b) != size]
        out = {places.tobytes(), *((a + 1).tobytes() for a in arrays)}
        for a in arrays:
            out.add((causal & (a != 0)).tobytes())
            for b in arrays:
                out |= {(a < b).astype(np.int64).tobytes(), (causal & (a[None, :] < b[:, None])).tobytes()}
        for met in selects:
            out.add(met.sum(axis=1).tobytes())
            for a in arrays:
                out.add(np.where(met.any(1), np.where(met, a, -99).max(1), 0).tobytes())
        return out - one - {x.tobytes()}

    sizes: dict[bytes, int] = {}
    programs = {frozenset[bytes]()}
    for operations in range(1, most + 1):
        grown: set[frozenset[bytes]] = set()
        for program in programs:
            for result in after(program):
                sizes.setdefault(result, operations)
                grown.add(program | {result})
        programs = grown
    return sizes


def behaviors(enumeration: Enumeration) -> dict[bytes, int]:
    """Every behavior of an enumeration with its size, in the form of `sizes_by_hand`."""
    length, out = len(enumeration.batch.values), dict[bytes, int]()
    for node in range(1, enumeration.count):
        row = enumeration.row.array[node]
        if enumeration.is_select.array[node]:
            met = np.zeros((length, length), bool)
            pairs = np.unpackbits(enumeration.bits.array[row], count=len(enumeration.key)).astype(bool)
            met[enumeration.query[pairs], enumeration.key[pairs]] = True
        else:
            met = enumeration.values.array[row].astype(np.int64)
        out[met.tobytes()] = int(enumeration.size.array[node])
    return out


@pytest.mark.parametrize("most", [3, 4])
def test_every_behavior_is_found_with_the_fewest_operations(most: int):
    rows = [[0], [2, 1], [1, 0, 2], [1, 1, 3]]
    enumeration = Enumeration(TINY, None, batch_of(rows, rows), most)
    for _ in range(most):
        enumeration.grow()
    assert behaviors(enumeration) == sizes_by_hand(rows, most)


def test_what_is_shared_counts_once():
    # (x + 1) * (x + 1 + 1): four operations as a tree, three with x + 1 shared
    rows = [[0], [2, 1], [1, 0, 2]]
    twice = TINY.__class__(
        **{**TINY.__dict__, "sequence_maps": (Function("x * y", lambda x, y: x * y, symmetric=True),)}
    )
    answers = [[(v + 1) * (v + 2) for v in row] for row in rows]
    enumeration = Enumeration(twice, None, batch_of(rows, answers), 3)
    enumeration.grow()
    assert not list(enumeration.matches())
    enumeration.grow()
    assert list(enumeration.matches())


def test_has_seen_is_found_and_its_program_gives_it_on_other_inputs():
    def program(x):
        return has_seen(x, full(x, 1))

    rows = random_rows(0, 7, 4)
    answers = [predict(program, np.array(row))[0].tolist() for row in rows]
    tokens = tokens_of(make("parity", 10))
    grammar = grammar_of("strict", tokens, frozenset([0, 1]), frozenset([0, 1]))
    enumeration = Enumeration(grammar, None, batch_of(rows, answers), 3)
    enumeration.grow()
    match = next(enumeration.matches())
    found = program_from(program_text(next(enumeration.derivations(match)), grammar, "found"))
    assert len([node for node in trace(found, np.array([[0, 1]])).live if node.op != "input"]) == 2
    others = np.random.default_rng(1).integers(0, 4, (200, 30))
    assert np.array_equal(predict(found, others), predict(program, others))


# -- Whole searches


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are checked on fewer and shorter inputs."""
    monkeypatch.setattr(running, "LONGEST", 12)
    monkeypatch.setattr(running, "INPUTS", 30)


@pytest.mark.usefixtures("quick")
def test_sort_is_two_operations():
    result = Search(make("sort", 12), 2).run()
    assert (result.operations, result.excluded) == (2, 1)
    assert 'reduction="min"' in result.program


@pytest.mark.usefixtures("quick")
def test_coincidences_on_a_small_batch_lose_no_program():
    search = Search(make("sort", 12), 2)
    one = drawn(search.task, np.random.default_rng(0), 1, 1)
    search.examples = one
    search.enumeration = search._enumeration()
    result = search.run()
    assert result.operations == 2
    assert result.batches > 1
    assert result.inputs > 1


@pytest.mark.usefixtures("quick")
def test_what_is_not_there_is_said_with_the_bound():
    result = Search(make("parity", 12), 2, "library").run()
    assert (result.program, result.operations, result.excluded) == ("", 0, 2)


@pytest.mark.usefixtures("quick")
def test_parity_is_legal_in_the_library_alone():
    assert Search(make("parity", 12), 4, "library").run().operations == 4
    assert Search(make("parity", 12), 3, "strict").run().excluded == 3


@pytest.mark.usefixtures("quick")
def test_a_search_goes_on_where_it_stopped(tmp_path: Path):
    file, lines = tmp_path / "search.npz", list[str]()
    task = make("and-fixed-bits", 12)
    stopped = Search(task, 2, checkpoint=file).run()
    assert stopped.excluded == 2
    result = Search(task, 3, checkpoint=file, say=lines.append).run()
    assert lines[0] == "goes on after 1 operations"
    whole = Search(task, 3).run()
    assert (result.program, result.behaviors) == (whole.program, whole.behaviors)
    with pytest.raises(UserError, match="belongs to another search"):
        Search(make("sort", 12), 3, checkpoint=file).run()
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not a checkpoint"):
        Search(task, 3, checkpoint=file).run()


def test_a_failure_is_seen_and_the_right_program_has_none():
    examples = drawn(make("parity", 12), np.random.default_rng(0), 5, 20)
    from genlab.rasp.programs.one_pass import parity

    assert not failures(parity, examples)
    assert failures(lambda x: x, examples) == list(range(20))


# -- What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "sort", "--max-ops", "3", "--grammar", "strikt"], "did you mean 'strict'"),
        (["--task", "maze", "--max-ops", "3"], "several right answers"),
        (["--task", "max-retrieval", "--format", "values", "--max-ops", "3"], "real numbers"),
        (["--task", "sort", "--max-ops", "0"], "1 to 12"),
        (["--task", "sort", "--max-ops", "9", "--memory", "0.5"], "GB of memory"),
        (["--task", "sort", "--max-ops", "2", "--table", "x.txt"], ".json"),
    ],
)
def test_bad_input_is_one_line(
    lab, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    status, out, err = lab("rasp", "search", *arguments)
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert message in last
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_forecast_grows_with_the_operations():
    class Level:
        def __init__(self, behaviors: int, supports: int, seconds: float):
            self.behaviors, self.supports, self.seconds = behaviors, supports, seconds

    levels = [Level(21, 20, 0.1), Level(184, 255, 0.2), Level(2544, 5787, 1.0)]
    ahead = forecast(levels, 5, 140)
    assert 20_000 < ahead.behaviors < 90_000  # 43,554 were seen
    assert forecast(levels, 7, 140).gigabytes > 30 * ahead.gigabytes


# -- The table


def result(**changes: object) -> SearchResult:
    plain = {
        **{"task": "sort", "format": "plain", "grammar": "strict", "max_ops": 3, "program": "", "operations": 0},
        **{"excluded": 3, "behaviors": (20,), "candidates": 9, "batches": 1, "inputs": 4, "illegal": 0},
        **{"checked": (), "seconds": 1.0},
    }
    return SearchResult(**{**plain, **changes})  # pyright: ignore[reportArgumentType]


def test_a_table_keeps_the_best_that_is_known(tmp_path: Path):
    file = tmp_path / "table.json"
    add_to(file, result())
    add_to(file, result(excluded=2))
    assert [row["excluded"] for row in rows_of(file)] == [3]
    add_to(file, result(operations=4, excluded=3, program="def found(x): ..."))
    add_to(file, result(excluded=9))
    add_to(file, result(grammar="library"))
    assert [(row["grammar"], row["operations"]) for row in rows_of(file)] == [("library", 0), ("strict", 4)]
    file.write_text(json.dumps([{"task": "sort"}]))
    with pytest.raises(UserError, match="not a table"):
        rows_of(file)


def test_every_program_of_the_committed_table_is_right_and_as_long_as_it_says():
    rows = rows_of(Path(running.__file__).with_name("table.json"))
    assert rows
    for row in rows:
        if row["operations"]:
            program, task = program_from(row["program"]), make(row["task"], 40, row["format"])
            assert size(program, task).length == row["operations"]
            lengths = task.lengths_between("id", 1, 40)
            for length in (lengths[0], lengths[-1]):
                assert not failures(program, drawn(task, np.random.default_rng(0), int(length), 20))


@pytest.mark.slow
@pytest.mark.parametrize("entry", PROGRAMS, ids=lambda entry: f"{entry.task}-{entry.format}-{entry.name}")
def test_programs_of_at_most_five_operations_are_found_or_shorter_ones(entry):
    task = make(entry.task, 100, entry.format)
    own = size(bind(entry.program, task.params.model_dump()), task).length
    if own > 5:
        pytest.skip("longer than five operations")
    assert 0 < Search(task, own, entry.rules).run().operations <= own
