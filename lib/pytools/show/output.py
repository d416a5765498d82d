"""How a tool's data leaves it: timestamps, standard output and standard error.

Data goes to standard output, everything else to standard error.
"""
from __future__ import annotations

import errno
import os
import select
import sys
import time

from pytools.base.errors import Failure
from pytools.base.system import kernel_time
from pytools.base.text import escape_line
from pytools.read.growth import Growth

__all__ = ["Clock", "Output", "complain"]

PLAIN_WIDTH, PLAIN_HEIGHT = 80, 24  # where standard output is no terminal


class Clock:
    """Wall-clock time of the kernel's monotonic timestamps (bpf_ktime_get_ns)."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""
        self._offset = 0
        self.synchronise()

    def synchronise(self) -> None:
        """Follow the wall clock where it was set or slewed meanwhile."""
        before = kernel_time()
        wall = time.time_ns()
        self._offset = wall - (before + kernel_time()) // 2

    @staticmethod
    def monotonic() -> int:
        """The kernel's monotonic time now, in nanoseconds."""
        return kernel_time()

    def rfc3339(self, monotonic_ns: int | None = None) -> str:
        """RFC 3339 in UTC with microseconds; the time now by default."""
        if monotonic_ns is None:
            wall = time.time_ns()
        else:
            wall = monotonic_ns + self._offset
        second, rest = divmod(wall, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{rest // 1000:06d}Z"

    def time_of_day(self, monotonic_ns: int) -> str:
        """HH:MM:SS in local time, with microseconds."""
        second, rest = divmod(monotonic_ns + self._offset, 1_000_000_000)
        return f"{time.strftime('%H:%M:%S', time.localtime(second))}.{rest // 1000:06d}"

    def unix(self, monotonic_ns: int) -> str:
        """Seconds since 1970, with microseconds."""
        second, rest = divmod(monotonic_ns + self._offset, 1_000_000_000)
        return f"{second}.{rest // 1000:06d}"

    def local(self, monotonic_ns: int) -> str:
        """The time of day where the machine is, to the second."""
        return time.strftime("%H:%M:%S", time.localtime((monotonic_ns + self._offset) // 10**9))


class Output:
    """Standard output, written in whole lines, one write(2) for many."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.clock = Clock()
        try:
            os.fstat(1)
        except OSError:
            raise Failure("standard output is closed") from None
        self.terminal = os.isatty(1)
        self.width, self.height = PLAIN_WIDTH, PLAIN_HEIGHT
        if self.terminal:
            try:
                size = os.get_terminal_size(1)
                self.width, self.height = size.columns or PLAIN_WIDTH, size.lines or PLAIN_HEIGHT
            except OSError:
                pass

    def write(self, text: str) -> None:
        """Write text through to the end; raises BrokenPipeError when nobody
        reads it, Failure when it can't be written."""
        data = memoryview(text.encode("utf-8", "surrogateescape"))
        while data:
            try:
                data = data[os.write(1, data) :]
            except BlockingIOError:
                select.select([], [1], [])
            except BrokenPipeError:
                raise
            except OSError as error:
                if error.errno == errno.EPIPE:
                    raise BrokenPipeError from None
                raise Failure(f"cannot write to standard output: {error.strerror}") from None

    def stamp(self, form: str) -> None:
        """Write the local time as a line of its own, in text; JSON and CSV have
        the time in every line."""
        if form == "text":
            self.write(time.strftime("%H:%M:%S") + "\n")

    def lost(self, what: str, counter: Growth, more: int = 0) -> int:
        """How many are missing since the last call, and ``more`` that the counter does
        not know of, said on standard error."""
        count = sum(counter.since_last().values()) + more
        if count:
            self.message(f"{count} {what} lost")
        return count

    def message(self, text: str) -> None:
        """A line on standard error."""
        complain(f"{self.tool}: {text}")


def complain(text: str) -> None:
    """Write a line to standard error, if there is one."""
    try:
        print(escape_line(text), file=sys.stderr, flush=True)
    except (OSError, AttributeError):
        pass
