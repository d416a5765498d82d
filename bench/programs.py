"""How long the tools' BPF programs take in the kernel, by the kernel's own clock
(what kernel.bpf_stats_enabled switches on), for each event that they see."""
from __future__ import annotations

import time
from statistics import median
from typing import Callable, Iterator

import installed
import opens
from place import Place, progress
from processes import load_cpu, program_statistics, run_load
from table import Row

OPENS = 200_000
SAMPLED_SECONDS = 5
ROUNDS = 3


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on programs: medians of the rounds, in which ours
    and the peer take turns."""
    yield from _samples(place)
    yield from _opens(place)


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


def _compare(
    place: Place, what: str, load: Callable[[], object],
    ours: list[str], peer_is: str, peer: list[str],
) -> list[Row]:  # fmt: skip
    """A row that has no limit: nanoseconds for each event of a load."""
    taken: dict[str, list[float]] = {"ours": [], peer_is: []}
    for number in range(ROUNDS):
        for name, command in (("ours", ours), (peer_is, peer)):
            progress(f"{what} {number + 1}/{ROUNDS}: {name}")
            with place.tool(name, command) as tool, program_statistics():
                time_before, runs_before = tool.program_total()
                load()
                nanoseconds, runs = tool.program_total()
                tool.stop()
            taken[name].append((nanoseconds - time_before) / (runs - runs_before))
    return [Row(what, median(taken["ours"]), median(taken[peer_is]), peer_is, None, "ns")]
