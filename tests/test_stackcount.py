"""stackcount against programs that know from where they call how often."""
from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from elf_files import machine_code
from machine_code import CALLERS, stepping
from pytools.facts.elf import File
from support import Tool, needs_functions, run_tool

PYTHON = os.path.realpath(sys.executable)
PATHS = (
    CALLERS
    + """
left, right = named("left_function"), named("right_function")
step()
for number in range(1000):
    (left if number % 10 < 3 else right)("lrand48")
step()
"""
)
GETPPID = (
    CALLERS
    + """
step()
for number in range(500):
    os.getppid()
step()
"""
)


def rows(output: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    assert not any("lost" in row for row in found)
    return found


def counted(code: str, *arguments: str) -> list[dict[str, Any]]:
    """What stackcount counts in a program of machine_code's."""
    with stepping(code) as (pid, go_on):
        with Tool("stackcount", "--json", "-p", str(pid), *arguments) as tool:
            go_on()
            return rows(tool.stop())


def by_ends(found: list[dict[str, Any]], stack: str, functions: int) -> Counter[str]:
    """The counts by the innermost functions of a stack."""
    counts: Counter[str] = Counter()
    for row in found:
        counts[";".join((row[stack] or "").split(";")[-functions:])] += row["count"]
    return counts


@machine_code
@pytest.mark.every_kernel
@pytest.mark.any_types
def test_two_ways_to_a_function_of_a_library() -> None:
    found = counted(PATHS, "c:lrand48")
    assert by_ends(found, "user_stack", 2) == {
        "left_function;lrand48": 300, "right_function;lrand48": 700,
    }  # fmt: skip
    assert {row["kernel_stack"] for row in found} == {None}


@machine_code
@pytest.mark.every_kernel
@pytest.mark.parametrize("more", [[], ["t:syscalls:sys_*_getp*id"]], ids=["one", "several"])
def test_the_kernels_stack_begins_at_the_tracepoint(more: list[str]) -> None:
    found = counted(GETPPID, "t:syscalls:sys_enter_getppid", *more)
    exits = by_ends(found, "kernel_stack", 9)
    assert sum(exits.values()) == (1000 if more else 500)
    # Nothing of what runs the program is in it.
    assert not [stack for stack in exits if "bpf" in stack or "traceiter" in stack]


@machine_code
@needs_functions
def test_functions_of_the_kernel(tmp_path: Path) -> None:
    code = f"""
step()
for number in range(20):
    os.mkdir({str(tmp_path / "folder")!r})
    os.rmdir({str(tmp_path / "folder")!r})
step()
"""
    found = counted(CALLERS + code, "p:security_inode_??dir")
    counts = by_ends(found, "kernel_stack", 1)
    made, removed = "security_inode_mkdir", "security_inode_rmdir"
    assert (counts[made], counts[removed]) == (20, 20)
    (mkdir,) = {row["kernel_stack"] for row in found if row["kernel_stack"].endswith(made)}
    assert "mkdirat" in mkdir


COLLECTS = (
    CALLERS
    + """
import gc
gc.disable()
step()
for number in range(37):
    gc.collect()
step()
"""
)


@machine_code
@pytest.mark.host_only
def test_usdt_probes() -> None:
    if not any(probe.name == "gc__start" for probe in File(PYTHON).probes()):
        pytest.skip(f"{PYTHON} has no USDT probes")
    found = counted(COLLECTS, f"u:{PYTHON}:gc__start")
    assert sum(row["count"] for row in found) == 37


@machine_code
@pytest.mark.host_only
def test_processes_together_and_apart() -> None:
    ways: list[tuple[list[str], Any]] = [([], {None: 1000}), (["-P"], None)]
    for options, expected in ways:
        with stepping(GETPPID) as (first, go_on), stepping(GETPPID) as (second, other_goes_on):
            pids = f"{first},{second}"
            with Tool(
                "stackcount", "--json", "-K", "-p", pids, *options, "t:syscalls:sys_enter_getppid"
            ) as tool:
                go_on()
                other_goes_on()
                found = rows(tool.stop())
        counts: Counter[Any] = Counter()
        for row in found:
            assert row["user_stack"] is None and bool(row["comm"]) == bool(options)
            counts[row["pid"]] += row["count"]
        assert counts == (expected or {first: 500, second: 500})


@machine_code
@pytest.mark.host_only
def test_intervals_add_up_and_files_have_the_whole(tmp_path: Path) -> None:
    code = PATHS + PATHS[len(CALLERS) :].replace("left, right", "again, once_more")
    flame, folded = tmp_path / "a.svg", []
    with stepping(code) as (pid, go_on):
        with Tool(
            "stackcount", "-f", "-T", "-i", "0.2", "--svg", str(flame), "-p", str(pid), "c:lrand48"
        ) as tool:
            for _ in range(3):
                go_on()
            folded = [line for line in tool.stop().splitlines() if ";" in line]
    counts: Counter[str] = Counter()
    for line in folded:
        stack, _, count = line.rpartition(" ")
        counts[stack.split(";")[-2]] += int(count)
    assert counts == {"left_function": 600, "right_function": 1400}
    amounts = re.findall(
        r'data-amount="(\d+)" data-depth="\d+"><title>(\w+_function)', flame.read_text()
    )
    assert sorted(amounts) == [("1400", "right_function"), ("600", "left_function")]


@pytest.mark.host_only
@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["t:no:such"], 1, "nothing that can be traced matches t:no:such"),
        (["t:sched"], 2, "t:sched:: a tracepoint is t:CATEGORY:NAME"),
        (["-K", "-U", "c:malloc"], 2, "argument -U/--user-stacks-only: not allowed with"),
        (["-f", "--csv", "c:malloc"], 2, "argument --csv: not allowed with argument -f/--folded"),
    ],
)
def test_what_is_not_there(arguments: list[str], status: int, words: str) -> None:
    result = run_tool("stackcount", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith(f"stackcount: {words}"), result.stderr
    assert len(result.stderr.splitlines()) == 1
