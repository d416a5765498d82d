"""slabratetop against a program that makes the kernel allocate a known number of objects."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from file_work import folder, worker
from support import Tool, in_fork, needs_btf, run_tool

pytestmark = needs_btf

COUNT = 3000
# What Python and the kernel allocate beside it for the same process.
BESIDE = 100

# A new name that is not there takes a dentry each.
NAMES = f"""
for i in range({COUNT}):
    os.access(f"{{i}}-{{os.getpid()}}", os.F_OK)
"""
# An epoll takes an open file, and a structure of its own by kmalloc().
POLLS = f"""
import select
for i in range({COUNT}):
    select.epoll().close()
"""


def object_size(cache: str) -> int:
    """The bytes of an object of a cache, as the kernel says it."""
    lines = Path("/proc/slabinfo").read_text().splitlines()
    return next(int(words[3]) for words in map(str.split, lines) if words[0] == cache)


def allocated(*steps: str) -> list[dict[str, tuple[int, int]]]:
    """Of each step that a process does, the objects and bytes by cache."""
    found = []
    with folder("slabratetop") as path, worker(path) as program:
        program.do("import select")
        for step in steps:
            arguments = ["--json", "-r", "1000", "-p", str(program.pid), "1000"]
            with Tool("slabratetop", *arguments) as tool:
                program.do(step)
                lines = tool.stop().splitlines()
            rows = [json.loads(line) for line in lines]
            sizes = [row["bytes"] for row in rows]
            assert sizes == sorted(sizes, reverse=True)
            found.append({row["cache"]: (row["allocs"], row["bytes"]) for row in rows})
            assert len(found[-1]) == len(rows)
    return found


@pytest.mark.every_kernel
def test_objects_and_bytes_of_caches_and_of_kmalloc() -> None:
    names, polls, nothing = allocated(NAMES, POLLS, "pass")
    for cache, rows in (("dentry", names), ("filp", polls), ("dentry", polls)):
        objects, size = rows[cache]
        assert COUNT <= objects <= COUNT + BESIDE
        assert size == objects * object_size(cache)
    # No cache that could be one of another size.
    kmalloc = {cache: row for cache, row in polls.items() if cache.startswith("kmalloc-")}
    several = [cache for cache, (objects, _) in kmalloc.items() if objects >= COUNT]
    assert several
    for cache in several:
        objects, size = kmalloc[cache]
        assert objects <= COUNT + BESIDE and size == objects * object_size(cache)
    assert all(objects <= BESIDE for objects, _ in nothing.values())


def test_a_table_has_the_columns_of_bcc_and_as_many_rows_as_asked_for() -> None:
    with folder("slabratetop") as path, worker(path) as program:
        arguments = ["-C", "-r", "2", "-s", "count", "-p", str(program.pid), "1000"]
        with Tool("slabratetop", *arguments) as tool:
            program.do(POLLS)
            head, *lines = tool.stop().splitlines()
    assert head.split() == ["CACHE", "ALLOCS", "BYTES"]
    assert len([line for line in lines if line]) == 2
    assert all(int(line.split()[1]) >= COUNT for line in lines[:2])


@pytest.mark.host_only
def test_names_come_in_their_order() -> None:
    result = run_tool("slabratetop", "--csv", "-s", "name", "-r", "1000", "0.2", "1")
    names = [line.split(",")[1] for line in result.stdout.splitlines()[1:]]
    assert names and names == sorted(names) and result.stderr == ""
    result = in_fork("slabratetop", "-s", "bytes", "--ebpf")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
