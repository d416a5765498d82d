"""Addresses of a process as a build id and a place in the file that has it: what does not change
where the file is mapped, or stripped of its names."""
from __future__ import annotations

import re

from pytools.base import process_files
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.facts.elf import File

if TYPE_CHECKING:
    from typing import Iterator, Sequence

__all__ = ["BuildIds"]

# A line of /proc/PID/maps: where a file is mapped, from which place in it, and which file it is.
_MAPPED = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) (\S+ [1-9]\d*) ", re.MULTILINE
)  # fmt: skip


class BuildIds:
    """Asks each process anew for what it has mapped, as it may have changed."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}  # the build id of a device's inode

    def lines(self, pid: int, addresses: Sequence[int]) -> Iterator[str]:
        """A line each: BUILD-ID 0xOFFSET, or the address if nothing tells more."""
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:
                mapped = _MAPPED.findall(file.read())
        except OSError:  # it has ended
            mapped = []
        for address in addresses:
            yield self._line(pid, mapped, address)

    def _line(self, pid: int, mapped: Sequence[tuple[bytes, ...]], address: int) -> str:
        for first, last, place, identity in mapped:
            start, end = int(first, 16), int(last, 16)
            if start <= address < end:
                if identity not in self._known:
                    self._known[identity] = _build_id(pid, start, end)
                found = self._known[identity]
                return f"{found} {address - start + int(place, 16):#x}" if found else f"{address:x}"
        return f"{address:x}"


def _build_id(pid: int, start: int, end: int) -> str:
    """That of the file that is mapped there; "" if it has none or can't be read."""
    try:
        with File("", f"{start:x}", process_files.open_mapped(pid, start, end)) as file:
            return file.build_id()
    except (Failure, OSError):
        return ""
