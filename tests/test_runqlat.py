"""runqlat against /proc/TID/schedstat and workloads of known size."""
from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from scheduling import PAIR, PING_PONG, SLEEPER, about, asleep, run
from support import Tool, cgroups, last_cpu, python_child, run_tool

pytestmark = pytest.mark.alone


def histograms(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def samples(output: str) -> int:
    return sum(record["samples"] for record in histograms(output))


@pytest.mark.every_kernel
def test_samples_and_total_agree_with_schedstat_for_a_competing_pair() -> None:
    with python_child(PAIR, str(last_cpu()), "1.5") as child:
        assert child.stdin and child.stdout
        tids = [child.pid, int(child.stdout.readline())]
        asleep(tids)
        with Tool("runqlat", "--json", "-N", "-L", "--summary") as tool:
            spent = run(child, tids)
            output = tool.stop()
    found = {record["key"]["tid"]: record for record in histograms(output)}
    for tid in tids:
        record = found[tid]
        assert record["samples"] == about(spent[tid].slices)
        assert record["samples"] > 20
        waited = spent[tid].waited
        least = sum(bucket["lo"] * bucket["count"] for bucket in record["buckets"])
        most = sum((bucket["hi"] + 1) * bucket["count"] for bucket in record["buckets"])
        # The kernel reads its own clock some microseconds before or after us.
        slack = 20_000 * record["samples"]
        assert least - slack <= waited <= most + slack
        assert waited > 500_000_000
        assert record["total"] == pytest.approx(waited, abs=slack, rel=0.02)
        assert record["average"] == pytest.approx(record["total"] / record["samples"])
        longest = record["buckets"][-1]
        assert longest["lo"] <= record["max"] <= longest["hi"]
        assert record["percentiles"]["p50"] <= record["percentiles"]["p99.9"] <= record["max"]
        assert "lost" not in record


@pytest.mark.any_types
def test_every_wake_up_is_one_sample() -> None:
    with python_child(PING_PONG, str(last_cpu()), "5000") as child:
        assert child.stdin and child.stdout
        tids = [child.pid, int(child.stdout.readline())]
        asleep(tids)
        with Tool("runqlat", "--json", "-P") as tool:
            spent = run(child, tids)
            output = tool.stop()
    found = {record["key"]["pid"]: record["samples"] for record in histograms(output)}
    for tid in tids:
        assert found[tid] == about(spent[tid].slices)
        assert found[tid] >= 4900


# Threads that end at once, one after the other: as many tasks, each with an id
# of its own.
MANY_THREADS = """
import sys, threading
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    thread = threading.Thread(target=lambda: None)
    thread.start()
    print(thread.native_id)
    thread.join()
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.host_only
def test_more_than_10240_tasks_lose_no_samples() -> None:
    number = 12_000
    with python_child(MANY_THREADS, str(number)) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        with Tool("runqlat", "--json", "-L", "-p", str(child.pid)) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            tids = {int(child.stdout.readline()) for _ in range(number)}
            assert child.stdout.readline() == b"done\n"
            output = tool.stop()
    found = {record["key"]["tid"] for record in histograms(output)}
    assert len(tids) == number
    assert len(tids & found) == about(number) and len(tids & found) > 10_240
    assert not any("lost" in record for record in histograms(output))
    assert b"lost" not in tool.messages


@pytest.mark.any_types
@pytest.mark.parametrize("mine", [True, False])
def test_pid_filter_counts_that_process_only(mine: bool) -> None:
    with python_child(SLEEPER, "200") as child, python_child(SLEEPER, "1") as other:
        for each in (child, other):
            assert each.stdout and each.stdout.readline() == b"ready\n"
        pid = child.pid if mine else other.pid
        with Tool("runqlat", "--json", "-P", "-p", str(pid)) as tool:
            run(child, [child.pid])
            output = tool.stop()
    found = {record["key"]["pid"]: record["samples"] for record in histograms(output)}
    assert set(found) <= {pid}
    assert (found.get(pid, 0) >= 190) == mine


@pytest.mark.parametrize("mine", [True, False])
def test_cgroup_filter_counts_tasks_in_it_and_below(mine: bool) -> None:
    with cgroups(2) as (folder, other), python_child(SLEEPER, "200") as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        (folder / "cgroup.procs").write_text(str(child.pid))
        # The folder that both are in, so that what is below it counts too.
        path = folder.parent if mine else other
        with Tool("runqlat", "--json", "-P", "--cgroup", str(path)) as tool:
            run(child, [child.pid])
            output = tool.stop()
    found = {record["key"]["pid"]: record["samples"] for record in histograms(output)}
    assert set(found) <= {child.pid}
    assert (found.get(child.pid, 0) >= 190) == mine


def test_pid_namespaces_are_told_apart() -> None:
    inner = "import time\nfor _ in range(200): time.sleep(0.001)"
    with Tool("runqlat", "--json", "--pidnss") as tool:
        script = 'readlink /proc/self/ns/pid; exec /usr/bin/python3 -c "$0"'
        result = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, inner],
            capture_output=True,
            text=True,
            check=True,
        )
        output = tool.stop()
    namespace = int(result.stdout.strip()[len("pid:[") : -1])
    found = {record["key"]["pidns"]: record["samples"] for record in histograms(output)}
    assert found[namespace] >= 190
    assert os.stat("/proc/self/ns/pid").st_ino in found


@pytest.mark.host_only
@pytest.mark.parametrize(
    "option, unit",
    [
        ("-N", "nsecs"),
        ("-m", "msecs"),
        ("-T", "usecs"),
    ],
)
def test_units(option: str, unit: str) -> None:
    with python_child(SLEEPER, "100") as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("runqlat", "--json", option, "-p", str(child.pid)) as tool:
            run(child, [child.pid])
            (record,) = histograms(tool.stop())
    assert record["unit"] == unit and record["samples"] >= 95
    if unit == "nsecs":  # nothing gets a CPU within 16 ns
        assert sum(bucket["count"] for bucket in record["buckets"][:3]) == 0
    if unit == "msecs":  # nor waits for seconds
        assert record["buckets"][0]["count"] >= 50


@pytest.mark.host_only
def test_intervals_do_not_count_twice() -> None:
    with python_child(SLEEPER, "1000") as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("runqlat", "--json", "-p", str(child.pid), "0.1") as tool:
            spent = run(child, [child.pid])
            output = tool.stop()
    assert samples(output) == about(spent[child.pid].slices)
    assert len(histograms(output)) > 3


@pytest.mark.host_only
def test_unknown_process_is_bad_usage() -> None:
    result = run_tool("runqlat", "-p", "4194304")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "runqlat: there is no process 4194304\n"
