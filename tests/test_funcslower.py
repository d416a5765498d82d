"""funcslower against programs that know which of their calls are slow."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from elf_files import machine_code
from machine_code import CALLERS, stepping
from support import Tool, needs_functions, run_tool

# poll(2) of nothing sleeps as many milliseconds as its third argument says. One call in a hundred
# is slow; the fast ones return at once.
SLOW = (
    CALLERS
    + """
left, right = named("left_function"), named("right_function")
step()
for number in range(1000):
    (left if number % 200 else right)("poll", 0, 0, 30 if number % 100 == 0 else 0)
step()
"""
)
LIMIT_MS = 25


def seen(code: str, *arguments: str) -> list[dict[str, Any]]:
    """What funcslower shows of a program of machine_code's."""
    with stepping(code) as (pid, go_on):
        with Tool("funcslower", "--json", "-p", str(pid), *arguments) as tool:
            go_on()
            events = [json.loads(line) for line in tool.stop().splitlines()]
    assert all(event["pid"] == pid for event in events)
    return events


def of_length(events: list[dict[str, Any]], milliseconds: float) -> list[dict[str, Any]]:
    """Those of such a call: on a busy machine, a fast one may be slow."""
    return [event for event in events if event["args"].split()[2] == hex(int(milliseconds))]


@machine_code
@pytest.mark.every_kernel
@pytest.mark.any_types
def test_ten_slow_calls_among_a_thousand_with_arguments_and_callers() -> None:
    events = seen(SLOW, "-m", str(LIMIT_MS), "-a", "3", "-U", "c:poll")
    slow = of_length(events, 30)
    assert len(slow) == 10 and len(events) < 20
    for event in slow:
        assert event["lat_ms"] >= 30 and event["rval"] & 0xFFFFFFFF == 0
        assert event["func"].endswith(":poll") and event["args"] == "0x0 0x0 0x1e"
    ends = [";".join(event["user_stack"].split(";")[-2:]) for event in slow]
    assert sorted(ends) == ["left_function;poll"] * 5 + ["right_function;poll"] * 5
    assert all("kernel_stack" not in event for event in events)


@machine_code
@pytest.mark.host_only
def test_without_a_limit_every_call_is_shown() -> None:
    events = seen(SLOW, "-u", "0", "c:poll")
    assert len(events) == 1000
    assert not any("args" in event or "user_stack" in event for event in events)


@machine_code
@pytest.mark.host_only
def test_lines_for_flame_graphs_and_columns_for_people() -> None:
    with stepping(SLOW) as (pid, go_on):
        options = ["-p", str(pid), "-m", str(LIMIT_MS), "c:poll"]
        with Tool("funcslower", "-f", "-U", *options) as folding, Tool(
            "funcslower", "-t", "-u", str(1000 * LIMIT_MS), "-p", str(pid), "c:poll"
        ) as tool:
            go_on()
            lines, text = folding.stop().splitlines(), tool.stop().splitlines()
    slow = [
        line for line in lines if line.endswith(("left_function;poll 1", "right_function;poll 1"))
    ]
    assert len(slow) == len(lines) >= 10
    assert text[0].split() == ["TIME(s)", "COMM", "PID", "LAT(us)", "RVAL", "FUNC"]
    assert len(text) - 1 == len(lines)
    assert all(float(line.split()[3]) >= 1000 * LIMIT_MS for line in text[1:])


@machine_code
@needs_functions
def test_a_function_of_the_kernel_with_its_stack(tmp_path: Path) -> None:
    code = f"""
step()
for number in range(20):
    libc.usleep(30000 if number % 4 == 0 else 1)
    os.mkdir({str(tmp_path / "folder")!r})
    os.rmdir({str(tmp_path / "folder")!r})
step()
"""
    events = seen(CALLERS + code, "-m", "25", "-K", "p:hrtimer_nanosleep")
    assert len([event for event in events if event["lat_ms"] >= 30]) == 5
    for event in events:
        functions = event["kernel_stack"].split(";")
        assert functions[-1] == "hrtimer_nanosleep" == event["func"]
        assert any("clock_nanosleep" in name for name in functions[:-1])
    events = seen(CALLERS + code, "-u", "0", "p:vfs_mkdir", "security_inode_rmdir")
    assert sorted(event["func"] for event in events) == [
        name for name in ("security_inode_rmdir", "vfs_mkdir") for _ in range(20)
    ]


@pytest.mark.host_only
@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["t:sched:sched_switch"], 2, "t:sched:sched_switch: funcslower is about functions"),
        (["-f", "c:poll"], 2, "argument -f/--folded: it needs -U or -K, and no other form"),
        (["-m", "1", "-u", "1", "c:poll"], 2, "argument -u/--min-us: not allowed with"),
        (["-a", "7", "c:poll"], 2, "argument -a/--arguments: '7' is not a whole number"),
    ],
)
def test_what_is_not_there(arguments: list[str], status: int, words: str) -> None:
    result = run_tool("funcslower", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith(f"funcslower: {words}"), result.stderr
    assert len(result.stderr.splitlines()) == 1
