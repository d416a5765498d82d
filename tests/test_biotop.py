"""biotop against the kernel's own counts of disks, of processes and of cgroups."""
from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Iterator

import pytest

import capture
from disks import BLOCK, Io, appears, loop_disk, mixed, module, scratch_disk, stat, worker
from support import Tool, cgroups, python_child

DELAY_NS = 20_000_000


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_disk(tmp_path_factory.mktemp("disk")) as name:
        yield name


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.every_kernel
def test_requests_and_bytes_of_each_process(disk: str) -> None:
    """The rows of two processes add up to what the disk and each process itself have counted."""
    with worker(disk) as one, worker(disk) as other:
        with Tool("biotop", "--json", "-d", disk, "--container", "1000") as tool:
            before, own = stat(disk), Counter(read_bytes(one.pid))
            one.do(mixed(300))
            other.do([Io("r", 0, BLOCK)] * 40)
            after = stat(disk)
            own = Counter(read_bytes(one.pid)) - own
            found = rows(tool.stop())
        assert b"lost" not in tool.messages
    by_process = {(row["pid"], row["t"]): row for row in found}
    assert set(by_process) == {(one.pid, "R"), (one.pid, "W"), (other.pid, "R")}
    assert {row["disk"] for row in found} == {disk}
    number = Path(f"/sys/block/{disk}/dev").read_text().strip()
    assert {f"{row['major']}:{row['minor']}" for row in found} == {number}
    reads = [row for row in found if row["t"] == "R"]
    writes = by_process[one.pid, "W"]
    assert sum(row["io"] for row in reads) == after.reads - before.reads == 240
    assert writes["io"] == after.writes - before.writes == 100
    assert sum(row["bytes"] for row in reads) == 512 * (after.sectors_read - before.sectors_read)
    assert by_process[one.pid, "R"]["bytes"] == own["read_bytes"]
    assert writes["bytes"] == own["write_bytes"]
    # The busiest first, with the average of what it has.
    assert [row["bytes"] for row in found] == sorted((row["bytes"] for row in found), reverse=True)
    for row in found:
        assert row["waits"] == row["io"] and row["avg_ns"] == row["time_ns"] // row["io"] > 0
        assert row["wait_avg_ns"] == row["wait_ns"] // row["waits"]
        assert row["cgroup"] is None and row["comm"].startswith("python")


def read_bytes(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(number) for name, number in (line.split(": ") for line in lines)}


def test_filters_rows_and_columns(disk: str) -> None:
    with worker(disk) as one, worker(disk) as other:
        with Tool("biotop", "-C", "-r", "1", "-s", "io", "-d", f"/dev/{disk}", "1000") as tool:
            with Tool("biotop", "--json", "-p", str(other.pid), "1000") as filtered:
                one.do([Io("r", 0, 8 * BLOCK)] * 10)
                other.do([Io("r", 0, BLOCK)] * 11)
                (row,) = rows(filtered.stop())
            lines = [line.split() for line in tool.stop().splitlines()]
    assert lines[0] == "PID COMM D MAJ MIN DISK I/O Kbytes AVGms QUEms".split()
    assert len(lines) == 3 and lines[2] == []
    assert (lines[1][0], lines[1][2], *lines[1][5:8]) == (str(other.pid), "R", disk, "11", "44")
    assert (row["pid"], row["io"], row["bytes"]) == (other.pid, 11, 11 * BLOCK)


@contextlib.contextmanager
def slow_disk() -> Iterator[str]:
    """A disk that takes 20 ms for a request, and one request at a time."""
    with module("mq-deadline") if not is_builtin("mq-deadline") else contextlib.nullcontext():
        with module(
            "null_blk", "nr_devices=1", "gb=1", "queue_mode=2", "irqmode=2", "submit_queues=1",
            "hw_queue_depth=1", f"completion_nsec={DELAY_NS}",
        ):  # fmt: skip
            name = os.path.basename(appears("/dev/nullb0"))
            Path(f"/sys/block/{name}/queue/scheduler").write_text("mq-deadline")
            yield name


def is_builtin(name: str) -> bool:
    builtin = Path(f"/lib/modules/{os.uname().release}/modules.builtin")
    return f"/{name}.ko" in builtin.read_text()


def test_the_time_on_the_disk_and_before_it() -> None:
    """Two requests at a time: one is with the disk for 20 ms while the other one waits."""
    if "PYTOOLS_SCRATCH" not in os.environ:
        pytest.skip(f"{os.uname().release} has no module null_blk")
    with slow_disk() as disk, worker(disk) as process:
        with Tool("biotop", "--json", "-p", str(process.pid), "1000") as tool:
            for pair in range(10):
                process.do([Io("R", 4096 * pair, BLOCK), Io("R", 4096 * pair + 2048, BLOCK)])
            (row,) = rows(tool.stop())
    assert (row["disk"], row["io"], row["waits"]) == (disk, 20, 20)
    assert row["avg_ns"] >= DELAY_NS
    assert row["wait_ns"] >= DELAY_NS  # of about ten times as long


# Writes to a file when it is told to, and to the disk only what it has written itself.
WRITER = """
import os, sys
print("ready", flush=True)
for line in sys.stdin:
    # A file is written back for whom it was first written by.
    file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.pwrite(file, b"x" * int(line), 0)
    os.close(file)
    print("done", flush=True)
"""


def tell(child: Any, line: bytes) -> None:
    child.stdin.write(line)
    child.stdin.flush()
    assert child.stdout.readline() == b"done\n"


def bytes_of_cgroup(cgroup: Path, disk: str) -> int:
    number = Path(f"/sys/block/{disk}/dev").read_text().strip()
    for line in (cgroup / "io.stat").read_text().splitlines():
        name, *counts = line.split()
        if name == number:
            return int(dict(count.split("=") for count in counts)["wbytes"])
    return 0


@pytest.mark.every_kernel
def test_write_back_is_that_of_the_cgroup_that_wrote() -> None:
    """Two cgroups write into the page cache, and the kernel writes it back for each."""
    if "PYTOOLS_SCRATCH" not in os.environ:
        pytest.skip("the io controller may be in use in a hierarchy of version 1")
    disk, folder = scratch_disk(), Path(os.environ["PYTOOLS_SCRATCH"])
    sizes = [4 << 20, 1 << 20]
    with contextlib.ExitStack() as stack:
        groups = stack.enter_context(cgroups(2, "io"))
        paths = [folder / f"biotop-{number}" for number in range(2)]
        for path in paths:
            stack.callback(path.unlink)
        # The memory's controller knows whose a page is: the io controller asks it.
        for folder in (groups[0].parent.parent, groups[0].parent):
            (folder / "cgroup.subtree_control").write_text("+memory")
        writers = [stack.enter_context(python_child(WRITER, str(path))) for path in paths]
        for writer, group in zip(writers, groups):
            assert writer.stdout and writer.stdout.readline() == b"ready\n"
            (group / "cgroup.procs").write_text(str(writer.pid))
        os.sync()
        with Tool("biotop", "--json", "-d", disk, "1000") as tool:
            before = [bytes_of_cgroup(group, disk) for group in groups]
            for writer, size in zip(writers, sizes):
                tell(writer, b"%d\n" % size)
            os.sync()
            after = [bytes_of_cgroup(group, disk) for group in groups]
            found = rows(tool.stop())
    for number, group in enumerate(groups):
        cgroup = f"/{group.parent.name}/{group.name}"
        mine = [row for row in found if row["cgroup"] == cgroup]
        assert {(row["pid"], row["comm"], row["t"]) for row in mine} == {(None, None, "W")}
        written = sum(row["bytes"] for row in mine)
        assert written == after[number] - before[number] >= sizes[number]


@pytest.mark.host_only
def test_what_finds_no_room_is_counted(disk: str, capfd: pytest.CaptureFixture[str]) -> None:
    """As many processes as there is room for, and one more."""
    loaded = capture.load("biotop")
    with worker(disk) as process:
        options = loaded.tool.options(["-p", str(process.pid)])
        with contextlib.closing(loaded.start(options)) as trace:
            amounts = trace.program.maps["amounts"]
            fill(amounts)
            process.do([Io("r", 0, BLOCK)] * 7)
            collected = trace.collect()
            assert (len(collected.rows), collected.lost) == (amounts.spec.max_entries, {"lost": 7})
            process.do([Io("r", 0, BLOCK)] * 7)
            collected = trace.collect()
            assert ([row["io"] for row in collected.rows], collected.lost) == ([7], {})


def fill(table: Any) -> None:
    """Fill a hash map of the kernel with keys that differ in their first bytes."""
    value = bytes(table.spec.value_size)
    for number in range(table.spec.max_entries):
        table.set(number.to_bytes(table.spec.key_size, "little"), value)
