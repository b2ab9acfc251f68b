"""Mazes as batches of tokens, in the syntax of maze-dataset's tokenizers (`<end>` for `<PATH_END>`)."""

from __future__ import annotations

import numpy as np

from genlab.tasks.examples import Bools, Examples, Ints, Part, Vocab, assemble
from genlab.tasks.maze_making import Mazes, passages
from genlab.tasks.maze_text import MOVES, spelled

_MARKS = tuple(f"<{part}_{end}>" for part in ("ADJLIST", "ORIGIN", "TARGET") for end in ("START", "END"))
_PATH, _DOOR, _STOP = "<PATH_START>", "<-->", ";"


def tokens_of(format: str, max_side: int) -> tuple[str, ...]:
    """Return the symbols of a format, for grids of up to `max_side`."""
    numbers = range(max_side)
    if format == "coordinates":
        return (*_MARKS, _PATH, _DOOR, _STOP, "(", ",", ")", *map(str, numbers))
    cells = [spelled((row, column), format)[0] for row in numbers for column in numbers]
    return (*_MARKS, _PATH, _DOOR, _STOP, *cells, *(MOVES if format == "directions" else ()))


def width(format: str, side: int) -> int:
    """Return the maximum number of tokens in a maze.

    The grid without walls reaches it: closing a passage shortens the list by more than the detour lengthens the path.
    """
    cell = 5 if format == "coordinates" else 1
    path = 2 * side - 2 if format == "directions" else (2 * side - 1) * cell
    return 2 * side * (side - 1) * (2 * cell + 2) + 2 * cell + len(_MARKS) + 1 + path + 1


def write(rng: np.random.Generator, mazes: Mazes, spelling: Spelling) -> Examples:
    """Write mazes of one side as examples, with passages in random order and each passage in a random direction."""
    vocab, path = spelling.vocab, mazes.path.astype(np.int64)
    target = path[np.arange(len(path)), (path >= 0).sum(axis=1) - 1]
    mark = {name: Part(vocab.id(name)) for name in (*_MARKS, _PATH)}
    parts = [
        mark["<ADJLIST_START>"],
        _passages(rng, mazes.is_open, spelling),
        mark["<ADJLIST_END>"],
        *(mark["<ORIGIN_START>"], Part(spelling.ids(path[:, 0])), mark["<ORIGIN_END>"]),
        *(mark["<TARGET_START>"], Part(spelling.ids(target)), mark["<TARGET_END>"]),
        mark[_PATH],
        spelling.answer(path),
        Part(Vocab.end, scored=True),
    ]
    return assemble(parts, np.full(len(path), spelling.side))


def _passages(rng: np.random.Generator, is_open: Bools, spelling: Spelling) -> Part:
    counts = is_open.sum(axis=1)
    # Shuffle by sorting random keys; closed passages have larger keys than all others and are cut off.
    keys = np.where(is_open, rng.random(is_open.shape, np.float32), 2)
    chosen = keys.argsort(axis=1)[:, : counts.max()]
    turned = rng.integers(0, 2, chosen.shape)
    ends = passages(spelling.side)
    listed = np.concatenate(
        [
            spelling.ids(ends[chosen, turned]),
            np.full((*chosen.shape, 1), spelling.vocab.id(_DOOR)),
            spelling.ids(ends[chosen, 1 - turned]),
            np.full((*chosen.shape, 1), spelling.vocab.id(_STOP)),
        ],
        axis=2,
    )
    is_listed = np.arange(chosen.shape[1]) < counts[:, None]
    keep = None if is_listed.all() else is_listed.repeat(listed.shape[2], axis=1)
    return Part(listed.reshape(len(is_open), -1), keep=keep)


class Spelling:
    """Token ids of the cells and paths of grids of one side."""

    def __init__(self, vocab: Vocab, format: str, side: int):
        self.vocab, self.format, self.side = vocab, format, side
        cells = [divmod(cell, side) for cell in range(side * side)]
        self._table = np.array([vocab.encode(spelled(cell, format)) for cell in cells])
        self._moves = vocab.encode(list(MOVES)) if format == "directions" else None

    def ids(self, cells: Ints) -> Ints:
        """Return the tokens of cells, int[..., 1 or 5]."""
        return self._table[cells]

    def answer(self, path: Ints) -> Part:
        """Return the scored part for paths, int[n, step] of cells, padded with -1."""
        if self._moves is not None:
            which = np.searchsorted([-self.side, -1, 1, self.side], np.diff(path, axis=1)).clip(0, 3)
            return Part(self._moves[which], scored=True, keep=path[:, 1:] >= 0)
        ids = self.ids(path)
        keep = (path >= 0).repeat(ids.shape[2], axis=1)
        return Part(ids.reshape(len(path), -1), scored=True, keep=keep)


def joined(drawn: list[tuple[Ints, Examples]], lengths: Ints) -> Examples:
    """Merge batches of several sides, each at its own rows, padding on the right."""
    whole = np.full((len(lengths), 1 + max(x.tokens.shape[1] for _, x in drawn)), Vocab.pad, np.int64)
    scored = np.zeros((len(whole), whole.shape[1] - 1), bool)
    for rows, examples in drawn:
        columns = examples.tokens.shape[1]
        whole[rows, :1] = examples.tokens[:, :1]
        whole[rows, 1 : 1 + columns] = examples.targets
        scored[rows, :columns] = examples.scored
    return Examples(whole[:, :-1], whole[:, 1:], scored, lengths)
