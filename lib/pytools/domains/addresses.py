"""Addresses of IPv4 and IPv6 by number: as a filter has them, and as ids of histograms."""
from __future__ import annotations

import struct
import sys
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Usage

if TYPE_CHECKING:
    from typing import Callable

    from pytools.load.program import Program

__all__ = ["names", "words"]

_MAPPED = bytes(10) + b"\xff\xff"
_WORDS = struct.Struct("=qq")


def words(text: str) -> tuple[int, int]:
    """An address that the user typed, as the two signed words of ``struct whole_address``
    (``bpf/whole_address.h``). Raises Usage."""
    for family in (AF_INET, AF_INET6):
        try:
            data = inet_pton(family, text)
        except (OSError, ValueError):
            continue
        first, second = _WORDS.unpack(data if family == AF_INET6 else _MAPPED + data)
        return first, second
    raise Usage(f"{text!r} is not an address of IPv4 or IPv6")


def names(program: Program) -> Callable[[int], str]:
    """What gives the address of an id that a program has made of it (``bpf/address_ids.h``)."""
    known: dict[int, str] = {}

    def name(number: int) -> str:
        if number < 1 << 32:
            return inet_ntop(AF_INET, number.to_bytes(4, sys.byteorder))
        if number not in known:
            for address, given in program.maps["address_ids"].items():
                known[given] = inet_ntop(AF_INET6, struct.pack("=QQ", *address))
        return known[number]

    return name
