"""Workloads for the scheduler's tools, and what the kernel itself counted of them."""
from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from support import busy_loops


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
