"""Files that processes run code from, and functions in them: found by their names, also in
containers, in processes that start later, and where they were deleted since.
"""
from __future__ import annotations

import contextlib
import glob
import os
import re
import time
from collections import Counter, deque

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.base.text import text_of
from pytools.facts.elf import File
from pytools.facts.kernel import in_first_pid_namespace
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Sequence


__all__ = ["MappedFiles", "WatchedFiles", "opened"]

# A line of /proc/PID/maps: code that a file was mapped for.
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(/.*)$", re.M
)
_DELETED = " (deleted)"
# After a program was started, its libraries are mapped one by one.
LOOK_AGAIN_SECONDS = (0.05, 0.3, 1.0)
MOST_REMEMBERED = 65536
# Whoever has a thousand libraries mapped must not use up the tool's descriptors and its time. A
# distribution's files are root's, of which containers have more.
MOST_FILES = {0: 4096}  # by user
MOST_FILES_OF_OTHERS = 128
# What a record says of a program that was started (bpf/program_starts.h).
STARTED = 255
MOST_PLACES = 8  # of one function in a file: versions of its symbol


def opened(pid: int, path: str, name: str) -> File:
    """The file of a process, by a path of this process's own; without one, by its name in the root
    directory of the process. Raises Failure."""
    return File(path, name) if path else File.of_process(pid, name)


class MappedFiles:
    """Tells of each file whose path ``pattern`` matches (from its start) once:
    ``found(pid, path, name)`` with a process that has it mapped, a path to open it by
    now (``opened``), and its name as that process has it. ``complain`` is told of a
    Failure that this raises, where the file is still there."""

    def __init__(
        self,
        pattern: re.Pattern[str],
        found: Callable[[int, str, str], None],
        complain: Callable[[Failure], None],
    ) -> None:
        self._pattern = pattern
        self._found = found
        self._complain = complain
        self._same_numbers = in_first_pid_namespace()
        self._known: set[tuple[bytes, ...]] = set()
        self._again: deque[tuple[float, int, int]] = deque()  # (when, pid, how often before)

    def look(self, pid: int) -> None:
        """Look at what a process has mapped now."""
        if not pid:
            return self.look_at_all()
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:
                text = file.read()
        except OSError:  # it ended, or nobody may look
            return
        for start, end, *file_id, path in _LINE.findall(text):
            known = (*file_id, path)
            if known in self._known:
                continue
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known.add(known)
            name = text_of(path)
            if name.endswith(_DELETED):
                name = name[: -len(_DELETED)]
            if self._pattern.match(name):
                # By its mapping, for there may be another file of that name by now;
                # which takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE.
                mapping = f"/proc/{pid}/map_files/{int(start, 16):x}-{int(end, 16):x}"
                if not os.access(mapping, os.R_OK):
                    mapping = ""
                if not self._tell(pid, mapping, name):
                    self._known.discard(known)  # another process may have it, too

    def _tell(self, pid: int, path: str, name: str) -> bool:
        """Tell of a file; whether it is still there."""
        try:
            self._found(pid, path, name)
        except Failure as failure:
            if not os.path.exists(path or f"/proc/{pid}"):  # the process has ended
                return False
            self._complain(failure)
        return True

    def look_at_all(self) -> None:
        """Look at every process."""
        for name in os.listdir("/proc"):
            if name.isdigit():
                self.look(int(name))

    def started(self, pid: int) -> None:
        """A process has begun a new program: look now, and again when its libraries
        are mapped (``look_again``)."""
        # Its number may be another here: then that of all.
        pid = pid if self._same_numbers else 0
        self.look(pid)
        self._again.append((time.monotonic() + LOOK_AGAIN_SECONDS[0], pid, 0))

    def look_again(self) -> None:
        """Look at those that started a while ago; to be called often."""
        now = time.monotonic()
        for _ in range(len(self._again)):
            when, pid, times = self._again.popleft()
            if when > now:
                self._again.append((when, pid, times))
                continue
            self.look(pid)
            times += 1
            if times < len(LOOK_AGAIN_SECONDS):
                self._again.append((now + LOOK_AGAIN_SECONDS[times], pid, times))


class WatchedFiles:
    """Functions of the files that processes have mapped: a program's UPROBE and URETPROBE are
    attached to them in each file, as it is found. The program has ``program_starts.h``.

    ``pattern`` matches the paths of the files (see MappedFiles), ``functions`` are their names,
    first the one that users know. ``complain`` is told why a file cannot be watched, and the
    ``consequence``, a clause. ``installed`` are patterns of paths as in glob(3): files that are
    watched even if no process has them mapped. ``instead`` says which file is watched in place of
    one that was found: of (pid, path, name) it makes a path and a name, or None. With ``only``,
    these files are watched, which are open, and no other ones."""

    def __init__(
        self,
        program: Program,
        pattern: re.Pattern[str],
        functions: Iterable[str],
        complain: Callable[[str], None],
        consequence: str,
        installed: Sequence[str] = (),
        instead: Callable[[int, str, str], tuple[str, str] | None] | None = None,
        only: Sequence[File] | None = None,
    ) -> None:
        self._program = program
        self._functions = list(functions)
        self._installed = installed
        self._instead = instead
        self._only = only
        self._files: Counter[int] = Counter()
        self._mapped = MappedFiles(
            pattern, self._found, lambda why: complain(f"{why}; {consequence}")
        )
        self.look_again = self._mapped.look_again

    def look_at_all(self) -> None:
        """Watch what processes have mapped now and what is installed, once the program is attached;
        or the only files. Raises Failure if one of these cannot be watched."""
        if self._only:
            for file in self._only:
                with file:
                    if not self._watch(file):
                        raise Failure(f"{file.path} has no function {self._functions[0]}")
            return
        self._mapped.look_at_all()
        for pattern in self._installed:
            for path in glob.glob(pattern):
                with contextlib.suppress(Failure):  # who uses it will have it mapped
                    self._found(os.getpid(), path, os.path.realpath(path))

    def shown(self, records: Iterable[Any]) -> Iterator[Any]:
        """The records without those of programs that were started: it looks at these."""
        for record in records:
            if record.what != STARTED:
                yield record
            elif not self._only:
                self._mapped.started(record.pid)

    def _watch(self, file: File) -> bool:
        """Attach to the functions that are in a file; whether one of them is, or nobody is to look
        at it."""
        if not self._only and self._is_one_too_many(file):
            return True
        places: dict[str, set[int]] = {}
        for function in file.exported():
            if function.name in self._functions:
                places.setdefault(function.name, set()).add(function.offset)
        for name in filter(places.get, self._functions):
            self._program.attach_uprobe(name, file, sorted(places[name])[:MOST_PLACES])
        return bool(places)

    def _is_one_too_many(self, file: File) -> bool:
        """Count a file; whether its owner has too many. Raises Failure for the first of these."""
        user = os.fstat(file.fd).st_uid
        self._files[user] += 1
        most = MOST_FILES.get(user, MOST_FILES_OF_OTHERS)
        if self._files[user] == most + 1:
            raise Failure(f"user {user} has more than {most} such files: {file.path}, and others")
        return self._files[user] > most

    def _found(self, pid: int, path: str, name: str) -> None:
        if self._instead is not None:
            found = self._instead(pid, path, name)
            if found is None:
                return
            path, name = found
        with opened(pid, path, name) as file:
            if not self._watch(file) and not file.interpreter:
                raise Failure(f"{name} has no function {self._functions[0]}: linked statically")
