"""runqslower against /proc/TID/schedstat and workloads of known size."""
from __future__ import annotations

import datetime
import json
import re
import time
from typing import Any

import pytest

from scheduling import PAIR, SLEEPER, about, asleep, run
from support import Tool, busy_loops, cgroups, last_cpu, python_child, run_tool

pytestmark = pytest.mark.alone


def waits(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def began(wait: dict[str, Any]) -> float:
    """When a wait began: seconds of time.time()."""
    ended = datetime.datetime.strptime(wait["ts"], "%Y-%m-%dT%H:%M:%S.%fZ")
    waited: float = wait["lat_us"]
    return ended.replace(tzinfo=datetime.timezone.utc).timestamp() - waited / 1e6


@pytest.mark.every_kernel
def test_waits_of_a_competing_pair_add_up_to_schedstat_and_name_each_other() -> None:
    with python_child(PAIR, str(last_cpu()), "1") as child:
        assert child.stdin and child.stdout
        tids = [child.pid, int(child.stdout.readline())]
        asleep(tids)
        both = ",".join(map(str, tids))
        with Tool("runqslower", "--json", "-t", both, "0") as every:
            with Tool("runqslower", "--json", "-p", both, "1000") as long:
                spent = run(child, tids)
                found, found_long = waits(every.stop()), waits(long.stop())
    assert {wait["tid"] for wait in found} == set(tids)
    for tid in tids:
        mine = [wait for wait in found if wait["tid"] == tid]
        assert len(mine) == about(spent[tid].slices)
        waited = sum(wait["lat_us"] for wait in mine) * 1000
        # The kernel reads its own clock some microseconds before or after us.
        assert waited == pytest.approx(spent[tid].waited, rel=0.02, abs=20_000 * len(mine))
        assert waited > 300_000_000
        assert all(wait["pid"] == tid and wait["prev_tid"] != tid for wait in mine)
        assert any(wait["prev_tid"] == wait["prev_pid"] in tids for wait in mine)
        assert any(wait["prev_comm"] == wait["comm"] for wait in mine)
    assert all(wait["lat_us"] > 1000 for wait in found_long)
    # The two look at their clocks one after the other.
    sure = sum(wait["lat_us"] > 1100 for wait in found)
    perhaps = sum(wait["lat_us"] > 900 for wait in found)
    assert 0.98 * sure <= len(found_long) <= 1.02 * perhaps
    assert sure > 20


@pytest.mark.any_types
def test_no_wait_is_older_than_the_tool() -> None:
    # One of the two always waits, at the moment of attaching too.
    with busy_loops(last_cpu(), 2) as pids:
        start = time.time()
        both = ",".join(map(str, pids))
        output = run_tool("runqslower", "--json", "-p", both, "-d", "0.5", "0").stdout
    found = waits(output)
    assert {wait["tid"] for wait in found} == set(pids)
    assert all(wait["lat_us"] >= 0 and began(wait) >= start for wait in found)


@pytest.mark.host_only
def test_text_and_the_container_of_a_cgroup() -> None:
    with cgroups(1, "memory") as (folder,), python_child(SLEEPER, "200") as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        (folder / "cgroup.procs").write_text(str(child.pid))
        with Tool("runqslower", "-P", "--container", "--cgroup", str(folder), "0") as tool:
            run(child, [child.pid])
            lines = tool.stop().splitlines()
    heading = "TIME     COMM             CONTAINER    TID        LAT(us) PREV COMM        PREV TID"
    assert lines[0] == heading
    # Where cgroups are of version 1, the one of version 2 is the root.
    wanted = re.compile(rf"\d\d:\d\d:\d\d \S+ +(/\S*) +{child.pid} +\d+ .{{16}} \d+")
    found = [wanted.fullmatch(line) for line in lines[1:]]
    assert all(found) and len(found) >= 190
    assert {match.group(1) for match in found if match} <= {"/", f"/{folder.parent.name}/0"}


@pytest.mark.host_only
@pytest.mark.parametrize("limit", ["-1", "1.5", "", "10000000000000"])
def test_a_limit_that_is_none_is_bad_usage(limit: str) -> None:
    result = run_tool("runqslower", "--", limit)
    assert (result.returncode, result.stdout) == (2, "")
    assert "is not a whole number from 0 to" in result.stderr
