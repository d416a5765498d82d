"""The BPF ring buffer, read from the mapping it shares with the kernel.

Layout: kernel/bpf/ringbuf.c (Linux commit 457f44363a88, v5.8). One page holds
the consumer's position, the next the producer's; the data follows, twice in a
row so that no record is ever cut. Only the first is mapped here: every mapped
page counts as memory of the process.
"""
from __future__ import annotations

import mmap
import os
import threading

from pytools.base.annotations import TYPE_CHECKING
from pytools.compile.layout import Layout
from pytools.load.maps import Map
from pytools.base.system import page_size

if TYPE_CHECKING:
    from typing import Any


__all__ = ["RingBuffer"]

BUSY, DISCARDED = 1 << 31, 1 << 30
LENGTH = DISCARDED - 1
HEADER_BYTES = 8
# Room is given back to the kernel after this many bytes, not only at the end
# of a long batch.
RELEASE_BYTES = 64 * 1024


class RingBuffer:
    """The reading end of a ring buffer map.

    ``fd`` becomes readable when the program wakes its reader up. ``members`` are
    those of a record; if the last is an array of char, a record may be shorter
    than its struct, and that member then has what there is.
    """

    def __init__(self, ring: Map) -> None:
        self.fd = ring.fd
        self._size = ring.spec.max_entries
        self._page = page_size()
        self._consumer_page = mmap.mmap(ring.fd, self._page)
        self._pages = mmap.mmap(
            ring.fd, self._page + self._size, prot=mmap.PROT_READ, offset=self._page
        )
        self._consumer = memoryview(self._consumer_page).cast("Q")
        self._producer = memoryview(self._pages)[:8].cast("Q")
        self._headers = memoryview(self._pages)[self._page :].cast("I")
        self._position = self._consumer[0]
        # Taking and giving a lock is Python's only memory barrier. A processor
        # that reorders loads (arm64) must not read a record before its header,
        # nor give room back before the record is read.
        self._lock = threading.Lock()
        self._lock.acquire()
        self._layout, self._tail = _split(ring.spec.value, ring.spec.value_size)
        self.members = self._layout.names + ([self._tail] if self._tail else [])

    def _barrier(self) -> None:
        self._lock.release()
        self._lock.acquire()

    def read(self) -> list[tuple[Any, ...]]:
        """The records that are ready, oldest first, each a tuple of its members;
        empty when there are none, and not all of them when there are many."""
        headers, mask = self._headers, self._size - 1
        # First where the records are, then, behind a barrier, what is in them.
        position, producer = self._position, self._producer[0]
        self._barrier()
        found = []
        limit = min(producer, position + RELEASE_BYTES, (position | mask) + 1)
        while position < limit:
            header = headers[(position & mask) >> 2]
            if header < DISCARDED:
                found.append((position & mask, header))
            elif header & BUSY:
                break
            else:
                header &= LENGTH
            position += (header + HEADER_BYTES + 7) & ~7
        if position == self._position:
            return []
        self._barrier()
        records = self._decode(found)
        self._barrier()
        self._position = position
        self._consumer[0] = position
        # Records that were all discarded: there may be more behind them.
        return records or self.read()

    def _decode(self, found: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
        if not found:
            return []
        pages, start = self._pages, self._page + HEADER_BYTES
        unpack, tail = self._layout.unpack_from, start + self._layout.size
        offset, length = found[-1]
        behind = HEADER_BYTES + offset + length - self._size
        if behind > 0:  # it goes on at the start of the ring
            found.pop()
        if self._tail:
            records = [
                (*unpack(pages, start + offset), pages[tail + offset : start + offset + length])
                for offset, length in found
            ]
        else:
            records = [unpack(pages, start + offset) for offset, _ in found]
        if behind > 0:
            data = pages[start + offset :] + pages[self._page : self._page + behind]
            rest = (data[self._layout.size :],) if self._tail else ()
            records.append((*unpack(data), *rest))
        return records

    def close(self) -> None:
        self.unmap()
        os.close(self.fd)

    def unmap(self) -> None:
        """Give the mapping back; the map itself stays."""
        for view in (self._headers, self._producer, self._consumer):
            view.release()
        self._pages.close()
        self._consumer_page.close()


def _split(description: Any, size: int) -> tuple[Layout, str]:
    """The members of a struct; if the last is an array of char, those before it,
    and its name."""
    name, members, word = description
    *head, last = [member for member in members if not member[0].startswith("__pad_end")]
    if len(last) == 3 and last[1] == "char":
        return Layout([name, head, word]), last[0]
    return Layout(description, size), ""
