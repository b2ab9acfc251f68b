"""Generated tasks as a file that the lab can load: `lab train --plugin pairs.py --task rasp-0-0a ...`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.generating import ALPHABET, Drawn, Pair
from genlab.rasp.prediction import Prediction, predict_program
from genlab.rasp.sealing import fingerprint

_LENGTHS = 20


class _Sampled:
    """A drawn task as the checker and the rule see one: examples, answers and a vocabulary."""

    format = "plain"

    def __init__(self, drawn: Drawn):
        self.name, self.drawn, self.max_len = drawn.name, drawn, _LENGTHS
        self.vocab = SimpleNamespace(tokens=drawn.tokens.tokens)

    def sample(self, rng: np.random.Generator, split: Any, lengths: Sequence[int] | NDArray[np.int64]) -> Any:
        """Examples of one length."""
        del split
        strings = rng.integers(0, ALPHABET, (len(lengths), int(max(lengths))))
        bits = self.drawn.answers(strings)[:, None]
        ends = np.ones_like(bits)
        whole = np.concatenate([strings + 3, 2 * ends, bits + 3, ends], axis=1)
        scored = np.arange(1, whole.shape[1]) > strings.shape[1]
        return SimpleNamespace(
            tokens=whole[:, :-1], targets=whole[:, 1:], scored=np.broadcast_to(scored, whole[:, 1:].shape)
        )

    def solve(self, prompt: Sequence[str]) -> tuple[str, ...]:
        """The slow answer."""
        return self.drawn.solve(prompt)


def pair_predictions(pairs: Iterable[Pair]) -> list[tuple[Pair, Prediction, Prediction]]:
    """What the rule says of the legal and of the illegal task of each pair."""
    return [(pair, _predicted(pair.legal), _predicted(pair.illegal)) for pair in pairs]


def _predicted(drawn: Drawn) -> Prediction:
    task = _Sampled(drawn)
    return predict_program(drawn.program, task, "strict" if drawn.verdict().legal else "library")


def plugin_text(pairs: Sequence[Pair], sealed_hash: str, date: str, command: str) -> str:
    """The Python file, with the recipes and what the sealed rule says of each task in front."""
    said = [one.row() for _, *two in pair_predictions(pairs) for one in two]
    document = {"rule_sealed_as": sealed_hash, "drawn": date, "predictions": said}
    recipes = [task.recipe() for pair in pairs for task in (pair.legal, pair.illegal)]
    return _TEMPLATE.format(
        command=command,
        hash=fingerprint(document),
        document=json.dumps(document, indent=2),
        recipes=",\n    ".join(repr(recipe) for recipe in sorted(recipes, key=lambda recipe: recipe["name"])),
    )


_TEMPLATE = '''"""Tasks drawn by `{command}`: pairs whose programs differ in one rule of legality.

Load with `--plugin`. Predictions, made when the tasks were drawn (SHA-256 {hash}):

{document}
"""

import numpy as np

from genlab.rasp.generating import ALPHABET, Drawn
from genlab.spec import Split
from genlab.tasks import Part, Task, Vocab, assemble, register, split_map

RECIPES = [
    {recipes},
]


class DrawnTask(Task):
    """A bit of a string of symbols, by a drawn program."""

    family = "drawn"
    asks = "a bit of a string, by a drawn program"
    source = "lab rasp generate"
    length_unit = "symbols"
    formats = {{"plain": "symbols > bit"}}
    splits = split_map(Split(name="id", about="symbols are uniform and independent"))
    drawn: Drawn

    def symbols(self):
        return tuple(map(str, range(ALPHABET)))

    def width(self, length):
        return length + 3  # the symbols, `>`, the bit, `<end>`

    def draw(self, rng, split, lengths):
        n, longest = len(lengths), int(lengths.max())
        strings, bits = rng.integers(0, ALPHABET, (n, longest)), np.empty(n, np.int64)
        for length in set(lengths.tolist()):
            rows = lengths == length
            bits[rows] = self.drawn.answers(strings[rows, :length])
        inside = np.arange(longest) < lengths[:, None]
        answer = Part(Vocab.first + bits[:, None], scored=True)
        prompt = Part(Vocab.first + strings, keep=None if inside.all() else inside)
        return assemble([prompt, Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def solve(self, prompt):
        return self.drawn.solve(prompt)

    def chance(self, length):
        # Estimated, from strings of its own: no formula is known for a drawn program.
        strings = np.random.default_rng(length).integers(0, ALPHABET, (20_000, length))
        share = float(self.drawn.answers(strings).mean())
        return share**2 + (1 - share) ** 2


for recipe in RECIPES:
    drawn = Drawn(**recipe)
    register(type(f"Drawn_{{drawn.name}}", (DrawnTask,), {{"name": drawn.name, "drawn": drawn}}))
'''
