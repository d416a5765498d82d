"""What the tools that trace any function cost a call of a program's function, beside bcc's.

The load calls a function that does next to nothing 100,000 times; it has a process of its own,
which both tools trace by its pid. Time in the programs is the kernel's own
(``program_statistics``); that of the traps by which they are reached is in what is added.
"""
from __future__ import annotations

from statistics import median
from typing import Iterator

import installed
from allocations import Load
from place import Place, progress
from processes import program_statistics
from table import Row

COUNT = 100_000
ROUNDS = 3
LIMIT = 0.80
# The tools, with options that both have.
TOOLS = (
    ("funclatency", []),
    ("funclatency", ["-F"]),
    ("funcslower", ["-m", "1000"]),
    ("funcslower", ["-m", "1000", "-a", "6"]),
    ("stackcount", []),
    ("stackcount", ["-U"]),
)


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on these tools."""
    for tool, options in TOOLS:
        yield from _compared(place, tool, options)


def _compared(place: Place, tool: str, options: list[str]) -> Iterator[Row]:
    function = f"{place.load('functions')}:measured"
    peer = f"bcc {tool}"
    commands = {
        "ours": installed.ours(tool, *options), peer: installed.bcc(tool, *options),
    }  # fmt: skip
    if tool == "stackcount":
        stacks = "--user-stack" if "-U" in options else "--stacks"
        commands["the stacks"] = installed.empty(stacks, "--function")
    inside: dict[str, list[float]] = {name: [] for name in commands}
    added: dict[str, list[float]] = {name: [] for name in commands}
    what = " ".join([tool, *options])
    for number in range(ROUNDS):
        for name, command in commands.items():
            progress(f"{what} {number + 1}/{ROUNDS}: {name}")
            with Load(place, "functions", COUNT) as load:
                alone = load.run()
                pid = [] if name == "the stacks" else ["-p", str(load.process.pid)]
                command = installed.with_tracefs([*command, *pid, function])
                with place.tool(name, command) as running:
                    # Once as it is used, once with its programs being timed.
                    traced = load.run()
                    with program_statistics():
                        before, _ = running.program_total()
                        load.run()
                        inside[name].append((running.program_total()[0] - before) / COUNT)
                    running.stop()
                alone += load.run()
            added[name].append((median(traced) - median(alone)) / (COUNT / len(traced)))
    # The walk through the stack takes the same time in both: what is more than that counts.
    limit = None if tool == "stackcount" else LIMIT
    yield Row(
        f"{what}, programs per call", median(inside["ours"]), median(inside[peer]), peer, limit,
        "ns",
    )  # fmt: skip
    if tool == "stackcount":
        floor = min(inside["the stacks"])
        yield Row(
            f"{what}, more than the stacks", min(inside["ours"]) - floor, min(inside[peer]) - floor,
            peer, LIMIT, "ns",
        )  # fmt: skip
    yield Row(
        f"{what}, added to each call", median(added["ours"]), median(added[peer]), peer, None, "ns"
    )
