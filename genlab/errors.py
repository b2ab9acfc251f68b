"""Exceptions that users can cause, and messages that suggest the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class UserError(ValueError):
    """A request that cannot be carried out. The message is one line: what was requested and what is allowed.

    The command line prints the message and exits with status 2. Nothing has been written at that point.
    """


class DamagedFileError(UserError):
    """A file in the store is corrupt."""


class Interrupted(Exception):
    """Work was stopped by Ctrl-C or by its listener. Progress is saved, and repeating the call resumes it."""


class FailedRuns(Exception):
    """Some of the requested runs failed; all others completed. The command line exits with status 1.

    Attributes:
        reasons: maps each failed run's id to the reason, in one line.
    """

    def __init__(self, message: str, reasons: Mapping[str, str]):
        super().__init__(message)
        self.reasons = dict(reasons)


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name closest to `name`, or None if nothing is close.

    >>> nearest("partiy", ["parity", "sort"])
    'parity'
    """
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


_MANY = 20
"""Allowed names beyond which a message names the nearest three rather than all."""


def unknown(kind: str, name: str, allowed: Iterable[str], see: str = "") -> UserError:
    """Build the error for a name that is not in the list of allowed names.

    Few allowed names are listed; of many, the nearest three are named.

    >>> print(unknown("task", "partiy", ["parity", "sort"]))
    unknown task 'partiy'; did you mean 'parity'? (allowed: parity, sort)
    >>> print(unknown("option", "step", ["steps", "stop", "step_size", *map(str, range(40))], "lab train --help"))
    unknown option 'step'; did you mean 'steps', 'stop' or 'step_size'? (allowed: 43 names; see lab train --help)

    Args:
        see: the command that lists the allowed names.
    """
    names = sorted(allowed)
    many = len(names) > _MANY
    near = difflib.get_close_matches(name, names, n=3 if many else 1, cutoff=0.5)
    ends = [", ".join(map(repr, near[:-1])), repr(near[-1])] if near else []
    hint = f"; did you mean {' or '.join(part for part in ends if part)}?" if near else ""
    listed = f"{len(names)} names" if many else ", ".join(names) or "none"
    return UserError(f"unknown {kind} {name!r}{hint} (allowed: {listed}{f'; see {see}' if see and many else ''})")


class NotApplicable(Exception):
    """A signal is undefined for a run. The message gives the reason as the second half of a sentence."""
