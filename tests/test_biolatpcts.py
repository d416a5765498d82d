"""biolatpcts against disks of known latency, and the kernel's own count."""
from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

import capture
from disks import BLOCK, Io, Stat, appears, loop_disk, mixed, module, stat, worker
from support import Tool, run_tool

DELAY_NS = 20_000_000


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_disk(tmp_path_factory.mktemp("disk")) as name:
        yield name


def number(disk: str) -> str:
    return Path(f"/sys/block/{disk}/dev").read_text().strip()


def by_operation(output: str) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["operation"] for row in rows] == ["read", "write", "discard", "flush"]
    return {row["operation"]: row for row in rows}


def done(before: Stat, after: Stat) -> tuple[int, int]:
    return after.reads - before.reads, after.writes - before.writes


@pytest.mark.parametrize("which", ["on-device", "after-rq-alloc", "from-rq-alloc"])
def test_counts_each_io_and_its_percentiles_rise(disk: str, which: str) -> None:
    with worker(disk) as process:
        with Tool("biolatpcts", "-j", "-w", which, "-i", "1000", number(disk)) as tool:
            before = stat(disk)
            process.do(mixed(300))
            after = stat(disk)
            process.do([Io("f", 0, 0)])
            found = by_operation(tool.stop())
        assert b"unmatched" not in tool.messages and b"lost" not in tool.messages
    assert (found["read"]["count"], found["write"]["count"]) == done(before, after) == (200, 100)
    assert (found["discard"]["count"], found["flush"]["count"]) == (0, 1)
    for row in found.values():
        values = [row[each] for each in "1 5 10 16 25 50 75 84 90 95 99 100".split()]
        assert row["disk"] == disk
        assert None not in values if row["count"] else set(values) == {None}
        assert values == sorted(values) if row["count"] else True


@pytest.mark.every_kernel
def test_a_disk_that_takes_20_ms() -> None:
    if "PYTOOLS_SCRATCH" not in os.environ:
        pytest.skip(f"{os.uname().release} has no module null_blk")
    with module(
        "null_blk", "nr_devices=1", "gb=1", "queue_mode=2", "irqmode=2",
        f"completion_nsec={DELAY_NS}",
    ):  # fmt: skip
        disk = os.path.basename(appears("/dev/nullb0"))
        with worker(disk) as process:
            with Tool("biolatpcts", "--json", "-p", "0,50,1e2", number(disk)) as tool:
                process.do([Io("r", 8 * place, BLOCK) for place in range(20)])
                reads = by_operation(tool.stop())["read"]
    # Each is the middle of what is alike, which differs by 1/32.
    assert reads["count"] == 20
    assert DELAY_NS * 63 / 64 <= reads["0"] <= reads["50"] <= reads["1e2"]


def answer(tool: Tool, number: int) -> list[list[str]]:
    """The rows with which a tool answers a signal."""
    tool.process.send_signal(number)
    return table(tool)


def table(tool: Tool) -> list[list[str]]:
    assert tool.process.stdout
    lines = [tool.process.stdout.readline().decode().split() for _ in range(6)]
    assert lines[0][1:] == ["50", "99.90"] and lines[5] == []
    return lines[1:5]


def test_signals_ask_for_reports(disk: str) -> None:
    none = ["-", "-"]
    with worker(disk) as process:
        with Tool("biolatpcts", "-i", "-1", "-p", "99.90,50", number(disk)) as tool:
            assert table(tool) == [[name, *none] for name in ("read", "write", "discard", "flush")]
            process.do([Io("r", 0, BLOCK)] * 10)
            first = answer(tool, signal.SIGUSR2)
            assert first[0][1] != "-" and first[1] == ["write", *none]
            process.do([Io("w", 0, BLOCK)] * 10)
            second = answer(tool, signal.SIGUSR1)
            assert second[0] == first[0] and second[1][1] != "-"
            assert answer(tool, signal.SIGUSR1)[:2] == [["read", *none], ["write", *none]]
            assert len(tool.stop().splitlines()) == 6


def test_what_is_collected_adds_up(disk: str) -> None:
    loaded = capture.load("biolatpcts")
    with worker(disk) as process:
        trace = loaded.start(loaded.tool.options([disk]))
        try:
            for cumulative, expected in ((True, 5), (True, 10), (False, 15), (False, 5)):
                process.do([Io("r", 0, BLOCK)] * 5)
                assert trace.collect(cumulative).rows[0]["count"] == expected
        finally:
            trace.close()


@pytest.mark.host_only
def test_percentiles_of_known_latencies() -> None:
    tool = capture.load("biolatpcts")
    assert [tool.middle(slot) for slot in (0, 1, 63, 64, 65, 96)] == [0, 1, 63, 65, 67, 130]
    counts = tool.Counter({10: 50, 20: 40, 30: 9, 40: 1})
    found = [tool.at(each, counts) for each in ("0", "1", "50", "50.1", "90", "99", "99.9", "100")]
    assert found == [10, 10, 10, 20, 20, 30, 40, 40]
    assert tool.at("50", tool.Counter()) is None
    lengths = [tool.length(ns) for ns in (400, 95_000, 1_500_000, 16_000_000, 2_500_000_000)]
    assert lengths == ["0us", "95us", "1.5ms", "16ms", "2.5s"]


@pytest.mark.host_only
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-p", "50,101", "8:0"], "'50,101' are not numbers from 0 to 100 with commas between"),
        (["-p", "nan", "8:0"], "'nan' are not numbers from 0 to 100 with commas between"),
        (["-p", "1_0", "8:0"], "'1_0' are not numbers from 0 to 100 with commas between"),
        (["-i", "1000000001", "8:0"], "is no number of seconds to 1000000000, nor 0, nor -1"),
        (["-i", "-2", "8:0"], "'-2' is no number of seconds, nor 0, nor -1"),
        (["-i", "1.5", "8:0"], "'1.5' is no number of seconds, nor 0, nor -1"),
    ],
)
def test_bad_numbers_are_refused(arguments: list[str], message: str) -> None:
    tool = capture.load("biolatpcts").tool
    result: subprocess.CompletedProcess[str] = run_tool(tool.name, *arguments)
    assert result.returncode == 2 and message in result.stderr
