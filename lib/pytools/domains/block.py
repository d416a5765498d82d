"""Block I/O: disks, operations and flags in words, and what ``bpf/block.h`` needs.

The number of an operation is the same in Linux v5.10 to v7.3 but for those on
zones; flags move, and the C puts them into the order of ``FLAGS`` here.
"""
from __future__ import annotations

import argparse
import glob
import os
import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Usage
from pytools.read.growth import Growth
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Callable, Mapping


__all__ = [
    "LETTERS", "Strays", "add_disk", "device", "disk_name", "flag_words", "in_flight", "kind_words",
    "letter", "numbers", "settings", "starts", "under_way",
]  # fmt: skip

MINOR_BITS = 20  # MINORBITS, include/linux/kdev_t.h
OPERATION_BITS = 8  # and above them the flags: kind_of() in bpf/block.h
# enum req_op, include/linux/blk_types.h; ZONE_APPEND as bpf/block.h has it.
OPERATIONS = {
    0: ("read", "R"), 1: ("write", "W"), 2: ("flush", "F"), 3: ("discard", "D"),
    5: ("secure-erase", "E"), 9: ("write-zeroes", "Z"), 128: ("zone-append", "A"),
}  # fmt: skip
# What the letters stand for, for people.
LETTERS = (
    "R read, W write, F flush of the disk's cache, D discard, Z write of zeroes, A append to a "
    "zone, E secure erase, N any other"
)
FLAGS = (
    "sync", "meta", "prio", "nomerge", "idle", "integrity", "fua", "preflush", "rahead",
    "background", "nowait", "swap",
)  # fmt: skip
FEWEST_FLIGHTS = 8192
MOST_FLIGHTS = 1 << 18  # of 150 to 250 bytes: less than 64 MiB


def flag_words(kind: int) -> str | None:
    """The flags of a request in words.

    >>> flag_words(0x301)
    'sync|meta'
    """
    bits = kind >> OPERATION_BITS
    return "|".join(flag for number, flag in enumerate(FLAGS) if bits >> number & 1) or None


def kind_words(kind: int) -> str:
    """The operation and the flags of a request in words.

    >>> kind_words(0x301)
    'write|sync|meta'
    """
    number = kind & (1 << OPERATION_BITS) - 1
    word = OPERATIONS[number][0] if number in OPERATIONS else f"operation {number}"
    return "|".join(filter(None, (word, flag_words(kind))))


def letter(kind: int) -> str:
    """The operation of a request as a letter; N for one that is rarer."""
    return OPERATIONS.get(kind & (1 << OPERATION_BITS) - 1, ("", "N"))[1]


def numbers(device: int) -> tuple[int, int]:
    """The major and the minor number of a disk.

    >>> numbers(8 << 20 | 16)
    (8, 16)
    """
    return device >> MINOR_BITS, device & (1 << MINOR_BITS) - 1


def disk_name(device: int) -> str | None:
    """The name of the disk with this number; MAJOR:MINOR if it is gone."""
    if not device:
        return None
    number = ":".join(map(str, numbers(device)))
    try:
        return os.path.basename(os.readlink(f"/sys/dev/block/{number}"))
    except OSError:
        return number


def add_disk(made: argparse.ArgumentParser) -> None:
    """Add the option that says which disk a tool is about."""
    made.add_argument("-d", "--disk", metavar="DISK", help="only this disk: sda, /dev/sda, or 8:0")


def settings(options: argparse.Namespace) -> dict[str, int]:
    """The numbers that block.h is told when it is loaded. Raises Usage."""
    return {
        "DISK": -1 if options.disk is None else device(options.disk),
        "FILTERED": options.wanted.of_tasks,
    }


def starts(wanted: object) -> str:
    """C for the template of a tool that watches where requests begin only if that is ``wanted``."""
    return '#include "block_starts.h"\n' if wanted else ""


def device(name: str) -> int:
    """The number of a disk by its name, by the path of its node, or, as in 8:0, by its numbers:
    those are taken as they are, for the disk may come. Raises Usage."""
    numbered = re.fullmatch(r"([0-9]{1,4}):([0-9]{1,7})", name)
    if numbered is not None:
        return int(numbered[1]) << MINOR_BITS | int(numbered[2])
    node = os.path.realpath(os.path.join("/dev", name))
    folder = os.path.join("/sys/class/block", os.path.basename(node))
    try:
        with open(f"{folder}/dev") as file:
            major, _, minor = file.read().partition(":")
    except (OSError, ValueError):
        raise Usage(f"there is no disk {name}; /proc/partitions has those that there are") from None
    if os.path.exists(f"{folder}/partition"):
        whole = os.path.basename(os.path.dirname(os.path.realpath(folder)))
        raise Usage(f"{name} is a partition: the I/O is that of the disk, {whole}")
    return int(major) << MINOR_BITS | int(minor)


def idle(name: str, devices: str = "/sys/dev/block") -> str:
    """Why there can be no request of the disk that was named so, in words; empty if there can.
    Devices that hand what they get to other disks, or to none, have no queue of requests
    (Documentation/ABI/stable/sysfs-block has /sys/block/DISK/mq)."""
    try:
        number = device(name)
    except Usage as gone:
        return str(gone)
    folder = "{}/{}:{}".format(devices, *numbers(number))
    if not os.path.exists(folder):
        return f"there is no disk {name}"
    if os.path.exists(f"{folder}/partition"):
        return f"{name} is a partition: the I/O is that of the disk"
    if not os.path.exists(f"{folder}/mq"):
        disk = os.path.basename(os.path.realpath(folder))
        return f"{disk} has no requests of its own, but disks below it may"
    return ""


def in_flight() -> int:
    """How many requests there can be at a time, and as many again."""
    requests = 0
    for path in glob.glob("/sys/block/*/queue/nr_requests"):
        try:
            with open(path) as file:
                each = int(file.read())
            queues = len(os.listdir(os.path.join(os.path.dirname(path), "..", "mq")))
        except (OSError, ValueError):
            continue  # no requests, or gone meanwhile
        requests += each * queues
    return min(max(2 * requests, FEWEST_FLIGHTS), MOST_FLIGHTS)


# The counters of block.h.
_UNMATCHED, _NEGATIVE, _NO_ROOM, _UNENDED = range(4)


def under_way(options: argparse.Namespace, program: Program) -> str:
    """Why there can be no request of the disk that was asked for, or how many requests their disks
    have not done yet, in words."""
    why = idle(options.disk) if options.disk is not None else ""
    if why or "flights" not in program.maps:
        return why
    issued = sum(flight["issued"] > 0 for flight in program.maps["flights"].named_values())
    what = "request has not ended" if issued == 1 else "requests have not ended"
    return f"{issued} {what}" if issued else ""


class Strays:
    """What is in no histogram and in no line, and why. ``say`` is told of the latter in words."""

    def __init__(self, program: Program, say: Callable[[str], None]) -> None:
        self._program, self._say = program, say
        self._growth = Growth(program.maps["strays"])

    def since_last(self) -> tuple[int, Mapping[str, int]]:
        """How many requests were lost since the last call, for want of room or because their end
        was not seen, and how many were ``unmatched`` or ``negative``."""
        counts = self._growth.since_last()
        found = {}
        for number, name, why in (
            (_UNMATCHED, "unmatched", "they began unseen, likely before the start"),
            (_NEGATIVE, "negative", "they ended before they began"),
        ):
            if counts.get(number):
                found[name] = counts[number]
                self._say(f"{counts[number]} requests {name}: {why}")
        return counts.get(_NO_ROOM, 0) + counts.get(_UNENDED, 0), found

    def lost(self) -> int:
        """How many requests were lost since the last call, with those for which no program ran."""
        return self.since_last()[0] + self._program.missed_since_last()
