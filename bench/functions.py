"""What the tools that attach to kernel functions take in their programs, by the
kernel's own clock: vfsstat for each call that it counts, filelife for each file that
is created and deleted. Kernels without kprobes run neither these nor bcc's:
``make bench-kernels`` measures them in a machine.
"""
from __future__ import annotations

from statistics import median
from typing import Iterator

import installed
from place import Place, progress
from processes import Trouble, load_cpu, program_statistics, run_load
from table import Row

FILES = 5_000
ROUNDS = 3
LIMIT = 0.80
# A tool that runs for less of the files than this, or prints less of them, does not do
# what it is measured by.
ENOUGH = 0.95
NAME = "short-lived"


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on functions: medians of the rounds, in which ours and
    bcc's take turns."""
    for tool, event in (("vfsstat", "call"), ("filelife", "file")):
        taken: dict[str, list[float]] = {"ours": [], f"bcc {tool}": []}
        commands = installed.ours(tool), installed.with_tracefs(installed.bcc(tool))
        for number in range(ROUNDS):
            for name, command in zip(taken, commands):
                progress(f"{tool} {number + 1}/{ROUNDS}: {name}")
                taken[name].append(_each(place, tool, name, command))
        (_, ours), (peer, theirs) = taken.items()
        yield Row(f"{tool}, programs per {event}", median(ours), median(theirs), peer, LIMIT, "ns")


def _each(place: Place, tool: str, name: str, command: list[str]) -> float:
    """Nanoseconds that a tool's programs take for each call or each file."""
    load = [str(place.load("files")), str(place.folder / NAME), str(FILES), str(load_cpu())]
    with place.tool(name, command) as running, program_statistics():
        before = running.program_time()
        run_load(load)
        after = running.program_time()
        running.stop()
    spent = [
        (after[program][0] - before[program][0], after[program][1] - before[program][1])
        for program in after
    ]
    time, runs = map(sum, zip(*spent))
    least = min((runs for _, runs in spent if runs), default=0)
    if least < ENOUGH * FILES:
        raise Trouble(f"{name} has a program that ran for {least:,} of {FILES:,} files")
    if tool == "vfsstat":
        return time / runs  # each run counts a call
    seen = running.output.read_text(errors="replace").count(NAME)
    if seen < ENOUGH * FILES:
        few = f"{name} printed {seen:,} of {FILES:,} files"
        if name == "ours":
            raise Trouble(few)
        installed.note(f"{few}.")
    return time / FILES
