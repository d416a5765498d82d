"""Which files processes run code from: found by their names, also in containers, in
processes that start later, and where they were deleted since.
"""
from __future__ import annotations

import os
import re
import time
from collections import deque
from typing import Callable

from pytools.base.errors import Failure
from pytools.facts.kernel import in_first_pid_namespace
from pytools.base.text import text_of

__all__ = ["MappedFiles"]

# A line of /proc/PID/maps: code that a file was mapped for.
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(/.*)$", re.M
)
_DELETED = " (deleted)"
# After a program was started, its libraries are mapped one by one.
LOOK_AGAIN_SECONDS = (0.05, 0.3, 1.0)
MOST_REMEMBERED = 65536


class MappedFiles:
    """Tells of each file whose path ``pattern`` matches (from its start) once:
    ``found(pid, path, name)`` with a process that has it mapped, a path to open it by
    now, and its name as that process has it. ``complain`` is told of a Failure that this
    raises, where the file is still there."""

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
                opened = f"/proc/{pid}/map_files/{int(start, 16):x}-{int(end, 16):x}"
                if not os.access(opened, os.R_OK):
                    opened = f"/proc/{pid}/root{name}"
                if not self.tell(pid, opened, name):
                    self._known.discard(known)  # another process may have it, too

    def tell(self, pid: int, path: str, name: str) -> bool:
        """Tell of a file that was found elsewhere; whether it is still there."""
        try:
            self._found(pid, path, name)
        except Failure as failure:
            if not os.path.exists(path):  # the process has ended
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
