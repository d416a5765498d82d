"""File systems whose operations are timed (bpf/file_operations.h): the kernel's functions for them,
and the names of tools that are about one of them."""
from __future__ import annotations

import argparse
import os

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.read.growth import Growth
from pytools.facts.differences import parameter_names
from pytools.facts.kernel import Kernel
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence


__all__ = [
    "KINDS", "LETTERS", "Asynchronous", "add_type", "file_system", "kind", "programs", "type_of",
    "vfs_calls",
]  # fmt: skip

KINDS = ("read", "write", "open", "fsync", "getattr")
LETTERS = "RWOSG"  # as bcc's tools have them
KIND_BITS = 3  # of an operation's number; above them the number of the file system

# What each kind gives to its caller, and what it is given that leads to the file.
_RESULTS = ("ssize_t", "ssize_t", "int", "int", "int")
_OBJECTS = (
    "struct kiocb *", "struct kiocb *", "struct file *", "struct file *", "const struct path *",
)  # fmt: skip


# The functions of each kind, in the order of KINDS, and more that open files. They have the same
# names and arguments from Linux v5.10 to v7.3 (differences.parameter_names), but for those of
# OpenZFS and bcachefs, which are not in it.
FILE_SYSTEMS: Mapping[str, Sequence[str]] = {
    "bcachefs": ("bch2_read_iter", "bch2_write_iter", "bch2_open", "bch2_fsync"),
    "btrfs": (
        "btrfs_file_read_iter", "btrfs_file_write_iter", "btrfs_file_open", "btrfs_sync_file",
    ),
    "ext4": ("ext4_file_read_iter", "ext4_file_write_iter", "ext4_file_open", "ext4_sync_file"),
    "f2fs": ("f2fs_file_read_iter", "f2fs_file_write_iter", "f2fs_file_open", "f2fs_sync_file"),
    "fuse": ("fuse_file_read_iter", "fuse_file_write_iter", "fuse_open", "fuse_fsync"),
    "nfs": ("nfs_file_read", "nfs_file_write", "nfs_file_open", "nfs_file_fsync", "nfs_getattr"),
    "xfs": ("xfs_file_read_iter", "xfs_file_write_iter", "xfs_file_open", "xfs_file_fsync"),
    "zfs": ("zpl_iter_read", "zpl_iter_write", "zpl_open", "zpl_fsync"),
}  # fmt: skip
_MORE = {"nfs": [(KINDS.index("open"), "nfs4_file_open")]}  # in a module of its own
_NAMES = list(FILE_SYSTEMS)

# The functions that a call passes one of, whatever the file is: read(2), readv(2) and the like.
_VFS_CALLS = {False: ["vfs_read", "vfs_readv"], True: ["vfs_write", "vfs_writev"]}

_PROGRAM = """
FUNCTION(%s, %s%s)
{
	return operation_begins(%d, (u64)%s);
}
"""
_RETURN = """
FUNCTION_RETURN(%s, %s result)
{
	return operation_returns(%d, %d, result);
}
"""


def type_of(path: str) -> str:
    """The file system that a tool of this name is about; empty if it is about all.

    >>> type_of("/usr/share/pytools/ext4slower"), type_of("./fsdist")
    ('ext4', '')
    """
    name = os.path.basename(path)
    return next((each for each in _NAMES if name.startswith(each)), "")


def add_type(made: argparse.ArgumentParser, named: str) -> None:
    """Add the option that says which file system a tool is about, if its name does not."""
    made.set_defaults(type=named)
    if not named:
        made.add_argument(
            "-t", "--type", metavar="TYPE", choices=_NAMES,
            help=f"only file systems of this type: {', '.join(_NAMES)}",
        )  # fmt: skip


def programs(wanted: str, kernel: Kernel) -> tuple[str, int]:
    """The programs that time the operations of a file system, or of all that this kernel has, in C;
    and how many drafts they need (drafts.h). Raises Failure where there is none."""
    text, number = "", 0
    for name in [wanted] if wanted else _NAMES:
        for kind, function in [*enumerate(FILE_SYSTEMS[name]), *_MORE.get(name, [])]:
            if not kernel.attachable(function):
                continue
            operation = _NAMES.index(name) << KIND_BITS | kind
            # The argument that leads to the file is the last of those that are known.
            file = parameter_names(function, kernel)[-1]
            text += _PROGRAM % (function, _OBJECTS[kind], file, operation, file)
            text += _RETURN % (function, _RESULTS[kind], number, operation)
            number += 1
    if not number:
        function = FILE_SYSTEMS[wanted or "ext4"][0]
        raise Failure(
            f"this kernel has no {wanted or 'file system of a known type'}, or has not loaded its "
            f"module, as it does for a mount: there is no function {function} that can be traced"
        )
    return text, number


def vfs_calls(reads: bool = True, writes: bool = True) -> list[tuple[str, bool]]:
    """The kernel's functions that read or write files of any kind, and whether each writes."""
    wanted = {False: reads, True: writes}
    return [(name, kind) for kind, names in _VFS_CALLS.items() if wanted[kind] for name in names]


def file_system(operation: int) -> str:
    """The file system of an operation, by its number."""
    return _NAMES[operation >> KIND_BITS]


def kind(operation: int) -> str:
    """What an operation is, by its number."""
    return KINDS[operation & (1 << KIND_BITS) - 1]


class Asynchronous:
    """Operations that go on when their function has returned (AIO, io_uring): how many there were.
    ``say`` is told of them in words."""

    def __init__(self, program: Program, say: Callable[[str], None]) -> None:
        self._say = say
        self._growth = Growth(program.maps["asynchronous"])

    def since_last(self) -> tuple[int, Mapping[str, int]]:
        """None were lost; and how many were ``asynchronous`` since the last call."""
        count = self._growth.total_since_last()
        if not count:
            return 0, {}
        self._say(
            f"{count} reads and writes went on when their call had returned (AIO, io_uring): how "
            "long they took is not known, and they are not shown"
        )
        return 0, {"asynchronous": count}
