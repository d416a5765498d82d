"""fsdist, and its other names, against a program that counts its own operations."""
from __future__ import annotations

import json
from typing import Any

import pytest

import capture
from file_work import folder, needs_ext4, worker
from support import EMULATED, Tool

pytestmark = needs_ext4

NUMBER = 10_000
# So many reads, writes, opens and fsyncs, as one kind after the other, and in one file.
WORK = f"""
for i in range({NUMBER}):
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x", i)
    os.pread(fd, 1, i)
    os.fsync(fd)
    os.close(fd)
"""


def trace(name: str, work: str, *arguments: str) -> list[dict[str, Any]]:
    with folder("fsdist") as path, worker(path) as program:
        with Tool(name, "--json", "-p", str(program.pid), *arguments) as tool:
            program.do(work)
            lines = tool.stop().splitlines()
    return [json.loads(line) for line in lines]


def counts(histograms: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    assert not any("lost" in each for each in histograms)
    for each in histograms:
        assert each["samples"] == sum(bucket["count"] for bucket in each["buckets"])
    return {(each["key"]["fs"], each["key"]["operation"]): each["samples"] for each in histograms}


@pytest.mark.every_kernel
def test_ten_thousand_of_each_operation() -> None:
    found = counts(trace("fsdist", WORK))
    assert found == {("ext4", kind): NUMBER for kind in ("read", "write", "open", "fsync")}


def test_the_sum_of_fsyncs_is_what_the_program_waited() -> None:
    work = """
import time
fd = os.open("file", os.O_RDWR | os.O_CREAT)
took = 0
for i in range(300):
    os.pwrite(fd, b"x" * 4096, 4096 * i)
    before = time.monotonic()
    os.fsync(fd)
    took += time.monotonic() - before
os.write(os.open("took", os.O_WRONLY | os.O_CREAT), str(took).encode())
"""
    with folder("fsdist") as path, worker(path) as program:
        with Tool("ext4dist", "--json", "--summary", "-p", str(program.pid)) as tool:
            program.do(work)
            found = [json.loads(line) for line in tool.stop().splitlines()]
        took = float((path / "took").read_text())
    (fsync,) = [each for each in found if each["key"]["operation"] == "fsync"]
    assert fsync["samples"] == 300
    # The system call itself, and the clock, are all that comes to it. Emulated ones take longer.
    assert (0.2 if EMULATED else 0.8) * took < fsync["total"] / 1e6 <= took


@pytest.mark.host_only
def test_the_letter_of_the_time_is_bcc_s() -> None:
    """bcc's tools print the time unless -T is given, libbpf-tools' fsdist only if it is."""
    assert capture.load("fsdist").parser.parse_args(["-T"]).timestamp
    for name in ("ext4dist", "xfsdist", "nfsdist"):
        options = capture.load(name).parser.parse_args(["-T", "1", "2"])
        assert options.notimestamp and not options.timestamp


def test_intervals_have_the_time_by_the_names_of_bcc() -> None:
    with folder("fsdist") as path, worker(path) as program:
        program.do("fd = os.open('file', os.O_RDWR | os.O_CREAT)")
        for arguments, stamped in (("1000", True), ("-T 1000", False), ("", False)):
            with Tool("ext4dist", "-p", str(program.pid), *arguments.split()) as tool:
                program.do("os.fsync(fd)")
                lines = tool.stop().splitlines()
            assert (lines[0].count(":") == 2) == stamped
            assert lines[stamped : stamped + 2] == ["operation = fsync", "fs = ext4"]
            assert lines[stamped + 2].split()[:3] == ["usecs", ":", "count"]
