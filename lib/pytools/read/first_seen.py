"""What was seen before, in bounded memory."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ["FirstSeen"]

MOST = 65536  # some 8 MiB


class FirstSeen:
    """Whether values are seen for the first time. They are known by their hash, of 64 bits. When
    there are too many, all are forgotten, and what comes again is new: nothing is left out that
    was never shown.

    >>> first = FirstSeen()
    >>> first(1, b"a"), first(1, b"b"), first(1, b"a")
    (True, True, False)
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, *values: Any) -> bool:
        number = hash(values)
        if number in self._seen:
            return False
        if len(self._seen) >= MOST:
            self._seen.clear()
        self._seen.add(number)
        return True
