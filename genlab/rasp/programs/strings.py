"""Copy, reverse, sort and count: answers as long as the prompt, or longer."""

from __future__ import annotations

from typing import Any

import numpy as np

from genlab.rasp.lang import (
    elementwise,
    firsts,
    full,
    gt,
    index_select,
    indices,
    kqv,
    seq_map,
    shift_right,
)
from genlab.rasp.programs.parts import END, SEP, at_sep, end_for_sep, first_of, look_up, sep_index

__all__ = ["copy_repeats", "copy_unique", "count", "reverse_repeats", "reverse_unique", "sort"]


def copy_unique(x: Any) -> Any:
    """What followed this symbol in the prompt comes next (induction). `>` is what stands before the first symbol."""
    before = shift_right(x, 1, default=SEP)
    return end_for_sep(look_up(before, x, x))


def reverse_unique(x: Any) -> Any:
    """What stood before this symbol in the prompt comes next; before the first symbol stands the end."""
    before = shift_right(x, 1, default=END)
    return index_select(before, firsts(x, x))


def copy_repeats(x: Any) -> Any:
    """The symbol as many places back as the prompt is long."""
    back = indices(x) - sep_index(x)
    return end_for_sep(index_select(x, back))


def reverse_repeats(x: Any) -> Any:
    """The symbol as far before `>` as this place is behind it, and one further."""
    sep = sep_index(x)
    mirrored = sep + sep - indices(x) - 1
    return index_select(x, mirrored, default=END)


def sort(x: Any) -> Any:
    """The smallest number of the prompt above the one just written; `>` is below all numbers."""
    return kqv(x, x, x, gt, default=END, reduction="min")


def count(x: Any) -> Any:
    """The first number, then always one more, until it is the last number."""
    first = index_select(x, full(x, 0))
    last = index_select(x, full(x, 1))
    one_more = seq_map(x, last, _one_more_until)
    return first_of(at_sep(x, first), one_more)


@elementwise
def _one_more_until(number: Any, last: Any) -> Any:
    return np.where(np.equal(number, last), END, np.add(number, 1))
