"""slabratetop against a program that knows which objects of the kernel it needs."""
from __future__ import annotations

import json
import os
from typing import Any

import pytest

from support import Tool, python_child, run_tool

NAMES, FILES = 3000, 500
# Each name that is not there needs a dentry, each eventfd(2) a dentry and some memory of kmalloc().
CHILD = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None)
names = [f"/dev/shm/pytools-{{os.getpid()}}-{{number}}" for number in range({NAMES})]
print("ready", flush=True)
sys.stdin.readline()
for name in names:
    try:
        os.stat(name)
    except FileNotFoundError:
        pass
for _ in range({FILES}):
    libc.close(libc.eventfd(0, 0))
print("done", flush=True)
sys.stdin.readline()
"""


def slab_sizes() -> dict[str, int]:
    """The bytes of an object, by the name of the cache."""
    with open("/proc/slabinfo") as lines:
        return {line.split()[0]: int(line.split()[3]) for line in list(lines)[2:]}


def test_objects_of_known_number() -> None:
    with python_child(CHILD) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("slabratetop", "--json", "-r", "1000", "-p", str(child.pid), "1000") as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            output = tool.stop()
    rows: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    found = {row["cache"]: row for row in rows if "cache" in row}
    # What interrupts allocate meanwhile is counted, too; what is missed is said.
    missed = sum(row.get("lost", 0) for row in rows)
    dentries = NAMES + FILES
    assert dentries - missed <= found["dentry"]["allocs"] <= dentries + 100
    assert found["dentry"]["bytes"] == found["dentry"]["allocs"] * slab_sizes()["dentry"]
    of_kmalloc = [row for name, row in found.items() if name.startswith("kmalloc-")]
    assert sum(row["allocs"] for row in of_kmalloc) >= FILES - missed
    assert [row["bytes"] for row in rows if "cache" in row] == sorted(
        (row["bytes"] for row in found.values()), reverse=True
    )


@pytest.mark.host_only
def test_names_are_those_of_slabinfo() -> None:
    result = run_tool("slabratetop", "--json", "-s", "name", "-r", "1000", "0.5", "1")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    names = [row["cache"] for row in rows if "cache" in row]
    assert names == sorted(names)
    known = {*slab_sizes(), "kmalloc-large"}
    if os.path.isdir("/sys/kernel/slab"):  # the names of merged caches, too
        known |= set(os.listdir("/sys/kernel/slab"))
    assert set(names) <= known


@pytest.mark.host_only
def test_few_rows_and_another_order() -> None:
    result = run_tool("slabratetop", "-C", "-r", "3", "-s", "count", "0.5", "1")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["CACHE", "ALLOCS", "BYTES"] and len(lines) == 5
    counts = [int(line.split()[1]) for line in lines[1:4]]
    assert counts == sorted(counts, reverse=True)
