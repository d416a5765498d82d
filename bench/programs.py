"""How long the tools' BPF programs take in the kernel, by the kernel's own clock
(what kernel.bpf_stats_enabled switches on), for each event that they see."""
from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator, Sequence

import installed
import opens
from installed import Peer, bcc_peer, libbpf_peer, script_peer, with_tracefs
from place import Place, progress
from processes import Trouble, load_cpu, program_statistics, run_load, run_on_all_cpus
from table import Row

OPENS = 200_000
CALLS = 1_000_000  # on each CPU
IOS = 200_000
SAMPLED_SECONDS = 5
ROUNDS = 3


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on programs: what counts of the rounds, in which ours
    and the peer take turns."""
    yield from _samples(place)
    yield from _opens(place)
    yield from _calls(place)
    yield from _ios(place)


def _samples(place: Place) -> list[Row]:
    return compare(
        place, "runqlen, program per sample", lambda: time.sleep(SAMPLED_SECONDS),
        installed.ours("runqlen"), "bcc runqlen", installed.bcc("runqlen"),
    )  # fmt: skip


def _opens(place: Place) -> list[Row]:
    path = place.folder / "opened"
    path.touch()
    load = [str(place.load("opens")), str(path), str(place.times(OPENS)), str(load_cpu())]
    name, command = place.first_of(*opens.PEERS)
    return compare(
        place, "opensnoop, programs per open", lambda: run_load(load),
        installed.ours("opensnoop"), name, command,
    )  # fmt: skip


def _calls(place: Place) -> list[Row]:
    load = str(place.load("calls"))
    count = [str(installed.BENCH / "peers" / "count")]
    return compare(
        place, "vfsstat's count of a call",
        lambda: run_on_all_cpus(lambda cpu: [load, str(place.times(CALLS)), str(cpu)]),
        [*count, "ours"], "bcc's count", with_tracefs([*count, "bcc"]), 0.80,
    )  # fmt: skip


def _ios(place: Place) -> Iterator[Row]:
    with loop_disk(place.folder) as disk:
        load = [str(place.load("reads")), disk, str(place.times(IOS)), str(load_cpu())]
        script = script_peer("biosnoop")
        interval = "-i", "1000"
        # Each tool, the options of both, and its peers.
        tools: tuple[tuple[str, list[str], list[Peer]], ...] = (
            ("biolatency", [], [bcc_peer("biolatency"), libbpf_peer("biolatency"), script]),
            ("biosnoop", [], [bcc_peer("biosnoop"), script]),
            ("bitesize", [], [bcc_peer("bitesize"), libbpf_peer("bitesize")]),
            ("biopattern", ["1000"], [bcc_peer("biopattern", "1000")]),
            ("biotop", ["-C", "1000"], [bcc_peer("biotop", "-C", "1000"), libbpf_peer("biotop")]),
            ("biolatpcts", [*interval, disk], [bcc_peer("biolatpcts", *interval, disk)]),
        )
        for tool, options, peers in tools:
            yield from compare(
                place, f"{tool}, programs per I/O", lambda: run_load(load),
                installed.ours(tool, *options), *place.first_or_none(*peers), 0.80,
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


def compare(
    place: Place, what: str, load: Callable[[], object],
    ours: list[str], peer_is: str, peer: list[str], limit: float | None = None,
    events: int = 0, walk: Sequence[str] = (),
) -> list[Row]:  # fmt: skip
    """A row: nanoseconds for each event of a load, which has so many ``events``; without them,
    one is when the program that runs most often runs. Without a peer, ours is measured alone.
    ``walk`` is the command of what only takes the stacks; what is more than that is a row, too.
    Then the limit is for bcc's tool; the C tool must not be faster."""
    commands = {"ours": ours}
    if peer:
        commands[peer_is] = peer
    if walk:
        commands["the stacks"] = list(walk)
    taken: dict[str, list[float]] = {name: [] for name in commands}
    rounds = place.rounds(ROUNDS)
    for number in range(rounds):
        for name, command in commands.items():
            progress(f"{what} {number + 1}/{rounds}: {name}")
            with place.tool(name, command) as tool, program_statistics():
                for _ in range(place.loads):
                    time_before, runs_before = tool.program_total()
                    load()
                    nanoseconds, runs = tool.program_total()
                    if runs == runs_before:
                        raise Trouble(f"{name} saw nothing of {what}")
                    each = events or runs - runs_before
                    taken[name].append((nanoseconds - time_before) / each)
                tool.stop()
    theirs = taken[peer_is] if peer else []
    if not theirs:
        peer_is, limit = "", None
    # The stacks' walk takes the same time in both.
    of_all = limit if peer_is.startswith("bcc") or not (walk and limit) else 1.0
    ours_took, theirs_took = place.counts(taken["ours"]), place.counts(theirs) if theirs else None
    rows = [Row(what, ours_took, theirs_took, peer_is, of_all, "ns")]
    if walk:
        # What is left is small against the whole, to which a busy machine can only add.
        floor = min(taken["the stacks"])
        rows.append(
            Row(
                f"{what.partition(',')[0]}, more than the stacks", min(taken["ours"]) - floor,
                min(theirs) - floor if theirs else None, peer_is, limit, "ns",
            )
        )  # fmt: skip
    return rows
