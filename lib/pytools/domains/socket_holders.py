"""Which process has a socket open, by the number of the socket's inode (bpf/socket_file.h)."""
from __future__ import annotations

import os
import time

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.comm import comm
from pytools.base.text import text_of

if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator

__all__ = ["Holder", "Holders", "held_by", "holders"]

# Of the time, at most so much goes into the search, and this many seconds may be spent at once.
MOST_OF_TIME = 0.05
MOST_AT_ONCE = 1.0
MOST_REMEMBERED = 4096


class Holder(NamedTuple):
    """A process that has a socket open, with its name, and where /proc shows that it has."""

    pid: int
    comm: str
    path: str


def holders(inodes: set[int]) -> dict[int, Holder]:
    """A process for each of those sockets that one has open: the one with the lowest pid of those
    that share it."""
    found: dict[int, Holder] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if len(found) == len(inodes):
            break
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{descriptor}"
                target = os.readlink(path)
                if not target.startswith("socket:["):
                    continue
                inode = int(target[8:-1])
                if inode in inodes and inode not in found:
                    name = comm(f"/proc/{pid}")
                    if name is not None:
                        found[inode] = Holder(pid, text_of(name), path)
        except OSError:
            continue  # ended meanwhile
    return found


def held_by(pid: int) -> set[int]:
    """The sockets that a process has open."""
    found = set()
    try:
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(descriptor.path)
            except OSError:
                continue  # closed meanwhile
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    except OSError:
        pass  # ended meanwhile
    return found


class Holders:
    """The same, remembered as long as it is true, and searched for when it is asked for: that reads
    /proc, of which a machine with many processes has much. So it is done for many at once, and
    not all the time."""

    def __init__(self) -> None:
        self._known: dict[int, Holder] = {}
        self._began = time.monotonic()
        self._spent = 0.0

    def find(self, inodes: Iterable[int]) -> dict[int, Holder]:
        """The holders that are known of those sockets (0 is none)."""
        wanted = {inode for inode in inodes if inode}
        found = {inode: self._known[inode] for inode in wanted if self._is_true(inode)}
        missing = wanted - found.keys()
        before = time.monotonic()
        if missing and self._spent < MOST_AT_ONCE + MOST_OF_TIME * (before - self._began):
            made = holders(missing)
            self._spent += time.monotonic() - before
            if len(self._known) + len(made) > MOST_REMEMBERED:
                self._known.clear()
            self._known.update(made)
            found.update(made)
        return found

    def added(self, records: Iterable[Any]) -> Iterator[Any]:
        """Records of events, which have ``inode``, with ``pid`` and ``comm``; None where there is
        no such process, or where it has ended."""
        found = list(records)
        known = self.find({record.inode for record in found})
        for record in found:
            holder = known.get(record.inode)
            pid, name = (holder.pid, holder.comm) if holder else (None, None)
            yield record._replace(pid=pid, comm=name)

    def _is_true(self, inode: int) -> bool:
        holder = self._known.get(inode)
        if holder is None:
            return False
        try:
            if os.readlink(holder.path) == f"socket:[{inode}]":
                return True
        except OSError:
            pass
        del self._known[inode]
        return False
