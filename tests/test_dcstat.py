"""dcstat against a program that asks for names that nobody has asked for before."""
from __future__ import annotations

import json
from typing import Any

import pytest

from file_work import folder, worker
from support import Tool, needs_functions

pytestmark = needs_functions

NAMES = 1000
STAT = f"""
for i in range({NAMES}):
    try:
        os.stat(f"none{{i}}")
    except OSError:
        pass
"""
CREATE = f"""
for i in range({NAMES}):
    os.close(os.open(f"file{{i}}", os.O_CREAT | os.O_WRONLY))
"""


def lookups(*steps: str) -> list[dict[str, Any]]:
    found = []
    with folder("dcstat") as path, worker(path) as program:
        for step in steps:
            with Tool("dcstat", "--json", "-p", str(program.pid), "1000") as tool:
                program.do(step)
                (line,) = tool.stop().splitlines()
            found.append(json.loads(line))
    return found


@pytest.mark.every_kernel
def test_names_are_misses_once() -> None:
    first, again = lookups(STAT, STAT)
    assert first["miss"] == NAMES and again["miss"] == 0
    # The name itself; the first time, it may be looked up once more with a lock.
    assert NAMES <= again["refs"] <= NAMES + 10 and NAMES <= first["refs"] <= 2 * NAMES + 10
    assert again["hit_percent"] == 100 and first["hit_percent"] <= 50


def test_files_that_are_created_are_misses() -> None:
    created, opened = lookups(CREATE, CREATE)
    assert created["miss"] == NAMES and opened["miss"] == 0


def test_the_columns_are_those_of_bcc() -> None:
    with Tool("dcstat", "1000") as tool:
        head, _ = tool.stop().splitlines()
    assert head.split() == "TIME REFS/s SLOW/s MISS/s HIT%".split()
