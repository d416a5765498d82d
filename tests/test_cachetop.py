"""cachetop against two processes that read and write files of known size."""
from __future__ import annotations

import json
import pwd
from typing import Any

import pytest

from file_work import folder, needs_ext4, worker
from support import Tool, in_fork, needs_functions
from test_cachestat import DROP, OWN, PAGE, PAGES, READ, WRITE

REWRITE = f"""
file = os.open("file", os.O_WRONLY)
os.fsync(file)
for i in range({PAGES}):
    os.pwrite(file, b"z" * {PAGE}, {PAGE} * i)
os.close(file)
"""
# What a file system makes dirty beside the pages of a file: the inode's, bitmaps.
BESIDE = 64
COLUMNS = "PID UID CMD HITS MISSES DIRTIES READ_HIT% WRITE_HIT%".split()


def rows(output: str) -> dict[int, dict[str, Any]]:
    """The rows of one table by process, which come the busiest first."""
    return {row["pid"]: row for row in map(json.loads, output.splitlines())}


@pytest.mark.every_kernel
@needs_ext4
@needs_functions
def test_each_process_has_what_it_asks_for_and_makes_dirty() -> None:
    """One reads a file twice, the other one writes a new file, and writes it again when it is on
    the disk."""
    with folder("reads") as first, folder("writes") as second:
        with worker(first) as reader, worker(second) as writer:
            pids = f"{reader.pid},{writer.pid}"
            reader.do(WRITE + DROP)
            with Tool("cachetop", "--json", "-p", pids, "-s", "misses", "1000") as tool:
                reader.do(READ + READ)
                writer.do(WRITE)
                found = rows(tool.stop())
                assert b"lost" not in tool.messages
            with Tool("cachetop", "--json", "-p", pids, "-s", "dirties", "1000") as tool:
                writer.do(REWRITE)
                again = rows(tool.stop())
    assert list(found) == [reader.pid, writer.pid]
    read, written, rewritten = found[reader.pid], found[writer.pid], again[writer.pid]
    assert PAGES <= read["misses"] <= PAGES + OWN
    assert 2 * PAGES <= read["hits"] + read["misses"] <= 2 * PAGES + OWN
    assert 49 < read["read_hit"] < 52 and read["dirties"] <= BESIDE
    assert written["misses"] == rewritten["misses"] == 0
    for row in (written, rewritten):
        assert PAGES <= row["dirties"] <= PAGES + BESIDE
        assert row["hits"] <= OWN and row["uid"] == 0 and row["comm"].startswith("python")
    assert written["write_misses"] == PAGES and written["write_hit"] < 5
    assert rewritten["write_misses"] == 0 and rewritten["write_hit"] == 100


@needs_ext4
@needs_functions
def test_a_table_has_the_columns_of_bcc_and_names_users() -> None:
    nobody = pwd.getpwnam("nobody")
    with folder("cachetop") as path, worker(path) as program:
        program.do(WRITE + f"os.setresuid(*[{nobody.pw_uid}] * 3)")
        with Tool("cachetop", "-C", "-p", str(program.pid), "1000") as tool:
            program.do(READ)
            head, line, *rest = tool.stop().splitlines()
    assert head.split() == COLUMNS and not any(rest)
    cells = line.split()
    assert (cells[0], cells[1]) == (str(program.pid), "nobody")
    hits, misses, dirties = map(int, cells[3:6])
    # A page of the file system's own may have the time of the access.
    assert PAGES <= hits <= PAGES + OWN and misses == 0 and dirties <= OWN
    assert cells[6] == "100.0%"


@pytest.mark.host_only
def test_the_order_is_one_of_its_columns() -> None:
    for column in ("hits", "misses", "dirties", "read-hit", "write-hit", "pid"):
        assert in_fork("cachetop", "-s", column, "--ebpf").returncode == 0
    result = in_fork("cachetop", "-s", "size", "--ebpf")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
