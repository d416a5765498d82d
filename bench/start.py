"""How long a tool takes from exec to exit, and how much memory it takes for that.

Every command attaches, reads its map once, prints it, and ends: ``runqlen -d 0``,
and bcc's ``runqlen 0 1`` (an interval of 0 s, once). The C tools have no interval
of 0: theirs is 1 s, which is taken off again. That way all are measured from
outside by the same clock, no output is waited for, and nothing traces them.
"""
from __future__ import annotations

import functools
from typing import Callable, NamedTuple

import installed
from place import Place, progress
from processes import Spent, Trouble, spend
from table import Row

ROUNDS = 10
MEMORY_ROUNDS = 3


class Start(NamedTuple):
    """A command that ends by itself after sleeping for so many seconds."""

    name: str
    command: list[str]
    sleeps: float = 0.0


def commands(place: Place) -> dict[str, Start]:
    """What is compared, each tried once: that also fills the caches that a warm
    start is to find (images, Python's bytecode, pages of files)."""
    found = {
        "warm": Start("our runqlen", installed.ours("runqlen", "-d", "0")),
        "cold": Start("our runqlen", installed.ours("runqlen", "-d", "0", "--no-cache")),
        "bcc": Start("bcc runqlen", installed.bcc("runqlen", "0", "1")),
    }
    try:
        found["c"] = Start("libbpf-tools runqlen", installed.libbpf("runqlen", "1", "1"), 1.0)
        spend(place.load("launch"), *found["c"][:2], place.env)
    except Trouble as error:
        # As large: a map, three programs on scheduler events, a histogram.
        found["c"] = Start("libbpf-tools runqlat", installed.libbpf("runqlat", "1", "1"), 1.0)
        installed.note(f"{error}. Started in its place: {found['c'].name}.")
    for start in found.values():
        spend(place.load("launch"), start.name, start.command, place.env)
    return found


def measure(place: Place) -> list[Row]:
    """The rows of the table on starting. Of each command's times the least: what
    else the machine does can only add."""
    found = commands(place)
    spent: dict[str, list[Spent]] = {kind: [] for kind in found}
    # In turn, so that a busy spell hits all alike.
    for number in range(ROUNDS):
        progress(f"start {number + 1}/{ROUNDS}")
        for kind, start in found.items():
            once = spend(place.load("launch"), start.name, start.command, place.env)
            spent[kind].append(once._replace(wall=once.wall - start.sleeps))
    wall = {kind: 1000 * min(once.wall for once in spent[kind]) for kind in found}
    cpu = {kind: 1000 * min(once.cpu for once in spent[kind]) for kind in found}
    bcc, c = found["bcc"].name, found["c"].name
    return [
        Row("runqlen warm, exec to exit", wall["warm"], wall["bcc"], bcc, 0.10, "ms"),
        Row("runqlen warm, exec to exit", wall["warm"], wall["c"], c, 4, "ms"),
        Row("runqlen cold, exec to exit", wall["cold"], wall["bcc"], bcc, 0.50, "ms"),
        Row("runqlen warm, CPU time", cpu["warm"], cpu["bcc"], bcc, None, "ms"),
        Row("runqlen warm, CPU time", cpu["warm"], cpu["c"], c, None, "ms"),
        Row("runqlen cold, CPU time", cpu["cold"], cpu["bcc"], bcc, None, "ms"),
        *_memory(place, found),
    ]


def _memory(place: Place, found: dict[str, Start]) -> list[Row]:
    peak: dict[str, float] = {}
    for kind, start in found.items():
        progress(f"memory of {start.name}")
        run: Callable[[], Spent] = functools.partial(
            spend, place.load("launch"), start.name, start.command, place.env, True
        )
        peak[kind] = max(run().peak for _ in range(MEMORY_ROUNDS)) / 1024
    bcc, c = found["bcc"].name, found["c"].name
    return [
        Row("runqlen warm, peak memory", peak["warm"], peak["bcc"], bcc, 0.20, "MiB"),
        Row("runqlen cold, peak memory", peak["cold"], peak["bcc"], bcc, 0.20, "MiB"),
        Row("runqlen warm, peak memory", peak["warm"], peak["c"], c, None, "MiB"),
    ]
