"""What a signal is, and the list of all signals. No torch here, so that the list is there at once."""

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
"""What follows the name of a value in the rows that hold it as read on each half of the probe examples."""
AUXILIARY = (*HALVES, ".null", ".null_sd")
"""What follows the name of a value in rows that say something of it, and are no value of their own."""

Per = Literal["run", "layer", "head"]
"""What one value belongs to; the value's shape is `[run]`, `[run, layer]` or `[run, layer, head]`."""
Reads = Literal["inputs", "random text", "all pairs", "weights", "history"]
"""What a signal is computed from: probe inputs, random text, all pairs, weights alone, training's history."""
_EXACT = ("all pairs", "weights", "history")
_DRAWN = 1
"""Rises when probe inputs are drawn, or maxima over heads are taken, in another way: with it, the version of every
signal that is read on a sample. 1: by the training law, and on two halves."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One number read from a trained run, or one a layer, or one a head.

    Attributes:
        read: the function of a `ProbeInput` that gives it; NaN where it is not defined. It may give several under
            names of their own: those are stored as `signal.name`. It raises `NotApplicable`.
        family: the file that declares it.
        about: what it measures, in a line.
        formula: how it is computed, in the words of `docs/glossary.md` (A is the attention pattern).
        unit, low, high: of a value; low and high are the ends of its range.
        source: the paper that defines it, or `ours`.
        reads: what it is computed from.
        halved: whether it is also read on each half of the examples, which says how well it is known.
        admissible: whether its inputs stay within training lengths, symbols, pairs and labels, so that a forecast
            may use it; `why_not` says what else it reads.
        null: whether the same number of untrained models is read too, so that the maximum over heads can be compared
            with that of as many heads that have learned nothing.
        slow: left out unless it is asked for.
        together: it compares the runs of one configuration, and is given all of them at once.
        version: rises when its values change, be it by its formula or by how its inputs are drawn.
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
    halved: bool

    @property
    def exact(self) -> bool:
        """Whether its value has no reading noise: nothing of it is read on a sample."""
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
    halved: bool = True,
) -> Callable[[Callable[[ProbeInput], Any]], Callable[[ProbeInput], Any]]:
    """Declare the function below as a signal (see `Signal` for the arguments; `version` is that of its formula).

    A signal is admissible unless `why_not` says what makes it otherwise; one a head has a null unless told.
    """

    def declare(read: Callable[[ProbeInput], Any]) -> Callable[[ProbeInput], Any]:
        family = read.__module__.rpartition(".")[2]
        known = _signals.get(name)
        if known is not None and known.read.__code__.co_filename != read.__code__.co_filename:
            raise UserError(f"a signal named {name!r} is there already; give yours another name")
        has_null = per == "head" if null is None else null
        declared = (about, formula, unit, low, high, source, not why_not, why_not, has_null, slow, together)
        sampled = reads not in _EXACT
        whole = version + _DRAWN * sampled
        _signals[name] = Signal(name, read, family, per, *declared, whole, reads, halved and sampled)
        return read

    return declare


@cache
def _declared() -> None:
    """Import every file of `genlab.probes.families`, each of which declares its signals."""
    package = importlib.import_module("genlab.probes.families")
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")


def all_signals() -> tuple[Signal, ...]:
    """Every signal, family by family."""
    _declared()
    return tuple(sorted(_signals.values(), key=lambda s: s.family))


def families() -> tuple[str, ...]:
    """Names of the families."""
    return tuple(dict.fromkeys(s.family for s in all_signals()))


def chosen(names: Iterable[str] = ()) -> tuple[Signal, ...]:
    """The signals that a user means: by name, by family, by a pattern (`induction_*`), or `all`.

    Without names, all but the slow ones.

    Raises:
        UserError: a name that no signal or family has.
    """
    everything = all_signals()
    wanted = [name.strip() for name in names]
    if not wanted:
        return tuple(s for s in everything if not s.slow)
    found: dict[str, Signal] = {}
    for name in wanted:
        matches = [
            s
            for s in everything
            if name in ("all", s.name, s.family) or ("*" in name and fnmatch.fnmatch(s.name, name))
        ]
        if not matches:
            raise unknown("signal", name, [*families(), *(s.name for s in everything)])
        found |= {s.name: s for s in matches}
    return tuple(found.values())
