"""Files that another process names or has mapped.

What a process has put where is that process's choice: a FIFO, a device, a huge file, a link to
somebody else's file. Whoever looks at such a file opens it here: nothing but a regular file is ever
opened, opening it does not wait, and links are followed inside the process's own root only.
"""
from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
import struct

from pytools.base import system

__all__ = [
    "NotRegular", "names_in_root", "open_in_root", "open_mapped", "open_regular", "owned_by",
    "users_of",
]  # fmt: skip

PATH = os.O_PATH | os.O_CLOEXEC
OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# openat2(2), include/uapi/linux/openat2.h (Linux v5.6); the number is the same everywhere.
OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10
MOST_NAMES = 100_000
MOST_LINKS = 40  # as the kernel has it (MAXSYMLINKS)


class NotRegular(OSError):
    """It is no regular file."""


def open_regular(path: str) -> int:
    """A descriptor for reading a regular file at a path of this process's own. Raises NotRegular,
    another OSError, or ValueError for what is no path."""
    return _reopened(os.open(path, PATH))


def open_mapped(pid: int, start: int, end: int) -> int:
    """A descriptor for reading the regular file that a process has mapped at these addresses,
    whatever has become of its name. It takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. Raises as
    ``open_regular``."""
    return open_regular(f"/proc/{pid}/map_files/{start:x}-{end:x}")


def open_in_root(pid: int, path: str) -> int:
    """A descriptor for reading the regular file to which a path leads in the root directory and the
    mount namespace of a process. Raises as ``open_regular``."""
    root = os.open(f"/proc/{pid}/root", PATH | os.O_DIRECTORY)
    try:
        return _reopened(_path_in(root, path))
    finally:
        os.close(root)


def names_in_root(pid: int, folder: str) -> list[str]:
    """The names in a folder in the root directory of a process, not more than MOST_NAMES; none
    where there is no such folder."""
    try:
        root = os.open(f"/proc/{pid}/root", PATH | os.O_DIRECTORY)
    except OSError:
        return []
    found = -1
    try:
        found = _path_in(root, folder)
        with os.scandir(f"/proc/self/fd/{found}") as entries:
            return [entry.name for entry in itertools.islice(entries, MOST_NAMES)]
    except OSError:
        return []
    finally:
        for descriptor in (root, found):
            if descriptor >= 0:
                os.close(descriptor)


def owned_by(descriptor: int, pid: int) -> bool:
    """Whether a file's owner is root, or a user that the process is."""
    owner = os.fstat(descriptor).st_uid
    return not owner or owner in users_of(pid)


def users_of(pid: int) -> list[int]:
    """The users that a process is: the real, the effective, the saved one, and that of its access
    to files; none where it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(
                [int(word) for word in line.split()[1:]]
                for line in file
                if line.startswith(b"Uid:")
            )
    except (OSError, StopIteration):
        return []


def _reopened(found: int) -> int:
    """A descriptor for reading what ``found`` stands for, which is closed. A device or a FIFO is
    not even opened: that alone may have an effect."""
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise NotRegular(errno.EINVAL, "not a regular file")
        return os.open(f"/proc/self/fd/{found}", OPEN)
    finally:
        os.close(found)


def _path_in(root: int, path: str) -> int:
    """A descriptor (O_PATH) for what a path leads to, with the directory ``root`` as the root."""
    how = struct.pack("=QQQ", PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    try:
        return system.call(OPENAT2, ctypes.c_int(root), os.fsencode(path), how, len(how))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM: a filter of system calls
            raise
    return _walked(root, path)


def _walked(root: int, path: str) -> int:
    """The same where the kernel can't: name by name."""
    left = [name for name in path.split("/") if name not in ("", ".")][::-1]
    above: list[int] = [os.dup(root)]
    links = 0
    try:
        while left:
            name = left.pop()
            if name == "..":
                if len(above) > 1:
                    os.close(above.pop())
                continue
            found = os.open(name, PATH | os.O_NOFOLLOW, dir_fd=above[-1])
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                above.append(found)
                continue
            os.close(found)
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(name, dir_fd=above[-1])
            if target.startswith("/"):
                while len(above) > 1:
                    os.close(above.pop())
            left += [part for part in target.split("/") if part not in ("", ".")][::-1]
        return os.dup(above[-1])
    finally:
        for descriptor in above:
            os.close(descriptor)
