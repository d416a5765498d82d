"""What the tools that watch files take in their programs, by the kernel's own clock, for each file
that is created, written, read and removed on a disk. Kernels without kprobes run neither these nor
bcc's: ``make bench-kernels`` measures them in a machine, with ``PARTS=files``.
"""
from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Iterator, NamedTuple

import installed
from place import Place, progress
from processes import Trouble, program_statistics, run_on_all_cpus
from table import Row

FILES, LOADS = 160, 20  # files of each CPU (a multiple of load.h's PARTS), loads
ROUNDS = 2
LIMIT = 0.80
ENOUGH = 0.95  # of the files, that a tool's busiest program must run for


class Watched(NamedTuple):
    """A tool of ours with its arguments, and bcc's tool with its own."""

    tool: str
    arguments: list[str]
    peer: str
    of_peer: list[str]


WATCHED = (
    Watched("fsslower", ["-t", "ext4", "0"], "ext4slower", ["0"]),
    Watched("fsslower", ["-t", "ext4"], "ext4slower", []),
    Watched("fsdist", ["-t", "ext4"], "ext4dist", []),
    Watched("cachestat", ["1000"], "cachestat", ["1000"]),
    Watched("cachetop", ["1000"], "cachetop", ["1000"]),
    Watched("filetop", ["-C", "1000"], "filetop", ["-C", "1000"]),
    Watched("dirtop", ["-C", "-d", "/", "1000"], "dirtop", ["-C", "-d", "/", "1000"]),
    Watched("fileslower", ["0"], "fileslower", ["0"]),
    Watched("dcstat", ["1000"], "dcstat", ["1000"]),
)


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on files. Ours and bcc's take turns; of many short loads the least
    time counts: what else the host of a machine does can only add, and falls into the time of
    programs."""
    for watched in WATCHED:
        ours, theirs = f"our {watched.tool}", f"bcc {watched.peer}"
        peer = installed.bcc(watched.peer, *watched.of_peer)
        if watched.peer == "cachetop":
            peer = [str(installed.BENCH / "peers" / "terminal"), *peer]
        commands = {
            ours: installed.ours(watched.tool, *watched.arguments),
            theirs: installed.with_tracefs(peer),
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(place.rounds(ROUNDS)):
            for name, command in commands.items():
                progress(f"{watched.tool} {number + 1}/{ROUNDS}: {name}")
                taken[name] += _each(place, name, command)
        what = " ".join([watched.tool, *watched.arguments])
        yield Row(
            f"{what}, programs per file", min(taken[ours]), min(taken[theirs]), theirs, LIMIT, "ns"
        )


def _each(place: Place, name: str, command: list[str]) -> list[float]:
    """Nanoseconds that a tool's programs take for each file, in each load, which all CPUs make
    at once: what they share, they wait for."""
    load = str(place.load("files"))
    disk = Path(os.environ.get("PYTOOLS_SCRATCH", "/var/tmp")) / f"bench-{os.getpid()}"

    def on(cpu: int) -> list[str]:
        folder = disk / f"cpu{cpu}"
        folder.mkdir(parents=True, exist_ok=True)
        return [load, str(folder / "short-lived"), str(FILES), str(cpu)]

    each = []
    try:
        with place.tool(name, command) as running, program_statistics():
            for _ in range(LOADS):
                before = running.program_time()
                files = FILES * run_on_all_cpus(on)
                after = running.program_time()
                spent = [
                    [now - then for now, then in zip(after[program], before[program])]
                    for program in after
                ]
                if max(runs for _, runs in spent) < ENOUGH * files:
                    raise Trouble(f"{name} did not run for {files:,} files")
                each.append(sum(time for time, _ in spent) / files)
            running.stop()
    finally:
        shutil.rmtree(disk, ignore_errors=True)
    return each
