"""System calls by number, as the running architecture numbers them.

libseccomp knows them, which systemd brings to nearly every system; it is asked
first. What a kernel has that is newer than the library is looked up in the C
library's headers, if those are installed, and then in bcc's own table.

A 32-bit program on a 64-bit kernel has numbers of its own: here those have
COMPAT added, and " (32-bit)" behind their names.
"""
from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import sys

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable


__all__ = [
    "COMPAT", "UNKNOWN", "all_names", "error_name", "name", "number_of_function", "numbers",
]  # fmt: skip

COMPAT = 2048
UNKNOWN = COMPAT - 1  # in place of a number that no system call has
COMPAT_MARK = " (32-bit)"

# AUDIT_ARCH_* of include/uapi/linux/audit.h: of 64-bit programs, and of 32-bit ones.
_ARCHITECTURES = {
    "x86_64": (0xC000003E, 0x40000003),
    "aarch64": (0xC00000B7, 0x40000028),
    "ppc64le": (0xC0000015, 0),
    "riscv64": (0xC00000F3, 0),
    "s390x": (0x80000016, 0x00000016),
}
# Results by which the kernel asks itself to make a call again (include/linux/errno.h).
_RESTARTS = {
    512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK",
}  # fmt: skip
# Functions that came after one of the call's own name, which is for old programs
# (include/linux/syscalls.h).
_OTHER_NAMES = {
    "newfstat": "fstat",
    "newlstat": "lstat",
    "newstat": "stat",
    "newuname": "uname",
    "sendfile64": "sendfile",
    "umount": "umount2",
}


def name(call: int) -> str:
    """The name of a system call, ``[NUMBER]`` where nobody knows it.

    >>> name(110), name(64 + COMPAT), name(1999)  # on x86-64
    ('getppid', 'getppid (32-bit)', '[1999]')
    """
    number, compat = call % COMPAT, call >= COMPAT
    if number == UNKNOWN:
        found = "[unknown]"
    else:
        found = _by_number(compat).get(number) or f"[{number}]"
    return found + COMPAT_MARK * compat


def numbers(wanted: str) -> list[int]:
    """The system calls of that name, of 64-bit and of 32-bit programs."""
    return [
        number + COMPAT * compat
        for compat in (False, True)
        for number, known in _by_number(compat).items()
        if known == wanted
    ]


def number_of_function(function: str) -> int | None:
    """The number of the system call of 64-bit programs that a function of the kernel is
    (its name without sys_, as in the tracepoints of category ``syscalls``); None where
    nobody knows.

    >>> number_of_function("newuname")  # on x86-64
    63
    """
    found = _by_name().get(function)
    return _by_name().get(_OTHER_NAMES.get(function, "")) if found is None else found


def all_names() -> list[str]:
    """The names of all system calls of 64-bit programs."""
    return sorted(set(_by_number(False).values()))


def error_name(error: int) -> str:
    """The name of the error that a call has as its result, the number where it has no name.

    >>> error_name(2), error_name(512), error_name(4000)
    ('ENOENT', 'ERESTARTSYS', '4000')
    """
    return errno.errorcode.get(error) or _RESTARTS.get(error) or str(error)


@functools.lru_cache(maxsize=None)
def _by_name() -> dict[str, int]:
    return {known: number for number, known in _by_number(False).items()}


@functools.lru_cache(maxsize=None)
def _by_number(compat: bool) -> dict[int, str]:
    found = {} if compat else _of_bcc()
    found.update(_of_headers(compat))
    ask = _libseccomp(compat)
    if ask is not None:
        found.update({n: known for n, known in ((n, ask(n)) for n in range(1024)) if known})
    return found


def _libseccomp(compat: bool) -> Callable[[int], str | None] | None:
    architecture = _ARCHITECTURES.get(os.uname().machine, (0, 0))[compat]
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    resolve = library.seccomp_syscall_resolve_num_arch
    resolve.argtypes, resolve.restype = [ctypes.c_uint32, ctypes.c_int], ctypes.c_void_p
    release = ctypes.CDLL(None).free
    release.argtypes = [ctypes.c_void_p]

    def ask(number: int) -> str | None:
        place = resolve(architecture, number)
        if not place:
            return None
        text = ctypes.string_at(place).decode()
        release(place)
        return text

    return ask if architecture else None


def _of_headers(compat: bool) -> dict[int, str]:
    bits = 32 if compat else 64
    # Not those of other architectures, which are there for cross compilers.
    for folder in (f"/usr/include/{os.uname().machine}-linux-gnu", "/usr/include"):
        try:
            with open(f"{folder}/asm/unistd_{bits}.h") as lines:
                found = re.findall(r"^#define __NR_(\w+) (\d+)$", lines.read(), re.M)
        except OSError:
            continue
        return {int(number): known for known, number in found}
    return {}


def _of_bcc() -> dict[int, str]:
    # Its file alone: the whole of bcc takes 100 MiB.
    for folder in sys.path:
        path = os.path.join(folder, "bcc", "syscall.py")
        if os.path.exists(path):
            table: dict[str, object] = {"__name__": "bcc.syscall"}
            with open(path) as file:
                exec(compile(file.read(), path, "exec"), table)
            known = table["syscalls"]
            assert isinstance(known, dict)
            return {number: text.decode() for number, text in known.items()}
    return {}
