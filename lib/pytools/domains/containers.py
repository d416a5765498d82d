"""Which container a task is in, by its cgroup.

Every container manager gives a container a cgroup of its own, whose name is the
container's id with something around it: ``docker-ID.scope``, ``libpod-ID.scope``,
``cri-containerd-ID.scope``, ``crio-ID.scope``, ``/docker/ID``, ``/kubepods/.../ID``
(64 hexadecimal digits); ``lxc.payload.NAME``, ``machine-NAME.scope``.
"""
from __future__ import annotations

import os
import re

from pytools.base import system
from pytools.base.text import c_text

__all__ = ["Cgroups", "Containers", "container_of"]

CGROUP2 = "/sys/fs/cgroup"
CGROUP2_HYBRID = "/sys/fs/cgroup/unified"
ID_DIGITS = 12  # as the managers themselves shorten an id
MOST_REMEMBERED = 65536
_ID = re.compile(r"(?:^|[-:_/])([0-9a-f]{64})(?:\.scope|\.service)?(?=/|$)")
_NAME = re.compile(r"/(?:lxc\.payload\.|lxc/|machine\.slice/machine-)([^/]+?)(?:\.scope)?(?=/|$)")


def container_of(path: str) -> str | None:
    """The short id or the name of the container whose cgroup has this path, or is
    above it; None where the path has no such name in it.

    >>> container_of("/system.slice/docker-" + "0123456789abcdef" * 4 + ".scope/init")
    '0123456789ab'
    """
    found = _ID.findall(path)
    if found:
        return str(found[-1][:ID_DIGITS])
    names = _NAME.findall(path)
    return names[-1] if names else None


class Containers:
    """Containers by the id of a cgroup (bpf_get_current_cgroup_id), which is that
    of its hierarchy of version 2."""

    def __init__(self) -> None:
        self.root = CGROUP2_HYBRID if os.path.isdir(CGROUP2_HYBRID) else CGROUP2
        try:
            self._root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            self._root = -1
        self._names: dict[int, str | None] = {}

    def path(self, cgroup: int) -> str | None:
        """The path of a cgroup below the root of its hierarchy, that is seen here;
        None if there is none of that id any more."""
        try:
            descriptor = system.open_by_inode(self._root, cgroup)
        except OSError:
            return None
        try:
            # As in the mount namespace at hand: behind the mount point.
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            point = os.readlink(f"/proc/self/fd/{self._root}")
        finally:
            os.close(descriptor)
        if path.endswith(" (deleted)"):
            return None
        return path[len(point) :] or "/" if path.startswith(point) else path

    def cgroup(self, pid: int) -> int:
        """The id of the cgroup that a process is in; 0 if it is not known."""
        try:
            with open(f"/proc/{pid}/cgroup", errors="surrogateescape") as lines:
                path = next(line[3:].rstrip("\n") for line in lines if line.startswith("0::"))
            return os.stat(self.root + path).st_ino
        except (OSError, StopIteration, ValueError):
            return 0

    def name(self, cgroup: int) -> str | None:
        """The container of a cgroup, else the cgroup's own path; None if it is gone."""
        if cgroup not in self._names:
            if len(self._names) >= MOST_REMEMBERED:
                self._names.clear()
            path = self.path(cgroup)
            self._names[cgroup] = None if path is None else container_of(path) or path
        return self._names[cgroup]


class Cgroups:
    """Paths of cgroups that a program has named (bpf/named_cgroup.h)."""

    def __init__(self) -> None:
        self._containers = Containers()
        self._paths: dict[int, str | None] = {}

    def path(self, cgroup: int, name: bytes) -> str:
        """The path of a cgroup of version 2 that is still there, else its own name."""
        if cgroup and not self._paths.get(cgroup):
            if len(self._paths) >= MOST_REMEMBERED:
                self._paths.clear()
            self._paths[cgroup] = self._containers.path(cgroup)
        return (cgroup and self._paths[cgroup]) or c_text(name)
