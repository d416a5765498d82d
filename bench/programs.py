"""How long the tools' BPF programs take in the kernel, by the kernel's own clock
(what kernel.bpf_stats_enabled switches on), for each event that they see."""
from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Callable, Iterator

import installed
import opens
from installed import with_tracefs
from place import Place, progress
from processes import Tool, Trouble, context_switches, load_cpu, program_statistics, run_load
from table import Row

SWITCHES = 1_000_000
OPENS = 200_000
IOS = 200_000
SAMPLED_SECONDS = 5
ROUNDS = 3
# A peer that counts less of the switches than this does not do the work that
# it is measured by (its kernel headers are wrong in a way that matters).
ENOUGH = 0.95


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on programs: medians of the rounds, in which ours
    and the peer take turns."""
    yield from _switches(place)
    yield from _samples(place)
    yield from _opens(place)
    yield from _ios(place)


def _switches(place: Place) -> list[Row]:
    load = [str(place.load("switches")), str(SWITCHES), str(load_cpu())]

    def per_switch(tool: Tool) -> tuple[float, float]:
        # Every switch of the machine is seen, not only the load's.
        switches, (time_before, _) = context_switches(), _total(tool)
        _, (wall,) = run_load(load)
        nanoseconds = _total(tool)[0] - time_before
        return nanoseconds / (context_switches() - switches), wall / SWITCHES

    ours = "our runqlat", installed.ours("runqlat", "--json")
    bcc = "bcc runqlat", installed.bcc("runqlat")
    in_programs: dict[str, list[float]] = {ours[0]: [], bcc[0]: []}
    walls: dict[str, list[float]] = {"alone": [], ours[0]: [], bcc[0]: []}
    for number in range(ROUNDS):
        walls["alone"].append(run_load(load)[1][0] / SWITCHES)
        for name, command in (ours, bcc):
            progress(f"switches {number + 1}/{ROUNDS}: {name}")
            with place.tool(name, command) as tool:
                # Once as it is used, once with its programs being timed.
                walls[name].append(run_load(load)[1][0] / SWITCHES)
                with program_statistics():
                    in_programs[name].append(per_switch(tool)[0])
                tool.stop()
            samples = _samples_of(tool)
            if samples < ENOUGH * 2 * SWITCHES:
                raise Trouble(f"{name} counted {samples:,} of {2 * SWITCHES:,} switches")
    alone = median(walls["alone"])
    return [
        Row(
            "runqlat, programs per switch",
            median(in_programs[ours[0]]), median(in_programs[bcc[0]]), bcc[0], 0.80, "ns",
        ),
        Row(
            "runqlat, added to each switch",
            median(walls[ours[0]]) - alone, median(walls[bcc[0]]) - alone, bcc[0], None, "ns",
        ),
    ]  # fmt: skip


def _samples_of(tool: Tool) -> int:
    """How many samples a histogram holds: JSON of ours, or text of bcc's."""
    lines = tool.output.read_text().splitlines()
    try:
        return int(json.loads(lines[-1])["samples"])
    except ValueError:
        counts = [line.partition(":")[2].split("|")[0] for line in lines if "->" in line]
        return sum(map(int, counts))


def _samples(place: Place) -> list[Row]:
    return _compare(
        place, "runqlen, program per sample", lambda: time.sleep(SAMPLED_SECONDS),
        installed.ours("runqlen"), "bcc runqlen", installed.bcc("runqlen"),
    )  # fmt: skip


def _opens(place: Place) -> list[Row]:
    path = place.folder / "opened"
    path.touch()
    load = [str(place.load("opens")), str(path), str(OPENS), str(load_cpu())]
    name, command = opens.bcc_opensnoop(place)
    return _compare(
        place, "opensnoop, programs per open", lambda: run_load(load),
        installed.ours("opensnoop"), name, command,
    )  # fmt: skip


def _ios(place: Place) -> Iterator[Row]:
    with loop_disk(place.folder) as disk:
        load = [str(place.load("reads")), disk, str(IOS), str(load_cpu())]
        peers = {
            "biolatency": ("libbpf-tools biolatency", installed.libbpf("biolatency")),
            "biosnoop": ("bcc biosnoop", installed.bcc("biosnoop")),
        }
        stand_in = "bcc script, tracepoints", [str(installed.BENCH / "peers" / "biosnoop")]
        for tool, (name, command) in peers.items():
            try:
                with place.tool(name, with_tracefs(command)) as peer:
                    peer.stop()
            except Trouble as error:
                name, command = stand_in
                installed.note(f"{error}. In its place: bench/peers/biosnoop, on tracepoints.")
            yield from _compare(
                place, f"{tool}, programs per I/O", lambda: run_load(load),
                installed.ours(tool), name, with_tracefs(command), 0.80,
            )  # fmt: skip


@contextlib.contextmanager
def loop_disk(folder: Path) -> Iterator[str]:
    """A disk in the page cache, which nobody else uses: a loop device of 16 MiB."""
    image = folder / "disk"
    image.write_bytes(bytes(16 << 20))
    command = ["losetup", "--find", "--show", str(image)]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        raise Trouble("cannot make a loop device")
    disk = made.stdout.strip()
    try:
        yield disk
    finally:
        subprocess.run(["losetup", "--detach", disk], check=False)


def _compare(
    place: Place, what: str, load: Callable[[], object],
    ours: list[str], peer_is: str, peer: list[str], limit: float | None = None,
) -> list[Row]:  # fmt: skip
    """A row: nanoseconds for each event of a load."""
    taken: dict[str, list[float]] = {"ours": [], peer_is: []}
    for number in range(ROUNDS):
        for name, command in (("ours", ours), (peer_is, peer)):
            progress(f"{what} {number + 1}/{ROUNDS}: {name}")
            with place.tool(name, command) as tool, program_statistics():
                time_before, runs_before = _total(tool)
                load()
                nanoseconds, runs = _total(tool)
                tool.stop()
            taken[name].append((nanoseconds - time_before) / (runs - runs_before))
    return [Row(what, median(taken["ours"]), median(taken[peer_is]), peer_is, limit, "ns")]


def _total(tool: Tool) -> tuple[int, int]:
    """Nanoseconds of a tool's programs together, and runs of the one that ran
    most often: as many as there were events (an open may take one or two)."""
    programs = tool.program_time().values()
    return sum(time for time, _ in programs), max(runs for _, runs in programs)
