"""System calls by number, as the running architecture numbers them.

libseccomp knows them, which systemd brings to nearly every system; its names come
first. What a kernel has that is newer than the library is looked up in the C
library's headers, if those are installed, and then in bcc's own table, which is of
x86-64. Each of them may be missing, be older than the kernel, or be another than
expected. The newest calls have the same number everywhere, and stand here. For what
nobody knows, a number stands in place of the name.

A 32-bit program on a 64-bit kernel has numbers of its own: here those have
COMPAT added, and " (32-bit)" behind their names.
"""
from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import re
import sys

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
# Machines whose calls have the numbers of include/uapi/asm-generic/unistd.h.
_GENERIC = ("aarch64", "riscv64")
_GENERIC_HEADER = "/usr/include/asm-generic/unistd.h"
_NO_CALLS = ("arch_specific_syscall", "syscalls")  # which that file has as well
_ONLY_32_BIT = range(403, 424)  # those with 64-bit times
# Linux 5.1 and later give a new call one number for all architectures, and for 32-bit programs
# (scripts/syscall.tbl). These are as of Linux 7.0.
_FIRST_NEW = 424
_NEW = """
    pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen
    fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2
    process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset
    landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv
    set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait
    futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal
    setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr
    listns rseq_slice_yield
""".split()
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
    found: dict[int, str] = {}
    # The first one that knows a number is believed.
    for source in (_of_libseccomp, _of_headers, _of_bcc, _of_all_architectures):
        # Whatever is the matter with a library or a file of others, a name is not worth a tool.
        with contextlib.suppress(Exception):
            for number, known in source(compat).items():
                found.setdefault(number, known)
    return found


def _of_libseccomp(compat: bool) -> dict[int, str]:
    architecture = _ARCHITECTURES.get(os.uname().machine, (0, 0))[compat]
    if not architecture:
        return {}
    library = ctypes.CDLL("libseccomp.so.2")
    resolve = library.seccomp_syscall_resolve_num_arch
    resolve.argtypes, resolve.restype = [ctypes.c_uint32, ctypes.c_int], ctypes.c_void_p
    release = ctypes.CDLL(None).free
    release.argtypes = [ctypes.c_void_p]
    found = {}
    for number in range(1024):
        place = resolve(architecture, number)
        if place:
            found[number] = ctypes.string_at(place).decode()
            release(place)
    return found


def _of_headers(compat: bool) -> dict[int, str]:
    machine, bits = os.uname().machine, 32 if compat else 64
    # Not those of other architectures, which are there for cross compilers.
    paths = [
        f"{folder}/asm/unistd_{bits}.h"
        for folder in (f"/usr/include/{machine}-linux-gnu", "/usr/include")
    ]
    if machine in _GENERIC and not compat:
        paths.append(_GENERIC_HEADER)
    for path in paths:
        try:
            with open(path) as file:
                text = file.read()
        except OSError:
            continue
        pattern = r"^#define __NR(?:3264)?_(\w+) (\d+)$"
        found = {int(number): known for known, number in re.findall(pattern, text, re.M)}
        # What is another call in 32-bit programs has a number first, and then its names, of which
        # the first is that of 64-bit programs.
        numbers = {known: number for number, known in found.items()}
        others = re.findall(r"^#define __NR_(\w+) __NR3264_(\w+)$", text, re.M)
        for known, first in reversed(others):
            if first in numbers:
                found[numbers[first]] = known
        if path == _GENERIC_HEADER:
            found = {
                number: known
                for number, known in found.items()
                if number not in _ONLY_32_BIT and known not in _NO_CALLS
            }
        return found
    return {}


def _of_bcc(compat: bool) -> dict[int, str]:
    # The text of its table alone: the whole of bcc takes 100 MiB, and its module runs ausyscall.
    if compat or os.uname().machine != "x86_64":
        return {}
    for folder in sys.path:
        path = os.path.join(folder, "bcc", "syscall.py")
        if os.path.exists(path):
            with open(path) as file:
                found = re.findall(r'^\s*(\d+): *b"(\w+)",$', file.read(), re.M)
            return {int(number): known for number, known in found}
    return {}


def _of_all_architectures(compat: bool) -> dict[int, str]:
    return dict(enumerate(_NEW, _FIRST_NEW))
