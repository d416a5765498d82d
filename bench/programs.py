"""How long the tools' BPF programs take in the kernel, by the kernel's own clock
(what kernel.bpf_stats_enabled switches on), for each event that they see."""
from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator

import installed
import opens
from installed import bcc_peer, libbpf_peer, script_peer, with_tracefs
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
    return _compare(
        place, "runqlen, program per sample", lambda: time.sleep(SAMPLED_SECONDS),
        installed.ours("runqlen"), "bcc runqlen", installed.bcc("runqlen"),
    )  # fmt: skip


def _opens(place: Place) -> list[Row]:
    path = place.folder / "opened"
    path.touch()
    load = [str(place.load("opens")), str(path), str(place.times(OPENS)), str(load_cpu())]
    name, command = place.first_of(*opens.PEERS)
    return _compare(
        place, "opensnoop, programs per open", lambda: run_load(load),
        installed.ours("opensnoop"), name, command,
    )  # fmt: skip


def _calls(place: Place) -> list[Row]:
    load = str(place.load("calls"))
    count = [str(installed.BENCH / "peers" / "count")]
    return _compare(
        place, "vfsstat's count of a call",
        lambda: run_on_all_cpus(lambda cpu: [load, str(place.times(CALLS)), str(cpu)]),
        [*count, "ours"], "bcc's count", with_tracefs([*count, "bcc"]), 0.80,
    )  # fmt: skip


def _ios(place: Place) -> Iterator[Row]:
    with loop_disk(place.folder) as disk:
        load = [str(place.load("reads")), disk, str(place.times(IOS)), str(load_cpu())]
        script = script_peer("biosnoop")
        peers = {
            "biolatency": (bcc_peer("biolatency"), libbpf_peer("biolatency"), script),
            "biosnoop": (bcc_peer("biosnoop"), script),
        }
        for tool, candidates in peers.items():
            yield from _compare(
                place, f"{tool}, programs per I/O", lambda: run_load(load),
                installed.ours(tool), *place.first_of(*candidates), 0.80,
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
    rounds = place.rounds(ROUNDS)
    for number in range(rounds):
        for name, command in (("ours", ours), (peer_is, peer)):
            progress(f"{what} {number + 1}/{rounds}: {name}")
            with place.tool(name, command) as tool, program_statistics():
                for _ in range(place.loads):
                    time_before, runs_before = tool.program_total()
                    load()
                    nanoseconds, runs = tool.program_total()
                    taken[name].append((nanoseconds - time_before) / (runs - runs_before))
                tool.stop()
    our_time, peer_time = map(place.counts, taken.values())
    return [Row(what, our_time, peer_time, peer_is, limit, "ns")]
