"""Answers of name servers (RFC 1035, section 4), and the names that processes got addresses for."""
from __future__ import annotations

import struct
from collections import Counter
from socket import AF_INET, AF_INET6

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable, Mapping

__all__ = ["Names", "answers"]

TYPE_A, TYPE_AAAA = 1, 28
MOST_NAMES = 65536
MOST_NAME_BYTES = 253  # of a name with dots between its labels (RFC 1035, 2.3.4)


def _skip_name(message: bytes, place: int) -> int:
    while message[place]:
        if message[place] >= 0xC0:  # the rest stands elsewhere
            return place + 2
        place += 1 + message[place]
    return place + 1


def _label(data: bytes) -> bytes:
    """A label as master files have it (RFC 1035, 5.1): a dot in it is none between labels, and
    a NUL ends nothing.

    >>> _label(b"a.b\\0")
    b'a\\\\.b\\\\000'
    """
    return data.replace(b"\\", b"\\\\").replace(b".", b"\\.").replace(b"\0", b"\\000")


def answers(message: bytes) -> tuple[bytes, list[bytes]]:
    """The name that was asked for and the addresses of an answer, of 4 and 16 bytes,
    also of one that is cut. Raises ValueError for what is none."""
    return _read(message)[:2]


def _read(message: bytes) -> tuple[bytes, list[bytes], bool]:
    """The same, and whether all its records were read."""
    found: list[bytes] = []
    whole = True
    try:
        questions, count = struct.unpack_from(">HH", message, 4)
        if questions != 1:
            raise ValueError("not one question")
        labels, place = [], 12
        while message[place]:
            if message[place] > 63:
                raise ValueError("not the name of a question")
            labels.append(_label(message[place + 1 : place + 1 + message[place]]))
            place += 1 + message[place]
        if place - 13 > MOST_NAME_BYTES:
            raise ValueError("too long a name")
        place += 5
        if place > len(message):
            raise ValueError("cut within the question")
    except (IndexError, struct.error):
        raise ValueError("cut within the question") from None
    try:
        for _ in range(count):
            place = _skip_name(message, place)
            kind, _, _, size = struct.unpack_from(">HHIH", message, place)
            data = message[place + 10 : place + 10 + size]
            place += 10 + size
            whole = place <= len(message)
            if (kind, len(data)) in ((TYPE_A, 4), (TYPE_AAAA, 16)):
                found.append(data)
    except (IndexError, struct.error):
        whole = False
    return b".".join(labels), found, whole


class Names:
    """The names that processes have got addresses for, the last ones. ``say`` is told in words of
    those that may be missing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._names: dict[tuple[int, bytes], bytes] = {}
        self._missing: Counter[str] = Counter()

    def learn(self, pid: int, message: bytes) -> None:
        """Take an answer that a process has received."""
        try:
            name, addresses, whole = _read(message)
        except ValueError:
            self._missing["answers_not_understood"] += 1
            return
        if not whole:
            self._missing["answers_cut"] += 1
        if len(self._names) + len(addresses) > MOST_NAMES:
            self._missing["names_forgotten"] += len(self._names)
            self._names.clear()
        for found in addresses:
            self._names[pid, found] = name

    def missing(self) -> tuple[int, Mapping[str, int]]:
        """No lost events, but since the last call: answers that were none that it understands,
        those of which only the beginning was read, and names for which there was no room."""
        found, self._missing = self._missing, Counter()
        for what, number in found.items():
            self._say(f"{number} {what.replace('_', ' ')}: names of connects may be missing")
        return 0, found

    def name(self, pid: int, data: bytes, family: int) -> bytes | None:
        """The name for an address in ``struct ends``; None if the process asked for none."""
        if family == AF_INET6 and data[:12] == bytes(10) + b"\xff\xff":
            data, family = data[12:], AF_INET
        return self._names.get((pid, data if family == AF_INET6 else data[:4]))
