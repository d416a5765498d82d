"""offwaketime against programs that know how long they waited and for whom."""
from __future__ import annotations

import json
import re
from typing import Any

import pytest

from scheduling import TIMERS, asleep, ping_pong
from support import EMULATED, SPIN, Tool, last_cpu, python_child, run_tool

pytestmark = pytest.mark.alone
ROUNDS, LENGTH = 100, 0.005


def rows(output: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    assert not any("lost" in row for row in found)
    return found


def seconds(found: list[dict[str, Any]]) -> float:
    return sum(int(row["usecs"]) for row in found) / 1e6


@pytest.mark.every_kernel
def test_each_of_two_waits_for_the_other_in_its_own_stack() -> None:
    seen = ping_pong("offwaketime", "--json")
    found = [row for row in rows(seen.printed) if not row["ongoing"]]
    by_other = [row for row in found if row["waker_tid"] == seen.ponger]
    assert {row["tid"] for row in by_other} == {seen.pinger}
    # Until it runs again: the wait for a CPU is in it.
    assert ROUNDS * LENGTH <= seconds(by_other) <= seen.waited
    assert EMULATED or seconds(by_other) == pytest.approx(seen.waited, rel=0.05)
    for row in by_other:
        assert row["state"] == "interruptible sleep"
        assert (row["comm"], row["waker_comm"]) == ("pinger", "ponger")
        assert row["kernel_stack"].endswith("__schedule") and "read" in row["kernel_stack"]
        assert row["waker_kernel_stack"].endswith("try_to_wake_up")
        assert (
            "write" in row["waker_kernel_stack"] and row["user_stack"] and row["waker_user_stack"]
        )
    # With PREEMPT_RT, threads of the kernel do what timers ask for.
    threads = [row for row in found if (row["waker_comm"] or "").startswith(TIMERS)]
    timers = threads or [row for row in found if row["interrupt"]]
    assert {row["tid"] for row in timers} == {seen.ponger}
    if not threads:
        assert {row["interrupt"] for row in timers} == {"hard interrupt"}
        assert {row["waker_pid"] for row in timers} == {None}
    assert seconds(timers) >= 0.95 * ROUNDS * LENGTH
    # All others could run, but for the few whose wake-up passed all programs by
    # (scheduling.about).
    assert not any(row["waker_kernel_stack"] for row in found if row["state"] == "preempted")
    unknown = [row for row in found if not row["waker_kernel_stack"]]
    missed = seconds([row for row in unknown if row["state"] != "preempted"])
    assert missed <= 0.05 * seconds(found)


READER = r"""
import sys
print("ready", flush=True)
sys.stdin.readline()
"""


def test_nobody_has_ended_what_is_ongoing_or_preempted() -> None:
    cpu = str(last_cpu())
    with python_child(READER) as reader, python_child(SPIN, cpu) as one, \
            python_child(SPIN, cpu) as two:  # fmt: skip
        for child in (reader, one, two):
            assert child.stdout and child.stdout.readline() == b"ready\n"
        asleep([reader.pid])
        pids = f"{reader.pid},{one.pid},{two.pid}"
        found = rows(run_tool("offwaketime", "--json", "-p", pids, "1").stdout)
        sleeping = rows(run_tool("offwaketime", "--json", "-p", pids, "--state", "1", "1").stdout)
    (ongoing,) = [row for row in found if row["pid"] == reader.pid]
    assert ongoing["ongoing"] and "read" in ongoing["kernel_stack"] and ongoing["usecs"] >= 10**6
    spinning = [row for row in found if row["pid"] in (one.pid, two.pid)]
    assert {row["state"] for row in spinning} == {"preempted"}
    for row in found:
        assert (row["waker_pid"], row["waker_comm"], row["interrupt"]) == (None, None, None)
        assert row["waker_user_stack"] is row["waker_kernel_stack"] is None
    assert [row["pid"] for row in sleeping] == [reader.pid]


@pytest.mark.any_types
def test_threads_that_come_and_go_leave_no_waker_behind() -> None:
    number = 200 if EMULATED else 2000
    code = (
        "import sys, threading\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"for _ in range({number}):\n"
        "    thread = threading.Thread(target=lambda: None); thread.start(); thread.join()\n"
        "print('done', flush=True); sys.stdin.readline()\n"
    )
    with python_child(code) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("offwaketime", "--json", "-K", "-p", str(child.pid)) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            found = rows(tool.stop())
    by_futex = [row for row in found if "futex" in (row["waker_kernel_stack"] or "")]
    assert by_futex
    for row in by_futex:
        # A thread has the id of one before it, but never that one's waker.
        assert row["waker_pid"] == child.pid and row["interrupt"] is None
        assert row["waker_tid"] != row["tid"]


@pytest.mark.host_only
def test_text_and_folded_lines_are_bcc_s() -> None:
    stacks = ping_pong("offwaketime", "-d").printed.rstrip("\n").split("\n\n")
    for stack in stacks:
        lines = stack.splitlines()
        assert re.fullmatch(
            r"    waker:           (p.nger \(\d+\)( \[soft interrupt\])?|\[.* interrupt\]|-)",
            lines[0],
        )
        assert lines.count("    --               --") == 1
        assert re.fullmatch(r"    target:          p.nger \(\d+\), [a-z ]+", lines[-2])
        assert re.fullmatch(r"        \d+", lines[-1])
    assert any(stack.count("\n    -\n") == 2 for stack in stacks)
    lines = ping_pong("offwaketime", "-f", "-K").printed.splitlines()
    pattern = r"pinger;entry_[^ ]*;__schedule;--;try_to_wake_up;[^ ]*;entry_[^ ;]*;ponger \d+"
    assert any(re.fullmatch(pattern, line) for line in lines)
    lines = ping_pong("offwaketime", "-f", "--states", "-U").printed.splitlines()
    assert any(line.startswith("pinger;interruptible sleep;") for line in lines)
    assert any(re.search(r";--;\[hard interrupt\] \d+$", line) for line in lines)
    assert not any("__schedule" in line for line in lines)


@pytest.mark.host_only
@pytest.mark.parametrize("arguments", [["-u", "-k"], ["--state", "-2"], ["-M", "0"]])
def test_mistakes_are_bad_usage(arguments: list[str]) -> None:
    result = run_tool("offwaketime", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
