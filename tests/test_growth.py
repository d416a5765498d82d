"""What counters have grown by since they were last read."""
from __future__ import annotations

import os
import struct
import tracemalloc

import pytest

from pytools.compile.image import MapSpec
from pytools.load.maps import ARRAY, Map
from pytools.read.growth import MappedGrowth, RowsGrowth

pytestmark = pytest.mark.rendering


def test_rows_of_what_has_grown_the_largest_first() -> None:
    growth = RowsGrowth()
    counted = [(("a", 1), (2, 0)), (("b", 1), (5, 1)), (("c", 1), (2, 2))]
    assert growth.since_last(counted) == [("b", 1, 5, 1), ("a", 1, 2, 0), ("c", 1, 2, 2)]
    assert growth.since_last(counted) == []
    # Of one key only the second count; and a new one.
    counted = [(("a", 1), (2, 1)), (("b", 1), (5, 1)), (("c", 1), (3, 2)), (("d", 2), (1, 0))]
    assert growth.since_last(counted) == [("c", 1, 1, 0), ("a", 1, 0, 1), ("d", 2, 1, 0)]


def test_a_key_that_is_there_several_times_has_the_sum() -> None:
    growth = RowsGrowth()
    assert growth.since_last([(("a",), (1, 0)), (("a",), (1, 0)), (("b",), (1, 1))]) == [
        ("a", 2, 0), ("b", 1, 1),
    ]  # fmt: skip
    # What was on its way has ended: nothing new, but that it failed.
    assert growth.since_last([(("a",), (2, 1)), (("b",), (1, 1))]) == [("a", 0, 1)]


def test_what_was_not_counted_at_all_has_no_row() -> None:
    assert RowsGrowth().since_last([(("a",), (0, 0))]) == []


PIDS = 1 << 16


def test_counts_of_many_pids_that_are_mapped_take_little_memory() -> None:
    """Each process that ever was has a count: what was read of it takes its eight bytes."""
    memory = os.memfd_create("counts", os.MFD_CLOEXEC)
    os.ftruncate(memory, 8 * PIDS)

    def write(pid: int, count: int) -> None:
        os.pwrite(memory, struct.pack("=Q", count), 8 * pid)

    growth = MappedGrowth(Map(memory, MapSpec("counts", ARRAY, 4, 8, PIDS, 0, None, None)))
    assert growth.since_last() == {}
    write(1, 2**64 - 1)
    write(512, 3)
    assert growth.since_last() == {1: 2**64 - 1, 512: 3}
    write(512, 5)
    write(PIDS - 1, 1)
    assert growth.since_last() == {512: 2, PIDS - 1: 1}
    assert growth.since_last() == {}
    os.pwrite(memory, struct.pack("=Q", 1000) * PIDS, 0)
    tracemalloc.start()
    try:
        grown = growth.since_last()
        assert len(grown) == PIDS and grown[512] == 995 and grown[PIDS - 2] == 1000
        del grown
        assert tracemalloc.get_traced_memory()[0] < 12 * PIDS
    finally:
        tracemalloc.stop()
    os.close(memory)
