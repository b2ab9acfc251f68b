"""Calling the functions of a program on columns of values, to see what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.lang.functions import is_elementwise

__all__ = ["Raised", "pairs", "scalar"]

Ints = NDArray[np.int64]
Func = Callable[..., Any]


class Raised(Exception):
    """A function of a program raised."""


def scalar(func: Func, as_bool: list[bool]) -> Func:
    """The function on columns of values, called value by value unless it is elementwise; int64 out."""

    def call(*columns: Ints) -> Ints:
        typed = [column.astype(bool) if flag else column for column, flag in zip(columns, as_bool, strict=True)]
        try:
            with np.errstate(all="ignore"):
                if is_elementwise(func):
                    return np.broadcast_to(np.asarray(func(*typed)), typed[0].shape).astype(np.int64)
                return np.array([int(func(*values)) for values in zip(*typed, strict=True)], np.int64)
        except Exception as error:
            raise Raised(f"{type(error).__name__} ({error})") from None

    return call


def pairs(columns: Iterable[Ints]) -> Iterator[Ints]:
    """Columns in which every value of one meets every value of the others."""
    grids = np.meshgrid(*columns, indexing="ij")
    return iter([grid.reshape(-1) for grid in grids])
