"""What the tools that attach to kernel functions take in their programs, by the
kernel's own clock: vfsstat for each call that it counts, filelife for each file that
is created and deleted, capable for each check. Kernels without kprobes run neither
these nor bcc's: ``make bench-kernels`` measures them in a machine.
"""
from __future__ import annotations

from typing import Iterator

import installed
from place import Place, progress
from processes import Trouble, program_statistics, run_on_all_cpus
from table import Row

FILES, LOADS = 160, 20  # files of each CPU (a multiple of load.h's PARTS), loads
ROUNDS = 2
LIMIT = 0.80
# Those of vfsstat's functions that a file of the load passes.
PLACES = [
    f"FUNCTION({name})"
    for name in ("vfs_open", "vfs_write", "vfs_unlink", "security_inode_create")
]  # fmt: skip
# A tool that sees less of the files than this does not do what it is measured by.
ENOUGH = 0.95
NAME = "short-lived"
# What a tool prints of each event, if it prints them.
PRINTED = {"filelife": NAME, "capable": "CAP_SYS_ADMIN"}
EMPTY = "an empty program"


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on functions. Ours and bcc's take turns; of many short
    loads the least time counts: what else the host of a machine does can only add, and
    falls into the time of programs."""
    for tool, event in (("vfsstat", "call"), ("filelife", "file"), ("capable", "check")):
        taken: dict[str, list[float]] = {f"our {tool}": [], f"bcc {tool}": []}
        commands = [installed.ours(tool), installed.with_tracefs(installed.bcc(tool))]
        if tool == "vfsstat":
            taken[EMPTY] = []
            commands.append(installed.empty(*PLACES))
        for number in range(ROUNDS):
            for name, command in zip(taken, commands):
                progress(f"{tool} {number + 1}/{ROUNDS}: {name}")
                taken[name] += _each(place, name, command)
        (_, ours), (peer, theirs), *floor = ((name, min(each)) for name, each in taken.items())
        yield Row(f"{tool}, programs per {event}", ours, theirs, peer, LIMIT, "ns")
        for name, least in floor:
            yield Row(f"{tool}, more than {name}", ours - least, theirs - least, peer, unit="ns")


def _each(place: Place, name: str, command: list[str]) -> list[float]:
    """Nanoseconds that a tool's programs take for each call, file or check, in each load,
    which all CPUs make at once: what they share, they wait for."""
    tool = name.split()[-1]
    load = str(place.load("checks" if tool == "capable" else "files"))

    def on(cpu: int) -> list[str]:
        if tool == "capable":
            return [load, str(FILES), str(cpu)]
        folder = place.folder / f"cpu{cpu}"
        folder.mkdir(exist_ok=True)
        return [load, str(folder / NAME), str(FILES), str(cpu)]

    each = []
    with place.tool(name, command) as running, program_statistics():
        before = running.program_time()
        for _ in range(LOADS):
            files = FILES * run_on_all_cpus(on)
            after = running.program_time()
            spent = [
                [now - then for now, then in zip(after[program], before[program])]
                for program in after
            ]
            before = after
            time, runs = map(sum, zip(*spent))
            if runs < ENOUGH * files:
                raise Trouble(f"{name} ran {runs:,} times for {files:,} files")
            # Each run of vfsstat's programs counts a call.
            each.append(time / (files if tool in PRINTED else runs))
        running.stop()
    if tool in PRINTED:
        seen = running.output.read_text(errors="replace").count(PRINTED[tool])
        if seen < ENOUGH * LOADS * files:
            said = running.messages.strip().splitlines() or ["nothing"]
            few = f"{name} printed {seen:,} of {LOADS * files:,} events, and said: {said[-1]}"
            if name.startswith("our") or not seen:
                raise Trouble(few)
            installed.note(f"{few}.")
    return each
