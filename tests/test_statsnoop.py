"""statsnoop against a program that says what each of its calls returned."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from file_work import worker
from pytools.facts.kernel import running
from pytools.facts.syscalls import numbers
from support import Tool

# The calls that this machine has, with where the name is among their arguments.
PLACES = {"newstat": 0, "newlstat": 0, "newfstatat": 1, "statx": 1, "statfs": 0}
KNOWN_AS = {"newstat": "stat", "newlstat": "lstat"}
CALLS = [name for name in PLACES if running().has_tracepoint("syscalls", f"sys_exit_{name}")]

# Makes system calls of known names; in fresh memory, which the kernel has to bring first.
SETUP = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)

def call(kind, name, directory=-100, flags=0):
    memory = mmap.mmap(-1, 8192)
    memory[: len(name) + 1] = name + b"\\0"
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    path, out = ctypes.c_void_p(address), ctypes.c_void_p(ctypes.addressof(buffer))
    arguments = {
        "newstat": (path, out), "newlstat": (path, out), "statfs": (path, out),
        "newfstatat": (directory, path, out, flags), "statx": (directory, path, flags, 0x7ff, out),
    }[kind]
    return libc.syscall(NUMBERS[kind], *arguments)
"""


def trace(path: Path, work: str, *arguments: str) -> list[dict[str, Any]]:
    known = {name: numbers(KNOWN_AS.get(name, name))[0] for name in CALLS}
    with worker(path) as program:
        program.do(f"NUMBERS = {known}\n{SETUP}")
        with Tool("statsnoop", "--json", "-p", str(program.pid), *arguments) as tool:
            program.do(work)
            lines = tool.stop().splitlines()
        events = [json.loads(line) for line in lines]
        assert all(event["pid"] == program.pid for event in events)
    return events


def seen(events: list[dict[str, Any]]) -> list[tuple[str, int, int, str]]:
    return [(event["syscall"], event["fd"], event["err"], event["path"]) for event in events]


@pytest.mark.every_kernel
def test_a_thousand_names_of_which_half_are_missing(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    work = f"""
for i in range(1000):
    call({CALLS}[i % {len(CALLS)}], b"there" if i % 2 else b"missing%d" % i)
"""
    found = seen(trace(tmp_path, work))
    assert found == [
        (CALLS[i % len(CALLS)], 0 if i % 2 else -1, 0 if i % 2 else 2,
         "there" if i % 2 else f"missing{i}")
        for i in range(1000)
    ]  # fmt: skip
    failed = seen(trace(tmp_path, work, "-x"))
    assert failed == [each for each in found if each[2]]


def test_whole_paths_of_relative_names_and_of_descriptors(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "file").touch()
    work = """
directory = os.open("inner", os.O_RDONLY)
file = os.open("inner/file", os.O_RDONLY)
call("newfstatat", b"file", directory)
call("newfstatat", b"inner/file")
call("newfstatat", b"/etc/passwd", directory)
call("newfstatat", b"", file, 0x1000)
call("statx", b"", directory, 0x1000)
call("statx", b"", directory)
"""
    names = [each[3] for each in seen(trace(tmp_path, work, "-F"))]
    assert names == [
        f"{inner}/file", f"{inner}/file", "/etc/passwd", f"{inner}/file", str(inner), f"{inner}/",
    ]  # fmt: skip
    given = [each[3] for each in seen(trace(tmp_path, work))]
    assert given == ["file", "inner/file", "/etc/passwd", f"{inner}/file", str(inner), ""]


def test_the_columns_are_those_of_bcc(tmp_path: Path) -> None:
    with worker(tmp_path) as program:
        with Tool("statsnoop", "-ts", "-p", str(program.pid)) as tool:
            program.do("os.path.exists('/no such\\x1b file')")
            head, line = tool.stop().splitlines()
    assert head.split() == "TIME(s) PID COMM FD ERR SYSCALL PATH".split()
    assert line.split(maxsplit=6)[3:] == ["-1", "2", line.split()[5], r"/no such\x1b file"]
    assert line.split()[5] in CALLS


@pytest.mark.any_types
def test_the_file_descriptor_of_fstat(tmp_path: Path) -> None:
    """glibc makes of fstat(2) a call with an empty name, or one that has none."""
    work = """
file = os.open("file", os.O_RDONLY | os.O_CREAT)
out = ctypes.c_void_p(ctypes.addressof(buffer))
libc.syscall(NUMBERS["newfstatat"], file, None, out, 0x1000)
"""
    events = trace(tmp_path, work)
    if events[0]["err"]:
        pytest.skip(f"{os.uname().release} has no fstatat(2) without a name")
    assert [event["path"] for event in events] == [f"{tmp_path}/file"]
