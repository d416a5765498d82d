"""wakeuptime against programs that know who wakes them up, and schedstat."""
from __future__ import annotations

import json
import re
from typing import Any

import pytest

from scheduling import TIMERS, ping_pong
from support import EMULATED, SPIN, Tool, last_cpu, python_child, run_tool

pytestmark = pytest.mark.alone
ROUNDS, LENGTH = 100, 0.005


def rows(output: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    assert not any("lost" in row for row in found)
    return found


def seconds(found: list[dict[str, Any]], **which: Any) -> float:
    return sum(
        int(row["usecs"]) / 1e6
        for row in found
        if all(row[name] == value for name, value in which.items())
    )


@pytest.mark.every_kernel
def test_two_that_wake_each_other_up_are_each_other_s_wakers() -> None:
    seen = ping_pong("wakeuptime", "--json")
    found = rows(seen.printed)
    by_other = seconds(found, pid=seen.pinger, waker_pid=seen.ponger)
    assert seconds(found, pid=seen.pinger) == pytest.approx(by_other)
    # Until it is woken up: neither the time on a CPU nor that on its run queue is in it.
    assert 0.97 * ROUNDS * LENGTH <= by_other <= seen.waited
    assert EMULATED or by_other == pytest.approx(seen.blocked, rel=0.05)
    for row in found:
        assert row["comm"] == {seen.pinger: "pinger", seen.ponger: "ponger"}[row["pid"]]
        if row["waker_pid"] == seen.ponger:
            assert row["waker_comm"] == "ponger" and "write" in row["waker_kernel_stack"]
            assert row["interrupt"] is None and row["waker_user_stack"]
        assert row["waker_kernel_stack"].endswith("try_to_wake_up")
    # What a timer wakes up, no task does, but with PREEMPT_RT a thread of the kernel's. It may
    # interrupt the kernel at several places.
    timers = [row for row in found if (row["waker_comm"] or TIMERS).startswith(TIMERS)]
    for timer in timers:
        assert timer["pid"] == seen.ponger and "hrtimer" in timer["waker_kernel_stack"]
        if timer["waker_comm"] is None:
            assert (timer["interrupt"], timer["waker_pid"]) == ("hard interrupt", None)
        assert timer["waker_user_stack"] is None
    assert sum(timer["usecs"] for timer in timers) / 1e6 >= 0.95 * ROUNDS * LENGTH


# Sends packets, each when the one before has been taken in.
PACKETS = r"""
import os, socket, sys, time
here, there = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
for end in (here, there):
    end.bind(("127.0.0.1", 0))
receiver = os.fork()
if not receiver:
    while True:
        packet, sender = there.recvfrom(1)
        there.sendto(packet, sender)
print(os.getpid(), receiver, flush=True)
sys.stdin.readline()
for _ in range(200):
    time.sleep(0.001)
    here.sendto(b"x", there.getsockname())
    here.recv(1)
print("done", flush=True)
sys.stdin.readline()
"""


def test_a_task_that_runs_a_soft_interrupt_itself_is_the_waker() -> None:
    """A packet over loopback: a soft interrupt takes it in, where the sender sends it."""
    with python_child(PACKETS) as child:
        assert child.stdin and child.stdout
        sender, receiver = map(int, child.stdout.readline().split())
        with Tool("wakeuptime", "--json", "-p", str(receiver)) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            found = rows(tool.stop())
    by_sender = [row for row in found if row["waker_pid"] == sender]
    assert by_sender and {row["interrupt"] for row in by_sender} == {"soft interrupt"}
    assert all("sendto" in row["waker_kernel_stack"] for row in by_sender)
    # An interrupt that comes meanwhile may take some in.
    assert sum(row["usecs"] for row in by_sender) >= 0.8 * sum(row["usecs"] for row in found)


# One that sleeps for two lengths, and one that shares its CPU.
SLEEPER = r"""
import os, sys, time
os.sched_setaffinity(0, [int(sys.argv[1])])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(10):
    time.sleep(0.05)
    time.sleep(0.001)
print("done", flush=True)
sys.stdin.readline()
"""


def test_sleeps_are_chosen_by_length_and_waits_for_a_cpu_are_none() -> None:
    cpu = str(last_cpu())
    with python_child(SLEEPER, cpu) as child, python_child(SPIN, cpu) as spinner:
        for each in (child, spinner):
            assert each.stdout and each.stdout.readline() == b"ready\n"
        pids = f"{child.pid},{spinner.pid}"
        options = ["--json", "-p", pids]
        with Tool("wakeuptime", *options, "-K", "-m", "40000") as longer, \
                Tool("wakeuptime", *options, "-U", "-M", "40000") as shorter:  # fmt: skip
            assert child.stdin and child.stdout
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            long, short = rows(longer.stop()), rows(shorter.stop())
    assert {row["pid"] for row in (*long, *short)} == {child.pid}
    # A few events in a hundred pass all programs by (scheduling.about).
    assert 0.4 <= seconds(long, interrupt="hard interrupt")
    assert 0.008 <= seconds(short, interrupt="hard interrupt") < 0.4
    assert not any(row["waker_user_stack"] for row in long)
    # The kernel's stack says that it was an interrupt, also where it is not shown.
    assert not any(row["waker_kernel_stack"] for row in short)


@pytest.mark.host_only
def test_text_and_folded_lines_are_bcc_s() -> None:
    seen = ping_pong("wakeuptime", "-d")
    stacks = seen.printed.rstrip("\n").split("\n\n")
    for stack in stacks:
        head, *functions, waker, amount = stack.splitlines()
        assert re.fullmatch(r"    target:          (pinger|ponger) \(\d+\)", head)
        assert functions[0] == "    try_to_wake_up"
        assert re.fullmatch(r"    waker:           (p.nger \(\d+\)|\[hard interrupt\])", waker)
        assert re.fullmatch(r"        \d+", amount)
    assert f"target:          pinger ({seen.pinger})" in stacks[-1] + stacks[-2]
    assert any("\n    --\n" in stack for stack in stacks)
    lines = ping_pong("wakeuptime", "-f", "-K").printed.splitlines()
    assert any(re.match(r"ponger;entry_[^ ]*;try_to_wake_up;pinger \d+$", line) for line in lines)
    assert any(
        re.match(r"\[hard interrupt\];asm_[^ ]*;hrtimer_wakeup;try_to_wake_up;ponger \d+$", line)
        for line in lines
    )


@pytest.mark.host_only
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-u", "-k"], "not allowed with argument"),
        (["-m", "x"], "is not a whole number"),
        (["-U", "-K"], "not allowed with argument"),
    ],
)
def test_mistakes_are_bad_usage(arguments: list[str], message: str) -> None:
    result = run_tool("wakeuptime", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
