"""softirqs counts what /proc/softirqs counts."""
from __future__ import annotations

import socket
from collections import Counter

import pytest

from interrupts import is_right, rows_beside, softirq_counts
from pytools.facts.kernel import online_cpus
from support import last_cpu, run_tool

pytestmark = pytest.mark.alone
PACKETS = 5000


def packets() -> None:
    """Have soft interrupts take packets in."""
    with socket.socket(type=socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        for _ in range(PACKETS):
            end.sendto(b"x", end.getsockname())
            assert end.recv(1) == b"x"


@pytest.mark.every_kernel
@pytest.mark.parametrize("options", [[], ["-C"]], ids=["times", "counts"])
def test_counts_are_those_of_proc_on_each_cpu(options: list[str]) -> None:
    rows, least, most = rows_beside(softirq_counts, packets, "softirqs", "--cpus", *options)
    counted = Counter({(row["softirq"], row["cpu"]): row["count"] for row in rows})
    wrong = [k for k in most if not is_right(least[k], counted[k], most[k])]
    assert not wrong, [(k, least[k], counted[k], most[k]) for k in wrong]
    assert sum(counted["net_rx", cpu] for cpu in online_cpus()) >= PACKETS * 0.9
    for row in rows if not options else []:
        assert 0 < row["maximum_ns"] <= row["time_ns"] <= row["maximum_ns"] * row["count"]
    assert options != ["-C"] or not any("time_ns" in row for row in rows)


def test_a_histogram_has_each_of_them() -> None:
    rows, least, most = rows_beside(softirq_counts, packets, "softirqs", "-d", "-N", "--summary")
    counted = {row["key"]["softirq"]: row for row in rows}
    for name in {name for name, _ in most}:
        low, high = (
            sum(n for (of, _), n in bound.items() if of == name) for bound in (least, most)
        )
        assert is_right(low, counted.get(name, {"samples": 0})["samples"], high)
    assert counted["net_rx"]["unit"] == "nsecs" and counted["net_rx"]["percentiles"]["p50"] > 0


@pytest.mark.any_types
def test_one_cpu_is_that_of_the_option() -> None:
    cpu = last_cpu()
    rows, least, most = rows_beside(softirq_counts, packets, "softirqs", "-c", str(cpu), "--cpus")
    assert {row["cpu"] for row in rows} <= {cpu}
    counted = Counter({row["softirq"]: row["count"] for row in rows})
    assert all(is_right(least[n, cpu], counted[n], most[n, cpu]) for n in counted)


@pytest.mark.any_types
def test_text_has_bcc_s_columns() -> None:
    cases: list[tuple[list[str], str]] = [
        ([], "SOFTIRQ TOTAL_usecs COUNT MAX_usecs"),
        (["-N"], "SOFTIRQ TOTAL_nsecs COUNT MAX_nsecs"),
        (["-C"], "SOFTIRQ TOTAL_count"),
    ]
    for options, columns in cases:
        head, first, *_ = run_tool("softirqs", *options, "0.5", "1").stdout.splitlines()
        assert head.split() == columns.split() and len(first.split()) == len(columns.split())
    for options in (["-C", "-d"], ["-C", "-N"], ["-C", "--summary"]):
        result = run_tool("softirqs", *options)
        assert result.returncode == 2 and result.stderr.count("\n") == 1


@pytest.mark.host_only
def test_a_cpu_that_is_not_there_is_no_silent_zero() -> None:
    for tool in ("softirqs", "hardirqs"):
        result = run_tool(tool, "-c", str(1 << 20), "--duration", "0")
        why = f"CPU {1 << 20} is not online"
        assert (result.returncode, result.stderr) == (0, f"{tool}: nothing was seen: {why}\n")
