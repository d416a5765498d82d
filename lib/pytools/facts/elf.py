"""Functions and USDT probes of programs and libraries, read from their ELF files.

The files are anybody's: everything in them is checked before it is used, sizes
are limited, and what is damaged is a Failure. Formats: System V ABI (gabi 4.1,
chapters 4 and 5), symbol versions as in the LSB, probes as in systemtap's
sys/sdt.h (notes of the owner ``stapsdt``, type 3).
"""
from __future__ import annotations

import os
import re
import stat
import struct
import sys
from bisect import bisect_right

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base import process_files, system
from pytools.base.errors import Failure, error_text
from pytools.base.text import c_text, text_of

if TYPE_CHECKING:
    from typing import Iterator


__all__ = ["File", "Function", "Probe"]

OVERLAYFS_SUPER_MAGIC = 0x794C7630
MOST_SECTIONS = 1 << 16
MOST_SEGMENTS = 1 << 12
MOST_TABLE_BYTES = 1 << 26  # .symtab: nearly three million symbols
MOST_EXPORTED_BYTES = 1 << 24  # .dynsym
MOST_NAME_BYTES = 1 << 14
MOST_NOTE_BYTES = 1 << 24
# Of all names together that are made of a table: they may be parts of each other, so that a
# small file has many long ones.
MOST_NAMES_BYTES = 1 << 28
MOST_VERSION_NAMES_BYTES = 1 << 20


class _Layout(NamedTuple):
    """The structs of a class of ELF files; ``header`` is what stands behind e_ident."""

    header: str
    section: str
    segment: str
    symbol: str


_LAYOUTS = {
    1: _Layout("HHIIIIIHHHHHH", "IIIIIIIIII", "IIIIIIII", "IIIBBH"),
    2: _Layout("HHIQQQIHHHHHH", "IIQQQQIIQQ", "IIQQQQQQ", "IBBHQQ"),
}
ET_DYN = 3
PT_LOAD, PT_INTERP = 1, 3
SHT_SYMTAB, SHT_NOTE, SHT_DYNSYM = 2, 7, 11
SHT_GNU_VERDEF, SHT_GNU_VERSYM = 0x6FFFFFFD, 0x6FFFFFFF
STT_FUNC, STT_GNU_IFUNC = 2, 10
VERSION_HIDDEN = 0x8000
NT_STAPSDT = 3
NT_GNU_BUILD_ID = 3
# Of a machine, as os.uname() has it: e_machine.
_MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243, "s390x": 22, "ppc64le": 21}


class Function(NamedTuple):
    """A function: its name, the version of its symbol (``GLIBC_2.2.5``; empty without;
    with ``default``, the one that a program is linked with), its offset in the file and its
    size in bytes. With ``indirect``, it is not the function itself, but chooses
    one when the program is started (STT_GNU_IFUNC)."""

    name: str
    version: str
    default: bool
    offset: int
    size: int
    indirect: bool


class Probe(NamedTuple):
    """A place of a USDT probe: there may be several of one name. ``offset`` is in
    the file, and so is that of the ``semaphore`` (0: it has none), a 16-bit counter
    of those who watch. ``arguments`` are as the compiler wrote them
    (``-4@%eax 8@-16(%rbp)``, see usdt)."""

    provider: str
    name: str
    offset: int
    semaphore: int
    arguments: str


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class File:
    """An ELF file that is open for as long as it is needed: what is read and what
    is attached to is one file, whatever happens to its name. ``identity`` is the same
    for another name of it. Raises Failure for what can't be read, or is no 64-bit
    ELF file of this machine.

    >>> with File("/bin/bash") as file:
    ...     places = [f.offset for f in file.functions() if f.name == "readline"]
    """

    def __init__(
        self, path: str, shown: str = "", descriptor: int = -1, any_program: bool = False
    ) -> None:
        """``shown`` is the name in messages, where the path is not one for people. A
        ``descriptor`` that is open is the file's from now on: nothing is opened by the path.
        ``any_program`` takes those of 32 bits and of other machines, too."""
        self.path = shown or path
        self._any = any_program
        try:
            # Nothing that is no regular file is opened: a FIFO would keep it waiting.
            self.fd = process_files.open_regular(path) if descriptor < 0 else descriptor
        except process_files.NotRegular:
            raise self._failure("not a regular file") from None
        except OSError as error:
            raise self._failure(error_text(error.errno or 0)) from None
        except ValueError:
            raise self._failure("no file has such a name") from None
        try:
            self._read_head()
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_process(cls, pid: int, path: str) -> File:
        """The file to which a path leads in the root directory of a process. Raises Failure."""
        try:
            descriptor = process_files.open_in_root(pid, path)
        except process_files.NotRegular:
            raise Failure(f"cannot read {path}: not a regular file") from None
        except OSError as error:
            raise Failure(f"cannot read {path}: {error_text(error.errno or 0)}") from None
        except ValueError:
            raise Failure(f"cannot read {path}: no file has such a name") from None
        return cls(path, descriptor=descriptor)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _failure(self, why: str) -> Failure:
        return Failure(f"cannot read {self.path}: {why}")

    def _damaged(self, what: str) -> Failure:
        return self._failure(f"not a valid ELF file ({what})")

    def _read(self, offset: int, size: int, what: str) -> bytes:
        """So many bytes, all of them."""
        if offset < 0 or offset + size > self._size:
            raise self._damaged(f"{what} beyond its end")
        parts = []
        while size:
            try:
                part = os.pread(self.fd, min(size, 1 << 24), offset)
            except OSError as error:
                raise self._failure(error_text(error.errno or 0)) from None
            if not part:
                raise self._damaged(f"{what} beyond its end")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def _table(self, layout: str, offset: int, entry: int, count: int, what: str) -> list[bytes]:
        size = struct.calcsize("=" + layout)
        if entry < size:
            raise self._damaged(f"{what} of {entry} bytes")
        data = self._read(offset, entry * count, what)
        return [data[start : start + size] for start in range(0, len(data), entry)]

    def _read_head(self) -> None:
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            raise self._failure("not a regular file")
        self._size = status.st_size
        self.identity: tuple[int, ...] = (status.st_dev, status.st_ino)
        if system.filesystem_type(self.fd) == OVERLAYFS_SUPER_MAGIC:
            # A container's file: its device is another in each container, though they
            # may have one file from their image. The time of its last change tells.
            self.identity = (
                0, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
            )  # fmt: skip
        if self._size < 52 or self._read(0, 4, "head") != b"\x7fELF":
            raise self._failure("not an ELF file")
        ident = self._read(0, 16, "head")
        if ident[4] != 2 and (ident[4] != 1 or not self._any):
            raise self._failure("not a 64-bit program")
        self._layout = layout = _LAYOUTS[ident[4]]
        if ident[5] != (1 if sys.byteorder == "little" else 2):
            raise self._failure("of a machine with another byte order")
        (
            form, machine, _, _, segments, sections, _, _, segment_size, segment_count,
            section_size, section_count, names,
        ) = struct.unpack(
            "=" + layout.header, self._read(16, struct.calcsize("=" + layout.header), "head")
        )  # fmt: skip
        if not self._any and machine != _MACHINES.get(os.uname().machine, machine):
            raise self._failure("of another kind of machine")
        # Whether it may be put anywhere: a library, or a program that was linked with -pie.
        self.movable = form == ET_DYN
        if segment_count > MOST_SEGMENTS:
            raise self._damaged(f"{segment_count} segments")
        # (address, offset, size in the file, executable)
        loads: list[tuple[int, int, int, bool]] = []
        self.interpreter = ""
        if segment_count:
            for entry in self._table(
                layout.segment, segments, segment_size, segment_count, "segments"
            ):
                members = struct.unpack("=" + layout.segment, entry)
                if ident[4] == 1:  # the flags stand before the alignment
                    members = (members[0], members[6], *members[1:6], members[7])
                kind, flags, offset, address, _, size, _, _ = members
                if kind == PT_LOAD:
                    loads.append((address, offset, size, bool(flags & 1)))
                elif kind == PT_INTERP and 0 < size <= 4096:
                    path = self._read(offset, size, "interpreter")
                    self.interpreter = c_text(path)
        self._loads = sorted(loads)
        self._starts = [load[0] for load in self._loads]
        self._sections = self._read_sections(sections, section_size, section_count)
        self._names = b""
        if names == 0xFFFF and self._sections:  # SHN_XINDEX
            names = self._sections[0].link
        if 0 < names < len(self._sections):
            self._names = self._content(self._sections[names], MOST_NOTE_BYTES, "section names")

    def _read_sections(self, offset: int, entry: int, count: int) -> list[_Section]:
        if not offset:
            return []
        if not count:  # there are too many for the head's field
            first = self._table(self._layout.section, offset, entry, 1, "sections")[0]
            count = _Section(*struct.unpack("=" + self._layout.section, first)).size
        if count > MOST_SECTIONS:
            raise self._damaged(f"{count} sections")
        entries = self._table(self._layout.section, offset, entry, count, "sections")
        return [_Section(*struct.unpack("=" + self._layout.section, data)) for data in entries]

    def _content(self, section: _Section, most: int, what: str) -> bytes:
        if section.size > most:
            raise self._damaged(f"{section.size} bytes of {what}")
        return self._read(section.offset, section.size, what)

    def _named(self, name: bytes) -> _Section | None:
        for section in self._sections:
            if _string(self._names, section.name) == name:
                return section
        return None

    @property
    def is_go(self) -> bool:
        """Whether it has code that Go's own compiler has made."""
        return any(self._named(name) for name in (b".gopclntab", b".data.rel.ro.gopclntab"))

    def offset_of(self, address: int, code: bool = False) -> int | None:
        """The offset in the file of what is at an address of the program (relative to
        where it is loaded, if it is position-independent); None where nothing of
        the file is, or, with ``code``, nothing that can be run."""
        number = bisect_right(self._starts, address) - 1
        if number < 0:
            return None
        start, offset, size, executable = self._loads[number]
        inside = address - start
        if inside >= size or (code and not executable):
            return None
        return offset + inside

    def code_at(self, offset: int, size: int) -> bytes:
        """So many bytes of a function, from its offset on; fewer at the file's end."""
        return os.pread(self.fd, size, offset)

    # Functions.

    def exported(self) -> Iterator[Function]:
        """The functions that other files can call (.dynsym)."""
        return self._functions(SHT_DYNSYM)

    def functions(self) -> Iterator[Function]:
        """All functions that have a name, each once for each place and name: also those
        that a program keeps to itself, where they are not stripped (.symtab)."""
        seen = set()
        for kind in (SHT_DYNSYM, SHT_SYMTAB):
            for function in self._functions(kind):
                if (function.name, function.offset) not in seen:
                    seen.add((function.name, function.offset))
                    yield function

    def symbol_names(self) -> set[str]:
        """The names of all that the file gives to others: functions and data."""
        found = set()
        for name, _, _, _, _, _ in self._symbols(SHT_DYNSYM):
            found.add(text_of(name))
        return found

    def symbol_address(self, name: str) -> int | None:
        """The program's own address of what has this name, a function or data; None if nothing
        has it."""
        return next((address for address, _ in self._of_name(name)), None)

    def symbol_size(self, name: str) -> int:
        """Bytes of what has this name; 0 if nothing has it, or nothing tells."""
        return next((size for _, size in self._of_name(name)), 0)

    def _of_name(self, name: str) -> Iterator[tuple[int, int]]:
        """(address, size) of what has this name."""
        wanted = os.fsencode(name)
        for kind in (SHT_SYMTAB, SHT_DYNSYM):
            for label, _, _, address, size, _ in self._symbols(kind):
                if label.partition(b"@")[0] == wanted:
                    yield address, size

    def code(self) -> Iterator[tuple[int, int, bytes]]:
        """(address, size, name) of all functions that have both, by the program's own
        addresses; some twice. Quicker than ``functions``."""
        for kind in (SHT_DYNSYM, SHT_SYMTAB):
            for name, _, what, address, size, _ in self._symbols(kind):
                if size and what in (STT_FUNC, STT_GNU_IFUNC):
                    yield address, size, name

    def _functions(self, kind: int) -> Iterator[Function]:
        versions = self._versions() if kind == SHT_DYNSYM else {}
        for name, number, what, address, size, _ in self._symbols(kind):
            if what not in (STT_FUNC, STT_GNU_IFUNC):
                continue
            offset = self.offset_of(address, code=True)
            if offset is None:
                continue
            label, at, version = text_of(name).partition("@")
            default = version.startswith("@") or not at
            version = version.lstrip("@")
            if number in versions:
                version, default = versions[number]
            yield Function(label, version, default, offset, size, what == STT_GNU_IFUNC)

    def _symbols(self, kind: int) -> Iterator[tuple[bytes, int, int, int, int, int]]:
        """(name, number, type, address, size, section) of each that is defined."""
        section = next((s for s in self._sections if s.type == kind), None)
        if section is None:
            return
        layout = "=" + self._layout.symbol
        size = struct.calcsize(layout)
        if section.entry != size or not section.link < len(self._sections):
            raise self._damaged("symbols")
        most = MOST_EXPORTED_BYTES if kind == SHT_DYNSYM else MOST_TABLE_BYTES
        data = self._content(section, most, "symbols")
        strings = self._content(self._sections[section.link], 4 * most, "symbols' names")
        data = data[: len(data) // size * size]
        named = 0
        for number, symbol in enumerate(struct.iter_unpack(layout, data)):
            if size == 24:
                start, info, _, place, address, length = symbol
            else:
                start, address, length, info, _, place = symbol
            if place == 0 or not start:  # SHN_UNDEF: another file's
                continue
            name = _string(strings, start)
            named += len(name)
            if named > min(8 * most, MOST_NAMES_BYTES):
                raise self._damaged("symbols' names")
            if name:
                yield name, number, info & 15, address, length, place

    def _versions(self) -> dict[int, tuple[str, bool]]:
        """(version, whether it is the default) by the number of the symbol."""
        numbers = next((s for s in self._sections if s.type == SHT_GNU_VERSYM), None)
        if numbers is None:
            return {}
        names = self._version_names()
        data = self._content(numbers, MOST_EXPORTED_BYTES, "versions")
        found = {}
        for number, (version,) in enumerate(struct.iter_unpack("=H", data[: len(data) & ~1])):
            name = names.get(version & ~VERSION_HIDDEN)
            if name is not None:
                found[number] = name, not version & VERSION_HIDDEN
        return found

    def _version_names(self) -> dict[int, str]:
        definitions = next((s for s in self._sections if s.type == SHT_GNU_VERDEF), None)
        if definitions is None or not definitions.link < len(self._sections):
            return {}
        data = self._content(definitions, MOST_NOTE_BYTES, "versions")
        strings = self._content(
            self._sections[definitions.link], 4 * MOST_EXPORTED_BYTES, "versions' names"
        )
        names: dict[int, str] = {}
        position = named = 0
        while position + 20 <= len(data):
            _, flags, number, _, _, inner, step = struct.unpack_from("=HHHHIII", data, position)
            if position + inner + 4 > len(data):
                raise self._damaged("versions")
            (start,) = struct.unpack_from("=I", data, position + inner)
            if number > 1:  # 1 is the file itself
                name = _string(strings, start)
                named += len(name)
                if named > MOST_VERSION_NAMES_BYTES:
                    raise self._damaged("versions' names")
                names[number] = text_of(name)
            if step < 20:
                break
            position += step
        return names

    # What leads to its debug file.

    def build_id(self) -> str:
        """The build id in hexadecimal; empty where it has none."""
        section = self._named(b".note.gnu.build-id")
        if section is None or section.type != SHT_NOTE:
            return ""
        data = self._content(section, 4096, "build id")
        if len(data) < 16:
            return ""
        owner_size, size, kind = struct.unpack_from("=III", data)
        if kind != NT_GNU_BUILD_ID or owner_size != 4 or data[12:16] != b"GNU\0":
            return ""
        return data[16 : 16 + size].hex()

    def debug_link(self) -> tuple[str, int]:
        """The name of its debug file, and the CRC-32 of that; an empty name where it has none."""
        section = self._named(b".gnu_debuglink")
        data = b"" if section is None else self._content(section, 8192, "debug link")
        name = data.partition(b"\0")[0]
        place = len(name) + 4 & ~3
        if not name or b"/" in name or len(data) < place + 4:
            return "", 0
        return text_of(name), int(struct.unpack_from("=I", data, place)[0])

    def small_debug_data(self) -> bytes:
        """.gnu_debugdata, an ELF file that is compressed as xz does; empty where it has none."""
        section = self._named(b".gnu_debugdata")
        return b"" if section is None else self._content(section, MOST_NOTE_BYTES, "debug data")

    # Probes.

    def probes(self) -> list[Probe]:
        """The places of USDT probes (.note.stapsdt), in the order of the file."""
        section = self._named(b".note.stapsdt")
        if section is None or section.type != SHT_NOTE:
            return []
        data = self._content(section, MOST_NOTE_BYTES, "probes")
        base = self._named(b".stapsdt.base")
        found = []
        position = 0
        while position + 12 <= len(data):
            owner_size, size, kind = struct.unpack_from("=III", data, position)
            start = position + 12 + (owner_size + 3 & ~3)
            if start + size > len(data):
                raise self._damaged("probes")
            owner = data[position + 12 : position + 12 + owner_size]
            if kind == NT_STAPSDT and owner == b"stapsdt\0":
                found.append(self._probe(data[start : start + size], base))
            position = start + (size + 3 & ~3)
        return found

    def _probe(self, data: bytes, base: _Section | None) -> Probe:
        texts = data[24:].split(b"\0")
        if len(data) < 24 or len(texts) < 4:
            raise self._damaged("probes")
        address, linked_base, semaphore = struct.unpack_from("=QQQ", data)
        if base is not None and linked_base:
            # As it was linked; where all was moved since (prelink), so was this.
            moved = base.address - linked_base
            address += moved
            semaphore += moved if semaphore else 0
        place = self.offset_of(address, code=True)
        counter = self.offset_of(semaphore) if semaphore else 0
        if place is None or counter is None:
            raise self._damaged("a probe outside its code")
        provider, name, arguments = map(text_of, texts[:3])
        return Probe(provider, name, place, counter, re.sub(r"\s+", " ", arguments).strip())


def _string(strings: bytes, start: int) -> bytes:
    """The C string at that place; empty where there is none, or one too long."""
    end = strings.find(b"\0", start, start + MOST_NAME_BYTES)
    return strings[start:end] if 0 <= start <= end else b""
