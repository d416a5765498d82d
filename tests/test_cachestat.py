"""cachestat against reads of files of known size, and the kernel's own counters."""
from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any


import pytest

from file_work import folder, needs_ext4, worker
from support import Tool

pytestmark = needs_ext4

PAGES = 4096
PAGE = mmap.PAGESIZE
# Page faults of the process itself, in its own program and libraries.
OWN = 32

READ = """
file = os.open("file", os.O_RDONLY)
while os.read(file, 1 << 16):
    pass
os.close(file)
"""
DROP = """
file = os.open("file", os.O_RDONLY)
os.fsync(file)
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
os.close(file)
"""
WRITE = f"""
file = os.open("file", os.O_WRONLY | os.O_CREAT)
for i in range({PAGES}):
    os.pwrite(file, b"x" * {PAGE}, {PAGE} * i)
os.close(file)
"""
MAP = f"""
import mmap
file = os.open("file", os.O_RDONLY)
memory = mmap.mmap(file, 0, prot=mmap.PROT_READ)
assert all(memory[{PAGE} * i] == ord("x") for i in range({PAGES}))
memory.close()
os.close(file)
"""
SEND = f"""
file, sink = os.open("file", os.O_RDONLY), os.open("/dev/null", os.O_WRONLY)
left = {PAGES * PAGE}
while left:
    left -= os.sendfile(sink, file, None, left)
"""


def counts(path: Path, *steps: str, before: str = WRITE + DROP) -> list[dict[str, Any]]:
    """What cachestat says of each step that a process does in a folder."""
    found = []
    with worker(path) as program:
        program.do(before)
        for step in steps:
            with Tool("cachestat", "--json", "-p", str(program.pid), "1000") as tool:
                program.do(step)
                lines = tool.stop().splitlines()
            found.append(json.loads(lines[0]))
            assert len(lines) == 1
    return found


@pytest.mark.every_kernel
def test_a_file_that_is_read_twice() -> None:
    """Each of its pages is a miss, and then a hit."""
    with folder("cachestat") as path:
        cold, warm, dropped, again = counts(path, READ, READ, DROP, READ)
    assert cold["misses"] == again["misses"] == PAGES and warm["misses"] == dropped["misses"] == 0
    assert PAGES <= warm["hits"] <= PAGES + OWN
    assert max(cold["hits"], dropped["hits"], again["hits"]) <= OWN
    assert cold["hitratio"] < 1 and warm["hitratio"] == 100


@pytest.mark.every_kernel
def test_what_was_written_is_a_hit_and_dirty() -> None:
    """Each page becomes dirty once; the kernel's own count (nr_dirtied) is of the whole machine."""
    with folder("cachestat") as path:
        before = dirtied()
        written, read = counts(path, WRITE, READ, before="pass")
        assert dirtied() - before >= PAGES
    assert PAGES <= written["dirties"] <= PAGES + 64  # and the inode's, the bitmaps'
    assert written["hits"] <= OWN and written["misses"] == read["misses"] == 0
    assert PAGES <= read["hits"] <= PAGES + OWN


def dirtied() -> int:
    lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(lines["nr_dirtied"])


def test_reads_of_a_part_of_a_page() -> None:
    """A page that is read in four parts is asked for four times, and comes once."""
    parts = f"""
file = os.open("file", os.O_RDONLY)
while os.read(file, {PAGE // 4}):
    pass
"""
    with folder("cachestat") as path:
        cold, warm = counts(path, parts, parts)
    assert cold["misses"] == PAGES and 3 * PAGES <= cold["hits"] <= 3 * PAGES + OWN
    assert warm["misses"] == 0 and 4 * PAGES <= warm["hits"] <= 4 * PAGES + OWN


def test_what_sendfile_reads() -> None:
    with folder("cachestat") as path:
        cold, warm = counts(path, SEND, SEND)
    assert cold["misses"] == PAGES and cold["hits"] <= OWN
    assert warm["misses"] == 0 and PAGES <= warm["hits"] <= PAGES + OWN


def test_page_faults_of_a_mapped_file() -> None:
    """A fault maps the pages around the one that it needs as well: there are fewer than pages. When
    a file that was mapped is read, its pages are there."""
    with folder("cachestat") as path:
        cold, warm, read = counts(path, MAP, MAP, READ)
    assert 0 < cold["misses"] <= PAGES
    assert warm["misses"] == 0
    assert PAGES <= read["hits"] + read["misses"] <= PAGES + OWN
    assert read["misses"] <= PAGES // 16


def test_the_columns_are_those_of_bcc() -> None:
    with Tool("cachestat", "-T", "1000") as tool:
        head, line = tool.stop().splitlines()
    names = "TIME HITS MISSES DIRTIES HITRATIO BUFFERS_MB CACHED_MB"
    assert head.split() == names.split()
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert abs(int(line.split()[-1]) - (int(memory["Cached"].split()[0]) >> 10)) < 100
    assert line.split()[4].endswith("%")
