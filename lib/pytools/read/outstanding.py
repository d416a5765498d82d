"""Memory that was allocated and has not been freed, by what allocated it (bpf/allocations.h)."""
from __future__ import annotations

import struct

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.text import c_text
from pytools.read.growth import Growth
from pytools.read.stacks import Counted, StackMaps, with_caller
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Iterator

    from pytools.load.maps import Map

__all__ = ["Allocation", "Outstanding", "Site", "Sum", "lives"]

_MEMORY, _ALLOCATION = struct.Struct("=QII"), struct.Struct("=QQQiI")
LOST = "allocations lost, the map is full: --hash-storage-size makes room"
MISSED = "calls missed: what they freed is shown as outstanding"


def lives(pid: int) -> bool:
    """Whether a process has not ended: then it has memory."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


class Site(NamedTuple):
    """What allocates: a process, which of the programs that it ran, and a stack by its number.
    ``caller`` is the address of a function that the stack lacks, 0 if it lacks none."""

    caller: int
    pid: int
    program: int
    stack: int


class Sum(NamedTuple):
    """How much is outstanding."""

    bytes: int
    number: int


class Allocation(NamedTuple):
    """A piece of memory; ``since`` is in nanoseconds of the kernel's monotonic clock."""

    site: Site
    address: int
    size: int
    since: int


class _Processes:
    """Which processes still have what they got: those that have not executed another program since
    (the kernel's map of ``programs`` tells), and live, or are to be known when they have ended.
    ``gone`` are the others that were asked for, by pid and program."""

    def __init__(self, programs: Map | None, ended_too: bool) -> None:
        self._programs = dict(programs.items()) if programs is not None else {}
        self._ended_too = ended_too
        self.ended = {0: False}  # the kernel
        self.gone: set[tuple[int, int]] = set()

    def have(self, pid: int, program: int) -> bool:
        if pid not in self.ended:
            self.ended[pid] = not lives(pid)
        if pid and self._programs.get(pid, 0) != program or self.ended[pid] and not self._ended_too:
            self.gone.add((pid, program))
            return False
        return True


class Outstanding:
    """What is outstanding of a program that has ``#include "allocations.h"``. With
    ``ended_too``, that includes what processes have left that have ended."""

    def __init__(self, program: Program, ended_too: bool) -> None:
        self._program = program
        self._allocations, self._sites = program.maps["allocations"], program.maps["sites"]
        self._programs = program.maps.get("programs")
        self._names = program.maps.get("names")
        self._ended_too = ended_too
        self._lost = Growth(program.maps["allocations_lost"])
        self.stacks = StackMaps(program)

    def sums(self, before: int) -> dict[Site, Sum]:
        """What was allocated before that time, and all that processes have left that have ended."""
        found: dict[Site, list[int]] = {}
        for allocation in self.each(before):
            both = found.setdefault(allocation.site, [0, 0])
            both[0] += allocation.size
            both[1] += 1
        return {site: Sum(*both) for site, both in found.items()}

    def each(self, before: int) -> Iterator[Allocation]:
        """The same, each piece of memory by itself."""
        processes = _Processes(self._programs, self._ended_too)
        for key, value in self._allocations.each_raw():
            address, pid, program = _MEMORY.unpack(key)
            size, since, caller, stack, _ = _ALLOCATION.unpack(value)
            if processes.have(pid, program) and (since <= before or processes.ended[pid]):
                yield Allocation(Site(caller, pid, program, stack), address, size, since)
        self._forget(processes.gone)

    def combined(self) -> dict[Site, Sum]:
        """The sums that the program counts itself, if it does."""
        processes = _Processes(self._programs, self._ended_too)
        found = {
            Site(*key[:4]): Sum(*both)
            for key, both in self._sites.items()
            if processes.have(key[1], key[2]) and both[1]
        }
        self._forget(processes.gone)
        return found

    def _forget(self, gone: set[tuple[int, int]]) -> None:
        """Make room of what is outstanding no more."""
        if gone:
            self._allocations.take_raw(lambda key: _MEMORY.unpack(key)[1:] in gone)
            self._sites.take(lambda key: (key[1], key[2]) in gone)

    def names(self) -> dict[tuple[int, int], str]:
        """The names of the processes, by pid and program."""
        return {
            process: c_text(comm)
            for process, comm in (self._names.items() if self._names is not None else ())
        }

    def counted(self, site: Site, comm: str) -> Counted:
        """The stack of a site, to be named."""
        stack = self.stacks.stack(site.stack)
        if stack is not None:
            stack = with_caller(stack, site.caller)
        user, kernel = (stack, []) if site.pid else ([], stack)
        return Counted(site.pid, 0, 0, comm, "", user, kernel, 0)

    def lost(self) -> dict[str, int]:
        """How much is missing since the last call, by what to say of it."""
        counts = {
            LOST: self._lost.total_since_last(), MISSED: self._program.missed_since_last(),
        }  # fmt: skip
        return {**self.stacks.lost(), **{what: count for what, count in counts.items() if count}}
