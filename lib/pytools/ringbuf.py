"""The BPF ring buffer, read from the mapping it shares with the kernel.

Layout: kernel/bpf/ringbuf.c (Linux commit 457f44363a88, v5.8). One page holds
the consumer's position, the next the producer's; the data follows, mapped
twice in a row so that no record is ever cut.
"""
from __future__ import annotations

import mmap
import os
import threading
from typing import Callable

from pytools.maps import Map
from pytools.system import page_size

__all__ = ["RingBuffer"]

BUSY, DISCARDED = 1 << 31, 1 << 30
LENGTH = DISCARDED - 1
HEADER_BYTES = 8
# Room is given back to the kernel after this many bytes, not only at the end
# of a long batch.
RELEASE_BYTES = 256 * 1024


class RingBuffer:
    """The reading end of a ring buffer map.

    ``fd`` becomes readable when the program wakes its reader up.
    """

    def __init__(self, ring: Map) -> None:
        self.fd = ring.fd
        self.layout = ring._value
        self._size = ring.spec.max_entries
        page = page_size()
        self._consumer_page = mmap.mmap(ring.fd, page)
        self._producer_pages = mmap.mmap(
            ring.fd, page + 2 * self._size, prot=mmap.PROT_READ, offset=page
        )
        self._consumer = memoryview(self._consumer_page).cast("Q")
        self._producer = memoryview(self._producer_pages)[:8].cast("Q")
        self._data = memoryview(self._producer_pages)[page:]
        self._headers = self._data.cast("I")
        self._position = self._consumer[0]
        # Taking and giving a lock is Python's only memory barrier. A processor
        # that reorders loads (arm64) must not read a record before its header,
        # nor give room back before the record is read.
        self._lock = threading.Lock()
        self._lock.acquire()

    def _barrier(self) -> None:
        self._lock.release()
        self._lock.acquire()

    def read(self, handle: Callable[[memoryview, int, int], None]) -> int:
        """Call ``handle(data, offset, length)`` for each record that is ready,
        oldest first, and give its room back; returns how many there were. The
        data is valid during the call only."""
        headers, data, mask = self._headers, self._data, self._size - 1
        count = 0
        while True:
            # First which records there are, then, behind a barrier, what is in them.
            position, producer = self._position, self._producer[0]
            self._barrier()
            records = []
            limit = min(producer, position + RELEASE_BYTES)
            while position < limit:
                offset = position & mask
                header = headers[offset >> 2]
                if header & BUSY:
                    break
                length = header & LENGTH
                if not header & DISCARDED:
                    records.append((offset + HEADER_BYTES, length))
                position += (length + HEADER_BYTES + 7) & ~7
            if position == self._position:
                return count
            self._barrier()
            for offset, length in records:
                handle(data, offset, length)
            count += len(records)
            self._barrier()
            self._position = position
            self._consumer[0] = position

    def close(self) -> None:
        for view in (self._headers, self._data, self._producer, self._consumer):
            view.release()
        self._producer_pages.close()
        self._consumer_page.close()
        os.close(self.fd)
