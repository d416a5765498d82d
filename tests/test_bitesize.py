"""bitesize against the list of what was read and written."""
from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, Iterator

import pytest

import capture
from disks import BLOCK, SECTOR, Io, diskstats, loop_disk, mixed, worker
from support import Tool


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_disk(tmp_path_factory.mktemp("disk")) as name:
        yield name


def counted(output: str) -> dict[tuple[str, str], Any]:
    records = [json.loads(line) for line in output.splitlines()]
    assert not any({"lost", "unmatched", "negative"} & set(record) for record in records)
    return {(one["key"]["comm"], one["key"]["operation"]): one for one in records}


def buckets(record: dict[str, Any]) -> dict[int, int]:
    return {one["lo"]: one["count"] for one in record["buckets"] if one["count"]}


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")


@pytest.mark.every_kernel
def test_sizes_by_name_and_operation(disk: str) -> None:
    script = mixed(200)
    with worker(disk) as process:
        with Tool("bitesize", "--json", "--summary", "-d", disk) as tool:
            before = diskstats(disk)
            process.do([*script, Io("f", 0, 0)])
            after = diskstats(disk)
            found = counted(tool.stop())
        comm = name_of(process.pid)
    assert set(found) == {(comm, "read"), (comm, "write")}
    for operation, sectors in (
        ("read", after.sectors_read - before.sectors_read),
        ("write", after.sectors_written - before.sectors_written),
    ):
        record = found[comm, operation]
        sizes = [one.size for one in script if one.operation == operation[0]]
        # 512 bytes are in the bucket of less than 2 KiB.
        assert buckets(record) == Counter(
            1 << (size // 1024).bit_length() - 1 if size >= 2048 else 0 for size in sizes
        )
        assert record["samples"] == len(sizes)
        assert record["total"] * 1024 == sum(sizes) == sectors * SECTOR
        assert (record["unit"], record["max"]) == ("Kbytes", max(sizes) / 1024)


def test_the_requests_of_a_process(disk: str) -> None:
    with worker(disk) as process, worker(disk) as other:
        with Tool("bitesize", "-T", "-p", str(process.pid), "1000") as tool:
            process.do([Io("r", 0, BLOCK)] * 100 + [Io("r", 4096, 32 * BLOCK)] * 50)
            other.do([Io("r", 0, BLOCK)])
            lines = tool.stop().splitlines()
        comm = name_of(process.pid)
    assert lines[1:3] == [f"comm = {comm}", "operation = read"]
    rows = [line.split() for line in lines if "|*" in line]
    assert [row[:5] for row in rows] == [
        ["4", "->", "7", ":", "100"], ["128", "->", "255", ":", "50"],
    ]  # fmt: skip


@pytest.mark.host_only
def test_a_name_that_finds_no_room_is_counted(disk: str) -> None:
    """More names at a time than are kept: their requests are lost, and that is said."""
    loaded = capture.load("bitesize")
    with worker(disk) as process:
        options = loaded.tool.options(["-p", str(process.pid)])
        with contextlib.closing(loaded.start(options)) as trace:
            process.do([Io("r", 0, BLOCK)] * 3)
            trace.program.maps["subjects"].drain()
            process.do([Io("w", 0, BLOCK)] * 2)
            collected = trace.collect()
    ((key, histogram),) = collected.rows
    assert (key["operation"], histogram.samples, collected.lost) == ("write", 2, {"lost": 3})
