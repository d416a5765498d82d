"""filetop against a program that knows how much of each file it reads and writes."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from file_work import folder, worker
from support import Tool, in_fork, needs_functions, wait_for_state

pytestmark = needs_functions

# Of each of ten files, one more call than of the one before; one call fails, one reads nothing.
WORK = """
for i in range(10):
    fd = os.open(f"file{i}", os.O_RDWR | os.O_CREAT)
    for _ in range(i + 1):
        os.write(fd, b"x" * 1000)
        os.pwritev(fd, [b"y" * 10, b"z" * 20], 0)
        os.pread(fd, 1 << 20, 0)
        os.preadv(fd, [bytearray(100), bytearray(100)], 0)
    os.read(fd, 100)
    os.close(fd)
os.makedirs("inner/most", exist_ok=True)
fd = os.open("inner/most/file0", os.O_RDWR | os.O_CREAT)
os.write(fd, b"1234567")
os.close(fd)
"""
PIPE = """
read, write = os.pipe()
os.write(write, b"12345")
os.read(read, 10)
"""


def expected(path: Path) -> dict[str, tuple[int, int, int, int]]:
    """Of each file: reads, writes, bytes read, bytes written. It grows by 1000 bytes each time."""
    found = {}
    for i in range(10):
        times = i + 1
        read = sum(1000 * (k + 1) for k in range(times)) + 200 * times
        found[f"{path}/file{i}"] = 2 * times + 1, 2 * times, read, 1030 * times
    found[f"{path}/inner/most/file0"] = 0, 1, 0, 7
    return found


def rows(path: Path, work: str, *arguments: str) -> list[dict[str, Any]]:
    with worker(path) as program:
        with Tool("filetop", "--json", "-p", str(program.pid), *arguments, "1000") as tool:
            program.do(work)
            lines = tool.stop().splitlines()
        assert b"lost" not in tool.messages
        found = [json.loads(line) for line in lines]
        assert all(row["tid"] == row["pid"] == program.pid for row in found)
    return found


def amounts(found: list[dict[str, Any]]) -> dict[str, tuple[int, int, int, int]]:
    return {
        row["file"]: (row["reads"], row["writes"], row["rbytes"], row["wbytes"]) for row in found
    }


@pytest.mark.every_kernel
def test_calls_and_bytes_of_each_file() -> None:
    with folder("filetop") as path:
        found = rows(path, WORK)
        assert amounts(found) == expected(path)
    assert {row["t"] for row in found} == {"R"}
    # The busiest first.
    assert [row["file"][-5:] for row in found[:3]] == ["file9", "file8", "file7"]


def test_the_sums_are_those_of_proc() -> None:
    """Of a program that reads and writes files only, on its pipes to the test as well."""

    def io() -> tuple[int, int]:
        # It waits for a line again: the kernel has added up what it wrote.
        wait_for_state(program.pid, "S")
        lines = Path(f"/proc/{program.pid}/io").read_text().splitlines()
        numbers = dict(line.split(": ") for line in lines)
        return int(numbers["rchar"]), int(numbers["wchar"])

    with folder("filetop") as path, worker(path) as program:
        program.do("pass")
        with Tool("filetop", "--json", "-a", "-p", str(program.pid), "1000") as tool:
            before = io()
            program.do(WORK)
            after = io()
            found = [json.loads(line) for line in tool.stop().splitlines()]
    # The read of the line that starts it began before, and is not seen.
    line = len(f"{WORK!r}\n")
    for name, then, now, unseen in zip(("rbytes", "wbytes"), before, after, (line, 0)):
        assert sum(row[name] for row in found) == now - then - unseen


def test_a_directory_a_direction_and_an_order() -> None:
    with folder("filetop") as path:
        (path / "inner" / "most").mkdir(parents=True)
        only = rows(path, WORK, "-d", str(path / "inner" / "most"))
        assert amounts(only) == {f"{path}/inner/most/file0": (0, 1, 0, 7)}
        written = rows(path, WORK, "--write-only", "-s", "writes", "-r", "2")
        assert [row["writes"] for row in written] == [20, 18]
        assert {row["reads"] for row in written} == {0}


def test_what_is_no_regular_file() -> None:
    with folder("filetop") as path:
        assert rows(path, PIPE) == []
        found = [row for row in rows(path, PIPE, "-a") if row["rbytes"] == row["wbytes"] == 5]
    assert [(row["t"], row["reads"], row["writes"]) for row in found] == [("O", 1, 1)]


def test_a_path_that_is_too_long_lacks_its_beginning() -> None:
    deep = "/".join(["d" * 100] * 10)
    work = f"os.makedirs({deep!r}); os.write(os.open({deep!r} + '/f', 65, 0o600), b'x')"
    with folder("filetop") as path:
        (row,) = rows(path, work)
    assert row["file"].startswith(".../ddd") and row["file"].endswith("d/f")
    assert len(row["file"]) > 250


@pytest.mark.host_only
def test_what_is_no_directory_is_refused() -> None:
    for name, why in (("/nonesuch", "there is no directory"), ("/etc/passwd", "is no directory")):
        result = in_fork("filetop", "-d", name, "--ebpf")
        assert result.returncode == 2 and why in result.stderr
