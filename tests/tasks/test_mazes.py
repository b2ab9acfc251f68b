"""Mazes: answers by hand, maze-dataset as an independent reader, splits by what they say."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlab.errors import UserError
from genlab.tasks import make
from genlab.tasks.maze_making import Mazes, distances, open_sides, passages, shared_answers
from genlab.tasks.maze_text import is_walk, read_path, read_puzzle
from genlab.tasks.maze_writing import width

FORMATS = ["cells", "coordinates", "directions"]
SMALL = {"train_blocks": 1, "test_blocks": 1}


def prompt_of(doors: str, origin: str, target: str) -> list[str]:
    """A prompt from doors like `00-01 01-11`."""

    def cell(digits):
        return f"({digits[0]},{digits[1]})"

    listed = " ".join(f"{cell(a)} <--> {cell(b)} ;" for a, b in (door.split("-") for door in doors.split()))
    ends = f"<ORIGIN_START> {cell(origin)} <ORIGIN_END> <TARGET_START> {cell(target)} <TARGET_END>"
    return f"<ADJLIST_START> {listed} <ADJLIST_END> {ends} <PATH_START>".split()


def spread_out(prompt: list[str]) -> list[str]:
    """The same prompt in format `coordinates`."""
    return " ".join(f"( {t[1]} , {t[3]} )" if t[0] == "(" else t for t in prompt).split()


# A corridor through a grid of side 3, and the open grid of side 2.
SNAKE = "00-01 02-01 02-12 12-11 11-10 10-20 21-20 21-22"
OPEN = "11-10 00-01 00-10 01-11"


@pytest.mark.parametrize(
    ("doors", "origin", "target", "path", "moves"),
    [
        (SNAKE, "02", "10", "(0,2) (1,2) (1,1) (1,0)", "SOUTH WEST WEST"),
        (SNAKE, "21", "10", "(2,1) (2,0) (1,0)", "WEST NORTH"),
        (OPEN, "00", "11", "(0,0) (0,1) (1,1)", "EAST SOUTH"),  # of two, by the first cell in reading order
        (OPEN, "11", "00", "(1,1) (0,1) (0,0)", "NORTH WEST"),
    ],
)
def test_solve_by_hand(doors, origin, target, path, moves):
    prompt = prompt_of(doors, origin, target)
    assert make("maze", 3).solve(prompt) == tuple(path.split())
    assert make("maze", 3, "directions").solve(prompt) == tuple(moves.split())
    coordinates = make("maze", 3, "coordinates").solve(spread_out(prompt))
    assert "".join(coordinates) == path.replace(" ", "")
    assert coordinates[:5] == ("(", origin[0], ",", origin[1], ")")


@pytest.mark.parametrize(
    ("answer", "true"),
    [
        ("(0,0) (0,1) (1,1)", {"valid", "target", "solved", "shortest"}),
        ("(0,0) (1,0) (1,1)", {"valid", "target", "solved", "shortest"}),  # the other one
        ("(0,0) (0,1) (0,0) (1,0) (1,1)", {"valid", "target", "solved"}),
        ("(0,1) (1,1)", {"valid", "target"}),  # from elsewhere
        ("(0,0) (0,1)", {"valid"}),
        ("(0,0) (1,1)", {"target"}),  # across the corner
        ("(1,1)", {"target"}),  # no step
        ("(0,0) <--> (1,1)", set()),
        ("", set()),
    ],
)
def test_judge_by_hand(answer, true):
    task = make("maze", 2)
    scores = task.judge(prompt_of(OPEN, "00", "11"), answer.split())
    assert {name for name, is_true in scores.items() if is_true} == true
    assert scores.keys() == task.judges.keys()
    assert task.accepts(prompt_of(OPEN, "00", "11"), answer.split()) == ("shortest" in true)


def test_directions_are_judged_from_the_origin():
    task, prompt = make("maze", 2, "directions"), prompt_of(OPEN, "00", "11")
    assert task.accepts(prompt, ("SOUTH", "EAST"))
    assert not task.judge(prompt, ("SOUTH", "SOUTH"))["valid"]
    assert not any(task.judge(prompt, ("SOUTH", "(1,1)")).values())


# -- against the library -------------------------------------------------------------------------------------------


def library_maze(mazes: Mazes, row: int, side: int):
    from maze_dataset import SolvedMaze

    down = np.zeros((side, side), bool)
    along = np.zeros((side, side), bool)
    for (first, second), is_open in zip(passages(side), mazes.is_open[row], strict=True):
        (along if second == first + 1 else down)[divmod(first, side)] = is_open
    cells = [divmod(int(cell), side) for cell in mazes.path[row] if cell >= 0]
    return SolvedMaze(connection_list=np.stack([down, along]), solution=np.array(cells))


def library_tokens(maze, format: str) -> list[str]:
    from maze_dataset import tokenization as library

    if format == "directions":
        steps = library.PathTokenizers.StepSequence(step_tokenizers=(library.StepTokenizers.Cardinal(),))
        return maze.as_tokens(
            library.MazeTokenizerModular(prompt_sequencer=library.PromptSequencers.AOTP(path_tokenizer=steps))
        )
    mode = {"cells": "AOTP_UT_uniform", "coordinates": "AOTP_CTT_indexed"}[format]
    return maze.as_tokens(library.MazeTokenizer(tokenization_mode=library.TokenizationMode[mode], max_grid_size=5))


def without_order(tokens: list[str]) -> tuple[Counter, list[str]]:
    """The passages, unordered, and the tokens behind them."""
    end = tokens.index("<ADJLIST_END>")
    listed = "".join(tokens[1:end]).split(";")
    return Counter(frozenset(door.split("<-->")) for door in listed), tokens[end:]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", FORMATS)
def test_the_text_is_that_of_the_librarys_tokenizers(format):
    task = make("maze", 4, format, SMALL)
    recipe = task.recipe(task.split("many-loops"), 4)
    mazes = task._block(recipe, 0)
    by_maze = {}
    for row in range(256):
        ours = without_order([*map(str, library_tokens(library_maze(mazes, row, 4), format))])
        by_maze[frozenset(ours[0]), " ".join(ours[1][:30])] = ours
    examples = task.sample(np.random.default_rng(0), "many-loops", [4] * 100)
    for row in range(100):
        prompt, answer = task.read(examples, row)
        assert prompt[0] == "<ADJLIST_START>"
        doors, rest = without_order([*prompt, *answer, "<PATH_END>"])
        assert by_maze[frozenset(doors), " ".join(rest[:30])] == (doors, rest)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("split", ["id", "many-loops", "percolation"])
def test_paths_are_as_short_as_the_librarys(split):
    task = make("maze", 5, params=SMALL)
    mazes = task._block(task.recipe(task.split(split), 5), 0)
    for row in range(80):
        maze = library_maze(mazes, row, 5)
        theirs = maze.find_shortest_path(maze.solution[0], maze.solution[-1])
        assert maze.is_valid_path(maze.solution)
        assert len(maze.solution) == len(theirs)
        if split == "id":
            assert (maze.solution == theirs).all()  # a tree has one path


# -- splits ---------------------------------------------------------------------------------------------------------


def ways(task, split, side, n=256):
    """Puzzles and their paths."""
    examples = task.sample(np.random.default_rng(1), split, [side] * n)
    puzzles = [task.read(examples, row) for row in range(n)]
    return [(read_puzzle(p), read_path(read_puzzle(p).origin, a)) for p, a in puzzles]


def degrees(puzzle) -> Counter:
    return Counter(cell for cell, _ in puzzle.doors)


@pytest.mark.parametrize("split", ["id", "dfs", "wilson", "kruskal", "prim", "recursive-division"])
def test_generators_of_trees_reach_all_cells_without_loops(split):
    for puzzle, _ in ways(make("maze", 4, params=SMALL), split, 4):
        assert len(puzzle.doors) == 2 * 15
        assert len(degrees(puzzle)) == 16


def test_other_generators_are_as_open_as_they_say():
    task, doors = make("maze", 4, params=SMALL), {}
    for split in ("percolation", "some-loops", "many-loops"):
        doors[split] = np.mean([len(puzzle.doors) / 2 / 24 for puzzle, _ in ways(task, split, 4)])
    assert doors["percolation"] == pytest.approx(0.6, abs=0.03)
    assert doors["some-loops"] == pytest.approx((15 + 9 * 0.1) / 24, abs=0.02)  # dfs opens 15
    assert doors["many-loops"] == pytest.approx((15 + 9 * 0.5) / 24, abs=0.02)


def test_uniform_trees_are_uniform():
    task = make("maze", 2, params={"test_blocks": 6})
    drawn = [task._block(task.recipe(task.split("wilson"), 2), number).is_open for number in range(6)]
    counts = np.unique(np.concatenate(drawn), axis=0, return_counts=True)[1]
    assert len(counts) == 4
    assert stats.chisquare(counts).pvalue > 1e-4


def test_hallways_do_not_fork_and_half_reaches_half():
    task = make("maze", 4, params=SMALL)
    assert all(max(degrees(puzzle).values()) <= 2 for puzzle, _ in ways(task, "hallway", 4))
    assert all(len(degrees(puzzle)) == 8 for puzzle, _ in ways(task, "half", 4))
    assert any(max(degrees(puzzle).values()) > 2 for puzzle, _ in ways(task, "id", 4))


def test_end_points_are_where_the_split_says():
    task = make("maze", 4, params=SMALL)
    for puzzle, path in ways(task, "dead-ends", 4):
        assert degrees(puzzle)[path[0]] == degrees(puzzle)[path[-1]] == 1
    assert {(path[0], path[-1]) for _, path in ways(task, "corners", 4)} == {((0, 0), (3, 3))}
    assert {len(path) for _, path in ways(task, "near", 4)} == {2, 3, 4}
    assert min(len(path) for _, path in ways(task, "far", 4)) == 8


def test_end_points_are_uniform():
    task = make("maze", 4, params={"generator": "kruskal", "test_blocks": 8})
    for end in (0, -1):
        counts = Counter(path[end] for _, path in ways(task, "id", 4, n=2048))
        assert stats.chisquare([counts[cell] for cell in product(range(4), repeat=2)]).pvalue > 1e-4


def test_passages_come_in_a_new_order_each_time():
    task = make("maze", 3, params=SMALL)
    drawn = [
        task.read(task.sample(np.random.default_rng(s), "id", [3] * 256), r)[0] for s in (0, 1) for r in range(256)
    ]
    orders = {}
    for prompt in drawn:
        orders.setdefault((read_puzzle(prompt).doors, prompt[-7:]), []).append(prompt)
    pairs = [listed for listed in orders.values() if len(listed) > 1]
    assert len(pairs) > 100
    assert all(len(set(listed)) == len(listed) for listed in pairs)
    first = [(read_cell(p[1]), read_cell(p[3])) for p in drawn]
    assert stats.binomtest(sum(a < b for a, b in first), len(first), 0.5).pvalue > 1e-4
    places = Counter(min(a, b) for a, b in first)
    every = Counter(min(door) for prompt in drawn for door in read_puzzle(prompt).doors)
    cells = sorted(every)
    expected = np.array([every[cell] for cell in cells]) / sum(every.values()) * len(first)
    assert stats.chisquare([places[cell] for cell in cells], expected).pvalue > 1e-4


def read_cell(token: str) -> tuple[int, ...]:
    return tuple(map(int, token.strip("()").split(",")))


def test_no_test_maze_is_for_training():
    task = make("maze", 3, params={"train_blocks": 6, "test_blocks": 2})
    trained = {(p.doors, p.origin, p.target) for p, _ in ways(task, "train", 3, n=1536)}
    for split in ("id", "kruskal", "far"):
        tested = {(p.doors, p.origin, p.target) for p, _ in ways(task, split, 3, n=512)}
        assert not trained & tested
    assert len(trained) > 500


def test_the_pool_is_spent_before_mazes_repeat():
    task = make("maze", 4, params={"generator": "kruskal", "test_blocks": 5})
    recipe = task.recipe(task.split("id"), 4)
    pool = Counter(
        (int(path[0]), int(path[path >= 0][-1]), doors.tobytes())
        for mazes in (task._block(recipe, number) for number in range(5))
        for doors, path in zip(mazes.is_open, mazes.path, strict=True)
    )
    once, more = (Counter(as_cells(way) for way in ways(task, "id", 4, n=n)) for n in (1280, 1500))
    assert once == pool
    assert more > pool


def as_cells(way) -> tuple[int, int, bytes]:
    puzzle, path = way
    is_open = [(divmod(int(a), 4), divmod(int(b), 4)) in puzzle.doors for a, b in passages(4)]
    first, last = (row * 4 + column for row, column in (path[0], path[-1]))
    return first, last, np.array(is_open).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.sampled_from(["train", "id", "percolation", "many-loops", "hallway", "half", "far"]),
    st.lists(st.integers(3, 4), min_size=1, max_size=5),
    st.integers(0, 2**32),
)
def test_a_path_is_connected_and_shortest(format, split, lengths, seed):
    task = make("maze", 4, format, SMALL)
    examples = task.sample(np.random.default_rng(seed), split, lengths)
    for row, side in enumerate(lengths):
        prompt, answer = task.read(examples, row)
        puzzle, path = read_puzzle(prompt), read_path(read_puzzle(prompt).origin, answer)
        assert path is not None
        assert is_walk(puzzle, path)
        assert (path[0], path[-1]) == (puzzle.origin, puzzle.target)
        assert len(set(path)) == len(path)
        assert all(0 <= number < side for cell in path for number in cell)
        assert answer == task.solve(prompt)
        assert task.factors(examples)["path_in_sides"][row] == len(path) // side


# -- what it says of itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [2, 3])
def test_no_maze_is_wider_than_the_open_grid(side):
    """All sets of passages, all pairs of ends."""
    count = 2 * side * (side - 1)
    is_open = (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(bool)
    sides, listed = open_sides(is_open, side), is_open.sum(axis=1)
    steps = np.max([distances(sides, np.full(len(sides), t), side).max(axis=1) for t in range(side**2)], axis=0)
    some = steps > 0
    for format, cell in (("cells", 1), ("coordinates", 5), ("directions", 1)):
        path = steps * cell if format == "directions" else (steps + 1) * cell
        assert (listed * (2 * cell + 2) + 2 * cell + 7 + path + 1)[some].max() == width(format, side)


@pytest.mark.parametrize("format", ["cells", "directions"])
def test_chance_is_the_share_of_answers_that_are_right_elsewhere(format):
    task = make("maze", 3, format, {"generator": "dfs-percolation", "p": 0.5, "test_blocks": 1})
    mazes = task._block(task.recipe(task.split("id"), 3), 0).take(np.arange(40))
    cells = [[divmod(int(cell), 3) for cell in path if cell >= 0] for path in mazes.path]
    puzzles = []
    for row, path in enumerate(cells):
        doors = " ".join("{}{}-{}{}".format(*divmod(a, 3), *divmod(b, 3)) for a, b in passages(3)[mazes.is_open[row]])
        puzzles.append(prompt_of(doors, "{}{}".format(*path[0]), "{}{}".format(*path[-1])))
    answers = [task.solve(prompt) for prompt in puzzles]
    right = [task.accepts(puzzles[i], answers[j]) for i in range(40) for j in range(40) if i != j]
    assert 0 < np.mean(right) == shared_answers(mazes.is_open, mazes.path, 3, format == "directions")


@pytest.mark.parametrize(
    ("max_len", "params", "message"),
    [
        (1, {}, "max_len must be at least 2"),
        (4, {"p": 0.3}, "p needs generator percolation or dfs-percolation, not 'dfs'"),
        (4, {"generator": "wilson", "forks": False}, "forks=false needs generator dfs or prim"),
        (4, {"generator": "dijkstra"}, "'dijkstra'.*allowed: dfs, dfs-percolation"),
    ],
)
def test_impossible_mazes_are_refused(max_len, params, message):
    with pytest.raises(UserError, match=message):
        make("maze", max_len, params=params)


def test_short_sides_are_refused_by_split():
    task = make("maze", 4, params=SMALL)
    with pytest.raises(UserError, match="cannot make length 1 on split 'id'"):
        task.sample(np.random.default_rng(0), "id", [1])
    with pytest.raises(UserError, match="cannot make length 2 on split 'far'"):
        task.sample(np.random.default_rng(0), "far", [2])
    assert make("maze", 4, params={"generator": "percolation"}).params.p == 0.4
