"""biosnoop against the list of what was read and written."""
from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from datetime import datetime, timezone
from typing import Any, Iterator

import pytest

from disks import BLOCK, SECTOR, Io, loop_disk, mixed, scratch_disk, stat, worker
from support import Tool


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_disk(tmp_path_factory.mktemp("disk")) as name:
        yield name


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def listed(found: list[dict[str, Any]]) -> list[Io]:
    return [Io(one["t"].lower(), one["sector"], one["bytes"]) for one in found]


def test_each_io_with_its_process_sector_and_bytes(disk: str) -> None:
    script = mixed(300)
    with worker(disk) as process, Tool("biosnoop", "--json", "--disk", disk) as tool:
        began, before = datetime.now(timezone.utc), stat(disk)
        process.do(script)
        ended, after = datetime.now(timezone.utc), stat(disk)
        found = events(tool.stop())
    assert listed(found) == script
    sectors = after.sectors_read - before.sectors_read
    sectors += after.sectors_written - before.sectors_written
    assert sum(one["bytes"] for one in found) == sectors * SECTOR
    assert {(one["pid"], one["disk"]) for one in found} == {(process.pid, disk)}
    assert all(one["comm"].startswith("python") for one in found)
    assert all(one["que_ms"] >= 0 and one["lat_ms"] >= 0 for one in found)
    times = [datetime.fromisoformat(one["ts"].replace("Z", "+00:00")) for one in found]
    # The tool relates the kernel's clock to the wall's once, to some microseconds.
    assert times == sorted(times)
    assert (times[0] - began).total_seconds() > -0.1 and (times[-1] - ended).total_seconds() < 0.1
    assert all("sync" in one["flags"].split("|") for one in found if one["t"] == "W")


def test_pattern_flush_and_filters(disk: str) -> None:
    """Eight in a row, one elsewhere, and a flush: of the process that is asked for."""
    row = [Io("r", 1024 + 8 * number, BLOCK) for number in range(8)]
    script = [Io("r", 0, BLOCK), *row, Io("w", 64, BLOCK), Io("f", 0, 0)]
    with worker(disk) as process, worker(disk) as other:
        with Tool("biosnoop", "-PQF", "-T", "--container", "--disk", disk) as everything:
            with Tool("biosnoop", "--csv", "-P", "-p", str(process.pid)) as tool:
                process.do(script)
                other.do([Io("r", 4096, BLOCK)] * 3)
                rows = list(csv.DictReader(io.StringIO(tool.stop())))
                head, *lines = everything.stop().splitlines()
    assert [(row["t"], int(row["sector"])) for row in rows] == [
        (one.operation.upper(), one.sector) for one in script[:-1]
    ]
    assert [row["pattern"] for row in rows][1:] == ["R", *"SSSSSSS", "R"]
    titles = "TIME COMM PID CONTAINER DISK T SECTOR BYTES P QUE(ms) LAT(ms) FLAGS"
    assert head.split() == titles.split()
    clock = re.compile(r"\d\d:\d\d:\d\d\.\d{6} ")
    assert all(clock.match(line) and line.isprintable() for line in lines)
    kinds = Counter(re.search(rf" {disk} +(\w) ", line).group(1) for line in lines)  # type: ignore
    # A flush is the block layer's own: nobody's, and of no sector.
    assert kinds == {"R": 12, "W": 1, "F": 1}
    flush = next(line for line in lines if f" {disk} " in line and re.search(r" F +- +0 ", line))
    assert flush.split()[1:3] == ["-", "-"]


def test_reads_of_a_virtio_disk_that_are_merged_or_split() -> None:
    """Where the kernel matrix has such a disk: through its own queues, up to 1 MiB."""
    if "PYTOOLS_SCRATCH" not in os.environ:
        pytest.skip(f"{os.uname().release} has no disk of the tests' own")
    disk = scratch_disk()
    sizes = (BLOCK, 16 * BLOCK, 1 << 20, SECTOR)
    script = [Io("r", number * 4096, sizes[number % 4]) for number in range(200)]
    with worker(disk, writes=False) as process:
        with Tool("biosnoop", "--json", "-p", str(process.pid)) as tool:
            before = stat(disk)
            process.do(script)
            after = stat(disk)
            found = [one for one in events(tool.stop()) if one["t"] == "R"]
    assert len(found) == after.reads - before.reads >= 200
    assert sum(one["bytes"] for one in found) == sum(one.size for one in script)
    assert sum(one["bytes"] for one in found) == (after.sectors_read - before.sectors_read) * 512
    # Those that no device splits are the list's own.
    small = [one for one in script if one.size <= 1 << 16]
    places = {one.sector for one in small}
    assert [one for one in listed(found) if one.sector in places] == small
    assert {(one["pid"], one["disk"]) for one in found} == {(process.pid, disk)}
    assert None not in [one["que_ms"] for one in found]
