"""fsslower, and its other names, against a program that knows what it does to its files."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import capture
from file_work import SCRATCH, folder, needs_ext4, worker
from pytools.facts.kernel import running
from support import Tool, cgroups, in_fork

pytestmark = needs_ext4

# Each kind of operation, of known sizes and places.
WORK = """
import resource
fd = os.open("file", os.O_RDWR | os.O_CREAT)
for i in range(100):
    os.pwrite(fd, b"x" * (i + 1), 1000 * i)
for i in range(50):
    os.preadv(fd, [bytearray(10), bytearray(20)], 1024 * i)
os.fsync(fd)
os.fdatasync(fd)
os.pread(fd, 1, 1 << 40)  # behind the end
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    os.pwrite(fd, b"x", 1 << 20)
except OSError as error:
    assert error.errno == 27
os.close(fd)
fd = os.open("file", os.O_WRONLY | os.O_APPEND)
end = os.fstat(fd).st_size
os.write(fd, b"1234")
os.close(fd)
"""
END = 99 * 1000 + 100  # of the file, before something is appended


def trace(path: Path, name: str, work: str, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    with worker(path) as program:
        with Tool(name, "--json", "-p", str(program.pid), *arguments) as tool:
            program.do(work)
            lines = tool.stop().splitlines()
        return program.pid, [json.loads(line) for line in lines]


@pytest.mark.every_kernel
@pytest.mark.parametrize("name", ["fsslower", "ext4slower"])
def test_all_operations_of_a_process(name: str) -> None:
    with folder(name) as path:
        (path / "in\x1bner").mkdir()
        pid, events = trace(path / "in\x1bner", name, WORK, "0")
    found = [
        (event["operation"], event["offset"], event["bytes"], event["error"]) for event in events
    ]
    assert found == [
        ("open", 0, 0, None),
        *(("write", 1000 * i, i + 1, None) for i in range(100)),
        *(("read", 1024 * i, 30, None) for i in range(50)),
        ("fsync", 0, 0, None),
        ("fsync", 0, 0, None),
        ("read", 1 << 40, 0, None),
        ("write", 1 << 20, None, "EFBIG"),
        ("open", 0, 0, None),
        ("write", END, 4, None),
    ]
    assert {event["filename"] for event in events} == {f"{path}/in\x1bner/file"}
    assert {(event["fs"], event["pid"]) for event in events} == {("ext4", pid)}
    assert all(event["t"] == event["operation"][0].upper().replace("F", "S") for event in events)
    assert all(event["lat_ms"] > 0 for event in events)


def test_a_slow_read_alone_is_over_the_limit() -> None:
    """At 4 MB/s, 512 KiB take more than 100 ms; the program's own clock is the witness."""
    if not running().has_kprobes:
        pytest.skip(f"{os.uname().release} has no kprobes")
    read = """
import mmap, time
file = os.open("file", os.O_RDONLY | os.O_DIRECT)
memory = mmap.mmap(-1, 1 << 19)
before = time.monotonic()
assert os.preadv(file, [memory], 0) == 1 << 19
open("seconds", "w").write(str(time.monotonic() - before))
"""
    device = os.stat(SCRATCH).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with folder("fsslower") as path, cgroups(1, "io") as (cgroup,), worker(path) as program:
        (path / "file").write_bytes(b"x" * (1 << 19))
        os.sync()
        (cgroup / "io.max").write_text(f"{number} rbps=4000000")
        (cgroup / "cgroup.procs").write_text(str(program.pid))
        with Tool("fsslower", "--json", "-p", str(program.pid), "-m", "50") as tool:
            program.do(read)
            events = [json.loads(line) for line in tool.stop().splitlines()]
        seconds = float((path / "seconds").read_text())
    (event,) = events
    assert (event["t"], event["bytes"], event["filename"]) == ("R", 1 << 19, f"{path}/file")
    assert 50 < event["lat_ms"] <= 1000 * seconds


def test_the_columns_are_those_of_bcc() -> None:
    with folder("fsslower") as path, worker(path) as program:
        with Tool("ext4slower", "-p", str(program.pid), "0") as tool:
            program.do("os.write(os.open('a file', os.O_CREAT | os.O_WRONLY), b'x' * 5000)")
            head, *lines = tool.stop().splitlines()
    assert head.split() == "TIME COMM PID T BYTES OFF_KB LAT(ms) FILENAME".split()
    fields = [line.split(maxsplit=7) for line in lines]
    assert [(each[3], each[4], each[5], each[7]) for each in fields] == [
        ("O", "0", "0", f"{path}/a file"),
        ("W", "5000", "0", f"{path}/a file"),
    ]


@pytest.mark.host_only
def test_a_name_is_about_its_file_system() -> None:
    for name, kind in (("ext4slower", "ext4"), ("zfsslower", "zfs"), ("fsslower", "")):
        module = capture.load(name)
        assert module.tool.name == name and module.tool.options([]).type == kind
    assert "--type" not in capture.load("nfsslower").parser._option_string_actions


@pytest.mark.host_only
def test_a_file_system_that_is_not_there_is_named() -> None:
    result = in_fork("zfsslower", "--ebpf")
    assert result.returncode == 1
    assert "this kernel has no zfs, or has not loaded its module" in result.stderr
