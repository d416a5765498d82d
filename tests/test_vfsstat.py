"""vfsstat against a program that counts its own calls."""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support import Tool, python_child, run_tool

# Makes known numbers of calls in a folder, and says so; it waits before and after.
CALLS = """
import os, sys
folder = sys.argv[1] + "/"
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    fd = os.open(folder + "file", os.O_RDWR | os.O_CREAT)
    for _ in range(15):
        os.pwrite(fd, b"x", 0)
    for _ in range(10):
        os.pread(fd, 1, 0)
    os.pwritev(fd, [b"x", b"y"], 0)
    os.preadv(fd, [bytearray(1), bytearray(1)], 0)
    os.fsync(fd)
    try:
        os.fsync(999)  # does not get so far
    except OSError:
        pass
    os.fdatasync(fd)
    os.close(fd)
    os.close(os.open(folder + "file", os.O_RDONLY))
    os.mkdir(folder + "folder")
    os.rmdir(folder + "folder")
    os.unlink(folder + "file")
os.write(1, b"done\\n")
os.read(0, 1)
"""
# The read of the line that starts it began before; the write of "done" is one more.
EXPECTED = {
    "read": 20 * 11 + 1,
    "write": 20 * 16 + 1,
    "fsync": 40,
    "open": 40,
    "create": 20,
    "unlink": 20,
    "mkdir": 20,
    "rmdir": 20,
}
KINDS = list(EXPECTED)


def count(folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The pid of the program, and what vfsstat prints of it."""
    with python_child(CALLS, str(folder)) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("vfsstat", "--json", "-p", str(child.pid), *arguments, "1000") as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            lines = [json.loads(line) for line in tool.stop().splitlines()]
        return child.pid, lines


def check(counts: dict[str, Any]) -> None:
    found = {kind: counts[kind] for kind in KINDS}
    # Whether the reads before and after the work are seen depends on who is first.
    assert EXPECTED["read"] - 1 <= found.pop("read") <= EXPECTED["read"] + 1
    assert found == {kind: EXPECTED[kind] for kind in KINDS if kind != "read"}


@pytest.mark.every_kernel
def test_counts_are_the_program_s_own(tmp_path: Path) -> None:
    _, lines = count(tmp_path)
    assert len(lines) == 1 and lines[0]["seconds"] > 0
    check(lines[0])


@pytest.mark.any_types
def test_a_table_by_process(tmp_path: Path) -> None:
    pid, lines = count(tmp_path, "-P")
    assert len(lines) == 1 and lines[0]["pid"] == pid
    assert lines[0]["comm"].startswith("python3")
    check(lines[0])


@pytest.mark.any_types
def test_rates_are_per_second() -> None:
    result = run_tool("vfsstat", "0.5", "2")
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["TIME", *(f"{kind.upper()}/s" for kind in KINDS)]
    assert len(lines) == 2
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d( +\d+){8}", line) for line in lines)
    assert max(map(len, [head, *lines])) <= 80
