"""biopattern against lists of what is read in which order."""
from __future__ import annotations

import contextlib
import json
from typing import Any, Iterator

import pytest

import capture
from disks import BLOCK, SECTOR, Io, loop_disk, stat, worker
from support import Tool


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_disk(tmp_path_factory.mktemp("disk")) as name:
        yield name


IN_A_ROW = [Io("r", 8 * number, BLOCK) for number in range(1000)]
ALL_OVER = [Io("r", number * 7919 % 1000 * 16, BLOCK) for number in range(500)]


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.every_kernel
def test_in_a_row_all_over_and_both(disk: str) -> None:
    script = [*IN_A_ROW, *ALL_OVER, Io("f", 0, 0), *IN_A_ROW[:500]]
    with worker(disk) as process, Tool("biopattern", "--json", "-d", disk) as tool:
        before = stat(disk)
        process.do(script)
        after = stat(disk)
        (row,) = rows(tool.stop())
        assert b"lost" not in tool.messages
    # The first of all is neither; the others are what they are to the one before.
    places = [(one.sector, one.sector + one.size // SECTOR) for one in script if one.size]
    sequential = sum(before[1] == after[0] for before, after in zip(places, places[1:]))
    assert (row["sequential"], row["random"]) == (sequential, len(places) - 1 - sequential)
    assert sequential == 999 + 499
    assert row["count"] == after.reads - before.reads == len(places)
    assert row["bytes"] == 512 * (after.sectors_read - before.sectors_read)
    assert row["random_percent"] + row["sequential_percent"] == 100
    assert row["disk"] == disk


def test_the_order_of_a_process_and_the_columns(disk: str) -> None:
    """Two processes read in a row. Together they do not."""
    with worker(disk) as one, worker(disk) as other:
        with Tool("biopattern", "-d", disk, "1000") as both:
            with Tool("biopattern", "--json", "-p", str(one.pid)) as tool:
                for io in IN_A_ROW[:50]:
                    one.do([io])
                    other.do([Io("r", 65536 + io.sector, BLOCK)])
                (row,) = rows(tool.stop())
            head, line = both.stop().splitlines()
    assert head.split() == "TIME DISK %RND %SEQ COUNT KBYTES".split()
    assert line.split()[1:] == [disk, "100", "0", "100", "400"]
    assert (row["sequential"], row["random"], row["count"]) == (49, 0, 50)


def test_an_interval_goes_on_from_the_one_before(disk: str) -> None:
    """Where a disk has done its I/O, the place is kept for the next interval."""
    loaded = capture.load("biopattern")
    with worker(disk) as process:
        options = loaded.tool.options(["-d", disk])
        with contextlib.closing(loaded.start(options)) as trace:
            for number in range(3):
                process.do(IN_A_ROW[10 * number : 10 * number + 10])
                (row,) = trace.collect().rows
                assert (row["count"], row["random"]) == (10, 0)
                assert row["sequential"] == 10 - (number == 0)
