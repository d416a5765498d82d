"""offcputime against programs that know how long they waited, and against schedstat."""
from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any, Iterable

import pytest

from support import (
    EMULATED, SPIN, Tool, last_cpu, on_host_only, python_child, run_tool, wait_for_state,
)  # fmt: skip

pytestmark = pytest.mark.alone


def rows(output: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    assert not any("lost" in row for row in found)
    return found


def is_sleep(row: dict[str, Any]) -> bool:
    """Whether it is time.sleep() that waits: before Python 3.11, a select(2)."""
    stack = row["kernel_stack"] or ""
    return "nanosleep" in stack or "select" in stack


def seconds(found: Iterable[dict[str, Any]]) -> float:
    return sum(int(row["usecs"]) for row in found) / 1e6


def schedstat(pid: int) -> tuple[float, float]:
    """For how many seconds a process ran, and waited for a CPU."""
    ran, queued, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(queued) / 1e9


# Sleeps 50 times, says how long that was and how much of all its time it ran.
SLEEPER = r"""
import os, sys, time
print("ready", flush=True)
sys.stdin.readline()

def ran():
    return int(open("/proc/self/schedstat").read().split()[0]) / 1e9

slept = 0
begin, ran_before = time.monotonic(), ran()
for _ in range(50):
    since = time.monotonic()
    time.sleep(0.02)
    slept += time.monotonic() - since
    for _ in range(20000):
        pass
print(slept, time.monotonic() - begin - (ran() - ran_before), flush=True)
sys.stdin.readline()
"""
# Waits for a line in between: that is a sleep, too.
SPAWNER = r"""
import os, sys, time
print("ready", flush=True)
sys.stdin.readline()
since = time.monotonic()
# Until the new process has opened its end of the FIFO, the old one waits as for
# a disk: it has lent it its memory (vfork).
actions = [(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)]
pid = os.posix_spawn("/bin/true", ["true"], {}, file_actions=actions)
print(time.monotonic() - since, flush=True)
os.waitpid(pid, 0)
"""
SLEPT = 50 * 0.02
LONG = 0.5


@pytest.mark.every_kernel
def test_sleeps_of_known_length_add_up_by_state(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    cpu = str(last_cpu())
    with python_child(SLEEPER) as sleeper, python_child(SPAWNER, str(fifo)) as spawner, \
            python_child(SPIN, cpu) as spinner, python_child(SPIN, cpu) as stopped:  # fmt: skip
        children = [sleeper, spawner, spinner, stopped]
        for child in children:
            assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        pids = ",".join(str(child.pid) for child in children)
        with Tool("offcputime", "--json", "-p", pids) as tool:
            for child in (spawner, sleeper):
                assert child.stdin
                child.stdin.write(b"\n")
                child.stdin.flush()
            wait_for_state(spawner.pid, "D")
            held = time.monotonic()
            os.kill(stopped.pid, signal.SIGSTOP)
            wait_for_state(stopped.pid, "T")
            since = time.monotonic()
            assert sleeper.stdout and spawner.stdout
            slept, waited = map(float, sleeper.stdout.readline().split())
            while time.monotonic() < max(since, held) + LONG:
                os.sched_yield()
            with open(fifo, "w"):
                lent = float(spawner.stdout.readline())
            ran_before = schedstat(stopped.pid)[0]
            least = time.monotonic() - since
            os.kill(stopped.pid, signal.SIGCONT)
            while schedstat(stopped.pid)[0] == ran_before:
                os.sched_yield()
            most = time.monotonic() - since
            queued = schedstat(spinner.pid)[1]
            found = rows(tool.stop())

    def total(child: Any, state: str, sleeps: bool = False) -> float:
        return seconds(
            row for row in found
            if row["pid"] == child.pid and row["state"] == state
            and (is_sleep(row) or not sleeps)
        )  # fmt: skip

    # At least as long as was asked for; at most as long as the program saw, which reads the clock
    # some microseconds before and after, or many where the processor is emulated.
    asleep = total(sleeper, "interruptible sleep", sleeps=True)
    assert 0.98 * SLEPT <= asleep <= slept
    # What it did not run it was off a CPU, or interrupted, or its CPU was with another machine.
    everything = asleep + total(sleeper, "preempted")
    assert asleep <= everything <= (1.1 if EMULATED else 1.02) * waited
    assert EMULATED or everything == pytest.approx(waited, rel=0.05)
    disk_wait = total(spawner, "disk wait")
    assert 0.98 * LONG <= disk_wait <= lent
    assert EMULATED or disk_wait == pytest.approx(lent, rel=0.05)
    # From a moment before it was seen to be stopped until it got a CPU again.
    assert least * 0.98 <= total(stopped, "stopped") <= most * 1.02 + 0.1
    # The one that spins waits for the CPU only: as long as the kernel says.
    assert {row["state"] for row in found if row["pid"] == spinner.pid} <= {"preempted"}
    assert total(spinner, "preempted") <= queued * 1.02 + 0.01
    for row in found:
        assert row["usecs"] >= 0 and row["tid"] == row["pid"]
        # Neither the tracepoint nor the program on it is where a thread waits.
        if row["kernel_stack"] and not row["ongoing"]:
            assert row["kernel_stack"].endswith("__schedule")
            assert "bpf" not in row["kernel_stack"].rpartition("schedule;")[2]


# Two lengths of sleeps, and a thread with a name of its own.
TWO_SLEEPS = r"""
import sys, threading, time
print("ready", flush=True)
sys.stdin.readline()
def sleep(times, length):
    for _ in range(times):
        time.sleep(length)
long = threading.Thread(target=sleep, args=(10, 0.05))
long.start()
print(long.native_id, flush=True)
sleep(100, 0.001)
long.join()
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("which", ["state", *on_host_only("longer", "shorter", "thread")])
def test_waits_are_chosen_by_length_thread_and_state(which: str) -> None:
    with python_child(TWO_SLEEPS) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        options = {
            "longer": ["-p", str(child.pid), "-m", "40000"],
            "shorter": ["-p", str(child.pid), "-M", "40000"],
            "thread": ["-t", str(child.pid), "-K"],
            "state": ["-p", str(child.pid), "--state", "2"],
        }[which]
        with Tool("offcputime", "--json", *options) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            thread = int(child.stdout.readline())
            assert child.stdout.readline() == b"done\n"
            found = rows(tool.stop())
    sleeps = [row for row in found if is_sleep(row)]
    by_thread = {
        tid: seconds(row for row in sleeps if row["tid"] == tid) for tid in (child.pid, thread)
    }
    if which == "longer":
        assert by_thread[thread] >= 0.4
        assert by_thread[child.pid] < 0.1
    elif which == "shorter":
        assert by_thread[thread] < 0.1
        assert by_thread[child.pid] >= 0.1
    elif which == "thread":
        assert by_thread[thread] == 0 and by_thread[child.pid] >= 0.1
        assert all(row["user_stack"] is None for row in found)
    else:
        assert sleeps == []
        assert {row["state"] for row in found} <= {"disk wait"}


def test_kernel_threads_and_the_others_are_told_apart() -> None:
    def seen(option: str) -> set[int]:
        # Of a whole machine's stacks, two may have one place.
        lines = run_tool("offcputime", "--json", "-K", option, "1").stdout.splitlines()
        return {row["pid"] for row in map(json.loads, lines) if "pid" in row}

    threads, others = seen("-k"), seen("-u")
    assert threads and others
    for pids, are_threads in ((threads, True), (others, False)):
        for pid in pids:
            try:
                flags = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6]
            except (FileNotFoundError, ProcessLookupError):
                continue
            assert bool(int(flags) & 0x200000) == are_threads  # PF_KTHREAD


READER = r"""
import sys
print("ready", flush=True)
sys.stdin.readline()
print("read", flush=True)
sys.stdin.readline()
"""


def test_what_waits_throughout_is_shown_with_the_time_so_far() -> None:
    with python_child(READER) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        wait_for_state(child.pid, "S")
        pid = str(child.pid)
        began = time.monotonic()
        (row,) = rows(run_tool("offcputime", "--json", "-p", pid, "1").stdout)
        most = time.monotonic() - began
        assert (row["pid"], row["tid"], row["ongoing"]) == (child.pid, child.pid, True)
        assert row["state"] == "interruptible sleep" and "read" in row["kernel_stack"]
        assert 1 <= row["usecs"] / 1e6 <= most
        for others in (["--state", "2"], ["-m", "3600000000"], ["-M", "1000"], ["-k"]):
            assert rows(run_tool("offcputime", "--json", "-p", pid, *others, "0.1").stdout) == []


def test_what_began_to_wait_is_told_from_what_has_waited() -> None:
    with python_child(READER) as child, Tool("offcputime", "--json", "-p", str(child.pid)) as tool:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        child.stdin.write(b"\n")
        before = time.monotonic()
        child.stdin.flush()
        assert child.stdout.readline() == b"read\n"
        wait_for_state(child.pid, "S")
        since = time.monotonic()
        while time.monotonic() < since + 0.5:
            os.sched_yield()
        least = time.monotonic() - since
        found = rows(tool.stop())
        most = time.monotonic() - before
    (ongoing,) = [row for row in found if row["ongoing"]]
    assert ongoing["state"] == "interruptible sleep" and "read" in ongoing["kernel_stack"]
    assert least <= ongoing["usecs"] / 1e6 <= most


@pytest.mark.host_only
def test_what_is_ongoing_is_marked_in_text_and_folded() -> None:
    with python_child(READER) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        wait_for_state(child.pid, "S")
        text = run_tool("offcputime", "-p", str(child.pid), "0.1").stdout
        assert f" ({child.pid}), interruptible sleep ongoing\n" in text
        folded = run_tool("offcputime", "-f", "--states", "-p", str(child.pid), "0.1").stdout
        assert ";interruptible sleep ongoing;" in folded
        assert len(folded.splitlines()) == 1
        for option, empty in (("-U", "kernel_stack"), ("-K", "user_stack")):
            result = run_tool("offcputime", option, "--json", "-p", str(child.pid), "0.1")
            (row,) = rows(result.stdout)
            assert row[empty] is None


@pytest.mark.host_only
def test_text_names_the_state_and_folded_lines_do_where_that_is_asked_for() -> None:
    with python_child(TWO_SLEEPS) as child, Tool("offcputime", "-p", str(child.pid)) as tool:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        assert child.stdout.readline() == b"done\n"
        text = tool.stop()
    stacks = text.rstrip("\n").split("\n\n")
    assert all(
        re.search(r"^    -                .+ \(\d+\), [a-z ]+\n        \d+$", stack, re.M)
        for stack in stacks
    )
    assert any("), interruptible sleep\n" in stack for stack in stacks)
    state = r"[^;]+;(idle|[a-z]+ (wait|sleep)|preempted|stopped|parked|other)[; ]"
    with_states: list[list[str]] = [["--states"], []]
    for options in with_states:
        lines = run_tool("offcputime", "-df", *options, "0.5").stdout.splitlines()
        assert lines
        assert len(lines) == len({line.rpartition(" ")[0] for line in lines})
        for line in lines:
            assert bool(re.match(state, line)) == bool(options), line
        assert not any(";--;" in line for line in lines)


@pytest.mark.any_types
def test_thousands_of_switches_cost_no_time_and_no_stack() -> None:
    """Threads that come and go leave nothing behind."""
    code = (
        "import sys, threading\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"for _ in range({500 if EMULATED else 3000}):\n"
        "    thread = threading.Thread(target=lambda: None); thread.start(); thread.join()\n"
        "print('done', flush=True); sys.stdin.readline()\n"
    )
    with python_child(code) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("offcputime", "--json", "-K", "-p", str(child.pid)) as tool:
            begin = time.monotonic()
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            length = time.monotonic() - begin
            found = rows(tool.stop())
    main = [row for row in found if row["tid"] == child.pid]
    assert 0 < seconds(main) <= length * 1.02
    # No thread has waited for longer than all took: no start of another of its id.
    for row in found:
        assert row["usecs"] / 1e6 <= length * 1.02


@pytest.mark.host_only
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-u", "-k"], "not allowed with argument"),
        (["--state", "-2"], "is not a whole number"),
        (["-m", "x"], "is not a whole number"),
        (["-m", "11", "-M", "10"], "it is more than that of -M"),
    ],
)
def test_mistakes_are_bad_usage(arguments: list[str], message: str) -> None:
    result = run_tool("offcputime", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
