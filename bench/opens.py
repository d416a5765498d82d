"""What opensnoop costs a program that opens files at full speed, and what it misses.

The load opens one file 1,000,000 times, pinned to one CPU; the tools run where
the scheduler puts them, their output in a file. In each round: the load alone,
with two empty programs on the same tracepoints, and with each tool. The load
times each twentieth of its loop, and the median of these times counts: a
machine that is slow for a second then changes nothing.
"""
from __future__ import annotations

from statistics import median
from typing import NamedTuple

import installed
from installed import bcc_peer, script_peer, with_tracefs
from place import Place, progress
from processes import Trouble, load_cpu, run_load
from table import Row

COUNT = 1_000_000
PARTS = 20  # as in loads/load.h
ROUNDS = 5
# What they add is so much more that fewer rounds do.
PEER_ROUNDS = 2


class Round(NamedTuple):
    """One run of the load: microseconds of an open in each part of the loop; opens
    that the tool did not print; the tool's peak in MiB."""

    each: list[float]
    lost: int = 0
    peak: float = 0.0


# bcc's, or what does its work.
PEERS = (bcc_peer("opensnoop"), script_peer("opensnoop"))
# What openat(2) passes.
PLACES = [f"TRACEPOINT(syscalls, sys_{side}_openat)" for side in ("enter", "exit")]


def measure(place: Place) -> list[Row]:
    """The rows of the table on opens."""
    bcc, bcc_command = place.first_of(*PEERS)
    tools = {
        "ours": ("our opensnoop", installed.ours("opensnoop")),
        "empty": ("two empty programs", installed.empty(*PLACES)),
        "bcc": (bcc, bcc_command),
    }
    try:
        tools["c"] = ("libbpf-tools opensnoop", with_tracefs(installed.libbpf("opensnoop")))
        with place.tool(*tools["c"]):
            pass
    except Trouble as error:
        installed.note(f"{error}. No limit depends on it: left out.")
        del tools["c"]
    rounds: dict[str, list[Round]] = {kind: [] for kind in ["alone", *tools]}
    for number in range(ROUNDS):
        progress(f"opens {number + 1}/{ROUNDS}: alone")
        rounds["alone"].append(opened(place)[1])
        for kind, (name, command) in tools.items():
            if number < PEER_ROUNDS or kind in ("ours", "empty"):
                progress(f"opens {number + 1}/{ROUNDS}: {name}")
                rounds[kind].append(traced(place, name, command))
    each = {kind: median(t for once in rounds[kind] for t in once.each) for kind in rounds}
    added = {kind: each[kind] - each["alone"] for kind in tools}
    lost = {kind: max(once.lost for once in rounds[kind]) for kind in tools}
    peak = {kind: max(once.peak for once in rounds[kind]) for kind in tools}
    what_lost, what_added = f"opensnoop, lost of {COUNT:,}", "opensnoop, added to each open"
    floor = tools["empty"][0]
    rows = [
        Row(what_lost, lost["ours"], lost["bcc"], bcc, most=0),
        Row(what_added, added["ours"], added["bcc"], bcc, 0.25, "us"),
        Row(what_added, added["ours"], added["empty"], floor, 4, "us"),
        Row("opensnoop, peak memory", peak["ours"], peak["bcc"], bcc, 0.20, "MiB"),
    ]
    if "c" in tools:
        name = tools["c"][0]
        rows += [
            Row(what_lost, lost["ours"], lost["c"], name),
            Row(what_added, added["ours"], added["c"], name, None, "us"),
        ]
    return rows


def opened(place: Place) -> tuple[int, Round]:
    """Run the load: its pid and its times."""
    path = place.folder / "opened"
    path.touch()
    load = [str(place.load("opens")), str(path), str(COUNT), str(load_cpu())]
    pid, parts = run_load(load)
    return pid, Round([time / (COUNT / PARTS) / 1000 for time in parts])


def traced(place: Place, name: str, command: list[str]) -> Round:
    with place.tool(name, command) as tool:
        pid, once = opened(place)
        tool.catch_up()
        peak = tool.peak_kib() / 1024
        tool.stop()
    # The load opens other files than this one when it starts.
    seen, end = 0, str(place.folder / "opened").encode() + b"\n"
    with open(tool.output, "rb") as lines:
        for line in lines:
            seen += line.endswith(end) and int(line.split(None, 1)[0]) == pid
    return once._replace(lost=COUNT - seen, peak=peak)
