"""Mazes drawn: every wall and the whole way, as text and as a figure."""

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.tasks import make
from genlab.tasks.maze_drawing import draw_png, draw_text
from genlab.tasks.maze_text import read_path, read_puzzle

LISTED = "(0,0) <--> (0,1) ; (0,1) <--> (1,1) ;"
PROMPT = (
    f"<ADJLIST_START> {LISTED} <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> "
    "<TARGET_START> (1,1) <TARGET_END> <PATH_START>"
).split()

DRAWN = """
┌───────┐
│ S · · │
├───┐ · │
│   │ T │
└───┴───┘
"""

THROUGH_WALLS = """
┌───────┐
│ S     │
├─x─┐   │
│ · x T │
└───┴───┘
"""

ON_A_LARGER_GRID = """
┌───────┬───┐
│ S     │   │
├───┐   ├───┤
│   │ T │   │
├───┼───┼───┤
│   │   │   │
└───┴───┴───┘
"""


@pytest.mark.parametrize(
    ("answer", "side", "drawing"),
    [
        ("(0,0) (0,1) (1,1)", None, DRAWN),
        ("EAST SOUTH", None, DRAWN),
        ("(0,0) (1,0) (1,1) (1,2) (0,1)", None, THROUGH_WALLS),  # and off the grid
        ("nonsense", 3, ON_A_LARGER_GRID),
    ],
)
def test_drawings_by_hand(answer, side, drawing):
    assert draw_text(PROMPT, answer.split(), side) == drawing.strip()


@pytest.mark.parametrize("format", ["cells", "coordinates", "directions"])
def test_the_drawing_tells_the_maze(format):
    """Read back from the drawing: passages, ends and the cells of the way."""
    task = make("maze", 5, format, {"test_blocks": 1})
    examples = task.sample(np.random.default_rng(0), "some-loops", [5] * 20)
    for row in range(20):
        prompt, answer = task.read(examples, row)
        lines, puzzle = draw_text(prompt, answer, 5).splitlines(), read_puzzle(prompt)
        cells = [(r, c) for r in range(5) for c in range(5)]
        along = {((r, c), (r, c + 1)) for r, c in cells if c < 4 and lines[2 * r + 1][4 * c + 4] != "│"}
        down = {((r, c), (r + 1, c)) for r, c in cells if r < 4 and lines[2 * r + 2][4 * c + 2] != "─"}
        assert along | down == {door for door in puzzle.doors if door[0] < door[1]}
        signs = {cell: lines[2 * cell[0] + 1][4 * cell[1] + 2] for cell in cells}
        assert signs[puzzle.origin] + signs[puzzle.target] == "ST"
        assert {cell for cell, sign in signs.items() if sign != " "} == set(read_path(puzzle.origin, answer) or [])


def test_a_grid_too_small_is_refused():
    with pytest.raises(UserError, match="side 1 is too small for this maze"):
        draw_text(PROMPT, [], side=1)


def test_figures_are_written(tmp_path):
    for name, begins in (("maze.png", b"\x89PNG"), ("maze.svg", b"<?xml")):
        draw_png(tmp_path / name, PROMPT, ["EAST", "SOUTH"])
        content = (tmp_path / name).read_bytes()
        assert content.startswith(begins)
        assert len(content) > 2000


def test_a_format_that_matplotlib_does_not_write_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot write the figure '.*maze\.xyz' \(Format 'xyz' is not supported"):
        make("maze", max_len=2).draw_figure(tmp_path / "maze.xyz", PROMPT, ["EAST", "SOUTH"], 2)
    assert not list(tmp_path.iterdir())
