"""drsnoop shows each reclaim of a task, with the pages that it has given back."""
from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from support import EMULATED, ROOT, Tool, cgroups, python_child, run_tool

PAGE = os.sysconf("SC_PAGE_SIZE")
LIMIT, WRITTEN = 32 << 20, 128 << 20
# Not in memory, as temporary files may be.
FOLDER = Path(os.environ.get("PYTOOLS_SCRATCH", ROOT / "build"))

WRITER = r"""
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.unlink(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2]) >> 20):
    os.write(file, bytes(1 << 20))
print("done", flush=True)
sys.stdin.readline()
"""


def limit(cgroup: Path) -> None:
    """Limit a cgroup's memory, whichever version it has."""
    name = "memory.max" if (cgroup / "memory.max").exists() else "memory.limit_in_bytes"
    (cgroup / name).write_text(str(LIMIT))


def given_back(cgroup: Path, seen: int) -> tuple[int, int]:
    """The pages that were taken from a cgroup since it was made: at least, and at most. What CPUs
    have counted, the kernel adds up every two seconds (since v5.15): it may come to those that
    were ``seen`` a little later."""
    for _ in range(100):
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        if "pgsteal" not in stat:
            return (WRITTEN - LIMIT) // PAGE, (WRITTEN + LIMIT) // PAGE
        pages = int(stat.get("pgsteal_direct", stat["pgsteal"]))
        if pages == seen:
            break
        time.sleep(0.1)
    # Now and then the kernel's own threads take a page. And what a task's call says has also the
    # pages of its slab caches.
    return int(0.999 * pages), int(1.001 * pages)


def trace(*arguments: str) -> tuple[list[dict[str, Any]], tuple[int, int], int]:
    """What drsnoop shows of a process that writes more than its cgroup may have, the pages that
    were given back, and the pid."""
    FOLDER.mkdir(exist_ok=True)
    with cgroups(1, "memory") as (cgroup,):
        limit(cgroup)
        with python_child(WRITER, str(FOLDER / "many"), str(WRITTEN)) as child:
            assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
            with Tool("drsnoop", "--json", "-p", str(child.pid), *arguments) as tool:
                (cgroup / "cgroup.procs").write_text(str(child.pid))
                child.stdin.write(b"\n")
                child.stdin.flush()
                assert child.stdout.readline() == b"done\n"
                events = [json.loads(line) for line in tool.stop().splitlines()]
                seen = sum(event["pages"] for event in events if event.get("scope") == "cgroup")
                return events, given_back(cgroup, seen), child.pid


@pytest.mark.every_kernel
def test_the_pages_of_a_cgroup_at_its_limit() -> None:
    events, (least, most), pid = trace()
    assert not any("lost" in event for event in events)
    events = [event for event in events if event["scope"] == "cgroup"]
    pages = sum(event["pages"] for event in events)
    assert least <= pages <= most
    for event in events:
        assert (event["pid"], event["tid"], event["order"]) == (pid, pid, 0)
        assert event["lat_ms"] > 0 and event["comm"].startswith("python3")


def memory() -> dict[str, int]:
    lines = Path("/proc/vmstat").read_text().splitlines()
    return {name: int(number) for name, number in (line.split() for line in lines)}


# Has the kernel keep more memory free than there is, but for a file's pages, and asks for some.
FILLER = r"""
import mmap, os, pathlib, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.unlink(sys.argv[1])
os.posix_fallocate(file, 0, 128 << 20)
for offset in range(0, 128 << 20, 1 << 20):
    os.pread(file, 1 << 20, offset)
print("ready", flush=True)
sys.stdin.readline()
free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
least = pathlib.Path("/proc/sys/vm/min_free_kbytes")
before = least.read_text()
least.write_text(f"{(free >> 10) + (32 << 10)}\n")
memory = mmap.mmap(-1, 16 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)
least.write_text(before)
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not EMULATED, reason="takes the memory: for a machine of its own")
def test_each_stall_of_the_machine_is_a_line() -> None:
    with python_child(FILLER, str(FOLDER / "filling")) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("drsnoop", "--json", "-v") as tool:
            before = memory()
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            after = memory()
            events = [json.loads(line) for line in tool.stop().splitlines()]
    events = [event for event in events if event["scope"] == "system"]
    stalls = sum(after[name] - before[name] for name in after if name.startswith("allocstall"))
    assert len(events) == stalls > 0
    assert sum(event["pages"] for event in events) >= (
        after["pgsteal_direct"] - before["pgsteal_direct"]
    )


@pytest.mark.any_types
def test_text_has_bcc_s_columns() -> None:
    cases: list[tuple[list[str], str]] = [
        ([], "COMM PID LAT(ms) PAGES ORDER SCOPE"),
        (["-TU", "-v"], "TIME(s) UID COMM PID LAT(ms) PAGES FREE(KB) ORDER SCOPE"),
        (["-t", str(os.getpid())], "COMM TID LAT(ms) PAGES ORDER SCOPE"),
    ]
    for options, columns in cases:
        head, *_ = run_tool("drsnoop", "--duration", "0", *options).stdout.splitlines()
        assert head.split() == columns.split()
