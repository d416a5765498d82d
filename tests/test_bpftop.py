"""bpftop beside programs that are run a known number of times, and beside bpftool."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import Any

import pytest

from bpf_objects_made import ARRAY, RAW_TRACEPOINT, Made, number
from support import PATIENCE, Tool, python_child, run_tool

RUNS = 1000
RELEASE = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
MISSES = 0 if RELEASE >= (5, 12) else None  # the kernel has a counter of them


def witness(program: int) -> dict[str, Any]:
    """What bpftool says of a program."""
    shown = subprocess.run(
        ["bpftool", "-j", "prog", "show", "id", str(program)], stdout=subprocess.PIPE, check=True
    )
    return dict(json.loads(shown.stdout))


def counting() -> bool:
    """Whether the kernel counts runs at the moment."""
    with Made() as made:
        program = made.program(RAW_TRACEPOINT, "counted")
        made.run(program, 1)
        return bool(witness(number(program)).get("run_cnt"))


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_counts_each_run_and_its_time_as_bpftool_does() -> None:
    with Made() as made:
        often, seldom, never = (
            made.program(RAW_TRACEPOINT, name) for name in ("often", "seldom", "never")
        )
        arguments = ["--json", "-a", "-r", "10000", "-p", str(os.getpid()), "1000"]
        with Tool("bpftop", *arguments) as tool:
            made.run(often, RUNS)
            made.run(seldom, 3)
            rows = {row["id"]: row for row in map(json.loads, tool.stop().splitlines())}
        assert [row["name"] for row in rows.values()][:3] == ["often", "seldom", "never"]
        for program, times in ((often, RUNS), (seldom, 3), (never, 0)):
            row, shown = rows[number(program)], witness(number(program))
            assert row["type"] == shown["type"] == "raw_tracepoint"
            assert (row["runs"], row["misses"]) == (times, MISSES)
            assert row["runs"] == shown.get("run_cnt", 0)
            assert row["run_time_ns"] == shown.get("run_time_ns", 0)
            assert row["avg_ns"] == (row["run_time_ns"] // times if times else None)
            assert row["pid"] == os.getpid()


def test_each_interval_has_its_own_runs() -> None:
    """The sum of all intervals is what bpftool has; a program that comes later has all its runs."""
    with Made() as made:
        program = made.program(RAW_TRACEPOINT, "early")
        made.run(program, 5)
        with Tool("bpftop", "--json", "-p", str(os.getpid()), "0.1") as tool:
            later = made.program(RAW_TRACEPOINT, "later")
            assert tool.process.stdout
            seen: list[dict[str, Any]] = []
            for each in (program, later):
                for _ in range(2):
                    made.run(each, 10)
                    seen.append(json.loads(tool.process.stdout.readline()))
            output = tool.stop()
        seen += map(json.loads, output.splitlines())
        for each in (program, later):
            rows = [row for row in seen if row["id"] == number(each)]
            assert sum(row["runs"] for row in rows) == 20 and len(rows) >= 2
        shown = witness(number(later))
        assert shown["run_cnt"] == 20
        times = [row["run_time_ns"] for row in seen if row["id"] == number(later)]
        assert sum(times) == shown["run_time_ns"]


@pytest.mark.any_types
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_counting_ends_with_it_however_it_ends(how: signal.Signals) -> None:
    if counting():
        pytest.skip(f"{os.uname().release} has no rest: something else has it count runs")
    with Tool("bpftop", "1000") as tool:
        assert counting()
        with open("/proc/sys/kernel/bpf_stats_enabled") as file:
            assert file.read() == "0\n"
        tool.process.send_signal(how)
        tool.process.communicate(timeout=PATIENCE)
    assert not counting()


@pytest.mark.host_only
def test_what_ran_most_is_first() -> None:
    with Made() as made:
        names = ["rare", "frequent", "in_between"]
        programs = [made.program(RAW_TRACEPOINT, name) for name in names]
        for sort, most in (("time", 2), ("runs", 2), ("avg", 3)):
            with Tool("bpftop", "-s", sort, "-C", "-p", str(os.getpid()), "1000") as tool:
                for program, times in zip(programs, (2, 3000, 300)):
                    made.run(program, times)
                lines = tool.stop().splitlines()
            assert lines[0].split() == "ID TYPE NAME PID COMM RUNS/s AVGns %CPU".split()
            assert not run_tool("bpftop", "-a", "-s", sort, "-d", "0").stderr
            shown = [line.split()[2] for line in lines[1:] if line]
            assert sorted(shown) == sorted(names)
            assert most == 3 or shown == ["frequent", "in_between", "rare"]
            assert max(map(len, lines)) <= 80


@pytest.mark.host_only
def test_a_long_name_is_whole_where_the_program_tells_it() -> None:
    name = "a_program_with_a_long_name"
    with Made() as made:
        program = made.program(RAW_TRACEPOINT, name[:15], types=made.types(name))
        with Tool("bpftop", "--json", "-p", str(os.getpid()), "1000") as tool:
            made.run(program, 1)
            (row,) = map(json.loads, tool.stop().splitlines())
        assert row["name"] == name == witness(number(program))["name"]


@pytest.mark.host_only
def test_a_process_without_programs_is_named() -> None:
    with python_child("input()") as child:
        result = run_tool("bpftop", "-p", str(child.pid), "-d", "0")
    assert result.returncode == 0
    assert result.stderr == f"bpftop: process {child.pid} keeps no BPF program now\n"


@pytest.mark.host_only
def test_without_privileges_one_line_says_which() -> None:
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    for tool in ("bpftop", "bpflist"):
        path = os.path.join(os.path.dirname(__file__), "..", "tools", tool)
        result = subprocess.run([*drop, path], capture_output=True, text=True, check=False)
        assert result.returncode == 1 and result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert result.stderr.endswith("run it as root, or with CAP_SYS_ADMIN\n")


def test_a_map_keeps_nobody_from_being_counted() -> None:
    """A program whose process has closed it, and keeps it by a link, has that process."""
    with Made() as made:
        counts = made.map(ARRAY, "counts")
        program = made.program(RAW_TRACEPOINT, "by_link", maps=[counts])
        made.raw_tracepoint(program, "sched_process_exec")
        known = number(program)
        os.close(program)
        with Tool("bpftop", "--json", "-p", str(os.getpid()), "1000") as tool:
            for _ in range(4):
                subprocess.run(["true"], check=True)
            rows = [json.loads(line) for line in tool.stop().splitlines()]
        (row,) = (row for row in rows if row["id"] == known)
        assert row["runs"] >= 4 and row["pid"] == os.getpid()
