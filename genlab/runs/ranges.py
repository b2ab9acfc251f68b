"""Lists of whole numbers as text: `0:4` is 0, 1, 2, 3."""

from __future__ import annotations

from genlab.errors import UserError

__all__ = ["parse_range"]


def parse_range(text: str, flag: str) -> list[int]:
    """`0:4` is 0, 1, 2, 3; `5:50:5` has steps; `3` and `1,4,9` are themselves.

    >>> parse_range("0:4", "--seeds"), parse_range("5:20:5", "--lengths"), parse_range("7,9", "--seeds")
    ([0, 1, 2, 3], [5, 10, 15], [7, 9])
    """
    if ":" in text:
        parts = [_whole(part, flag) for part in text.split(":")[:3]]
        found = list(range(*parts)) if parts[2:] != [0] else []
    else:
        found = [_whole(part, flag) for part in text.split(",")]
    if not found or text.count(":") > 2 or min(found) < 0:
        raise UserError(f"{flag} {text!r} names nothing; write 0:4 (is 0, 1, 2, 3), 5:50:5, 3, or 1,4,9")
    return found


def _whole(text: str, flag: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{flag}: {text!r} is not a whole number") from None
