"""Opening files: the flags of open(2) in words and as a condition, and paths put together."""
from __future__ import annotations

import os
import stat
import sys

from pytools.base import system
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Usage

if TYPE_CHECKING:
    from typing import Callable, Sequence


__all__ = [
    "COMPAT_PROGRAMS", "FLAGS", "THROUGH_IO_URING", "UNKNOWN_FLAGS", "UNSEEN", "VIA",
    "directory_settings", "flag_condition", "flag_names", "tell_unseen", "whole_path",
]  # fmt: skip

# How a file is opened, by number (SYSTEM_CALL and so on in opensnoop).
VIA = ("syscall", "32-bit", "io_uring", "kernel")
# What cannot be seen where functions cannot be traced.
COMPAT_PROGRAMS, THROUGH_IO_URING = "those of 32-bit programs", "through io_uring"
UNSEEN = (COMPAT_PROGRAMS, THROUGH_IO_URING)

UNKNOWN_FLAGS = -1  # they could not be read
ACCESS_MODES = 3  # O_ACCMODE: these two bits are a number
# Of flags that are parts of others, the whole comes first.
FLAGS = {
    name: getattr(os, name)
    for name in (
        "O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_SYNC", "O_DSYNC",
        "O_ASYNC", "O_DIRECT", "O_TMPFILE", "O_DIRECTORY", "O_NOFOLLOW", "O_NOATIME", "O_CLOEXEC",
        "O_PATH",
    )
}  # fmt: skip
# Zero in the C library of a 64-bit machine, where it need not be given.
FLAGS["O_LARGEFILE"] = {"aarch64": 0o400000, "ppc64le": 0o200000}.get(os.uname().machine, 0o100000)
ACCESS = {"O_RDONLY": os.O_RDONLY, "O_WRONLY": os.O_WRONLY, "O_RDWR": os.O_RDWR}
ALIASES = {"O_NDELAY": os.O_NONBLOCK, "O_RSYNC": os.O_SYNC}


def flag_condition(names: Sequence[str]) -> str:
    """A condition in C: whether ``flags`` has one of these. Raises Usage.

    >>> flag_condition(["O_WRONLY", "O_APPEND"])
    '(flags & 3) == 1 || (flags & 1024) == 1024'
    """
    conditions = []
    for name in names:
        if name in ACCESS:
            conditions.append(f"(flags & {ACCESS_MODES}) == {ACCESS[name]}")
        elif name in FLAGS or name in ALIASES:
            value = FLAGS.get(name) or ALIASES[name]
            conditions.append(f"(flags & {value}) == {value}")
        else:
            known = ", ".join([*ACCESS, *FLAGS, *ALIASES])
            raise Usage(f"there is no flag {name}; these are known: {known}")
    return " || ".join(conditions)


def flag_names(flags: int) -> str | None:
    """The flags in words; what has no name, in hexadecimal; None where they are not known.

    >>> flag_names(os.O_WRONLY | os.O_CREAT | 1 << 30)
    'O_WRONLY|O_CREAT|0x40000000'
    """
    if flags == UNKNOWN_FLAGS:
        return None
    words = [name for name, value in ACCESS.items() if value == flags & ACCESS_MODES]
    rest = flags & ~(ACCESS_MODES if words else 0)
    for name, value in FLAGS.items():
        if rest & value == value:
            words.append(name)
            rest &= ~value
    return "|".join(words + ([hex(rest)] if rest else []))


def whole_path(parts: bytes) -> bytes:
    """The path of a file by what bpf/path.h writes: the names of the file, of its directory and of
    all above, and a character that says what is above the last one.

    >>> whole_path(b"name\\0inner\\0outer\\0/\\0")
    b'/outer/inner/name'
    """
    name, *above = parts[:-1].split(b"\0")
    if not above:
        return parts
    *parents, top = above
    start = {b"/": b"", b".": b"..."}.get(top, b"(unreachable)")
    path = b"/".join([start, *reversed(parents)])
    return path + name if name.startswith(b"/") else path + b"/" + name


def directory_settings(path: str | None) -> dict[str, int]:
    """The directory by which files are filtered, as settings of a program: its inode, and its
    device as the kernel numbers it; zeros for none. Raises Usage."""
    if path is None:
        return {"DIRECTORY_NUMBER": 0, "DIRECTORY_DEVICE": 0}
    try:
        found = os.stat(path)
    except OSError as error:
        raise Usage(f"there is no directory {path}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise Usage(f"{path} is no directory")
    device = system.device_number(found.st_dev)
    return {"DIRECTORY_NUMBER": found.st_ino, "DIRECTORY_DEVICE": device}


def tell_unseen(
    unseen: Sequence[str], pids: Sequence[int], tell: Callable[[str], None], what: str = "opens"
) -> None:
    """Tell which of these processes may do ``what`` in one of the ways that are not seen."""
    for pid in pids:
        if COMPAT_PROGRAMS in unseen and _is_32_bit(f"/proc/{pid}/exe"):
            tell(f"process {pid} is a 32-bit program: its {what} are not seen")
        elif THROUGH_IO_URING in unseen and _has_ring(pid):
            tell(f"process {pid} has an io_uring: its {what} through that are not seen")


def _is_32_bit(path: str) -> bool:
    """Whether an executable is one of ELF's 32-bit class, on a 64-bit machine."""
    try:
        with open(path, "rb") as file:
            return file.read(5) == b"\x7fELF\x01" and sys.maxsize > 1 << 32
    except OSError:
        return False


def _has_ring(pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            if os.readlink(f"{folder}/{name}") == "anon_inode:[io_uring]":
                return True
    except OSError:
        pass  # it has ended, or has closed the file meanwhile
    return False
