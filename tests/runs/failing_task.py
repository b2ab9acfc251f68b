"""A plugin: the first of a string of bits, in formats that fail to be drawn until a file `mended` lies beside it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import MappingProxyType

import numpy as np

from genlab.spec import Split
from genlab.tasks import Part, Task, Vocab, assemble, register, split_map


@register
class FailingBit(Task):
    """The first bit of a string of bits."""

    name, family, length_unit = "failing-bit", "mine", "bits"
    asks, source = "what is the first bit?", "a test"
    formats = MappingProxyType(dict.fromkeys(("fine", "raises", "memory", "killed"), "bits > first bit"))
    splits = split_map(Split(name="id", about="each bit is one with probability 1/2"))

    def symbols(self):
        return ("0", "1")

    def width(self, length):
        return length + 3

    def draw(self, rng, split, lengths):
        if not Path(__file__).with_name("mended").exists():
            if self.format == "raises":
                raise ArithmeticError("planted:\n no bits today")
            if self.format == "memory":
                raise MemoryError
            if self.format == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
        longest = int(lengths.max())
        bits = Vocab.first + (rng.random((len(lengths), longest)) < 0.5)
        there = np.arange(longest) < lengths[:, None]
        answer = Part(bits[:, :1], scored=True)
        return assemble([Part(bits, keep=there), Part(Vocab.sep), answer, Part(Vocab.end, scored=True)], lengths)

    def solve(self, prompt):
        return (prompt[0],)

    def chance(self, length):
        return 0.5
