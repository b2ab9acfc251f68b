"""What a signal is, and the registry of all signals. No torch here, so that listing signals is fast."""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from genlab.errors import UserError, unknown

if TYPE_CHECKING:
    from genlab.probes.inputs import ProbeInput


HALVES = (".half1", ".half2")
"""Suffixes of the values read on each half of the probe examples."""
AUXILIARY = (*HALVES, ".null", ".null_sd")
"""Suffixes of rows that describe a value (its halves, its null) and are not values of their own."""

Per = Literal["run", "layer", "head"]
"""What a value belongs to: its shape is `[run]`, `[run, layer]` or `[run, layer, head]`."""
Reads = Literal["inputs", "random text", "all pairs", "weights", "history"]
"""What a signal is computed from: probe inputs, random text, all pairs, only the weights, or the training history."""
_EXACT = ("all pairs", "weights", "history")
_DRAWN = 1
"""Raised when the sampling of probe inputs, or the maximum over heads, changes; it is part of the version of every
signal that is read on a sample. 1: sampled by the training distribution, and on two halves."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One number read from a trained run, or one per layer or head.

    Attributes:
        read: the function from a `ProbeInput` to the value, NaN where undefined. It may return a dict of several
            named values, which are stored as `signal.name`, and may raise `NotApplicable`.
        family: the file that declares it.
        about: what it measures, in one line.
        formula: how it is computed, in the notation of `docs/glossary.md` (A is the attention pattern).
        blind: known blind spots: what it misses, and what fools it.
        unit: the unit of a value.
        low, high: the range of a value.
        source: the paper that defines it, or `ours`.
        reads: what it is computed from.
        admissible: whether its inputs stay within training lengths, symbols, pairs and labels, so that a forecast may
            use it; otherwise `why_not` says what else it reads.
        null: whether it is also read on untrained models, so that its maximum over heads can be compared with the
            maximum over as many untrained heads.
        slow: skipped unless requested.
        together: whether it compares the runs of one configuration, and needs all of them at once.
        version: raised when its values change, through its formula or through the sampling of its inputs.
    """

    name: str
    read: Callable[[ProbeInput], Any]
    family: str
    per: Per
    about: str
    formula: str
    unit: str
    low: float
    high: float
    source: str
    admissible: bool
    why_not: str
    null: bool
    slow: bool
    together: bool
    version: int
    reads: Reads
    blind: str = ""

    @property
    def exact(self) -> bool:
        """Whether its value is free of sampling noise: no part of it is read on a sample."""
        return self.reads in _EXACT


_signals: dict[str, Signal] = {}


def signal(
    name: str,
    *,
    per: Per,
    about: str,
    formula: str,
    unit: str,
    low: float,
    high: float,
    source: str,
    why_not: str = "",
    null: bool | None = None,
    slow: bool = False,
    together: bool = False,
    version: int = 1,
    reads: Reads = "inputs",
    blind: str = "",
) -> Callable[[Callable[[ProbeInput], Any]], Callable[[ProbeInput], Any]]:
    """Declare the decorated function as a signal. See `Signal` for the arguments; `version` is that of the formula.

    A signal is admissible unless `why_not` is given. One per head has a null unless `null` is False.
    """

    def declare(read: Callable[[ProbeInput], Any]) -> Callable[[ProbeInput], Any]:
        family = read.__module__.rpartition(".")[2]
        known = _signals.get(name)
        if known is not None and known.read.__code__.co_filename != read.__code__.co_filename:
            raise UserError(f"a signal named {name!r} already exists; choose another name")
        has_null = per == "head" if null is None else null
        declared = (about, formula, unit, low, high, source, not why_not, why_not, has_null, slow, together)
        whole = version + _DRAWN * (reads not in _EXACT)
        _signals[name] = Signal(name, read, family, per, *declared, whole, reads, blind)
        return read

    return declare


@cache
def _import_families() -> None:
    """Import every file of `genlab.probes.families`; each declares its signals."""
    package = importlib.import_module("genlab.probes.families")
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")


def all_signals() -> tuple[Signal, ...]:
    """Every signal, family by family."""
    _import_families()
    return tuple(sorted(_signals.values(), key=lambda s: s.family))


def families() -> tuple[str, ...]:
    """The names of the families."""
    return tuple(dict.fromkeys(s.family for s in all_signals()))


def chosen(names: Iterable[str] = ()) -> tuple[Signal, ...]:
    """The signals selected by name, by family, by a pattern (`induction_*`), or `all`.

    Args:
        names: what to select; without names, every signal that is not slow.

    Raises:
        UserError: a name that matches no signal or family.
    """
    everything = all_signals()
    requested = [name.strip() for name in names]
    if not requested:
        return tuple(s for s in everything if not s.slow)
    selected: dict[str, Signal] = {}
    for name in requested:
        matches = [
            s
            for s in everything
            if name in ("all", s.name, s.family) or ("*" in name and fnmatch.fnmatch(s.name, name))
        ]
        if not matches:
            raise unknown("signal", name, [*families(), *(s.name for s in everything)], "lab signals")
        selected |= {s.name: s for s in matches}
    return tuple(selected.values())
