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


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UserError:
    """Build the error for a name that is not in the list of allowed names.

    >>> print(unknown("task", "partiy", ["parity", "sort"]))
    unknown task 'partiy'; did you mean 'parity'? (allowed: parity, sort)
    """
    names = sorted(allowed)
    near = nearest(name, names)
    hint = f"; did you mean {near!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint} (allowed: {', '.join(names) or 'none'})")


class NotApplicable(Exception):
    """A signal is undefined for a run. The message gives the reason as the second half of a sentence."""
