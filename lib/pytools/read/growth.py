"""What the counters of a map have grown by since they were last read."""
from __future__ import annotations

import struct
from operator import add, sub

from pytools.base.annotations import TYPE_CHECKING
from pytools.load.maps import Map

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Sequence

    from pytools.load.program import Program


__all__ = ["Growth", "MappedGrowth", "RowsGrowth", "losses", "percent"]


def percent(part: int, rest: int) -> float:
    """Of a part and the rest of a whole, how many percent the part is; 0 of nothing.

    >>> percent(3, 1), percent(0, 0)
    (75.0, 0.0)
    """
    return 100 * part / (part + rest) if part + rest else 0.0


class Growth:
    """The counters of a map, as they grow: read without being cleared, so that
    no count made meanwhile is lost."""

    def __init__(self, counters: Map) -> None:
        self._counters = counters
        self._before: dict[Any, int] = {}

    def since_last(self) -> dict[Any, int]:
        """What each counter has grown by since the last call, where it has;
        those of a per-CPU map added up over the CPUs."""
        now = {
            key: sum(value) if self._counters.per_cpu else value
            for key, value in self._counters.items()
        }
        grown = {
            key: count - self._before.get(key, 0)
            for key, count in now.items()
            if count != self._before.get(key, 0)
        }
        self._before = now
        return grown

    def total_since_last(self) -> int:
        """What all counters together have grown by since the last call."""
        return sum(self.since_last().values())


def losses(program: Program) -> Callable[[], int]:
    """What gives how much a program has lost since the last call: what it counted in its map
    ``lost``, and how often the kernel did not run it."""
    lost = Growth(program.maps["lost"])
    return lambda: lost.total_since_last() + program.missed_since_last()


class RowsGrowth:
    """As Growth, of several counts of each key, which is a tuple.

    >>> growth = RowsGrowth()
    >>> growth.since_last([(("a",), (1, 1)), (("b",), (4, 0)), (("a",), (1, 0))])
    [('b', 4, 0), ('a', 2, 1)]
    >>> growth.since_last([(("a",), (2, 2)), (("b",), (4, 0))])
    [('a', 0, 1)]
    """

    def __init__(self) -> None:
        self._before: dict[Any, tuple[int, ...]] = {}

    def since_last(
        self, counted: Iterable[tuple[tuple[Any, ...], Sequence[int]]]
    ) -> list[tuple[Any, ...]]:
        """What the counts have grown by since the last call, where one has: rows of key and
        counts, those of the largest first count first. ``counted`` are all counts as they stand
        now; a key that is there several times has their sum."""
        now: dict[Any, tuple[int, ...]] = {}
        for key, counts in counted:
            now[key] = tuple(map(add, now[key], counts)) if key in now else tuple(counts)
        before, self._before = self._before, now
        rows = []
        for key in sorted(now, key=lambda key: now[key][0], reverse=True):
            grown = tuple(map(sub, now[key], before[key])) if key in before else now[key]
            if any(grown):
                rows.append((*key, *grown))
        return rows


class MappedGrowth:
    """As Growth, of an array of u64 that may be mapped (BPF_F_MMAPABLE, Linux
    commit fc9702273e2e, v5.5) and is mostly zero: a place for every pid. What was read is kept as
    it was, a page at a time: there may be four million pids, each of which counts once."""

    def __init__(self, counters: Map) -> None:
        import mmap  # not for most tools

        self._page = page = mmap.PAGESIZE
        size = (8 * counters.spec.max_entries + page - 1) // page * page
        self._pages = mmap.mmap(counters.fd, size, prot=mmap.PROT_READ)
        self._zero = bytes(page)
        self._before: dict[int, bytes] = {}  # of pages that are not zero, by their places

    def since_last(self) -> dict[int, int]:
        """What each counter has grown by since the last call, where it has."""
        grown = {}
        unpack = struct.Struct(f"={self._page // 8}Q").unpack
        for start in range(0, len(self._pages), self._page):
            data = self._pages[start : start + self._page]
            before = self._before.get(start, self._zero)
            if data == before:
                continue
            self._before[start] = data
            for number, (count, old) in enumerate(zip(unpack(data), unpack(before)), start // 8):
                if count != old:
                    grown[number] = count - old
        return grown
