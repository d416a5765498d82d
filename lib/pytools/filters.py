"""Filters common to the tools, as conditions in C that run in the kernel.

Each takes what the user typed, checks it, and gives code for a template.
"""
from __future__ import annotations

import os
from typing import NamedTuple

from pytools.errors import Failure, Usage
from pytools.template import Value

__all__ = ["Filter", "cgroup", "mount_namespace", "process_exists", "thread_exists"]

CGROUP2_SUPER_MAGIC = 0x63677270
CGROUP_SUPER_MAGIC = 0x27E0EB


class Filter(NamedTuple):
    """``code`` is C for the top of a template, a function that says whether a
    task passes; ``values`` belong to its placeholders."""

    code: str
    values: dict[str, Value]


def process_exists(pid: int) -> None:
    """Raise Usage where no process has that pid."""
    if not os.path.isdir(f"/proc/{pid}"):
        raise Usage(f"there is no process {pid}")


def thread_exists(tid: int) -> None:
    """Raise Usage where no thread has that id. /proc has a folder for every
    thread, though it lists only those of processes."""
    process_exists(tid)


def cgroup(path: str | None, function: str = "in_cgroup") -> Filter:
    """A C function ``in_cgroup(struct task_struct *task)``: whether a task is in
    the cgroup at ``path`` or below it. Without a path it is always true."""
    if path is None:
        return Filter(f"#define {function}(task) true\n", {})
    try:
        status = os.stat(path)
        controllers = _hierarchy(path)
    except OSError as error:
        raise Failure(f"cannot use the cgroup {path}: {error.strerror}") from None
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
        f"static inline bool {function}(struct task_struct *task)\n"
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
    return Filter(code, {"CGROUP_ID": status.st_ino, "CGROUP_LEVEL": _level(path)})


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


def _mount(path: str) -> tuple[str, str, set[str]] | None:
    """(mount point, file system, options) of the cgroup mount that a path is in."""
    real = os.path.realpath(path)
    best: tuple[str, str, set[str]] | None = None
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            point = left.split()[4].encode().decode("unicode_escape")
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
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            words = line.split()
            if words[4].encode().decode("unicode_escape") == point:
                root = os.path.normpath(words[3])
                return 0 if root == "/" else root.count("/")
    return 0


def mount_namespace(pid: int | None) -> Filter:
    """A C function ``in_mount_namespace(task)``: whether a task is in the same
    mount namespace as process ``pid``. Without one it is always true."""
    if pid is None:
        return Filter("#define in_mount_namespace(task) true\n", {})
    process_exists(pid)
    try:
        inode = os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError as error:
        raise Failure(
            f"cannot read the mount namespace of process {pid}: {error.strerror}"
        ) from None
    code = (
        "#include <linux/nsproxy.h>\n#include <linux/ns_common.h>\n"
        "${STRUCT_MNT_NAMESPACE}static inline bool in_mount_namespace(struct task_struct *task)\n"
        "{\n"
        "\treturn task->nsproxy->mnt_ns->ns.inum == $MOUNT_NAMESPACE;\n"
        "}\n"
    )
    return Filter(code, {"MOUNT_NAMESPACE": inode})
