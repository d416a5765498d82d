"""Network namespaces: by their names, by the processes in them, by their numbers in the kernel."""
from __future__ import annotations

import os
import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Usage

if TYPE_CHECKING:
    from typing import Iterator


__all__ = ["Namespaces", "namespace", "namespaces"]

# Where namespaces have names: those of ip-netns(8), and Docker's.
NAMED = ("/run/netns", "/run/docker/netns")
MOST_PIDS = 1 << 22  # PID_MAX_LIMIT of the kernel: the numbers of namespaces are larger


def _inode(path: str) -> int | None:
    """The inode of a namespace; None where that path is of none: a name may be left of one that is
    gone, and the number of that file may be the number of a namespace."""
    try:
        status = os.stat(path)
        return status.st_ino if status.st_dev == os.stat("/proc/self/ns/net").st_dev else None
    except (OSError, ValueError):
        return None


def namespace(text: str) -> int:
    """The inode of a network namespace, which is its number in the kernel, by its name,
    by a process in it, or by that number. Raises Usage."""
    inside = re.fullmatch(r"net:\[([0-9]+)\]", text)
    if inside:
        text = inside[1]
    if text.isascii() and text.isdigit():
        if int(text) > MOST_PIDS:
            if int(text) not in namespaces():
                raise Usage(f"no network namespace with a name or a process has the number {text}")
            return int(text)
        found = _inode(f"/proc/{text}/ns/net")
        if found is None:
            raise Usage(f"there is no process {text}, or its namespace can't be read")
        return found
    if "/" not in text:
        for folder in NAMED:
            found = _inode(os.path.join(folder, text))
            if found is not None:
                return found
    raise Usage(f"there is no network namespace {text!r} in {' or '.join(NAMED)}")


def namespaces() -> dict[int, str]:
    """A path of every network namespace that has a name or a process, by inode."""
    paths: dict[int, str] = {}
    processes = [f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdigit()]
    for path in ["/proc/self/ns/net", *_named(), *processes]:
        inode = _inode(path)
        if inode is not None:
            paths.setdefault(inode, path)
    return paths


def _named() -> Iterator[str]:
    for folder in NAMED:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        yield from (os.path.join(folder, name) for name in names)


class Namespaces:
    """Names of network namespaces, by inode."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def name(self, inode: int) -> str:
        """``init`` for that of process 1, the name of one that has a name, else the
        number as /proc writes it: ``net:[4026532008]``."""
        if inode not in self._names:
            if len(self._names) >= 4096:
                self._names.clear()
            self._names[inode] = self._find(inode)
        return self._names[inode]

    @staticmethod
    def _find(inode: int) -> str:
        if inode == _inode("/proc/1/ns/net"):
            return "init"
        for path in _named():
            if inode == _inode(path):
                return os.path.basename(path)
        return f"net:[{inode}]"
