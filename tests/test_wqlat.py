"""wqlat against what tracefs records of the same work."""
from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from interrupts import is_right
from support import EMULATED, Tool, needs_btf, run_tool

pytestmark = pytest.mark.alone
WRITES = 300
LINE = re.compile(
    r" (?P<at>\d+\.\d+): workqueue_(?P<what>queue_work|activate_work|execute_start): "
    r"work struct[ =]*(?P<work>[0-9a-fx]+):?(.* workqueue=(?P<name>\S+))?"
)


class Item(NamedTuple):
    """Work that ran: its workqueue, and when it was queued, could run, and ran."""

    name: str
    queued: float
    active: float
    ran: float


class Record:
    """What a tracefs instance has recorded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def items(self) -> list[Item]:
        (self._folder / "tracing_on").write_text("0")
        waiting: dict[str, tuple[str, float]] = {}
        active: dict[str, float] = {}
        found = []
        for line in (self._folder / "trace").read_text().splitlines():
            entry = LINE.search(line)
            if entry is None:
                continue
            at, work = float(entry["at"]), entry["work"]
            if entry["what"] == "queue_work":
                waiting[work] = entry["name"] or "", at
            elif entry["what"] == "activate_work":
                active[work] = at
            elif work in waiting:
                name, queued = waiting.pop(work)
                found.append(Item(name, queued, active.pop(work, queued), at))
        return found


@contextlib.contextmanager
def recorded() -> Iterator[Record]:
    """Have tracefs record work, by the clock that time.monotonic() reads."""
    with tempfile.TemporaryDirectory() as mounted:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", mounted], check=True)
        try:
            folder = Path(mounted) / f"instances/pytools-{os.getpid()}"
            folder.mkdir()
            try:
                (folder / "trace_clock").write_text("mono")
                (folder / "buffer_size_kb").write_text("8192")
                for event in ("queue_work", "activate_work", "execute_start"):
                    (folder / f"events/workqueue/workqueue_{event}/enable").write_text("1")
                yield Record(folder)
            finally:
                (folder / "events/enable").write_text("0")
                folder.rmdir()
        finally:
            subprocess.run(["umount", mounted], check=True)


def write_to_terminal() -> None:
    """A worker takes each line to the other end."""
    controller, terminal = os.openpty()
    try:
        for _ in range(WRITES):
            os.write(controller, b"x\n")
            os.read(terminal, 2)
            os.read(controller, 3)
    finally:
        os.close(controller)
        os.close(terminal)


def beside(*options: str) -> tuple[list[dict[str, Any]], list[Item], list[Item]]:
    """What the tool prints, and the items that it must, and may, have seen."""
    with recorded() as record:
        first = time.monotonic()
        with Tool("wqlat", "--json", "--summary", *options) as tool:
            attached = time.monotonic()
            write_to_terminal()
            done = time.monotonic()
            rows = [json.loads(line) for line in tool.stop().splitlines()]
        items = record.items()
    assert not any("lost" in row for row in rows)
    least = [item for item in items if item.queued > attached and item.ran < done]
    return rows, least, [item for item in items if item.queued > first]


def by_name(items: list[Item]) -> Counter[str]:
    return Counter(item.name for item in items)


@pytest.mark.every_kernel
def test_items_are_those_that_tracefs_records() -> None:
    (row,), least, most = beside("-N")
    assert len(least) >= WRITES
    assert is_right(len(least), row["samples"], len(most))
    assert row["unit"] == "nsecs" and row["key"] == {}
    low, high = (1e9 * sum(item.ran - item.queued for item in items) for items in (least, most))
    # Programs read the clock some microseconds before tracefs does, or after.
    leeway = 20_000 * len(most)
    assert EMULATED or low * 0.9 - leeway <= row["total"] <= high * 1.1 + leeway


@needs_btf
def test_each_workqueue_has_its_items() -> None:
    rows, least, most = beside("-W")
    counted = {row["key"]["wqname"]: row["samples"] for row in rows}
    assert "[others]" not in counted and "[unknown]" not in counted
    wanted, possible = by_name(least), by_name(most)
    # 5.10 records an address in place of the name.
    if any(re.fullmatch("(0x)?[0-9a-f]{8,}|", name) for name in possible):
        assert is_right(len(least), sum(counted.values()), len(most))
        assert len(counted) >= len(wanted) and counted["events_unbound"] >= WRITES * 0.9
        return
    assert wanted["events_unbound"] >= WRITES
    for name in set(counted) | set(wanted):
        # tracefs cuts no name.
        assert is_right(wanted[name], counted.get(name, 0), possible[name]), name


@needs_btf
def test_names_and_beginnings_choose_workqueues() -> None:
    rows, least, most = beside("-w", "events_unbound")
    counted = sum(row["samples"] for row in rows)
    assert counted >= WRITES * 0.9 and [row["key"] for row in rows] == [{}]
    rows, *_ = beside("-W", "-w", "events_*")
    names = {row["key"]["wqname"] for row in rows}
    assert "events_unbound" in names and all(name.startswith("events_") for name in names)
    result = run_tool("wqlat", "-w", "no such workqueue", "-d", "0.1")
    assert result.stderr == "wqlat: nothing was seen: no workqueue of this name was used\n"


@pytest.mark.any_types
def test_an_item_that_may_run_waits_no_longer_than_one_that_is_queued() -> None:
    (row,), least, most = beside("--active", "-N")
    assert is_right(len(least), row["samples"], len(most))
    assert EMULATED or row["total"] <= 1.1e9 * sum(i.ran - i.active for i in most) + 20_000 * len(
        most
    )


@pytest.mark.host_only
def test_mistakes_are_bad_usage() -> None:
    for name, message in (
        ("", "1 to 31 bytes, not 0"),
        ("a" * 32, "1 to 31 bytes, not 32"),
        ("e*s", "only a * at the end of a name"),
    ):
        result = run_tool("wqlat", "-w", name)
        assert (result.returncode, result.stdout) == (2, "")
        assert message in result.stderr and len(result.stderr.splitlines()) == 1
