"""Filters common to the tools, as conditions in C that run in the kernel.

Each takes what the user typed, checks it, and gives code for a template.
"""
from __future__ import annotations

import os
import re

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure, Usage
from pytools.base.text import escape

if TYPE_CHECKING:
    from typing import Callable, Mapping, TextIO

    import argparse

    from pytools.load.maps import Map

__all__ = ["Filter", "NO_FILTER", "process_exists", "sockets", "tasks", "thread_exists", "wanted"]


class Filter(NamedTuple):
    """``code`` is C for the top of a template: ``function(task)`` says whether a
    task passes. ``settings`` belong to its placeholders, ``entries`` are keys to put
    into its maps before it is attached, ``values`` become literals; ``numbers`` are the
    entries of arrays; ``pinned`` are the descriptors of maps that somebody else has made."""

    code: str
    settings: Mapping[str, int] = {}
    entries: Mapping[str, list[int]] = {}
    function: str = "wanted"
    values: Mapping[str, bytes] = {}
    numbers: Mapping[str, Mapping[int, int]] = {}
    pinned: Mapping[str, int] = {}

    @property
    def sizes(self) -> dict[str, int]:
        """How many entries its maps must have room for."""
        return {name: len(keys) for name, keys in self.entries.items()}

    def fill(self, maps: Mapping[str, Map]) -> None:
        """Put what it wants into the maps of a program, before that is attached."""
        for name, keys in self.entries.items():
            for key in keys:
                maps[name].add(key)
        for name, table in self.numbers.items():
            for key, number in table.items():
                maps[name].put(key, number)

    @property
    def of_tasks(self) -> bool:
        """Whether it is about some tasks only."""
        return EVERY_TASK not in self.code


EVERY_TASK = "#define wanted(task) true"
NO_FILTER = Filter("")
MOST_PIDS = 100_000


def _unsaid(text: str) -> None:
    """Where nobody is told."""


def tasks(options: argparse.Namespace, tell: Callable[[str], None] = _unsaid) -> Filter:
    """A C function ``wanted(struct task_struct *task)``: whether a task passes all
    the filters that were given (the options of ``arguments.add_filters``). Raises Usage
    or Failure for what is not there; ``tell`` is told what may let nothing pass."""
    parts = [
        part
        for part in (
            _numbers("PID", "tgid", options.pid, process_exists),
            _numbers("TID", "pid", getattr(options, "tid", None), thread_exists),
            _parent(getattr(options, "ppid", None)),
            _user(getattr(options, "uid", None), options.pid),
            _kind(getattr(options, "kind", None)),
            *_names(options, tell),
            _pid_namespace(options.pidns),
            _mount_namespace(getattr(options, "mntns", None)),
            _cgroup(options.cgroup),
            _cgroups_of_map(getattr(options, "cgroupmap", None)),
            _mount_namespaces_of_map(getattr(options, "mntnsmap", None)),
            _family(getattr(options, "command", None), options.pid),
        )
        if part is not None
    ]
    if not parts:
        return Filter(EVERY_TASK)
    settings: dict[str, int] = {}
    entries: dict[str, list[int]] = {}
    values: dict[str, bytes] = {}
    numbers: dict[str, Mapping[int, int]] = {}
    pinned: dict[str, int] = {}
    for part in parts:
        settings.update(part.settings)
        entries.update(part.entries)
        values.update(part.values)
        numbers.update(part.numbers)
        pinned.update(part.pinned)
    code = "".join(part.code for part in parts)
    tests = " && ".join(f"{part.function}(task)" for part in parts)
    code += f"#define wanted(task) ({tests})"
    return Filter(code, settings, entries, values=values, numbers=numbers, pinned=pinned)


def wanted(options: argparse.Namespace, tell: Callable[[str], None] = _unsaid) -> Filter:
    """All the filters of a tool: of tasks (``tasks``), of sockets (``sockets``), or both."""
    found = []
    if "pid" in vars(options):
        found.append(tasks(options, tell))
    if "ip" in vars(options):
        found.append(sockets(options))
    return Filter(
        "\n".join(each.code for each in found),
        {name: number for each in found for name, number in each.settings.items()},
        {name: keys for each in found for name, keys in each.entries.items()},
        values={name: data for each in found for name, data in each.values.items()},
        numbers={name: table for each in found for name, table in each.numbers.items()},
        pinned={name: map_fd for each in found for name, map_fd in each.pinned.items()},
    )


def sockets(options: argparse.Namespace) -> Filter:
    """A C function ``wanted_socket(struct ends *ends)`` (``bpf/socket.h``): whether a
    socket or a packet passes all the filters that were given (the options of
    ``arguments.add_sockets``). Raises Usage or Failure for what is not there."""
    code, tests = "", []
    settings: dict[str, int] = {}
    entries: dict[str, list[int]] = {}
    ends = {"lports": ["lport"], "rports": ["rport"], "ports": ["lport", "rport"]}
    for name, members in ends.items():
        numbers = getattr(options, name, None)
        if not numbers:
            continue
        table = f"wanted_{name}"
        entries[table] = sorted(set(numbers))
        code += (
            f"BPF_HASH({table}, u32, u8, 1);\n"
            f"static inline bool is_wanted_{name}(u32 port)\n"
            f"{{\n\treturn {table}.lookup(&port);\n}}\n"
        )
        either = " || ".join(f"is_wanted_{name}((ends)->{member})" for member in members)
        tests.append(f"({either})")
    for name in ("laddr", "raddr"):
        text = getattr(options, name, None)
        if text is None:
            continue
        from pytools.domains.addresses import words  # not for most

        code += '#include "whole_address.h"\n' * ("whole_address" not in code)
        first, second = f"{name.upper()}_FIRST", f"{name.upper()}_SECOND"
        settings.update(zip((first, second), words(text)))
        tests.append(f"is_address((ends)->{name}, (ends)->family, ${first}, ${second})")
    if options.ip is not None:
        settings["IP_VERSION"] = options.ip
        tests.append("(ends)->ip == $IP_VERSION")
    if getattr(options, "netns", None) is not None:
        from pytools.domains.network_namespaces import namespace

        settings["NETNS"] = namespace(options.netns)
        tests.append("(ends)->netns == $NETNS")
    code += f"#define wanted_socket(ends) ({' && '.join(tests) or 'true'})"
    return Filter(code, settings, entries, "wanted_socket")


def _numbers(
    name: str, member: str, numbers: list[int] | None, check: Callable[[int], None]
) -> Filter | None:
    if numbers is None:
        return None
    numbers = sorted(set(numbers))
    if len(numbers) > MOST_PIDS:
        raise Usage(f"{len(numbers)} {name}s are too many: at most {MOST_PIDS}")
    for number in numbers:
        check(number)
    function = f"is_wanted_{name.lower()}"
    head = f"static inline bool {function}(struct task_struct *task)\n{{\n"
    if len(numbers) == 1:
        code = f"{head}\treturn task->{member} == ${name};\n}}\n"
        return Filter(code, {name: numbers[0]}, {}, function)
    table = f"wanted_{name.lower()}s"
    # The size is given when the map is made: one image for any number of them.
    code = (
        f"BPF_HASH({table}, u32, u8, 1);\n{head}\tu32 number = task->{member};\n\n"
        f"\treturn {table}.lookup(&number);\n}}\n"
    )
    return Filter(code, {}, {table: numbers}, function)


def _parent(pid: int | None) -> Filter | None:
    """By the process that started a task's."""
    if pid is None:
        return None
    code = (
        "static inline bool has_wanted_parent(struct task_struct *task)\n"
        "{\n"
        "\treturn task->real_parent->tgid == $PPID;\n"
        "}\n"
    )
    return Filter(code, {"PPID": pid}, {}, "has_wanted_parent")


def _user(user: int | str | None, pids: list[int] | None) -> Filter | None:
    """By user: that of the current task, whichever task is asked about. One with a name is the one
    that the processes know."""
    if user is None:
        return None
    if isinstance(user, int):
        number = user
    else:
        from pytools.domains.users import user_number

        number = user_number(user, pids)
    code = (
        "static inline bool has_wanted_user(struct task_struct *task)\n"
        "{\n"
        "\treturn (u32)bpf_get_current_uid_gid() == $UID;\n"
        "}\n"
    )
    return Filter(code, {"UID": number}, {}, "has_wanted_user")


def _kind(kind: str | None) -> Filter | None:
    """Kernel threads, or all others."""
    if kind is None:
        return None
    code = (
        "#define PF_KTHREAD 0x00200000\n"
        "static inline bool is_of_wanted_kind(struct task_struct *task)\n"
        "{\n"
        f"\treturn {'' if kind == 'kernel' else '!'}(task->flags & PF_KTHREAD);\n"
        "}\n"
    )
    return Filter(code, {}, {}, "is_of_wanted_kind")


def _names(options: argparse.Namespace, tell: Callable[[str], None]) -> list[Filter]:
    """By the names of the process and of the thread, and by a part of the process's."""
    of_process = "process_name(name.bytes, task);"
    of_thread = "bpf_probe_read_kernel(name.bytes, sizeof(name.bytes), task->comm);"
    found = []
    for option, given, function, read in (
        ("--comm", options.comm, "is_wanted_comm", of_process),
        ("--thread", getattr(options, "thread", None), "is_wanted_thread", of_thread),
        ("-n/--name", getattr(options, "name_part", None) or None, "is_wanted_name", of_process),
    ):
        if given is None:
            continue
        from pytools.tool import name_filters  # not for most

        pattern = name_filters.name_pattern(given, option, within=function == "is_wanted_name")
        code, settings, numbers = name_filters.condition(pattern, function, read)
        if option == "--comm" and (pid := name_filters.of_threads_only(pattern)):
            tell(
                f"no process has the name {escape(given)}, but a thread of process {pid} has it: "
                "--thread takes threads"
            )
        if read is of_process:
            code = '#include "process_name.h"\n' + code
        found.append(Filter(code, settings, {}, function, numbers=numbers))
    return found


def process_exists(pid: int) -> None:
    """Raise Usage where no process has that pid."""
    if not os.path.isdir(f"/proc/{pid}"):
        raise Usage(f"there is no process {pid}")


def thread_exists(tid: int) -> None:
    """Raise Usage where no thread has that id. /proc has a folder for every
    thread, though it lists only those of processes."""
    if not os.path.isdir(f"/proc/{tid}"):
        raise Usage(f"there is no thread {tid}")


def _cgroup(path: str | None) -> Filter | None:
    """Tasks in the cgroup at ``path`` or below it."""
    if path is None:
        return None
    try:
        status = os.stat(path)
        controllers = _hierarchy(path)
    except OSError as error:
        raise Failure(f"cannot use the cgroup {path}: {error.strerror}") from None
    except ValueError:  # a NUL
        raise Failure(f"cannot use the cgroup {path!r}: that is no path") from None
    if controllers is None:
        raise Failure(f"cannot use the cgroup {path}: it is not a cgroup's folder")
    find = "task->cgroups->dfl_cgrp"
    if controllers:
        # A task's place in a hierarchy of version 1 is found by a controller.
        known = [name for name in controllers if name in _SUBSYSTEMS]
        if not known:
            raise Failure(
                f"cannot use the cgroup {path}: its version 1 hierarchy has no controller"
            )
        states = "(struct cgroup_subsys_state **)&task->cgroups->subsys"
        find = f"(*({states} + {_SUBSYSTEMS[known[0]]}))->cgroup"
    code = (
        "#include <linux/cgroup.h>\n"
        "static inline bool in_cgroup(struct task_struct *task)\n"
        "{\n"
        f"\tstruct cgroup *cgroup = {find};\n"
        "\tint level = $CGROUP_LEVEL;\n\n"
        "\tif (cgroup->level < level)\n"
        "\t\treturn false;\n"
        "\treturn $CGROUP_ANCESTOR_ID == $CGROUP_ID;\n"
        "}\n"
    )
    # On a 64-bit kernel a cgroup's id is the inode number of its folder
    # (Linux commit 40430452fd5d, v5.5).
    settings = {"CGROUP_ID": status.st_ino, "CGROUP_LEVEL": _level(path)}
    return Filter(code, settings, {}, "in_cgroup")


# cgroup_subsys_id enumerators, by the name of the mount option.
_SUBSYSTEMS = {
    name: f"{kernel}_cgrp_id"
    for name, kernel in {
        "cpu": "cpu", "cpuacct": "cpuacct", "cpuset": "cpuset", "memory": "memory",
        "blkio": "io", "devices": "devices", "freezer": "freezer", "pids": "pids",
        "net_cls": "net_cls", "net_prio": "net_prio", "perf_event": "perf_event",
        "hugetlb": "hugetlb", "rdma": "rdma", "misc": "misc",
    }.items()
}  # fmt: skip


def _mounts() -> TextIO:
    # A carriage return in a path ends no line.
    return open("/proc/self/mountinfo", errors="surrogateescape", newline="\n")


def _unescaped(word: str) -> str:
    """A path as /proc/PID/mountinfo writes it: blanks, ends of lines and backslashes as octal
    numbers, all else as it is. Users mount, too (FUSE), at any path of theirs.

    >>> _unescaped(r"/mnt/a\040b")
    '/mnt/a b'
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def _mount(path: str) -> tuple[str, str, set[str]] | None:
    """(mount point, file system, options) of the cgroup mount that a path is in."""
    real = os.path.realpath(path)
    best: tuple[str, str, set[str]] | None = None
    with _mounts() as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            point = _unescaped(left.split(" ")[4])
            kind, _, options = right.split()[:3]
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            if inside and (best is None or len(point) >= len(best[0])):
                best = point, kind, set(options.split(","))
    return best


def _hierarchy(path: str) -> list[str] | None:
    """The controllers of the version 1 hierarchy that a path is in; empty for
    version 2, None for a path in no cgroup file system."""
    mount = _mount(path)
    if mount is None or mount[1] not in ("cgroup", "cgroup2") or not os.path.isdir(path):
        return None
    return sorted(mount[2]) if mount[1] == "cgroup" else []


def _level(path: str) -> int:
    """How deep below the root of its hierarchy a cgroup is."""
    # From its parents, not its path: what is mounted may be a part of the tree,
    # but then its root is nobody's child there, and has no id of level 0.
    mount = _mount(path)
    point = mount[0] if mount else "/"
    inner = os.path.relpath(os.path.realpath(path), point)
    depth = 0 if inner == "." else inner.count("/") + 1
    return depth + _root_depth(point)


def _root_depth(point: str) -> int:
    """How deep the folder that is mounted at ``point`` is in its hierarchy (a
    container sees its own cgroup as the root)."""
    with _mounts() as lines:
        for line in lines:
            words = line.split(" ")
            if _unescaped(words[4]) == point:
                root = os.path.normpath(_unescaped(words[3]))
                return 0 if root == "/" else root.count("/")
    return 0


def _namespace(pid: int, kind: str) -> int:
    process_exists(pid)
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    except OSError as error:
        raise Failure(
            f"cannot read the {kind} namespace of process {pid}: {error.strerror}"
        ) from None


def _mount_namespace(pid: int | None) -> Filter | None:
    """Tasks in the same mount namespace as process ``pid``."""
    if pid is None:
        return None
    code = (
        '#include "mount_namespace.h"\n'
        "static inline bool in_mount_namespace(struct task_struct *task)\n"
        "{\n"
        "\treturn mount_namespace(task) == $MOUNT_NAMESPACE;\n"
        "}\n"
    )
    return Filter(code, {"MOUNT_NAMESPACE": _namespace(pid, "mnt")}, {}, "in_mount_namespace")


def _pid_namespace(pid: int | None) -> Filter | None:
    """Tasks in the same PID namespace as process ``pid``."""
    if pid is None:
        return None
    code = (
        '#include "pid_namespace.h"\n'
        "static inline bool in_pid_namespace(struct task_struct *task)\n"
        "{\n"
        "\treturn pid_namespace(task)->ns.inum == $PID_NAMESPACE;\n"
        "}\n"
    )
    return Filter(code, {"PID_NAMESPACE": _namespace(pid, "pid")}, {}, "in_pid_namespace")


def _cgroups_of_map(path: str | None) -> Filter | None:
    """Tasks in one of the cgroups (of version 2, not those below them) whose ids are the keys of a
    pinned map, as bcc has it."""
    if path is None:
        return None
    code = (
        "#include <linux/cgroup.h>\n"
        "BPF_HASH(wanted_cgroups, u64, u8, 1);\n"
        "static inline bool in_wanted_cgroup(struct task_struct *task)\n"
        "{\n"
        "\tstruct cgroup *cgroup = task->cgroups->dfl_cgrp;\n"
        "\tu64 id = cgroup->kn->id;\n\n"
        "\treturn wanted_cgroups.lookup(&id);\n"
        "}\n"
    )
    return _by_map("cgroup", path, "wanted_cgroups", code, "in_wanted_cgroup")


def _mount_namespaces_of_map(path: str | None) -> Filter | None:
    """Tasks in one of the mount namespaces whose inode numbers are the keys of a pinned map, as bcc
    has it."""
    if path is None:
        return None
    code = (
        '#include "mount_namespace.h"\n'
        "BPF_HASH(wanted_mount_namespaces, u64, u8, 1);\n"
        "static inline bool in_wanted_mount_namespace(struct task_struct *task)\n"
        "{\n"
        "\tu64 number = mount_namespace(task);\n\n"
        "\treturn wanted_mount_namespaces.lookup(&number);\n"
        "}\n"
    )
    return _by_map("mntns", path, "wanted_mount_namespaces", code, "in_wanted_mount_namespace")


def _by_map(option: str, path: str, name: str, code: str, function: str) -> Filter:
    from pytools.load.pinned import open_hash  # not for most

    try:
        descriptor = open_hash(path, 8)
    except Failure as error:
        raise Failure(f"argument --{option}map: {error}") from None
    return Filter(code, function=function, pinned={name: descriptor})


def _family(command: list[str] | None, pids: list[int] | None) -> Filter | None:
    """The command of --exec, and its children (family.py)."""
    if command is None:
        return None
    if pids is not None:
        raise Usage("argument --exec: not allowed with argument -p/--pid")
    from pytools.base.held import executable  # not for most

    executable(command[0])  # before anything is compiled
    return Filter('#include "family.h"\n', function="in_family")
