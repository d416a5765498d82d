"""Waiting: for time to pass, for events, for Ctrl-C; and what a person is told meanwhile."""
from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.show.output import PLAIN_WIDTH, complain

if TYPE_CHECKING:
    from typing import Callable, Iterator

    from pytools.tool.family import Family


__all__ = ["LATEST_SECONDS", "Progress", "Waiting", "announce", "intervals", "wait"]

# An event is on standard output at most so long after it happened.
LATEST_SECONDS = 0.1
LONGEST_SECONDS = 86400.0  # poll(2) takes milliseconds as an int: 24 days
AGAIN_SECONDS = 0.5  # after which Ctrl-C is a second one
# How long what is looked at meanwhile must be there, at most; of the processes of --exec.
TICK_SECONDS = 0.25
FAMILY_TICK_SECONDS = 0.02


def announce(options: argparse.Namespace, text: str) -> None:
    """Say to a person that the tool is at work, once it is attached."""
    if options.verbose or sys.stderr is not None and sys.stderr.isatty():
        begin, end = f"{text}...", "Hit Ctrl-C to end."
        if len(begin) + 1 + len(end) > PLAIN_WIDTH:
            complain(begin)
            complain(end)
        else:
            complain(f"{begin} {end}")


class Progress:
    """Says on standard error how far something is that takes more than a second: to
    a person on one line that is written over, else every ten seconds. Raises
    KeyboardInterrupt when the user has enough of it, if there is somebody to ask."""

    def __init__(self, tool: str, text: str, waiting: Waiting | None = None) -> None:
        self._text = f"{tool}: {text}"
        self._waiting = waiting
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + 1
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        if self._waiting is not None and self._waiting.ended:
            raise KeyboardInterrupt
        if done == total:
            if self._shown and self._terminal:
                self._write("")
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._shown = True
        self._next = now + (0.2 if self._terminal else 10)
        line = f"{self._text} {done} of {total}"
        if self._terminal:
            self._write(line)
        else:
            complain(line)

    @staticmethod
    def _write(line: str) -> None:
        """Write over the line, in which everything is the tool's own."""
        try:
            sys.stderr.write(f"\r{line}\x1b[K")
            sys.stderr.flush()
        except OSError:
            pass


class Waiting:
    """Waits for time to pass, a file descriptor to be readable, Ctrl-C, the end of the command of
    --exec and its children, or the reader of standard output to go away. ``ended`` says that one of
    the latter three has happened. Ctrl-C once more ends what takes long then, such as writing to
    a reader that has stopped: it raises KeyboardInterrupt."""

    def __init__(self, family: Family | None = None) -> None:
        self._interrupted = 0.0  # when
        self._family = family
        self._tick: Callable[[], None] | None = None
        self._tick_seconds = TICK_SECONDS if family is None else FAMILY_TICK_SECONDS
        self.ended = False
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)
        signal.set_wakeup_fd(wake)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._poll.register(1, 0)  # errors only
        if family is not None:
            self._poll.register(family.descriptor, select.POLLIN)

    def _interrupt(self, number: int, frame: object) -> None:
        now = time.monotonic()
        # timeout(1) sends a signal twice, a moment apart: to its child, and to its group.
        if self._interrupted and now - self._interrupted > AGAIN_SECONDS:
            complain("interrupted again: what was not written yet is lost")
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or now
        self.ended = True

    def meanwhile(self, tick: Callable[[], None]) -> None:
        """Have ``until`` call this again and again while it waits."""
        self._tick = tick

    def until(self, deadline: float | None) -> bool:
        """Wait until that time.monotonic(); whether it came (False: ended)."""
        now = time.monotonic()
        next_tick = None if self._tick is None else now + self._tick_seconds
        while not self.ended:
            if deadline is not None and now >= deadline:
                return True
            if self._tick is not None and next_tick is not None and now >= next_tick:
                self._tick()
                now = time.monotonic()
                next_tick = now + self._tick_seconds
            ends = [at for at in (deadline, next_tick) if at is not None]
            self.once(max(min(ends) - now, 0) if ends else None)
            now = time.monotonic()
        return False

    def watch(self, fd: int) -> None:
        """Let ``once`` return when the file descriptor is readable."""
        self._poll.register(fd, select.POLLIN)

    def once(self, seconds: float | None) -> None:
        """Wait once, for at most so long, and at most for LONGEST_SECONDS."""
        family = self._family
        if family is not None and family.seconds is not None:
            seconds = family.seconds if seconds is None else min(seconds, family.seconds)
        # Rounded up: a wait that is too short would spin to the deadline.
        timeout = None if seconds is None else int(min(seconds, LONGEST_SECONDS) * 1000) + 1
        for fd, event in self._poll.poll(timeout):
            if fd == 1 and event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                raise BrokenPipeError
            if fd == self._woken:
                os.read(self._woken, 64)
            if family is not None and fd == family.descriptor:
                self._poll.unregister(fd)  # which is closed then
                family.reap()
        if family is not None and family.seconds is not None and family.has_ended():
            self.ended = True


def intervals(options: argparse.Namespace, waiting: Waiting) -> Iterator[bool]:
    """Yield at the end of each interval, and at the end of all: True the last
    time. Ends by count, by duration, or by Ctrl-C."""
    now = time.monotonic()
    end = None if options.duration is None else now + options.duration
    interval, count = options.interval, options.count
    while True:
        deadline = end
        if interval is not None:
            now += interval
            deadline = now if end is None else min(now, end)
        waiting.until(deadline)
        if count is not None:
            count -= 1
        last = waiting.ended or deadline is None or deadline == end or count == 0
        yield last
        if last:
            return
        # A machine that was asleep, or a terminal that was stopped: go on from here.
        now = max(now, time.monotonic() - interval)


def wait(options: argparse.Namespace, waiting: Waiting) -> None:
    """Wait until the duration is over or Ctrl-C."""
    waiting.until(None if options.duration is None else time.monotonic() + options.duration)
