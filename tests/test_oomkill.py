"""oomkill shows each kill for want of memory, as the kernel's own log and counters have it."""
from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytools.facts.kernel import possible_cpus, running
from support import Tool, cgroups, needs_functions, python_child

pytestmark = [needs_functions, pytest.mark.alone]
LIMIT = 48 << 20

# Has a hostile name, and takes more memory than its cgroup may have.
HOG = r"""
import ctypes, sys
ctypes.CDLL(None).prctl(15, b"h\x1b[2Jg", 0, 0, 0)
print("ready", flush=True)
sys.stdin.readline()
memory = bytearray(1 << 30)
memory[::4096] = b"x" * len(memory[::4096])
"""


def events_of(folder: Path) -> dict[str, int]:
    lines = (folder / "memory.events").read_text().splitlines()
    return {name: int(count) for name, count in (line.split() for line in lines)}


def kills(folder: Path, number: int, *arguments: str) -> tuple[list[int], str]:
    """The pids of processes that are killed in a cgroup, and what oomkill prints."""
    pids = []
    with Tool("oomkill", *arguments) as tool:
        for _ in range(number):
            with python_child(HOG) as child:
                assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
                (folder / "cgroup.procs").write_text(str(child.pid))
                child.stdin.write(b"\n")
                child.stdin.flush()
                assert child.wait() == -9
                pids.append(child.pid)
        return pids, tool.stop()


def logged() -> dict[int, int]:
    """By pid, the KiB in memory of those that the kernel's log says were killed."""
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    line = r"Killed process (\d+) .*anon-rss:(\d+)kB, file-rss:(\d+)kB, shmem-rss:(\d+)kB"
    return {int(pid): sum(map(int, kib)) for pid, *kib in re.findall(line, log)}


def unlogged_kib() -> int:
    """How far off the log is: from v6.2 to v6.19 it lacks what CPUs have not added up yet, of three
    kinds of pages."""
    if running().has_field("mm_rss_stat", "count"):
        return 0
    cpus = len(possible_cpus())
    return 3 * cpus * max(32, 2 * cpus) * (os.sysconf("SC_PAGE_SIZE") >> 10)


@pytest.mark.every_kernel
def test_each_kill_in_a_cgroup_is_a_line() -> None:
    with cgroups(1, "memory") as (cgroup,):
        (cgroup / "memory.max").write_text(str(LIMIT))
        pids, output = kills(cgroup, 3, "--json")
        assert events_of(cgroup)["oom_kill"] == 3
    events: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    assert [event["tpid"] for event in events] == pids
    known = logged()
    for event in events:
        assert event["pid"] == event["tpid"] and event["tcomm"] == event["comm"] == "h\x1b[2Jg"
        assert abs(event["rss_kb"] - known[event["tpid"]]) <= unlogged_kib()
        assert (event["scope"], event["pages"]) == ("cgroup", LIMIT // 4096)
        assert event["limit"] == f"/{cgroup.parent.name}/{cgroup.name}"
        assert event["oom_score_adj"] == 0 and len(event["loadavg"].split()) == 5


def test_a_group_is_killed_together() -> None:
    with cgroups(1, "memory") as (cgroup,), python_child("input()") as other:
        (cgroup / "memory.max").write_text(str(LIMIT))
        (cgroup / "memory.oom.group").write_text("1")
        (cgroup / "cgroup.procs").write_text(str(other.pid))
        (pid,), output = kills(cgroup, 1, "--json")
        assert other.wait() == -9
        # The kernel kills, logs and counts the one that it chose again, with its group.
        assert events_of(cgroup)["oom_kill"] in (2, 3)
    events = [json.loads(line) for line in output.splitlines()]
    assert {event["tpid"] for event in events} == {pid, other.pid} and len(events) == 2
    assert all(event["pid"] == pid and event["scope"] == "cgroup" for event in events)


@pytest.mark.any_types
def test_text_is_one_line_without_control_characters() -> None:
    with cgroups(1, "memory") as (cgroup,):
        (cgroup / "memory.max").write_text(str(LIMIT))
        (pid,), output = kills(cgroup, 1)
    head, line = output.splitlines()
    assert head.split() == "TIME PID COMM TPID TCOMM RSS(MB) LIMIT".split()
    assert line.split()[1:5] == [str(pid), "h\\x1b[2Jg", str(pid), "h\\x1b[2Jg"]
