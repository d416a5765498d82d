"""What profile costs: in the kernel for each sample, beside it while it samples, and
to give a thousand stacks names."""
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
from processes import PATIENCE, Trouble, program_statistics, run_load, spend
from table import Row

ROUNDS = 3
FREQUENCY = 99
SHORT_SECONDS = 5
SAMPLED_SECONDS = 30
MOST_PERCENT = 0.5  # of a CPU, for each that is sampled
# Bits of a stack's number: 1,024 stacks, each there for four samples.
DEPTH, MICROSECONDS, FAST = 10, 4000, 999
MOST_SECONDS = 1.0


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on stacks."""
    yield from _whole_runs(place)
    yield from _sampling(place)
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
                time_before, runs_before = tool.program_total()
                cpu_before = tool.cpu_seconds()
                time.sleep(SAMPLED_SECONDS)
                time_after, runs = tool.program_total()
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
