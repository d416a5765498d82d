"""Disks for the tests of block tools: I/O of known size, and the kernel's own count of it."""
from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import subprocess
import time
from pathlib import Path
from typing import Iterator, NamedTuple

from pytools.facts.syscalls import numbers
from support import PATIENCE, python_child

SECTOR = 512
BLOCK = 4096
DISK_BYTES = 64 << 20


class Stat(NamedTuple):
    """The first numbers of /sys/block/DEV/stat (Documentation/block/stat.rst)."""

    reads: int
    reads_merged: int
    sectors_read: int
    read_ms: int
    writes: int
    writes_merged: int
    sectors_written: int
    write_ms: int


def stat(disk: str) -> Stat:
    return Stat(*map(int, Path(f"/sys/block/{disk}/stat").read_text().split()[:8]))


def diskstats(disk: str) -> Stat:
    """The same out of /proc/diskstats."""
    with open("/proc/diskstats") as lines:
        line = next(line.split() for line in lines if line.split()[2] == disk)
    return Stat(*map(int, line[3:11]))


@contextlib.contextmanager
def loop_disk(folder: Path) -> Iterator[str]:
    """A disk that nobody else uses: a loop device of 64 MiB."""
    image = folder / "disk.img"
    with open(image, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, DISK_BYTES)
    found = subprocess.run(
        ["losetup", "--find", "--show", str(image)],
        stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    path = found.stdout.strip()
    try:
        yield os.path.basename(path)
    finally:
        subprocess.run(["losetup", "--detach", path], check=True, timeout=PATIENCE)
        image.unlink()


def scratch_disk() -> str:
    """The disk that the file system for tests is on, in the kernel matrix."""
    device = os.stat(os.environ["PYTOOLS_SCRATCH"]).st_dev
    link = os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    return os.path.basename(link)


@contextlib.contextmanager
def module(name: str, *parameters: str) -> Iterator[None]:
    """A module of the kernel with these parameters, until the end of this."""
    subprocess.run(["modprobe", name, *parameters], check=True, timeout=PATIENCE)
    try:
        yield
    finally:
        subprocess.run(["modprobe", "-r", name], check=True, timeout=PATIENCE)


def appears(pattern: str) -> str:
    """The path that matches, as soon as there is one."""
    deadline = time.monotonic() + PATIENCE
    while not (found := glob.glob(pattern)):
        assert time.monotonic() < deadline, f"there is no {pattern}"
        time.sleep(0.05)
    return found[0]


# Reads (r) and writes (w) without the page cache, "OPERATION SECTOR BYTES" a line on
# its standard input; fsync() for "f"; "done" when all are done. Capital letters are
# kept for one io_submit(2), of so many blocks of memory (include/uapi/linux/aio_abi.h).
DIRECT = """
import ctypes, mmap, os, struct, sys
path, mode, *calls = sys.argv[1:]
SETUP, SUBMIT, GET_EVENTS = map(int, calls)
disk = os.open(path, {"r": os.O_RDONLY, "w": os.O_RDWR}[mode] | os.O_DIRECT)
memory = mmap.mmap(-1, 1 << 20)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc, kept = ctypes.CDLL(None), []

def submit():
    count, context = len(kept), ctypes.c_ulong()
    assert libc.syscall(SETUP, count, ctypes.byref(context)) == 0
    blocks = [ctypes.create_string_buffer(block, 64) for block in kept]
    pointers = (ctypes.c_void_p * count)(*map(ctypes.addressof, blocks))
    assert libc.syscall(SUBMIT, context, ctypes.c_long(count), pointers) == count
    events = ctypes.create_string_buffer(32 * count)
    all_of_them = ctypes.c_long(count)
    assert libc.syscall(GET_EVENTS, context, all_of_them, all_of_them, events, None) == count
    done = [result for _, _, result, _ in struct.iter_unpack("=QQqq", events.raw)]
    assert min(done) > 0, done
    kept.clear()

print("ready", flush=True)
for line in sys.stdin:
    if line == "end\\n":
        if kept:
            submit()
        print("done", flush=True)
        continue
    operation, sector, size = line.split()
    if operation in "RW":
        kept.append(
            struct.pack("=QIIHhIQQqQII", 0, 0, 0, "RW".index(operation), 0, disk,
                        address + 16384 * len(kept), int(size), int(sector) * 512, 0, 0, 0)
        )
        continue
    part = memoryview(memory)[: int(size)]
    if operation == "f":
        os.fsync(disk)
    elif operation == "r":
        assert os.preadv(disk, [part], int(sector) * 512) == int(size)
    else:
        assert os.pwritev(disk, [part], int(sector) * 512) == int(size)
"""


class Io(NamedTuple):
    """One I/O: r, w or f, or R or W for one of several at a time; sector; bytes."""

    operation: str
    sector: int
    size: int


class Worker:
    """A process that does I/O on a disk when it is told to."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid
        self._line("ready")

    def _line(self, wanted: str) -> None:
        assert self._child.stdout and self._child.stdout.readline() == f"{wanted}\n".encode()

    def do(self, script: list[Io]) -> None:
        """Do this, one after the other; it is done when this returns."""
        self.begin(script)
        self.wait()

    def begin(self, script: list[Io]) -> None:
        assert self._child.stdin
        lines = [f"{operation} {sector} {size}\n" for operation, sector, size in script]
        self._child.stdin.write("".join([*lines, "end\n"]).encode())
        self._child.stdin.flush()

    def wait(self) -> None:
        self._line("done")


@contextlib.contextmanager
def worker(disk: str, writes: bool = True) -> Iterator[Worker]:
    """A process with the disk open; one that is mounted may refuse those that write."""
    calls = [str(numbers(name)[0]) for name in ("io_setup", "io_submit", "io_getevents")]
    with python_child(DIRECT, f"/dev/{disk}", "w" if writes else "r", *calls) as child:
        yield Worker(child)


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """A file system to which nothing is written until the end of this."""
    FREEZE, THAW = 0xC0045877, 0xC0045878  # FIFREEZE, FITHAW (linux/fs.h)
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(fd, THAW, 0)
    finally:
        os.close(fd)


def mixed(count: int) -> list[Io]:
    """Reads and writes of several sizes all over a disk, none next to another."""
    sizes = (512, BLOCK, 8 * BLOCK, 3 * BLOCK)
    places = DISK_BYTES // SECTOR // 128
    return [
        Io("rw"[number % 3 == 0], number * 7919 % places * 128 + 1 * (size == 512), size)
        for number, size in ((number, sizes[number % 4]) for number in range(count))
    ]
