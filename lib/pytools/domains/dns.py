"""Answers of name servers (RFC 1035, section 4), and the names that processes got addresses for."""
from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6

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
    found: list[bytes] = []
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
            if (kind, len(data)) in ((TYPE_A, 4), (TYPE_AAAA, 16)):
                found.append(data)
    except (IndexError, struct.error):
        pass
    return b".".join(labels), found


class Names:
    """The names that processes have got addresses for, the last ones."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, bytes], bytes] = {}

    def learn(self, pid: int, message: bytes) -> None:
        """Take an answer that a process has received."""
        try:
            name, addresses = answers(message)
        except ValueError:
            return
        if len(self._names) + len(addresses) > MOST_NAMES:
            self._names.clear()
        for found in addresses:
            self._names[pid, found] = name

    def name(self, pid: int, data: bytes, family: int) -> bytes | None:
        """The name for an address in ``struct ends``; None if the process asked for none."""
        if family == AF_INET6 and data[:12] == bytes(10) + b"\xff\xff":
            data, family = data[12:], AF_INET
        return self._names.get((pid, data if family == AF_INET6 else data[:4]))
