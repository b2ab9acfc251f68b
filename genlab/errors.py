"""The one error that a user's own mistake raises, and the words for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class UserError(ValueError):
    """What was asked cannot be done as asked. The message is one line: what was asked, what is allowed.

    The command line prints it and leaves with exit status 2; nothing has been written by then.
    """


class DamagedFileError(UserError):
    """A file of the store does not hold what was written to it."""


class Interrupted(Exception):
    """Work was asked to stop, by Ctrl-C or by its listener. What was reached is kept; the same call goes on."""


class FailedRuns(Exception):
    """Some runs of what was asked for failed; all others were done. The command line leaves with exit status 1.

    Attributes:
        reasons: run id -> why it failed, one line.
    """

    def __init__(self, message: str, reasons: Mapping[str, str]):
        super().__init__(message)
        self.reasons = dict(reasons)


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name most like `name`, or None where nothing is near.

    >>> nearest("partiy", ["parity", "sort"])
    'parity'
    """
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that is not on its list.

    >>> print(unknown("task", "partiy", ["parity", "sort"]))
    unknown task 'partiy'; did you mean 'parity'? (allowed: parity, sort)
    """
    names = sorted(allowed)
    near = nearest(name, names)
    hint = f"; did you mean {near!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint} (allowed: {', '.join(names) or 'none'})")


class NotApplicable(Exception):
    """A signal has no meaning for a run; the message says why, as the rest of a sentence."""
