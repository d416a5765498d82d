"""Which tasks and sockets that are there now pass a tool's filters: for a tool that has seen
nothing, to say why nothing may come."""
from __future__ import annotations

import argparse
import os
import time

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.comm import comm
from pytools.base.process_files import users_of
from pytools.domains.containers import Containers
from pytools.load.pinned import keys as pinned_keys

if TYPE_CHECKING:
    from typing import Callable, Container, Iterable, Iterator

    from pytools.load.maps import Map


__all__ = ["Thread", "count", "in_calls", "marked", "off_cpu", "reasons", "threads"]

PF_KTHREAD = 0x00200000


class Thread(NamedTuple):
    """A thread that has not ended. ``state`` is its letter in proc(5)."""

    pid: int
    tid: int
    comm: str
    state: str
    ppid: int
    flags: int


class _Filter(NamedTuple):
    why: str  # what is said where nothing passes it
    passes: Callable[[Thread], object]


def threads(options: argparse.Namespace) -> list[Thread]:
    """The threads that pass all the filters of tasks (``arguments.add_filters``) now: none of a
    command that the tool has run, which has ended."""
    if options.family is not None:
        return []
    filters = _filters(options)
    return [
        each for each in _threads(options.pid) if all(wanted.passes(each) for wanted in filters)
    ]


def reasons(options: argparse.Namespace) -> list[str]:
    """Why nothing may come through the filters that were given: none where something that is there
    passes them."""
    if options.family is not None:  # it has ended
        return []
    found = []
    filters = _filters(options) if "pid" in vars(options) else []
    if filters:
        there = list(_threads(None))
        found = [each.why for each in filters if not any(map(each.passes, there))]
        if not found and not any(all(f.passes(each) for f in filters) for each in there):
            found = ["no process passes all the filters"]
    return found + (_ports(options) if "ip" in vars(options) else [])


# What has begun and has not ended (Tool.under_way).


def count(number: int, one: str, many: str) -> str:
    """So many of them, in words; nothing where there are none.

    >>> count(2, "thread waits", "threads wait")
    '2 threads wait'
    """
    return f"{number} {one if number == 1 else many}" if number else ""


def marked(options: argparse.Namespace, moments: Map, least: int = 0) -> list[Thread]:
    """The threads that pass the filters, and have a moment in an array by thread, as
    bpf/task_moment.h has it, that is more than ``least`` nanoseconds ago."""
    now = time.monotonic_ns()
    found = []
    for thread in threads(options):
        moment = moments.total(thread.tid) >> 8
        if moment and now - moment > least:
            found.append(thread)
    return found


def off_cpu(options: argparse.Namespace) -> list[Thread]:
    """The threads that pass the filters, and sleep."""
    return [thread for thread in threads(options) if thread.state != "R"]


def in_calls(
    options: argparse.Namespace, numbers: Container[int] | None = None, first: int = 0
) -> list[Thread]:
    """The threads that pass the filters, and sleep in a system call: in any, or in one of those
    with these ``numbers``, with any ``first`` argument, or with that one."""
    found = []
    for thread in off_cpu(options):
        try:
            with open(f"/proc/{thread.pid}/task/{thread.tid}/syscall", "rb") as file:
                number, *rest = file.read().split()
            if number.isdigit() and (numbers is None or int(number) in numbers):
                if not first or int(rest[0], 16) == first:
                    found.append(thread)
        except (OSError, ValueError):
            continue
    return found


def _threads(pids: Iterable[int] | None) -> Iterator[Thread]:
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pids is not None and pid not in pids:
            continue
        try:
            tids = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for tid in tids:
            try:
                with open(f"/proc/{pid}/task/{tid}/stat", "rb") as file:
                    data = file.read()
            except OSError:
                continue  # it has ended
            # The name is in the first and the last parentheses.
            name, _, rest = data.partition(b"(")[2].rpartition(b")")
            state, ppid, _, _, _, _, flags = rest.split()[:7]
            if state not in (b"Z", b"X"):
                comm = os.fsdecode(name)
                yield Thread(pid, int(tid), comm, state.decode(), int(ppid), int(flags))


def _filters(options: argparse.Namespace) -> list[_Filter]:
    given = vars(options)
    found = []
    for name, what in (("pid", "process"), ("tid", "thread")):
        if given.get(name) is not None:
            numbers = set(given[name])
            some = ", ".join(map(str, sorted(numbers)[:10])) + ", ..." * (len(numbers) > 10)
            why = f"there is no {what} {some} any more"
            found.append(_Filter(why, _member(name, numbers)))
    if given.get("ppid") is not None:
        why = f"process {options.ppid} has no child"
        found.append(_Filter(why, lambda thread: thread.ppid == options.ppid))
    if given.get("uid") is not None:
        why = f"no process belongs to user {options.uid}"
        number = options.wanted.settings["UID"]  # of one that was given by name, too
        found.append(_Filter(why, lambda thread: users_of(thread.pid)[:1] == [number]))
    if given.get("kind") is not None:
        kernel = options.kind == "kernel"
        found.append(_Filter("", lambda thread: bool(thread.flags & PF_KTHREAD) == kernel))
    if given.get("comm") is not None:
        from pytools.tool.name_filters import name_pattern

        called = name_pattern(options.comm, "--comm")
        # By the name of the thread, or of the process.
        found.append(
            _Filter(
                f"no process is called {options.comm}",
                lambda t: called.matches(os.fsencode(t.comm))
                or called.matches(comm(f"/proc/{t.pid}") or b""),
            )
        )
    if given.get("name_part"):
        from pytools.tool.name_filters import name_pattern

        part = name_pattern(options.name_part, "-n/--name", within=True)
        why = f"no process has {options.name_part} in its name"
        found.append(_Filter(why, lambda t: part.matches(comm(f"/proc/{t.pid}") or b"")))
    for option, kind, setting in (("pidns", "pid", "PID"), ("mntns", "mnt", "MOUNT")):
        if given.get(option) is not None:
            inode = options.wanted.settings[f"{setting}_NAMESPACE"]
            why = f"no process is in the {kind} namespace that process {given[option]} had"
            found.append(_Filter(why, _in_namespace(kind, inode)))
    if given.get("cgroup") is not None:
        inside = set(_in_cgroup(options.cgroup))
        why = f"no task is in the cgroup {options.cgroup}"
        found.append(_Filter(why, lambda thread: thread.tid in inside))
    pinned = options.wanted.pinned
    if given.get("cgroupmap") is not None:
        members = set(_in_cgroups(pinned_keys(pinned["wanted_cgroups"])))
        why = f"no task is in a cgroup of the map {options.cgroupmap}"
        found.append(_Filter(why, lambda thread: thread.tid in members))
    if given.get("mntnsmap") is not None:
        numbers = set(pinned_keys(pinned["wanted_mount_namespaces"]))
        why = f"no process is in a mount namespace of the map {options.mntnsmap}"
        found.append(_Filter(why, lambda thread: _namespace(thread.pid, "mnt") in numbers))
    if options.family is not None:
        pids = options.family.pids()
        found.append(_Filter("", lambda thread: thread.pid in pids))
    return found


def _member(name: str, numbers: set[int]) -> Callable[[Thread], bool]:
    return lambda thread: getattr(thread, name) in numbers


def _in_namespace(kind: str, inode: int) -> Callable[[Thread], bool]:
    return lambda thread: _namespace(thread.pid, kind) == inode


def _namespace(pid: int, kind: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    except OSError:
        return 0


def _in_cgroup(path: str) -> Iterator[int]:
    """The threads in a cgroup and below it."""
    for folder, _, files in os.walk(path):
        # Of version 2, or of version 1, which has both.
        name = "cgroup.threads" if "cgroup.threads" in files else "tasks"
        try:
            with open(os.path.join(folder, name)) as file:
                yield from map(int, file)
        except (OSError, ValueError):
            continue  # gone meanwhile


def _in_cgroups(numbers: Iterable[int]) -> Iterator[int]:
    """The threads in cgroups of version 2 of these numbers, and not below them."""
    containers = Containers()
    for number in numbers:
        try:
            with open(f"{containers.root}{containers.path(number)}/cgroup.threads") as file:
                yield from map(int, file)
        except (OSError, ValueError):
            continue  # there is none


def _ports(options: argparse.Namespace) -> list[str]:
    wanted = {
        name: set(getattr(options, name, None) or ()) for name in ("lports", "rports", "ports")
    }
    if not any(wanted.values()):
        return []
    local, remote = _ports_in_use()
    found = []
    for name, what, used in (
        ("lports", "local port", local),
        ("rports", "remote port", remote),
        ("ports", "port", local | remote),
    ):
        if wanted[name] and not wanted[name] & used:
            some = ", ".join(map(str, sorted(wanted[name])))
            found.append(f"no socket has the {what} {some}")
    return found


def _ports_in_use() -> tuple[set[int], set[int]]:
    """The local and the remote ports of all sockets, in all network namespaces of processes."""
    ports: tuple[set[int], set[int]] = set(), set()
    seen = set()
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        namespace = _namespace(int(pid), "net")
        if not namespace or namespace in seen:
            continue
        seen.add(namespace)
        for table in ("tcp", "tcp6", "udp", "udp6"):
            try:
                with open(f"/proc/{pid}/net/{table}") as file:
                    next(file)
                    for line in file:
                        for end, address in zip(ports, line.split()[1:3]):
                            end.add(int(address.rpartition(":")[2], 16))
            except (OSError, StopIteration):
                continue
    return ports
