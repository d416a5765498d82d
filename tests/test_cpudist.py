"""cpudist against /proc/TID/schedstat and workloads of known size."""
from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pytools.facts.kernel import online_cpus
from scheduling import PAIR, about, asleep, never_idle, run, schedstat
from support import Tool, last_cpu, python_child, run_tool

pytestmark = pytest.mark.alone

# The kernel counts what runs in a task at its ticks, up to 10 ms apart.
TICKS = 20_000_000


def histograms(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def totals(records: list[dict[str, Any]], key: str) -> Counter[int]:
    """Nanoseconds by task, of all intervals."""
    found: Counter[int] = Counter()
    for record in records:
        assert record["unit"] == "usecs" and "lost" not in record
        found[record["key"][key]] += round(record["total"] * 1000)
    return found


# Waits for a line, and never ends.
WAIT_AND_SPIN = """
import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
print("ready", flush=True)
sys.stdin.readline()
while True:
    pass
"""


@pytest.mark.every_kernel
def test_stretches_and_total_agree_with_schedstat_in_one_interval_and_in_many() -> None:
    with python_child(PAIR, str(last_cpu()), "1") as child:
        assert child.stdin and child.stdout
        tids = [child.pid, int(child.stdout.readline())]
        asleep(tids)
        with Tool("cpudist", "--json", "-e", "-L") as whole:
            with Tool("cpudist", "--json", "-e", "-P", "0.1") as parts:
                spent = run(child, tids)
                records, many = histograms(whole.stop()), histograms(parts.stop())
    ran = totals(records, "tid")
    assert 0 not in ran
    for tid in tids:
        (record,) = [record for record in records if record["key"]["tid"] == tid]
        assert record["samples"] == about(spent[tid].slices)
        assert ran[tid] == pytest.approx(spent[tid].ran, rel=0.02, abs=20_000 * record["samples"])
        assert ran[tid] > 900_000_000
        assert totals(many, "pid")[tid] == pytest.approx(ran[tid], rel=0.02)
        # As many intervals as a busy machine lets the tool have.
        assert sum(record["key"]["pid"] == tid for record in many) > 1


@pytest.mark.any_types
def test_a_stretch_that_does_not_end_is_counted_all_the_same() -> None:
    cpu = last_cpu()
    with never_idle(cpu), python_child(WAIT_AND_SPIN, str(cpu)) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        # So that nothing ends the stretch.
        os.sched_setscheduler(child.pid, os.SCHED_FIFO, os.sched_param(1))
        asleep([child.pid])
        start = schedstat(child.pid)
        with Tool("cpudist", "--json", "-e", "-L") as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            while schedstat(child.pid).ran - start.ran < 500_000_000:
                pass
            before = schedstat(child.pid)
            tool.process.send_signal(2)
            records = histograms(tool.wait())
            after = schedstat(child.pid)
    (record,) = [record for record in records if record["key"]["tid"] == child.pid]
    assert before.slices <= start.slices + record["samples"] <= after.slices
    ran = totals([record], "tid")[child.pid]
    assert before.ran - TICKS <= start.ran + ran <= after.ran + TICKS


@pytest.mark.any_types
def test_all_cpus_have_all_the_time_with_idle_included() -> None:
    start = time.monotonic()
    with Tool("cpudist", "--json", "-e", "-I", "-L", "0.2") as tool:
        attached = time.monotonic()
        while time.monotonic() - attached < 2:
            os.sched_yield()
        least = time.monotonic() - attached
        output = tool.stop()
        most = time.monotonic() - start
    records = histograms(output)
    assert all(bucket["lo"] >= 0 for record in records for bucket in record["buckets"])
    counted = sum(totals(records, "tid").values()) / 1e9 / len(online_cpus())
    # Before a CPU's first switch it is not known since when its task runs; where a
    # switch is left out, the stretches on both sides are.
    assert 0.9 * least <= counted <= most
    without = run_tool("cpudist", "--json", "-L", "-d", "0.3")
    assert all(record["key"]["tid"] for record in histograms(without.stdout))


# Sleeps so often; then prints how long it was off CPU meanwhile, in nanoseconds.
SLEEPS = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
start = time.monotonic_ns() - time.thread_time_ns()
for _ in range(int(sys.argv[1])):
    time.sleep(0.01)
print("done", flush=True)
print(time.monotonic_ns() - time.thread_time_ns() - start, flush=True)
sys.stdin.readline()
"""


@pytest.mark.every_kernel
def test_time_off_cpu_is_that_of_the_sleeps() -> None:
    with python_child(SLEEPS, "100") as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        before = schedstat(child.pid)
        with Tool("cpudist", "--json", "-O", "-e", "-P", "-p", str(child.pid)) as tool:
            run(child, [child.pid])
            off = int(child.stdout.readline())
            waited = schedstat(child.pid).waited - before.waited
            (record,) = histograms(tool.stop())
    assert record["key"] == {"pid": child.pid}
    # The kernel's clock of CPU time stops some microseconds before or after ours, often
    # 100 where processors are emulated. A switch that a kernel leaves out takes one time
    # off CPU with it. The wait for the test began before the tool did, and is in neither.
    # Others may take the CPU while it does not sleep, too (PREEMPT_RT: the kernel's own threads).
    total = totals([record], "pid")[child.pid]
    assert 0.95 * off <= total <= 1.05 * (off + waited)
    slept = sum(bucket["count"] for bucket in record["buckets"] if bucket["hi"] >= 10_000)
    assert slept >= 95


LAST_PID = Path("/proc/sys/kernel/ns_last_pid")

# Has one pid go to a task after the other, a second apart.
REUSE = """
import os, sys, time
os.sched_setaffinity(0, [int(sys.argv[1])])
print("ready", flush=True)
sys.stdin.readline()
pid = os.fork()
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
reused = 0
while reused < 2:
    time.sleep(1)
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(pid - 1))
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    reused += child == pid
print("done", flush=True)
print(pid, flush=True)
sys.stdin.readline()
"""


@pytest.mark.any_types
def test_a_pid_that_is_used_again_was_not_off_cpu_meanwhile() -> None:
    assert LAST_PID.exists()
    with python_child(REUSE, str(last_cpu())) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("cpudist", "--json", "-O", "-L", "-m") as tool:
            run(child, [child.pid])
            pid = int(child.stdout.readline())
            found = {record["key"]["tid"]: record for record in histograms(tool.stop())}
    sleeps = found[child.pid]["buckets"]
    assert sleeps[-1]["hi"] >= 1000
    for bucket in found[pid]["buckets"] if pid in found else []:
        assert bucket["hi"] < 1000 or not bucket["count"]


@pytest.mark.host_only
def test_milliseconds() -> None:
    (record,) = histograms(run_tool("cpudist", "--json", "-m", "-O", "-d", "0.3").stdout)
    assert record["unit"] == "msecs" and record["samples"] > 0
