"""cputhrottle's times add up to those of cpu.stat."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import Tool, cgroups, needs_btf, needs_functions, python_child

pytestmark = [needs_functions, pytest.mark.alone]

# Uses so many seconds of a CPU.
BUSY = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
end = time.process_time() + float(sys.argv[1])
while time.process_time() < end:
    pass
print("done", flush=True)
sys.stdin.readline()
"""


def throttled_usec(cgroup: Path) -> int:
    lines = (cgroup / "cpu.stat").read_text().splitlines()
    return int(dict(line.split() for line in lines)["throttled_usec"])


def throttle(cgroup: Path, number: int, *arguments: str) -> tuple[list[int], str]:
    """The pids of processes in a cgroup with 20% of a CPU, and what cputhrottle prints."""
    (cgroup / "cpu.max").write_text("10000 50000")
    with Tool("cputhrottle", *arguments) as tool:
        children = []
        for _ in range(number):
            with python_child(BUSY, "0.3") as child:
                assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
                (cgroup / "cgroup.procs").write_text(str(child.pid))
                child.stdin.write(b"\n")
                child.stdin.flush()
                assert child.stdout.readline() == b"done\n"
                children.append(child.pid)
        # The last wait is over when the cgroup has no quota any more.
        (cgroup / "cpu.max").write_text("max 50000")
        return children, tool.stop()


@needs_btf
@pytest.mark.every_kernel
def test_the_times_are_those_of_cpu_stat() -> None:
    with cgroups(2) as (cgroup, other):
        (other / "cpu.max").write_text("max 50000")
        pids, output = throttle(cgroup, 2, "--json")
        usec = throttled_usec(cgroup)
    events: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    path = f"/{cgroup.parent.name}/{cgroup.name}"
    events = [event for event in events if event["cgroup"] == path]
    assert usec > 0 and abs(1000 * sum(event["lat_ms"] for event in events) - usec) <= 1
    assert {event["pid"] for event in events} <= {*pids, None}
    assert {event["pid"] for event in events} & {*pids}


@pytest.mark.any_types
def test_a_limit_and_the_columns() -> None:
    with cgroups(1) as (cgroup,):
        _, output = throttle(cgroup, 1, "100000")
        assert output.split() == "TIME CPU LAT(ms) TASKS PID COMM CGROUP".split()
