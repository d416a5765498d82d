"""Which processes keep BPF programs, maps and links in the kernel, and where these are pinned."""
from __future__ import annotations

import ctypes
import os
import re
import struct
from collections import defaultdict

from pytools.base import system
from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.comm import comm
from pytools.base.text import text_of
from pytools.domains import bpf_places
from pytools.domains.bpf_objects import Objects, identity

if TYPE_CHECKING:
    from typing import Iterable, Iterator

    Identity = tuple[str, int]  # of an object: its kind, and its id


__all__ = ["Held", "Owners", "Process", "held", "name_of", "pinned"]

OBJ_GET = 7
READ_ONLY = 8  # BPF_F_RDONLY, which a link can't be
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Process(NamedTuple):
    """A process that holds something."""

    pid: int
    comm: str


class Held(NamedTuple):
    """What processes hold descriptors of: the objects of each process (their kinds and ids), and of
    its perf events the programs that run there, with their places. Where the kernel tells a place
    and not the program, that is 0. ``unread`` are processes whose descriptors this one may not see.
    """

    objects: dict[Process, set[tuple[str, int]]]
    events: dict[Process, list[tuple[int, str]]]
    unread: int


def name_of(pid: int) -> str:
    """The name of a process; empty where it has ended."""
    return text_of(comm(f"/proc/{pid}") or b"")


def held(pids: Iterable[int] | None = None) -> Held:
    """What these processes hold; None: all."""
    if pids is None:
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    found = Held({}, {}, 0)
    unread = 0
    for pid in pids:
        folder, objects, events = f"/proc/{pid}", set(), []
        try:
            names = os.listdir(f"{folder}/fd")
        except PermissionError:
            unread += 1
            continue
        except OSError:  # it has ended
            continue
        for name in names:
            try:
                what = os.readlink(f"{folder}/fd/{name}")
                if not what.startswith("anon_inode:"):
                    continue
                if "bpf" in what:
                    with open(f"{folder}/fdinfo/{name}", errors="replace") as file:
                        one = identity(file.read())
                    if one is not None:
                        objects.add(one)
                elif "perf_event" in what:
                    event = bpf_places.of_perf_event(pid, int(name))
                    if event is not None:
                        events.append(event)
            except OSError:  # it has closed it, or has ended
                continue
        if objects or events:
            process = Process(pid, name_of(pid))
            found.objects[process], found.events[process] = objects, events
    return found._replace(unread=unread)


def pinned() -> dict[tuple[str, int], list[str]]:
    """The paths of objects that are pinned in a BPF file system of this mount namespace."""
    paths: dict[tuple[str, int], list[str]] = defaultdict(list)
    seen = set()
    for point in _bpf_mounts():
        for folder, _, names in os.walk(point, onerror=None):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    where = os.lstat(path)
                    if (where.st_dev, where.st_ino) in seen:
                        continue
                    one = _pinned_at(path)
                except OSError:
                    continue
                seen.add((where.st_dev, where.st_ino))
                if one is not None:
                    paths[one].append(path)
    return paths


def _pinned_at(path: str) -> Identity | None:
    name = ctypes.create_string_buffer(os.fsencode(path))
    for flags in (READ_ONLY, 0):
        try:
            attributes = struct.pack("=QII", ctypes.addressof(name), 0, flags)
            descriptor = system.bpf(OBJ_GET, bytearray(attributes))
        except OSError:
            continue
        try:
            with open(f"/proc/self/fdinfo/{descriptor}", errors="replace") as file:
                return identity(file.read())
        finally:
            os.close(descriptor)
    return None


def _bpf_mounts() -> Iterator[str]:
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            if after.split(" ", 1)[0] == "bpf":
                yield _ESCAPED.sub(lambda m: chr(int(m.group(1), 8)), before.split(" ")[4])


class Owners:
    """Which process keeps a program. Processes are looked at again when there is a program that was
    not there before. ``pids`` are those that it is about; none: all."""

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = list(pids or ()) or None
        self._known: dict[int, Process | None] = {}

    def learn(self, programs: Iterable[int]) -> None:
        """Look up the owners of these programs."""
        now = set(programs)
        if not now - set(self._known):
            return
        self._known = dict.fromkeys(now)
        found = held(self._pids)
        links = {link.id: link.program for link in Objects().links()}
        for process in sorted(found.objects, reverse=True):  # the first process wins
            for kind, number in found.objects[process]:
                program = {"program": number, "link": links.get(number, 0)}.get(kind, 0)
                if program in now:
                    self._known[program] = process
            for program, _ in found.events[process]:
                if program in now:
                    self._known[program] = process

    def first(self, program: int) -> Process | None:
        """The process with the smallest number that keeps a program; None if none does."""
        return self._known.get(program)
