"""biosnoop against the list of what was read and written."""
from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import mmap
import os
import re
import struct
import subprocess
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterator

import pytest

from disks import (
    BLOCK,
    DISK_BYTES,
    SECTOR,
    Io,
    Stat,
    Worker,
    appears,
    diskstats,
    frozen,
    loop_disk,
    mixed,
    module,
    scratch_disk,
    stat,
    worker,
)
from support import Tool

SHORT_TRANSFER = "0x100"  # SDEBUG_OPT_SHORT_TRANSFER, drivers/scsi/scsi_debug.c
ZONE_MIB = 4
ZONE_SECTORS = (ZONE_MIB << 20) // SECTOR
BLKRESETZONE = 0x40101283  # include/uapi/linux/blkzoned.h


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_disk(tmp_path_factory.mktemp("disk")) as name:
        yield name


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def listed(found: list[dict[str, Any]]) -> list[Io]:
    return [Io(one["t"].lower(), one["sector"], one["bytes"]) for one in found]


@pytest.mark.every_kernel
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


@contextlib.contextmanager
def file_system(folder: Path) -> Iterator[Path]:
    """A file system that can be frozen: that of the kernel matrix, or one of its own."""
    if "PYTOOLS_SCRATCH" in os.environ:
        yield Path(os.environ["PYTOOLS_SCRATCH"])
        return
    (folder / "mounted").mkdir()
    with open(folder / "image", "wb") as file:
        file.truncate(4 * DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", folder / "image"], check=True)
    subprocess.run(["mount", "-o", "loop", folder / "image", folder / "mounted"], check=True)
    try:
        yield folder / "mounted"
    finally:
        subprocess.run(["umount", folder / "mounted"], check=True)


LONG_MS = 200


def test_only_those_that_take_long(tmp_path: Path) -> None:
    """Two writes to a disk whose file is on a frozen file system, before and between others."""
    long = [Io("w", 0, BLOCK), Io("w", 4096, BLOCK)]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(file_system(tmp_path))
        disk = stack.enter_context(loop_disk(folder))
        process = stack.enter_context(worker(disk))
        everything = stack.enter_context(Tool("biosnoop", "--json", "--disk", disk))
        slow = stack.enter_context(Tool("biosnoop", "--json", "-m", str(LONG_MS), "--disk", disk))
        for one in long:
            with frozen(folder):
                began = time.monotonic()
                process.begin([one])
                while Path(f"/sys/block/{disk}/inflight").read_text().split() != ["0", "1"]:
                    os.sched_yield()
                while time.monotonic() < began + 2 * LONG_MS / 1000:
                    os.sched_yield()
            process.wait()
            process.do([Io("r", 1024 + 64 * number, BLOCK) for number in range(100)])
        found, seen = events(slow.stop()), events(everything.stop())
    assert len(seen) == 202
    assert listed(found) == listed([one for one in seen if one["lat_ms"] >= LONG_MS])
    assert not set(long) - set(listed(found))


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


def next_to_each_other(operation: str) -> list[Io]:
    """Three blocks from back to front, and three from front to back."""
    return [Io(operation, sector, BLOCK) for sector in (24, 16, 8, 64, 72, 80)]


def read_by_halves(process: Worker, disk: str) -> list[Io]:
    """Two reads of a disk that does every other command by half: three commands."""
    script = [Io("r", 64, BLOCK), Io("r", 128, BLOCK)]
    counter = Path(f"/sys/block/{disk}/device/iodone_cnt")
    before = int(counter.read_text(), 16)
    driver = Path("/sys/bus/pseudo/drivers/scsi_debug")
    (driver / "opts").write_text(SHORT_TRANSFER)
    (driver / "every_nth").write_text("2")
    process.do(script)
    (driver / "opts").write_text("0")
    assert int(counter.read_text(), 16) - before == 3
    return script


def write_zone_and_reset(disk: str, zone: int) -> None:
    """Write the first two blocks of a zone, and have it empty again."""
    memory = mmap.mmap(-1, BLOCK)
    file = os.open(f"/dev/{disk}", os.O_RDWR | os.O_DIRECT)
    for block in range(2):
        assert os.pwritev(file, [memory], zone * SECTOR + block * BLOCK) == BLOCK
    fcntl.ioctl(file, BLKRESETZONE, struct.pack("=QQ", zone, ZONE_SECTORS))
    os.close(file)


def test_requests_that_are_merged_or_done_by_halves_or_on_zones(tmp_path: Path) -> None:
    """Both tools watch at once, and the kernel counts as they do. In the kernel matrix
    on a virtio disk, one that does a part of a request first, and one of zones, as well."""
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(loop_disk(tmp_path))
        # Against merging for its own sake, as its file's pages are merged anyway.
        Path(f"/sys/block/{loop}/queue/nomerges").write_text("0")
        merged, others = [loop], []
        if "PYTOOLS_SCRATCH" in os.environ:
            merged.append(scratch_disk())
            if subprocess.run(["modinfo", "scsi_debug"], capture_output=True).returncode:
                pytest.skip(f"{os.uname().release} has no module scsi_debug")  # arm64 of Debian
            stack.enter_context(module("sd_mod"))  # no udev loads it
            stack.enter_context(module("scsi_debug", "dev_size_mb=8", "delay=0"))
            stack.enter_context(
                module("null_blk", "nr_devices=1", "gb=1", "zoned=1", f"zone_size={ZONE_MIB}")
            )
            halves = os.path.basename(appears("/sys/bus/pseudo/drivers/scsi_debug/*/*/*/*/block/*"))
            zoned = os.path.basename(appears("/dev/nullb0"))
            others = [halves, zoned]
            reader = stack.enter_context(worker(halves))
        workers = [stack.enter_context(worker(disk, writes=disk == loop)) for disk in merged]
        histograms = stack.enter_context(Tool("biolatency", "--json", "-D"))
        lines = stack.enter_context(Tool("biosnoop", "--json"))
        before = {disk: diskstats(disk) for disk in [*merged, *others]}
        for process, operation in zip(workers, "WR"):
            process.do(next_to_each_other(operation))
        if others:
            script = read_by_halves(reader, halves)
            write_zone_and_reset(zoned, 3 * ZONE_SECTORS)
        after = {disk: diskstats(disk) for disk in before}
        found = events(lines.stop())
        counted = {one["key"]["disk"]: one["samples"] for one in events(histograms.stop())}
    by_disk = {disk: [one for one in found if one["disk"] == disk] for disk in before}
    for disk, process, operation in zip(merged, workers, "wr"):
        # A direct read writes what the page cache has of the file system's own first.
        mine = [
            one
            for one in by_disk[disk]
            if one["pid"] == process.pid and one["t"][0].lower() == operation
        ]
        if disk == loop:
            assert sorted(listed(mine)) == [Io("w", first, 3 * BLOCK) for first in (8, 64)]
        assert sum(one["bytes"] for one in mine) == 6 * BLOCK
        assert None not in [one["que_ms"] for one in mine]
        done = Stat(*(new - old for old, new in zip(before[disk], after[disk])))
        merges = {"w": done.writes_merged, "r": done.reads_merged}
        requests = {"w": (done.writes, done.sectors_written), "r": (done.reads, done.sectors_read)}
        # How many it merges on a disk of several queues is the kernel's own affair (5.10).
        assert merges[operation] == 6 - len(mine)
        assert requests[operation] == (len(mine), 48)
    if others:
        # What the disk has done of it before, and the rest, are one request.
        assert listed(by_disk[halves]) == script
        first = 3 * ZONE_SECTORS
        kinds = [(one["t"], one["sector"], one["bytes"]) for one in by_disk[zoned]]
        assert kinds == [("W", first, BLOCK), ("W", first + 8, BLOCK), ("N", None, 0)]
    for disk in [loop, *others[:1]]:
        old, new = before[disk], after[disk]
        done_in_all = new.reads - old.reads + new.writes - old.writes
        assert done_in_all == len(by_disk[disk])
    assert all(counted[disk] == len(by_disk[disk]) for disk in before)
    assert b"unmatched" not in lines.messages + histograms.messages


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
