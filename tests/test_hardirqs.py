"""hardirqs counts what /proc/interrupts counts."""
from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from interrupts import interrupt_counts, interrupt_lines, is_right, rows_beside
from support import ROOT, run_tool

pytestmark = pytest.mark.alone
WRITES = 200
# Not in memory, as temporary files may be.
FOLDER = Path(os.environ.get("PYTOOLS_SCRATCH", ROOT / "build"))


def writes() -> None:
    """Have a disk raise interrupts."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "written"
    with open(path, "wb", buffering=0) as file:
        for _ in range(WRITES):
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
    path.unlink()


def by_line(rows: list[dict[str, Any]]) -> dict[Any, Counter[str]]:
    """How often each handler ran, by line and CPU, whether it was its device's or not."""
    found: dict[Any, Counter[str]] = defaultdict(Counter)
    for row in rows:
        name = row["hardirq"].replace(" (not handled)", "")
        found[row["irq"], row["cpu"]][name] += row["count"]
    return found


@pytest.mark.every_kernel
@pytest.mark.parametrize("options", [[], ["-C"]], ids=["times", "counts"])
def test_counts_are_those_of_proc_on_each_cpu(options: list[str]) -> None:
    rows, least, most = rows_beside(interrupt_counts, writes, "hardirqs", "--cpus", *options)
    found = by_line(rows)
    for line, handlers in found.items():
        for count in handlers.values():  # each of a line that devices share
            assert is_right(least[line], count, most[line]), (line, least[line], count, most[line])
    assert all(line in found for line in least if least[line] > 3)
    assert max(count for handlers in found.values() for count in handlers.values()) >= WRITES / 4
    for row in rows if not options else []:
        assert 0 < row["maximum_ns"] <= row["time_ns"] <= row["maximum_ns"] * row["count"]


def test_names_are_those_of_proc() -> None:
    rows, _, _ = rows_beside(interrupt_counts, writes, "hardirqs", "-d")
    names = interrupt_lines()
    for row in rows:
        name = row["key"]["hardirq"].replace(" (not handled)", "")
        assert name in names[row["key"]["irq"]]
    assert max(row["samples"] for row in rows) >= WRITES / 4


@pytest.mark.any_types
def test_text_has_bcc_s_columns() -> None:
    cases: list[tuple[list[str], str]] = [
        ([], "HARDIRQ IRQ TOTAL_usecs COUNT MAX_usecs"),
        (["-N"], "HARDIRQ IRQ TOTAL_nsecs COUNT MAX_nsecs"),
        (["-C"], "HARDIRQ IRQ TOTAL_count"),
    ]
    for options, columns in cases:
        head, *_ = run_tool("hardirqs", *options, "0.5", "1").stdout.splitlines() or [columns]
        assert head.split() == columns.split()
