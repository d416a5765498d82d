"""Text that is longer than a record has room for: the records with its pieces become one."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


__all__ = ["CUT", "LAST", "Pieces"]

LAST, CUT = 1, 2  # as in bpf/pieces.h


class Pieces:
    """Puts the pieces of texts together. Those of a thread come in their order; those of several
    threads may come in between."""

    def __init__(self) -> None:
        self._begun: dict[int, list[bytes]] = {}  # by thread

    def whole(self, record: Any) -> Any:
        """The record of the last piece with all of the ``text``, and with ``cut``: 1 where a part
        of it is missing, else 0. None for the record of another piece. Records are named tuples;
        they have the members that bpf/pieces.h speaks of, and ``cut``."""
        if not record.piece:
            self._begun[record.tid] = []
        pieces = self._begun.setdefault(record.tid, [])
        pieces.append(record.text)
        if not record.what & LAST:
            return None
        del self._begun[record.tid]
        missing = record.what & CUT or len(pieces) != record.piece + 1
        return record._replace(text=b"".join(pieces), cut=int(bool(missing)))
