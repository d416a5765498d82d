"""Text that is longer than a record has room for: the records with its pieces become one."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


__all__ = ["CUT", "LAST", "MOST_BYTES", "Pieces"]

LAST, CUT = 1, 2  # as in bpf/pieces.h
# Of texts whose last piece has not come. One that was lost never comes, and whoever runs commands
# with arguments of 6 MiB makes a tool lose some.
MOST_BYTES = 64 << 20


class Pieces:
    """Puts the pieces of texts together. Those of a thread come in their order; those of several
    threads may come in between."""

    def __init__(self) -> None:
        self._begun: dict[int, list[bytes]] = {}  # by thread, the oldest first
        self._bytes = 0  # of all of them

    def whole(self, record: Any) -> Any:
        """The record of the last piece with all of the ``text``, and with ``cut``: 1 where a part
        of it is missing, else 0. None for the record of another piece. Records are named tuples;
        they have the members that bpf/pieces.h speaks of, and ``cut``."""
        if not record.piece:
            self._forget(record.tid)
            if record.what & LAST:  # most are of one piece
                return record._replace(cut=int(bool(record.what & CUT)))
        pieces = self._begun.setdefault(record.tid, [])
        pieces.append(record.text)
        self._bytes += len(record.text)
        if not record.what & LAST:
            while self._bytes > MOST_BYTES:
                self._forget(next(iter(self._begun)))
            return None
        self._forget(record.tid)
        missing = record.what & CUT or len(pieces) != record.piece + 1
        return record._replace(text=b"".join(pieces), cut=int(bool(missing)))

    def _forget(self, thread: int) -> None:
        self._bytes -= sum(map(len, self._begun.pop(thread, ())))
