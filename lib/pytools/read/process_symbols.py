"""The functions of a process by address: from the files that it has mapped, whatever has become of
their names; from the files with their debug symbols; from the kernel's own [vdso]; and from
/tmp/perf-PID.map, in which a just-in-time compiler names what it has made.

All of these files are chosen by others: they are opened as ``process_files`` does, and read as far
as sizes say that are known before.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import re
import time
import weakref
import zlib
from bisect import bisect_right

from pytools.base import process_files
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.base.text import text_of
from pytools.facts.elf import File

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Optional, Tuple

    # A function's name, the file that it is in, how far behind its start the address is.
    Place = Optional[Tuple[str, str, int]]

__all__ = ["MappedSymbols", "Table", "perf_map"]

# A line of /proc/PID/maps with code.
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) +([/[].*)$", re.M
)
_DELETED = " (deleted)"
VDSO = "[vdso]"
MOST_MAP_BYTES = 1 << 26  # of a /tmp/perf-PID.map: half a million functions
MOST_SYMBOLS = 2_000_000  # of a file
MOST_SECONDS = 5.0  # for the files of a process; those that are left have no names then
MOST_DEBUG_BYTES = 1 << 29  # of a debug file whose checksum is asked for
MOST_UNPACKED_BYTES = 1 << 26  # of .gnu_debugdata
MOST_NAME_BYTES = 4096  # of a name that is to be written as in C++
MOST_STEPS = 1000  # among functions that are in each other
# What is written of each function, in hexadecimal: start and size; then its name.
_MAP_LINE = re.compile(
    rb"^(?:0x)?([0-9a-fA-F]{1,16}) (?:0x)?([0-9a-fA-F]{1,16}) ([^\n]+)$", re.M
)  # fmt: skip


class Table:
    """Functions by their places: ``found`` are (start, size, name)."""

    def __init__(self, found: list[tuple[int, int, bytes]]) -> None:
        # Of the names of one place, the last is taken: it is the longest, then the plainest.
        found.sort(key=lambda one: (one[0], one[1], _plainness(one[2])))
        self._functions = found
        self._starts = [start for start, _, _ in found]
        # How far any function reaches that starts there or before.
        self._ends: list[int] = []
        end = 0
        for start, size, _ in found:
            end = max(end, start + size)
            self._ends.append(end)

    def find(self, place: int) -> tuple[bytes, int] | None:
        """The name of the innermost function at a place, and how far behind its start that is."""
        number = bisect_right(self._starts, place) - 1
        for number in range(number, max(number - MOST_STEPS, -1), -1):
            if self._ends[number] <= place:
                break
            start, size, name = self._functions[number]
            if place < start + size:
                return name, place - start
        return None


def _plainness(name: bytes) -> tuple[int, int]:
    return len(name.lstrip(b"_")) - len(name), -len(name)


class _MappedFile:
    """A file that a process has mapped, open until its functions are asked for."""

    def __init__(self, descriptor: int, name: str, pid: int) -> None:
        self._descriptor = descriptor
        self._name = name
        self._pid = pid
        self._table: Table | None = None

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def is_read(self) -> bool:
        return self._table is not None

    def table(self) -> Table:
        """Its functions, by their offsets in the file."""
        if self._table is None:
            found: list[tuple[int, int, bytes]] = []
            descriptor, self._descriptor = self._descriptor, -1
            # No program, or damaged: as far as it goes.
            with contextlib.suppress(Failure, OSError, MemoryError):
                with File(self._name, descriptor=descriptor, any_program=True) as file:
                    found += _in_file(file, file)
                    _add_debug_symbols(file, self._pid, self._name, found)
            self._table = Table(found)
        return self._table


def _in_file(file: File, mapped: File) -> Iterator[tuple[int, int, bytes]]:
    """The functions that a file names, by their offsets in the one that is mapped."""
    for address, size, name in itertools.islice(file.code(), MOST_SYMBOLS):
        offset = mapped.offset_of(address, code=True)
        if offset is not None:
            yield offset, size, name


def _add_debug_symbols(
    mapped: File, pid: int, name: str, found: list[tuple[int, int, bytes]]
) -> None:
    for descriptor in _debug_files(mapped, pid, name):
        with contextlib.suppress(Failure, OSError):
            with File(name, descriptor=descriptor, any_program=True) as file:
                before = len(found)
                found += _in_file(file, mapped)
                if len(found) > before:
                    return


def _debug_files(mapped: File, pid: int, name: str) -> Iterator[int]:
    """Files that may have the debug symbols of another, open for reading: in the process's own root
    first, then here."""
    opens: list[Callable[[str], int]] = [
        functools.partial(process_files.open_in_root, pid), process_files.open_regular,
    ]  # fmt: skip
    build_id = mapped.build_id()
    if len(build_id) > 2:
        path = f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        for opened in opens:
            with contextlib.suppress(OSError, ValueError):
                yield opened(path)
    link, checksum = mapped.debug_link()
    folder = os.path.dirname(name)
    if link:
        for where in (folder, f"{folder}/.debug", f"/usr/lib/debug{folder}"):
            for opened in opens:
                with contextlib.suppress(OSError, ValueError):
                    descriptor = opened(f"{where}/{link}")
                    if _checksum(descriptor) == checksum:
                        yield descriptor
                    else:
                        os.close(descriptor)
    packed = mapped.small_debug_data()
    if packed:
        unpacked = _unpacked(packed)
        if unpacked is not None:
            yield unpacked


def _checksum(descriptor: int) -> int | None:
    """The CRC-32 of a file; None where it is too large to ask."""
    size, place, found = os.fstat(descriptor).st_size, 0, 0
    if size > MOST_DEBUG_BYTES:
        return None
    while place < size:
        part = os.pread(descriptor, 1 << 20, place)
        if not part:
            break
        found = zlib.crc32(part, found)
        place += len(part)
    return found


def _unpacked(data: bytes) -> int | None:
    import lzma  # not for most

    try:
        unpacked = lzma.LZMADecompressor(lzma.FORMAT_XZ, 1 << 28).decompress(
            data, MOST_UNPACKED_BYTES
        )
    except lzma.LZMAError:
        return None
    return _in_memory(unpacked)


def _in_memory(data: bytes) -> int:
    descriptor = os.memfd_create("pytools", os.MFD_CLOEXEC)
    with open(os.dup(descriptor), "wb") as file:
        file.write(data)
    return descriptor


@functools.lru_cache(maxsize=None)
def _vdso() -> Table:
    """The functions of [vdso], which is the same for all 64-bit processes."""
    with open("/proc/self/maps", "rb") as file:
        for start, end, _, _, _, name in _LINE.findall(file.read()):
            if name == VDSO.encode():
                data = ctypes.string_at(int(start, 16), int(end, 16) - int(start, 16))
                found: list[tuple[int, int, bytes]] = []
                with contextlib.suppress(Failure):
                    with File(VDSO, descriptor=_in_memory(data)) as vdso:
                        found += _in_file(vdso, vdso)
                return Table(found)
    return Table([])


def perf_map(data: bytes) -> Table:
    """The functions of a /tmp/perf-PID.map, by their addresses. Lines that are none are left out;
    what was named twice has the later name."""
    known = {
        int(start, 16): (int(start, 16), int(size, 16), name)
        for start, size, name in _MAP_LINE.findall(data)
    }
    return Table(list(known.values()))


@functools.lru_cache(maxsize=None)
def _demangler() -> Callable[[bytes], bytes | None]:
    """What writes a name as in C++, None for one that is none of C++."""
    try:
        demangle: Any = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    except (OSError, AttributeError):
        return lambda name: None
    demangle.restype = ctypes.c_void_p
    demangle.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    release: Any = ctypes.CDLL(None).free
    release.argtypes = [ctypes.c_void_p]

    def written(name: bytes) -> bytes | None:
        if not name.startswith(b"_Z") or len(name) > MOST_NAME_BYTES:
            return None
        place = demangle(name, None, None, None)
        if not place:
            return None
        found = ctypes.string_at(place)
        release(place)
        return found

    return written


class MappedSymbols:
    """The functions of what a process had mapped when ``open`` was last called while it lived; the
    files stay open until then. ``files`` are those that are open for any process."""

    def __init__(self, pid: int, files: weakref.WeakValueDictionary[Any, _MappedFile]) -> None:
        self._pid = pid
        self._files = files
        self._mapped: list[tuple[int, int, int, str, _MappedFile | None]] = []
        self._starts: list[int] = []
        self._maps: list[tuple[str, int]] = []  # perf maps: their names, and descriptors
        self._tables: list[tuple[str, Table]] | None = None
        self._spent = 0.0  # seconds for the functions of files

    def open(self) -> None:
        """Open the files that are mapped now, if the process lives."""
        text = self._maps_text()
        if not text:
            return
        mapped = []
        for start, end, offset, device, inode, name in _LINE.findall(text):
            place = int(start, 16), int(end, 16), int(offset, 16)
            file = self._file(place, (device, inode, name)) if name.startswith(b"/") else None
            mapped.append((*place, text_of(name), file))
        maps = self._perf_maps()
        if not self.lives():  # it ended while they were opened
            for _, descriptor in maps:
                os.close(descriptor)
            if self._mapped:
                return
            maps = []
        self.close()
        self._mapped, self._maps = sorted(mapped, key=lambda one: one[0]), maps
        self._starts = [one[0] for one in self._mapped]

    def _maps_text(self) -> bytes:
        try:
            with open(f"/proc/{self._pid}/maps", "rb") as file:
                return file.read()
        except OSError:
            return b""

    def lives(self) -> bool:
        """Whether it has any memory; a process that has ended has not."""
        try:
            with open(f"/proc/{self._pid}/maps", "rb") as file:
                return bool(file.read(1))
        except OSError:
            return False

    def _file(self, place: tuple[int, int, int], key: Any) -> _MappedFile | None:
        known = self._files.get(key)
        if known is not None:
            return known
        name = text_of(key[2])
        deleted = name.endswith(_DELETED)
        name = name[: -len(_DELETED)] if deleted else name
        try:
            descriptor = process_files.open_mapped(self._pid, *place[:2])
        except process_files.NotRegular:
            return None
        except OSError:  # nobody lets us, or it has ended
            if deleted:
                return None
            try:
                descriptor = process_files.open_in_root(self._pid, name)
            except (OSError, ValueError):
                return None
        self._files[key] = made = _MappedFile(descriptor, name, self._pid)
        return made

    def _perf_maps(self) -> list[tuple[str, int]]:
        """The /tmp/perf-PID.map of the process in its own namespaces, by itself, and by the number
        that it has here; and of those only that nobody else could have written."""
        numbers = [self._pid]
        with contextlib.suppress(OSError):
            with open(f"/proc/{self._pid}/status", "rb") as file:
                inside = re.search(rb"^NStgid:.*?(\d+)$", file.read(), re.M)
            numbers = [int(inside[1])] * bool(inside) + numbers if inside else numbers
        found: dict[tuple[int, int], tuple[str, int]] = {}
        for pid, number in ((self._pid, numbers[0]), (os.getpid(), self._pid)):
            name = f"/tmp/perf-{number}.map"
            with contextlib.suppress(OSError):
                descriptor = process_files.open_in_root(pid, name)
                status = os.fstat(descriptor)
                known = (status.st_dev, status.st_ino)
                if known in found or not process_files.owned_by(descriptor, self._pid):
                    os.close(descriptor)
                else:
                    found[known] = name, descriptor
        return list(found.values())

    def _perf_tables(self) -> list[tuple[str, Table]]:
        if self._tables is None:
            self._tables = [
                (name, perf_map(_beginning(descriptor))) for name, descriptor in self._maps
            ]
        return self._tables

    def symbol(self, address: int) -> Place:
        """The function at an address."""
        number = bisect_right(self._starts, address) - 1
        if number >= 0:
            start, end, offset, name, file = self._mapped[number]
            if address < end:
                table = self._table(file) if file is not None else _vdso() if name == VDSO else None
                found = table.find(address - start + offset) if table is not None else None
                if found is not None:
                    return _shown(found[0]), name, found[1]
        for name, table in self._perf_tables():
            found = table.find(address)
            if found is not None:
                return text_of(found[0]), name, found[1]
        return None

    def _table(self, file: _MappedFile) -> Table | None:
        if file.is_read:
            return file.table()
        if self._spent > MOST_SECONDS:
            return None
        began = time.monotonic()
        found = file.table()
        self._spent += time.monotonic() - began
        return found

    def close(self) -> None:
        """Close the files that no other process has mapped."""
        for _, descriptor in self._maps:
            os.close(descriptor)
        self._mapped, self._starts, self._maps, self._tables = [], [], [], None


def _beginning(descriptor: int) -> bytes:
    parts, place = [], 0
    with contextlib.suppress(OSError):
        while place < MOST_MAP_BYTES:
            part = os.pread(descriptor, min(1 << 20, MOST_MAP_BYTES - place), place)
            if not part:
                break
            parts.append(part)
            place += len(part)
    return b"".join(parts)


def _shown(name: bytes) -> str:
    return text_of(_demangler()(name) or name)
