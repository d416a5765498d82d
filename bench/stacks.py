"""What the tools that print stacks cost: in the kernel for each event, beside it
while they sample, and to give a thousand stacks names."""
from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Iterator

import installed
from place import Place, progress
from processes import (
    PATIENCE,
    Tool,
    Trouble,
    context_switches,
    load_cpu,
    program_statistics,
    run_load,
    spend,
)
from table import Row

ROUNDS = 3
FREQUENCY = 99
SHORT_SECONDS = 5
SAMPLED_SECONDS = 30
MOST_PERCENT = 0.5  # of a CPU, for each that is sampled
SWITCHES = 300_000
# Bits of a stack's number: 1,024 stacks, each there for four samples.
DEPTH, MICROSECONDS, FAST = 10, 4000, 999
MOST_SECONDS = 1.0


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on stacks."""
    yield from _whole_runs(place)
    yield from _sampling(place)
    yield from _switches(place)
    yield from _names(place)


def _children_seconds(pid: int) -> float:
    """Processor time of a process's children that live."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{child}/schedstat").read_text().split()[0])
    return total / 1e9


def _whole_runs(place: Place) -> list[Row]:
    """All that a short run takes: to start, to sample, to name and to print."""
    launch = place.load("launch")
    tools = [
        ("our profile", installed.ours("profile", "-f", "-F", str(FREQUENCY), str(SHORT_SECONDS))),
        ("bcc profile", installed.bcc("profile", "-f", "-F", str(FREQUENCY), str(SHORT_SECONDS))),
    ]
    used: dict[str, list[float]] = {name: [] for name, _ in tools}
    for number in range(ROUNDS):
        for name, command in tools:
            progress(f"profile, {SHORT_SECONDS} s {number + 1}/{ROUNDS}: {name}")
            used[name].append(spend(launch, name, command, place.env).cpu)
    ours, peer = (name for name, _ in tools)
    return [
        Row(
            f"profile, {SHORT_SECONDS} s in all", median(used[ours]), median(used[peer]), peer,
            0.80, "s CPU",
        )
    ]  # fmt: skip


def _sampling(place: Place) -> list[Row]:
    cpus = os.cpu_count() or 1
    tools = [
        ("our profile", installed.ours("profile", "-F", str(FREQUENCY))),
        ("bcc profile", installed.bcc("profile", "-F", str(FREQUENCY))),
    ]
    percent: dict[str, list[float]] = {name: [] for name, _ in tools}
    each: dict[str, list[float]] = {name: [] for name, _ in tools}
    for number in range(ROUNDS):
        for name, command in tools:
            progress(f"profile {number + 1}/{ROUNDS}: {name}")
            with place.tool(name, command) as tool, program_statistics():
                time_before, runs_before = _total(tool)
                cpu_before = tool.cpu_seconds()
                time.sleep(SAMPLED_SECONDS)
                time_after, runs = _total(tool)
                # All of the child: it is started for the first stacks.
                cpu = tool.cpu_seconds() - cpu_before + _children_seconds(tool.pid)
                tool.stop()
            in_kernel = time_after - time_before
            used = cpu + in_kernel / 1e9
            percent[name].append(100 * used / SAMPLED_SECONDS / cpus)
            each[name].append(in_kernel / (runs - runs_before))
    ours, peer = (name for name, _ in tools)
    return [
        Row(
            f"profile, {FREQUENCY} Hz, a core", median(percent[ours]), median(percent[peer]), peer,
            unit="% CPU", most=MOST_PERCENT,
        ),
        Row(
            "profile, program per sample", median(each[ours]), median(each[peer]), peer,
            unit="ns",
        ),
    ]  # fmt: skip


def _switches(place: Place) -> list[Row]:
    load = [str(place.load("switches")), str(SWITCHES), str(load_cpu())]
    tools = [
        ("our offcputime", installed.ours("offcputime", "-f")),
        ("bcc offcputime", installed.bcc("offcputime", "-f")),
    ]
    try:
        with place.tool(*tools[1]) as tool:
            tool.stop()
    except Trouble as error:
        installed.note(f"{error}: the C tool of libbpf-tools stands in for it")
        tools[1] = "libbpf offcputime", installed.libbpf("offcputime")
    each: dict[str, list[float]] = {name: [] for name, _ in tools}
    for number in range(ROUNDS):
        for name, command in tools:
            progress(f"offcputime {number + 1}/{ROUNDS}: {name}")
            with place.tool(name, command) as tool, program_statistics():
                switches, (before, _) = context_switches(), _total(tool)
                run_load(load)
                nanoseconds = _total(tool)[0] - before
                each[name].append(nanoseconds / (context_switches() - switches))
                tool.stop()
    ours, peer = (name for name, _ in tools)
    return [
        Row(
            "offcputime, programs per switch", median(each[ours]), median(each[peer]), peer,
            0.80 if peer.startswith("bcc") else 1.0, "ns",
        )
    ]  # fmt: skip


def _names(place: Place) -> list[Row]:
    """From Ctrl-C to the end: all stacks read, named and printed."""
    load = [str(place.load("stacks")), str(DEPTH), str(MICROSECONDS)]
    tools = [
        ("our profile", installed.ours("profile", "--json", "-F", str(FAST), "--comm", "stacks")),
        ("bcc profile", installed.bcc("profile", "-f", "-F", str(FAST))),
    ]
    taken: dict[str, list[float]] = {name: [] for name, _ in tools}
    for number in range(ROUNDS):
        for name, command in tools:
            progress(f"names {number + 1}/{ROUNDS}: {name}")
            with place.tool(name, command) as tool:
                run_load(load)
                begin = time.monotonic()
                tool.process.send_signal(2)
                tool.process.wait(PATIENCE)
                taken[name].append(time.monotonic() - begin)
            if name == tools[0][0]:
                lines = map(json.loads, tool.output.read_text().splitlines())
                stacks = {line["user_stack"] for line in lines if "work" in str(line)}
                if len(stacks) < 1000:
                    raise Trouble(f"{name} named {len(stacks)} of 1,024 stacks")
    ours, peer = (name for name, _ in tools)
    return [
        Row(
            "profile, 1,024 stacks named", median(taken[ours]), median(taken[peer]), peer,
            unit="s", most=MOST_SECONDS,
        )
    ]  # fmt: skip


def _total(tool: Tool) -> tuple[int, int]:
    """Nanoseconds of a tool's programs together, and runs of the one that ran
    most often."""
    programs = tool.program_time().values()
    return sum(time for time, _ in programs), max(runs for _, runs in programs)
