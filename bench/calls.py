"""What syscount costs a system call and execsnoop an exec, beside bcc's.

The loads call getppid(2) 1,000,000 times, and run /bin/true with ten arguments
2,000 times, and time each twentieth of that. Time in the programs is the kernel's
own (``program_statistics``); the programs of one event are added up.
"""
from __future__ import annotations

from statistics import median

import installed
from installed import bcc_peer, script_peer, with_tracefs
from place import Place, progress
from processes import load_cpu, program_statistics, run_load
from table import Row

CALLS = 1_000_000
EXECS = 2_000
ROUNDS = 3
LIMIT = 0.80
# What syscount is measured with, and what that is called.
MODES = {"": [], " -P": ["-P"], " -L": ["-L"]}


def measure(place: Place) -> list[Row]:
    """The rows of the table on system calls and execs."""
    return [*_syscount(place), *_execsnoop(place)]


def _syscount(place: Place) -> list[Row]:
    load = [str(place.load("calls")), str(CALLS), str(load_cpu())]
    rows = []
    for mode, options in MODES.items():
        commands = {
            "ours": installed.ours("syscount", *options),
            "bcc syscount": with_tracefs(installed.bcc("syscount", *options)),
        }
        rows += costs(place, f"syscount{mode}", "call", load, CALLS, commands)
    return rows


def _execsnoop(place: Place) -> list[Row]:
    load = [str(place.load("execs")), str(EXECS), str(load_cpu())]
    peer, command = place.first_of(bcc_peer("execsnoop"), script_peer("execsnoop"))
    commands = {"ours": installed.ours("execsnoop"), peer: command}
    return costs(place, "execsnoop", "exec", load, EXECS, commands)


def costs(
    place: Place,
    tool: str,
    event: str,
    load: list[str],
    count: int,
    commands: dict[str, list[str]],
    inside_limit: float | None = LIMIT,
    added_limit: float | None = LIMIT,
) -> list[Row]:
    """Time in the programs for an event, and what the load's events take longer."""
    inside: dict[str, list[float]] = {name: [] for name in commands}
    added: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(ROUNDS):
        for name, command in commands.items():
            progress(f"{tool} {number + 1}/{ROUNDS}: {name}")
            # Before and after: a machine that gets slower meanwhile adds to both.
            alone = run_load(load)[1]
            with place.tool(name, command) as running:
                # Once as it is used, once with its programs being timed.
                traced = run_load(load)[1]
                with program_statistics():
                    before = running.program_total()
                    run_load(load)
                    after = running.program_total()
                running.stop()
            alone += run_load(load)[1]
            added[name].append((median(traced) - median(alone)) / (count / len(traced)))
            inside[name].append((after[0] - before[0]) / (after[1] - before[1]))
    ours, peer = commands
    return [
        Row(
            f"{tool}, programs per {event}",
            median(inside[ours]), median(inside[peer]), peer, inside_limit, "ns",
        ),
        Row(
            f"{tool}, added to each {event}",
            median(added[ours]), median(added[peer]), peer, added_limit, "ns",
        ),
    ]  # fmt: skip
