"""What syscount costs a system call, what execsnoop costs an exec, and how long
both take to start, beside bcc's.

The loads call getppid(2) 1,000,000 times, and run /bin/true with ten arguments
1,000 times. Time in the programs is the kernel's own (``program_statistics``); the
programs of one event are added up.
"""
from __future__ import annotations

from statistics import median

import installed
from installed import with_tracefs
from place import Place, progress
from processes import Tool, Trouble, load_cpu, program_statistics, run_load, spend
from table import Row

CALLS = 1_000_000
EXECS = 1_000
ROUNDS = 3
STARTS = 5
# What syscount is measured with, and what that is called.
MODES = {"": [], " -P": ["-P"], " -L": ["-L"]}


def measure(place: Place) -> list[Row]:
    """The rows of the table on system calls, execs, and starting both."""
    return [*_syscount(place), *_execsnoop(place), *_starts(place)]


def _syscount(place: Place) -> list[Row]:
    load = [str(place.load("calls")), str(CALLS), str(load_cpu())]
    rows = []
    for mode, options in MODES.items():
        commands = {
            "ours": installed.ours("syscount", *options),
            "bcc syscount": with_tracefs(installed.bcc("syscount", *options)),
        }
        rows += _rows(place, f"syscount{mode}", "call", load, CALLS, commands)
    return rows


def _execsnoop(place: Place) -> list[Row]:
    load = [str(place.load("execs")), str(EXECS), str(load_cpu())]
    peer, command = _bcc_execsnoop(place)
    commands = {"ours": installed.ours("execsnoop"), peer: command}
    return _rows(place, "execsnoop", "exec", load, EXECS, commands)


def _bcc_execsnoop(place: Place) -> tuple[str, list[str]]:
    """bcc's execsnoop or, where it cannot run, its equivalent: name and command."""
    command = with_tracefs(installed.bcc("execsnoop"))
    try:
        with place.tool("bcc execsnoop", command) as tool:
            tool.stop()
        return "bcc execsnoop", command
    except Trouble as error:
        installed.note(f"{error}. In its place: bench/peers/execsnoop, which uses tracepoints.")
        return "bcc script, tracepoints", with_tracefs(
            [str(installed.BENCH / "peers" / "execsnoop")]
        )


def _rows(
    place: Place, tool: str, event: str, load: list[str], count: int, commands: dict[str, list[str]]
) -> list[Row]:
    """Time in the programs for an event, and what the load's events take longer."""
    inside: dict[str, list[float]] = {name: [] for name in commands}
    walls: dict[str, list[float]] = {name: [] for name in ["alone", *commands]}
    for number in range(ROUNDS):
        walls["alone"].append(run_load(load)[1][0] / count)
        for name, command in commands.items():
            progress(f"{tool} {number + 1}/{ROUNDS}: {name}")
            with place.tool(name, command) as running:
                # Once as it is used, once with its programs being timed.
                walls[name].append(run_load(load)[1][0] / count)
                with program_statistics():
                    before = _total(running)
                    run_load(load)
                    after = _total(running)
                running.stop()
            inside[name].append((after[0] - before[0]) / (after[1] - before[1]))
    ours, peer = commands
    alone = min(walls["alone"])
    return [
        Row(
            f"{tool}, programs per {event}",
            median(inside[ours]), median(inside[peer]), peer, 0.80, "ns",
        ),
        Row(
            f"{tool}, added to each {event}",
            min(walls[ours]) - alone, min(walls[peer]) - alone, peer, 0.80, "ns",
        ),
    ]  # fmt: skip


def _total(tool: Tool) -> tuple[int, int]:
    """Nanoseconds of a tool's programs together, and runs of the one that ran most often."""
    programs = tool.program_time().values()
    return sum(time for time, _ in programs), max(runs for _, runs in programs)


def _starts(place: Place) -> list[Row]:
    """syscount from fork to exit; execsnoop's peers do not end by themselves."""
    found = {
        "warm": installed.ours("syscount", "-d", "0"),
        "cold": installed.ours("syscount", "-d", "0", "--no-cache"),
        "bcc": with_tracefs(installed.bcc("syscount", "-d", "1")),
        "execsnoop warm": installed.ours("execsnoop", "-d", "0"),
        "execsnoop cold": installed.ours("execsnoop", "-d", "0", "--no-cache"),
    }
    wall: dict[str, list[float]] = {kind: [] for kind in found}
    for number in range(STARTS):
        progress(f"start of syscount {number + 1}/{STARTS}")
        for kind, command in found.items():
            once = spend(place.load("launch"), kind, command, place.env).wall
            wall[kind].append(1000 * (once - (1.0 if kind == "bcc" else 0.0)))
    least = {kind: min(times) for kind, times in wall.items()}
    bcc = "bcc syscount"
    return [
        Row("syscount warm, exec to exit", least["warm"], least["bcc"], bcc, 0.80, "ms"),
        Row("syscount cold, exec to exit", least["cold"], least["bcc"], bcc, 0.80, "ms"),
        Row("execsnoop warm, exec to exit", least["execsnoop warm"], least["bcc"], bcc, 0.80, "ms"),
        Row("execsnoop cold, exec to exit", least["execsnoop cold"], least["bcc"], bcc, 0.80, "ms"),
    ]
