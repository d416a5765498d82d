"""syncsnoop shows each call that writes files to disk, with its file, its time and its error."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import Tool, python_child

# Makes the calls, and prints [call, milliseconds that it took at most, error].
CALLS = r"""
import ctypes, errno, json, mmap, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
file = os.open(os.fsencode(sys.argv[1]) + b"/wr\x1b[31mitten", os.O_RDWR | os.O_CREAT)
os.write(file, b"x" * 8192)
memory = mmap.mmap(file, 4096)
print("ready", flush=True)
sys.stdin.readline()
made = []
for name, call in (
    ("fsync", lambda: libc.fsync(file)),
    ("fdatasync", lambda: libc.fdatasync(file)),
    ("syncfs", lambda: libc.syncfs(file)),
    ("sync_file_range", lambda: libc.sync_file_range(
        file, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(7))),
    ("msync", lambda: memory.flush() and 0),
    ("sync", lambda: os.sync() or 0),
    ("fsync", lambda: libc.fsync(9999)),
):
    for _ in range(20 if name == "fsync" else 3 if name != "sync" else 1):
        ctypes.set_errno(0)
        began = time.monotonic()
        call()
        took = 1000 * (time.monotonic() - began)
        made.append([name, took, errno.errorcode.get(ctypes.get_errno())])
print(json.dumps(made), flush=True)
sys.stdin.readline()
"""


def trace(folder: Path, *arguments: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """The calls that were made, and what syncsnoop shows of them."""
    with python_child(CALLS, str(folder)) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("syncsnoop", "--json", "-p", str(child.pid), *arguments) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            made = json.loads(child.stdout.readline())
            events = [json.loads(line) for line in tool.stop().splitlines()]
        assert {event["pid"] for event in events} == {child.pid}
    return made, events


@pytest.mark.every_kernel
def test_each_call_is_a_line_with_its_time_and_error(tmp_path: Path) -> None:
    made, events = trace(tmp_path, "-f")
    assert [(e["call"], e["error"]) for e in events] == [(name, error) for name, _, error in made]
    for event, (name, most, error) in zip(events, made):
        assert 0 < event["lat_ms"] <= most
        has_file = name not in ("sync", "msync") and not error
        assert event["file"] == (f"{tmp_path}/wr\x1b[31mitten" if has_file else None)


@pytest.mark.any_types
def test_failures_only_and_no_files_unless_asked(tmp_path: Path) -> None:
    made, events = trace(tmp_path, "-x")
    assert [e["error"] for e in events] == ["EBADF"] * 20
    assert "file" not in events[0]


@pytest.mark.any_types
def test_text_has_bcc_s_columns(tmp_path: Path) -> None:
    with python_child(CALLS, str(tmp_path)) as child, Tool("syncsnoop", "-f") as tool:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        head, *lines = tool.stop().splitlines()
    assert head.split() == "TIME(s) COMM CALL PID LAT(ms) ERROR FILE".split()
    mine = [line for line in lines if f" {child.pid} " in line]
    assert len(mine) == 53 and "\x1b" not in "".join(mine)
    assert sum(line.endswith(f"{tmp_path}/wr\\x1b[31mitten") for line in mine) == 29
