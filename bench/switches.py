"""How long the tools' BPF programs take in the kernel, by the kernel's own clock
(what kernel.bpf_stats_enabled switches on), for each context switch."""
from __future__ import annotations

import json
from statistics import median
from typing import Iterator

import installed
from installed import bcc_peer, libbpf_peer
from place import Place, progress
from processes import Tool, Trouble, context_switches, load_cpu, program_statistics, run_load
from table import Row

SWITCHES = 1_000_000
ROUNDS = 3
# A peer that counts less of the switches than this does not do the work that
# it is measured by (its kernel headers are wrong in a way that matters).
ENOUGH = 0.95
FEW_SWITCHES = 2_000
LIMIT = 0.80


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on switches: what counts of the rounds, in which ours
    and the peer take turns."""
    yield from _runqlat(place)
    yield _runqslower(place)
    for options in ([], ["-O"]):
        yield _cpudist(place, options)
    yield from _offcputime(place)


def _load(place: Place, switches: int) -> list[str]:
    return [str(place.load("switches")), str(switches), str(load_cpu())]


def _per_switch(place: Place, tool: Tool) -> list[float]:
    """Nanoseconds that a tool's programs take for a switch, in each load."""
    each = []
    with program_statistics():
        for _ in range(place.loads):
            # Every switch of the machine is seen, not only the load's.
            switches, (time_before, _) = context_switches(), tool.program_total()
            run_load(_load(place, place.times(SWITCHES)))
            nanoseconds = tool.program_total()[0] - time_before
            each.append(nanoseconds / (context_switches() - switches))
    return each


def _runqlat(place: Place) -> list[Row]:
    count = place.times(SWITCHES)
    load = _load(place, count)
    ours = "our runqlat", installed.ours("runqlat", "--json")
    bcc = "bcc runqlat", installed.bcc("runqlat")
    in_programs: dict[str, list[float]] = {ours[0]: [], bcc[0]: []}
    walls: dict[str, list[float]] = {"alone": [], ours[0]: [], bcc[0]: []}
    rounds = place.rounds(ROUNDS)
    for number in range(rounds):
        walls["alone"].append(run_load(load)[1][0] / count)
        for name, command in (ours, bcc):
            progress(f"switches {number + 1}/{rounds}: {name}")
            with place.tool(name, command) as tool:
                # Once as it is used, once with its programs being timed.
                walls[name].append(run_load(load)[1][0] / count)
                in_programs[name] += _per_switch(place, tool)
                tool.stop()
            samples = _samples_of(tool)
            made = count * (1 + place.loads)
            if samples < ENOUGH * made:
                raise Trouble(f"{name} counted {samples:,} of {made:,} switches")
    alone = median(walls["alone"])
    our_time, bcc_time = map(place.counts, in_programs.values())
    return [
        Row("runqlat, programs per switch", our_time, bcc_time, bcc[0], LIMIT, "ns"),
        Row(
            "runqlat, added to each switch",
            median(walls[ours[0]]) - alone, median(walls[bcc[0]]) - alone, bcc[0], None, "ns",
        ),
    ]  # fmt: skip


def _runqslower(place: Place) -> Row:
    def sees_waits(tool: Tool) -> bool:
        pid, _ = run_load(_load(place, FEW_SWITCHES))
        tool.stop()
        return str(pid) in tool.output.read_text(errors="replace").split()

    peers = (bcc_peer("runqslower", "1"), libbpf_peer("runqslower", "1"))
    name, command = place.first_of(*peers, sees=sees_waits)
    # Waits of less than 10 ms, which none of them prints.
    return _compared(place, "runqslower", installed.ours("runqslower"), name, command[:-1])


def _cpudist(place: Place, options: list[str]) -> Row:
    peer = place.first_of(bcc_peer("cpudist", *options), libbpf_peer("cpudist", *options))
    ours = installed.ours("cpudist", "--json", *options)
    return _compared(place, " ".join(["cpudist", *options]), ours, *peer, samples=True)


def _offcputime(place: Place) -> list[Row]:
    peer, command = place.first_of(bcc_peer("offcputime", "-f"), libbpf_peer("offcputime"))
    commands = {
        "our offcputime": installed.ours("offcputime", "-f"),
        peer: command,
        "two stacks": installed.empty("--stacks", "RAW_TRACEPOINT(sched_switch)"),
    }
    taken = _taken(place, commands, samples=False)
    ours, theirs, _ = map(place.counts, taken.values())
    # What is left is small against the whole, to which a busy machine can only add.
    our_least, their_least, stacks = map(min, taken.values())
    # The limit is bcc's; the C tool must not be faster.
    limit = LIMIT if peer.startswith("bcc") else 1.0
    return [
        Row("offcputime, programs per switch", ours, theirs, peer, limit, "ns"),
        Row(
            "offcputime, more than two stacks", our_least - stacks, their_least - stacks, peer,
            LIMIT, "ns",
        ),
    ]  # fmt: skip


def _compared(
    place: Place, what: str, ours: list[str], peer_is: str, peer: list[str], samples: bool = False
) -> Row:
    taken = _taken(place, {f"our {what}": ours, peer_is: peer}, samples)
    our_time, peer_time = map(place.counts, taken.values())
    return Row(f"{what}, programs per switch", our_time, peer_time, peer_is, LIMIT, "ns")


def _taken(place: Place, commands: dict[str, list[str]], samples: bool) -> dict[str, list[float]]:
    """Nanoseconds for a switch, of each command in all loads. With ``samples``, each must
    have counted the switches; ours is the first."""
    count = place.times(SWITCHES) * place.loads
    ours, *_ = commands
    taken: dict[str, list[float]] = {name: [] for name in commands}
    short = ""
    rounds = place.rounds(ROUNDS)
    for number in range(rounds):
        for name, command in commands.items():
            progress(f"switches {number + 1}/{rounds}: {name}")
            with place.tool(name, command) as tool:
                taken[name] += _per_switch(place, tool)
                tool.stop()
            counted = _samples_of(tool) if samples else count
            if counted < ENOUGH * count:
                few = f"{name} counted {counted:,} of {count:,} switches"
                if name == ours:
                    raise Trouble(few)
                short = f"{few}, and does less for the others"
    if short:
        installed.note(f"{short}.")
    return taken


def _samples_of(tool: Tool) -> int:
    """How many samples a histogram holds: JSON of ours, or text of others."""
    lines = tool.output.read_text().splitlines()
    try:
        return int(json.loads(lines[-1])["samples"])
    except ValueError:
        counts = [line.partition(":")[2].split("|")[0] for line in lines if "->" in line]
        return sum(map(int, counts))
