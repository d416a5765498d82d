"""System calls that Python has no function for, through libc's syscall(2)."""
from __future__ import annotations

import ctypes
import functools
import importlib
import os
import struct
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure

if TYPE_CHECKING:
    from typing import Any, Callable


__all__ = [
    "bpf", "call", "perf_event_open", "detached_mount", "filesystem_type", "own_mount_namespace",
    "bind_mount", "end_with_parent", "enter_network_namespace", "open_by_inode", "sha256",
    "kernel_time",
]  # fmt: skip


def _sha256() -> Any:
    # hashlib loads OpenSSL, which would be 4 MiB of memory in every tool.
    for name in ("_sha2", "_sha256", "hashlib"):  # from Python 3.12 on, before, anywhere
        try:
            return importlib.import_module(name).sha256
        except ImportError:
            continue


sha256: Callable[..., Any] = _sha256()

_libc = ctypes.CDLL(None, use_errno=True)

# The numbers of bpf(2) and perf_event_open(2); asm-generic/unistd.h where not named.
_NUMBERS = {"x86_64": (321, 298), "ppc64le": (361, 319), "s390x": (351, 331)}
_BPF, _PERF_EVENT_OPEN = _NUMBERS.get(os.uname().machine, (280, 241))
# The same on every architecture (Linux v5.2).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1  # of fsopen and of fsmount
_PERF_FLAG_FD_CLOEXEC = 8

_CLONE_NEWNS = 0x20000
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG = 1


def call(number: int, *arguments: object) -> int:
    """The result of a system call by its number; raises OSError."""
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def bpf(command: int, attributes: bytearray) -> int:
    """bpf(2): returns its result, writes results into ``attributes``; raises OSError."""
    size = len(attributes)
    buffer = (ctypes.c_char * size).from_buffer(attributes)
    return call(_BPF, ctypes.c_int(command), buffer, ctypes.c_uint(size))


def perf_event_open(attributes: bytes, cpu: int, pid: int = -1) -> int:
    """perf_event_open(2) for every process on one CPU, or for one process on all
    (cpu -1): a file descriptor."""
    return call(
        _PERF_EVENT_OPEN,
        attributes,
        ctypes.c_int(pid),
        ctypes.c_int(cpu),
        ctypes.c_int(-1),
        ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC),
    )


def detached_mount(filesystem: str) -> int:
    """A file descriptor on the root of a file system that is mounted nowhere,
    and gone when the descriptor is closed; raises OSError."""
    context = call(_FSOPEN, filesystem.encode(), ctypes.c_uint(_CLOEXEC))
    try:
        call(_FSCONFIG, context, ctypes.c_uint(_FSCONFIG_CMD_CREATE), None, None, 0)
        return call(_FSMOUNT, context, ctypes.c_uint(_CLOEXEC), ctypes.c_uint(0))
    finally:
        os.close(context)


def own_mount_namespace() -> None:
    """Leave the mount namespace for a copy of it that nobody else sees; raises OSError."""
    if _libc.unshare(_CLONE_NEWNS) or _libc.mount(
        b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None
    ):
        raise OSError(ctypes.get_errno(), "unshare")


def bind_mount(source: str, target: str) -> None:
    """Make ``source`` appear at ``target``; raises OSError."""
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(_MS_BIND), None):
        raise OSError(ctypes.get_errno(), "mount")


def enter_network_namespace(descriptor: int) -> None:
    """Take this thread, and no other, to the network namespace that a file is; raises OSError."""
    if _libc.setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent has ended, however that ends, also
    when it has become another program (not one that runs with more rights); raises OSError."""
    if _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


FILEID_KERNFS = 0xFE  # the type of a handle that is the inode number (Linux v5.5)


def open_by_inode(mount: int, inode: int) -> int:
    """A file descriptor for the file of that inode number on a kernfs (a cgroup file
    system) that ``mount`` is a descriptor of; raises OSError."""
    handle = ctypes.create_string_buffer(struct.pack("=IiQ", 8, FILEID_KERNFS, inode), 16)
    descriptor: int = _libc.open_by_handle_at(mount, handle, os.O_PATH | os.O_CLOEXEC)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return descriptor


def filesystem_type(fd: int) -> int:
    """The magic number of the file system that a file is on (statfs(2)); raises OSError."""
    buffer = ctypes.create_string_buffer(512)
    if _libc.fstatfs(ctypes.c_int(fd), buffer):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    layout = "=I" if os.uname().machine == "s390x" else "=Q"
    (magic,) = struct.unpack_from(layout, buffer)
    return int(magic)


def device_number(device: int) -> int:
    """A device (stat.st_dev) as the kernel numbers it: MKDEV() of include/linux/kdev_t.h."""
    return os.major(device) << 20 | os.minor(device)


@functools.lru_cache(maxsize=None)
def time_offset(clock: str = "monotonic") -> int:
    """How much later a clock of this process, "monotonic" or "boottime", is than the kernel's, in
    nanoseconds: in a time namespace (time_namespaces(7))."""
    try:
        # The offsets are those of children, which may be in another one.
        own, childs = (os.stat(f"/proc/self/ns/{n}").st_ino for n in ("time", "time_for_children"))
        with open("/proc/self/timens_offsets") as lines:
            offsets = {name: rest for name, *rest in map(str.split, lines)}
        seconds, nanoseconds = map(int, offsets[clock])
    except (OSError, KeyError, ValueError):  # a kernel without such namespaces
        return 0
    return seconds * 1_000_000_000 + nanoseconds if own == childs else 0


def kernel_time() -> int:
    """The monotonic time that BPF programs see (bpf_ktime_get_ns), in nanoseconds."""
    return time.monotonic_ns() - time_offset()


def page_size() -> int:
    return os.sysconf("SC_PAGE_SIZE")


if struct.calcsize("P") != 8:
    raise Failure("pytools needs a 64-bit kernel and a 64-bit Python")
