"""biolatency against the kernel's own count of a disk's I/O."""
from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Iterator

import pytest

from disks import BLOCK, Io, diskstats, frozen, loop_disk, mixed, scratch_disk, stat, worker
from support import Tool, run_tool


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_disk(tmp_path_factory.mktemp("disk")) as name:
        yield name


def histograms(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.every_kernel
def test_counts_each_io_of_a_disk_as_the_kernel_does(disk: str) -> None:
    with worker(disk) as process, Tool("biolatency", "-j", "-D", "--summary") as tool:
        before = stat(disk), diskstats(disk)
        process.do(mixed(400))
        after = stat(disk), diskstats(disk)
        output = tool.stop()
    (record,) = [one for one in histograms(output) if one["key"] == {"disk": disk}]
    for old, new in zip(before, after):
        assert record["samples"] == new.reads - old.reads + new.writes - old.writes == 400
    assert sum(bucket["count"] for bucket in record["buckets"]) == 400
    # The kernel has its milliseconds from its own clock, from earlier on: from the request.
    spent = sum(new - old for old, new in ((before[0].read_ms, after[0].read_ms),
                                           (before[0].write_ms, after[0].write_ms)))  # fmt: skip
    assert record["total"] / 1000 <= spent + 1
    assert not {"lost", "unmatched", "negative"} & set(record)


def test_kinds_are_told_apart_and_queued_time_is_a_part_of_all(disk: str) -> None:
    """Two tools in the same run: all of the time, and that before the device."""
    script = mixed(100)
    found = {}
    options = {"all": "-Q", "queue": "--queue-only"}
    with worker(disk) as process, contextlib.ExitStack() as stack:
        tools = {
            name: stack.enter_context(
                Tool("biolatency", "--json", "-F", "-e", "--disk", disk, option)
            )
            for name, option in options.items()
        }
        process.do(script)
        for name, tool in tools.items():
            found[name] = {one["key"]["flags"]: one for one in histograms(tool.stop())}
    wanted = {
        kind: sum(io.operation == operation for io in script)
        for operation, kind in (("r", "read"), ("w", "write"))
    }
    for records in found.values():
        counted = dict.fromkeys(wanted, 0)
        for kind, record in records.items():
            counted[kind.split("|")[0]] += record["samples"]
            assert not {"lost", "unmatched", "negative"} & set(record)
        assert counted == wanted
    for kind, record in found["all"].items():
        assert "sync" in kind.split("|") or kind.startswith("read")
        # Each tool reads the clock for itself, with the other's programs between.
        assert record["total"] > found["queue"][kind]["total"] / 2 > 0


def test_only_the_process_that_is_asked_for(disk: str) -> None:
    with worker(disk) as process, worker(disk) as other:
        with Tool("biolatency", "--json", "-m", "-p", str(process.pid), "0.2") as tool:
            process.do(mixed(60))
            other.do(mixed(20))
            records = histograms(tool.stop())
    assert sum(record["samples"] for record in records) == 60
    assert {record["unit"] for record in records} == {"msecs"}
    assert not any({"lost", "unmatched", "negative"} & set(record) for record in records)


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_reads_of_a_virtio_disk() -> None:
    """One with a device's own queues, where the kernel matrix has such a disk."""
    if "PYTOOLS_SCRATCH" not in os.environ:
        pytest.skip(f"{os.uname().release} has no disk of the tests' own")
    disk = scratch_disk()
    with worker(disk, writes=False) as process:
        with Tool("biolatency", "--json", "-F", "-Q", "--disk", disk) as tool:
            before = stat(disk)
            process.do([Io("r", number * 64 + 8, BLOCK) for number in range(300)])
            after = stat(disk)
            records = histograms(tool.stop())
    reads = [one for one in records if one["key"]["flags"].split("|")[0] == "read"]
    assert sum(one["samples"] for one in reads) == after.reads - before.reads == 300


@pytest.mark.any_types
def test_a_disk_that_is_not_there_is_bad_usage() -> None:
    result = run_tool("biolatency", "--disk", "nothing")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "biolatency: there is no disk nothing; /proc/partitions has those that there are\n"
    )


def test_an_end_whose_beginning_was_not_seen_is_counted_apart() -> None:
    """Of a disk whose file is on a frozen file system: a write that waits for that."""
    if "PYTOOLS_SCRATCH" not in os.environ:
        pytest.skip(f"{os.uname().release} has no file system of the tests' own to freeze")
    folder = Path(os.environ["PYTOOLS_SCRATCH"])
    with loop_disk(folder) as disk, worker(disk) as process:
        with frozen(folder):
            process.begin([Io("w", 0, BLOCK)])
            while Path(f"/sys/block/{disk}/inflight").read_text().split() != ["0", "1"]:
                os.sched_yield()
            tool = Tool("biolatency", "--json", "--disk", disk)
        with tool:
            process.wait()
            process.do([Io("w", 8, BLOCK)])
            with frozen(folder):
                # One that has not ended when the tool does is in nothing.
                process.begin([Io("w", 16, BLOCK)])
                while Path(f"/sys/block/{disk}/inflight").read_text().split() != ["0", "1"]:
                    os.sched_yield()
                (record,) = histograms(tool.stop())
            process.wait()
    assert (record["samples"], record["unmatched"]) == (1, 1)
    assert b"biolatency: 1 requests unmatched: they began unseen" in tool.messages
