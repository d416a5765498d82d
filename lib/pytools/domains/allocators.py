"""The functions by which processes allocate and free memory: which there are, and in which files
they are (bpf/user_allocations.h).

C libraries have them, and libraries that take their place (jemalloc, tcmalloc, mimalloc). A program
may have its own; of those of jemalloc and others, the names then often begin with a prefix. C++'s
operator new is in a library of its own, which calls malloc(3), or in that of the allocator.
"""
from __future__ import annotations

import contextlib
import glob
import os
import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.domains.c_library import PATTERN as C_LIBRARY
from pytools.domains.mapped_files import MappedFiles, opened
from pytools.domains.programs import library_folders
from pytools.facts.elf import File
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Callable, Dict, Iterable, List, Sequence

    from pytools.facts.elf import Function

    _Offsets = Dict[str, List[int]]

__all__ = ["Allocators", "labels"]

ALL = -1  # in place of a pid
MOST_CHILDREN = 64
RETURNED = "returned"
OWN_NEW = ""  # in place of a label: what returns may throw an exception
# The functions, by the program that knows their arguments.
FUNCTIONS = {
    "free": ["free", "cfree", "free_sized", "free_aligned_sized", "dallocx", "sdallocx"],
    "munmap": ["munmap"],
    "sized": ["malloc", "valloc", "pvalloc", "mallocx"],
    "calloc": ["calloc"],
    "aligned": ["aligned_alloc", "memalign"],
    "posix_memalign": ["posix_memalign"],
    "realloc": ["realloc", "rallocx"],
    "reallocarray": ["reallocarray"],
    "mmap": ["mmap"],
    "mremap": ["mremap"],
}
# operator new and operator new[], and operator delete, of any arguments behind the first.
NEW, DELETE = re.compile(r"_Zn[wa][my]"), re.compile(r"_Zd[la]Pv")
ALLOCATES = [label for label in FUNCTIONS if label not in ("free", "munmap")]
LABELS = {name: label for label, names in FUNCTIONS.items() for name in names}
# Libraries that allocators are in, and those of C++.
_LIBRARY = re.compile(
    rf"{C_LIBRARY.pattern}|.*/(?P<own>lib(je|tc|mi)malloc)[\w-]*\.so[.\d]*$"
    r"|.*/lib(stdc\+\+|c\+\+)\.so[.\d]*$"
)
_NAMES = (
    "libc.so.6", "libstdc++.so.6", "libc++.so.1", "libjemalloc.so.*", "libtcmalloc*.so.*",
    "libmimalloc.so.*",
)  # fmt: skip
MUSL = "/lib/ld-musl-*.so.1"
# What the names of jemalloc, of it in Rust, of tcmalloc and of mimalloc in programs begin with.
PREFIXES = ("je_", "_rjem_", "tc_", "mi_")


def labels(
    names: Iterable[str], prefixes: Sequence[str] = ("",), new: bool = False
) -> dict[str, str]:
    """The functions among these names: for each the program that it is for. ``new`` says that
    operator new is one that allocates by itself.

    >>> labels(["malloc", "je_free", "_Znwm", "main"], ["", "je_"])
    {'malloc': 'sized', 'je_free': 'free', '_Znwm': 'new'}
    """
    found = {}
    for name in names:
        for prefix in prefixes:
            label = LABELS.get(name[len(prefix) :]) if name.startswith(prefix) else None
            if label is not None:
                found[name] = label
        if NEW.match(name):
            found[name] = "sized" if new else "new"
        elif new and DELETE.match(name):
            found[name] = "free"
    return found


class Allocators:
    """The allocators of processes, to which a program is attached. ``objects`` are open files, if
    only these are to be attached to; ``prefix`` is what the names of their functions begin with.
    ``complain`` is told what cannot be attached to; ``found`` is whether anything is attached to
    that allocates.

    A probe that is for all processes delays all that have the file. So each process has probes of
    its own, unless all are meant."""

    def __init__(
        self,
        program: Program,
        complain: Callable[[str], None],
        objects: Sequence[File] = (),
        prefix: str | None = None,
    ) -> None:
        self._program = program
        self._complain = complain
        self._objects = objects
        self._prefixes = [prefix or ""]
        self._programs = program.maps["programs"]
        self._executed: dict[int, int] = {}
        self._mapped: dict[int, MappedFiles] = {}
        self._known: dict[tuple[object, ...], _Offsets] = {}
        self._warned: set[tuple[int, ...]] = set()
        self._queued: list[tuple[File, int, _Offsets]] = []
        self._attached: set[int] = set()
        self._too_many = False
        self.found = False

    def attach(self, pids: Iterable[int], starting: str = "") -> None:
        """Attach to what these processes have mapped. If they are about to execute a program,
        ``starting`` is its path: they are attached to what it may map, too, so that nothing is
        missed of it. Raises Failure where an object cannot be attached to."""
        for pid in pids:
            self._attached.add(pid)
            if self._objects:
                self._queue_objects(pid)
                continue
            mapped = self._mapped_by(pid)
            if starting:
                self._look_at_installed(pid)
                with contextlib.suppress(Failure):  # a script
                    self._queue_program(File(starting), pid)
            mapped.look(pid)
            self._look_at_program(pid, pid)
        self._attach_queued()

    def attach_to_all(self, running: Iterable[int]) -> None:
        """The same for all processes, now and later; of those that are ``running``, what their
        programs have themselves, too."""
        if self._objects:
            self._queue_objects(ALL)
        else:
            self._mapped_by(ALL).look_at_all()
            self._look_at_installed(ALL)
            for pid in running:
                self._look_at_program(pid, ALL)
        self._attach_queued()

    def attach_to_children(self, pids: Iterable[int]) -> None:
        """The same for processes that were started meanwhile, as far as there are not too many."""
        for pid in pids:
            if pid in self._attached:
                continue
            if len(self._attached) <= MOST_CHILDREN:
                # They have the C library of their parent.
                self.attach([pid])
            elif not self._too_many:
                self._too_many = True
                self._complain(
                    f"there are more than {MOST_CHILDREN} children: what further ones allocate is "
                    "not seen (--user sees all)"
                )

    def look_again(self) -> None:
        """Look at what processes have mapped meanwhile, and at the programs that they have
        executed; to be called often."""
        if self._objects:
            return
        for pid, number in self._programs.items():
            mapped = self._mapped.get(pid) or self._mapped.get(ALL)
            if self._executed.get(pid) != number and mapped is not None:
                self._executed[pid] = number
                self._look_at_program(pid, pid if pid in self._mapped else ALL)
                mapped.started(pid)
        for pid, mapped in self._mapped.items():
            mapped.look_again()
            if pid != ALL:
                mapped.look(pid)
        self._attach_queued()

    def _queue_objects(self, pid: int) -> None:
        for file in self._objects:
            if RETURNED not in self._queue(file, pid, self._prefixes, True):
                raise Failure(f"{file.path} has no function {self._prefixes[0]}malloc")

    def _mapped_by(self, pid: int) -> MappedFiles:
        """The files that a process has mapped, or all."""

        def found(by: int, path: str, name: str) -> None:
            match = _LIBRARY.match(name)
            own = bool(match and match["own"])
            self._queue(opened(by, path, name), pid, self._prefixes, own, False)

        if pid not in self._mapped:
            self._mapped[pid] = MappedFiles(_LIBRARY, found, self._failed)
        return self._mapped[pid]

    def _failed(self, why: Failure) -> None:
        self._complain(f"{why}; what it allocates is not seen")

    def _look_at_installed(self, target: int) -> None:
        """Those libraries that are where programs find them."""
        paths = [f"{folder}/{name}" for folder in library_folders() for name in _NAMES]
        for path in {os.path.realpath(path) for name in (*paths, MUSL) for path in glob.glob(name)}:
            match = _LIBRARY.match(path)
            with contextlib.suppress(Failure):
                own = bool(match and match["own"])
                self._queue(File(path), target, self._prefixes, own, False, warn=False)

    def _look_at_program(self, pid: int, target: int) -> None:
        """The functions that a program has itself."""
        path = f"/proc/{pid}/exe"
        with contextlib.suppress(Failure, OSError):  # it has ended
            self._queue_program(opened(pid, path, os.readlink(path)), target)

    def _queue_program(self, file: File, target: int) -> None:
        self._queue(file, target, ["", *PREFIXES, *self._prefixes], False)

    def _queue(
        self, file: File, pid: int, prefixes: Sequence[str], new: bool, program: bool = True,
        warn: bool = True,
    ) -> _Offsets:  # fmt: skip
        """Have the functions of a file attached to, of a ``program`` also those that it keeps to
        itself: where they are."""
        key = (*file.identity, *prefixes, new, program)
        if key not in self._known:
            self._known[key] = _offsets(
                file.functions() if program else file.exported(), prefixes, new
            )
        offsets = self._known[key]
        if warn and OWN_NEW in offsets and file.identity not in self._warned:
            self._warned.add(file.identity)
            self._complain(
                f"{file.path} has operator new of its own: if that fails while it is traced, the "
                "exception ends the program"
            )
        self._queued.append((file, pid, offsets))
        return offsets

    def _attach_queued(self) -> None:
        """Attach to the functions of all files, last to those that allocate: what is allocated then
        is not outstanding because nobody saw it freed."""
        queued, self._queued = self._queued, []
        self.found = self.found or any(RETURNED in offsets for _, _, offsets in queued)
        try:
            for label in (RETURNED, "free", "munmap", "new", *ALLOCATES):
                for file, pid, offsets in queued:
                    if label in offsets:
                        self._attach(label, file, offsets[label], pid)
        finally:
            for file, _, _ in queued:
                if file not in self._objects:
                    file.close()

    def _attach(self, label: str, file: File, offsets: Sequence[int], pid: int) -> None:
        try:
            self._program.attach_uprobe(label, file, offsets, pid)
        except Failure as failure:
            if self._objects:
                raise
            if pid == ALL or os.path.exists(f"/proc/{pid}"):
                self._failed(failure)


def _offsets(functions: Iterable[Function], prefixes: Sequence[str], new: bool) -> _Offsets:
    """Where the functions of an allocator are, by label."""
    there = [(f.name, f.offset) for f in functions if not f.indirect]
    names = [name for name, _ in there]
    # An allocator with such names has operator new of its own.
    new = new or any(f"{prefix}malloc" in names for prefix in PREFIXES)
    known = labels(names, prefixes, new)
    throws = new and any(map(NEW.match, names))
    # Of several names of a function, one counts.
    by_offset = {offset: known[name] for name, offset in there if name in known}
    found: dict[str, list[int]] = {}
    for offset, label in sorted(by_offset.items()):
        found.setdefault(label, []).append(offset)
    returning = [offset for label in ALLOCATES for offset in found.get(label, [])]
    if returning:
        found[RETURNED] = returning
    return {**found, OWN_NEW: []} if throws else found
