"""What counters have grown by since they were last read."""
from __future__ import annotations

import pytest

from pytools.read.growth import RowsGrowth

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
