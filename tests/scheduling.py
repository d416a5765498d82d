"""Workloads for the scheduler's tools, and what the kernel itself counted of them."""
from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from support import Tool, busy_loops, python_child


# What PREEMPT_RT calls its threads that do what timers ask for, one a CPU.
TIMERS = "ktimers/"


class Schedstat(NamedTuple):
    """/proc/TID/schedstat: nanoseconds on a CPU and waiting for one, and how
    often the task got one (Documentation/scheduler/sched-stats.rst)."""

    ran: int
    waited: int
    slices: int


def schedstat(tid: int) -> Schedstat:
    return Schedstat(*map(int, Path(f"/proc/{tid}/schedstat").read_text().split()))


def about(count: int) -> Any:
    """Within 2%: a few context switches in a thousand pass some kernels' tracepoint
    by, nearly all of them where a CPU was idle (``never_idle``). Counted with perf(1)
    too, on 6.18 as a virtual machine's guest."""
    return pytest.approx(count, rel=0.02)


@contextlib.contextmanager
def never_idle(cpu: int) -> Iterator[None]:
    """Have something run on a CPU whenever it has nothing else to do."""
    with busy_loops(cpu, 1) as (pid,):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        yield


def asleep(tids: list[int]) -> None:
    """Wait until the tasks sleep, so that their counters stand still."""
    for tid in tids:
        while "\nState:\tS" not in Path(f"/proc/{tid}/status").read_text():
            os.sched_yield()


def run(child: subprocess.Popen[bytes], tids: list[int]) -> dict[int, Schedstat]:
    """Have a workload run from its first line to its "done"; what its tasks spent."""
    assert child.stdin and child.stdout
    before = {tid: schedstat(tid) for tid in tids}
    child.stdin.write(b"\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"done\n"
    asleep(tids)
    after = {tid: schedstat(tid) for tid in tids}
    return {
        tid: Schedstat(*(now - then for now, then in zip(after[tid], before[tid]))) for tid in tids
    }


# Waits for a line; then forks a child and competes with it for one CPU; then
# waits for another line. Neither runs before the first line or after the "done".
PAIR = """
import os, sys, time
os.sched_setaffinity(0, [int(sys.argv[1])])
seconds = float(sys.argv[2])

def spin():
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

go, gone = os.pipe(), os.pipe()
child = os.fork()
if not child:
    os.read(go[0], 1)
    spin()
    os.write(gone[1], b"x")
    os.read(go[0], 1)
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
os.write(go[1], b"x")
spin()
os.read(gone[0], 1)
print("done", flush=True)
sys.stdin.readline()
os.kill(child, 9)
"""

PING_PONG = """
import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
there, back = os.pipe(), os.pipe()
child = os.fork()
if not child:
    while os.read(there[0], 1) == b"x":
        os.write(back[1], b"x")
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    os.write(there[1], b"x")
    os.read(back[0], 1)
print("done", flush=True)
sys.stdin.readline()
os.kill(child, 9)
"""

# Sleeps and wakes up so often.
SLEEPER = """
import os, sys, time
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    time.sleep(0.001)
print("done", flush=True)
sys.stdin.readline()
"""


# Two processes with names of their own that wake each other up: one writes, and waits for the
# answer of the other, which sleeps before it writes. Says how long the first waited that way, and
# for how long it neither ran nor waited for a CPU.
PINGER_AND_PONGER = r"""
import os, sys, time

def rename(name):
    with open("/proc/self/comm", "w") as file:
        file.write(name)

def schedstat():
    return [int(word) / 1e9 for word in open("/proc/self/schedstat").read().split()[:2]]

rounds, length = int(sys.argv[1]), float(sys.argv[2])
there, back = os.pipe(), os.pipe()
ponger = os.fork()
if not ponger:
    rename("ponger")
    while os.read(there[0], 1):
        time.sleep(length)
        os.write(back[1], b"x")
rename("pinger")
print(os.getpid(), ponger, flush=True)
sys.stdin.readline()
before, began, waited = schedstat(), time.monotonic(), 0
for _ in range(rounds):
    os.write(there[1], b"x")
    since = time.monotonic()
    os.read(back[0], 1)
    waited += time.monotonic() - since
blocked = time.monotonic() - began - sum(schedstat()) + sum(before)
print(waited, blocked, flush=True)
sys.stdin.readline()
"""


class PingPong(NamedTuple):
    """What a tool printed of PINGER_AND_PONGER, the two processes, how long the first waited for
    the second in seconds, and how long it was blocked by what the kernel counts."""

    printed: str
    pinger: int
    ponger: int
    waited: float
    blocked: float


def ping_pong(tool: str, *options: str, rounds: int = 100, length: float = 0.005) -> PingPong:
    """Have a tool watch PINGER_AND_PONGER."""
    with python_child(PINGER_AND_PONGER, str(rounds), str(length)) as child:
        assert child.stdin and child.stdout
        pids = [int(word) for word in child.stdout.readline().split()]
        with Tool(tool, *options, "-p", ",".join(map(str, pids))) as traced:
            child.stdin.write(b"\n")
            child.stdin.flush()
            waited, blocked = map(float, child.stdout.readline().split())
            return PingPong(traced.stop(), pids[0], pids[1], waited, blocked)
