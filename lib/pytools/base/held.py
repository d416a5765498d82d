"""A command that is held back until somebody is ready to watch it.

It is started as a child process at once, so that its pid is known and what the tool changes of
itself later (limits, signals, descriptors) does not reach it. The child waits, and becomes the
command when it is told to. If the tool ends before, however it ends, so does the child.
"""
from __future__ import annotations

import errno
import os
import signal
import stat
import struct

from pytools.base import system
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure

if TYPE_CHECKING:
    from typing import NoReturn, Sequence

__all__ = ["Held", "executable"]

GO = b"\n"
# What Python does with these is not for a program: it ignores them, or has a handler.
OF_PYTHON = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)


def executable(name: str) -> str:
    """The path of a program: the first in PATH, as in a shell, where the name has no slash. Raises
    Failure where none can be run, with the reason."""
    folders = [""] if "/" in name else os.get_exec_path()
    reason = "there is no such program in PATH" if "/" not in name else ""
    for folder in folders:
        path = os.path.join(folder, name) if folder else name
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except (OSError, ValueError) as error:
            if not folder:
                reason = getattr(error, "strerror", None) or "no path has a NUL"
            continue
        if not is_folder and os.access(path, os.X_OK):
            return path
        if not is_folder:
            reason = f"{path} is not executable"
        elif not folder:
            reason = f"{path} is a directory"
    raise Failure(f"cannot run {name!r}: {reason}")


class Held:
    """A command, held. ``pid`` is its process, ``ended`` a file descriptor that is readable when
    that has ended (pidfd_open(2)), until it was reaped."""

    def __init__(self, words: Sequence[str]) -> None:
        self._name = words[0]
        path = executable(words[0])
        held, self._go = os.pipe()
        self._failed, failed = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._go)  # the last end of it must be the tool's own
            _become(path, words, held, failed, parent)
        os.close(held)
        os.close(failed)
        self.ended = os.pidfd_open(self.pid)
        self._status: int | None = None

    def release(self) -> None:
        """Let it become the command. Raises Failure where the kernel does not run it."""
        go, self._go = self._go, -1
        try:
            os.write(go, GO)
        except BrokenPipeError:  # somebody has killed it
            pass
        finally:
            os.close(go)
        # At the end of the file, the command runs: it has no such descriptor any more.
        with open(self._failed, "rb", buffering=0) as file:
            data = file.read()
        self._failed = -1
        if data:
            (number,) = struct.unpack("=i", data)
            self.reap()
            # A script without "#!" has no format that the kernel knows.
            hint = " (a script without #!?)" if number == errno.ENOEXEC else ""
            raise Failure(f"cannot run {self._name!r}: {os.strerror(number)}{hint}")

    def reap(self) -> int:
        """Wait for its end: the status, a signal's number as one below zero."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.ended)
        return self._status

    def end(self) -> None:
        """End it, if it has not ended: one that is held never begins, one that runs gets
        SIGTERM."""
        for descriptor in (self._go, self._failed):
            if descriptor >= 0:
                os.close(descriptor)
        held, self._go, self._failed = self._go >= 0, -1, -1
        if self._status is None:
            if held:
                self.reap()
            else:
                os.kill(self.pid, signal.SIGTERM)  # it is not reaped: the pid is still its own


def _become(path: str, words: Sequence[str], held: int, failed: int, parent: int) -> NoReturn:
    """What the child does."""
    try:
        for number in OF_PYTHON:
            if number == signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
                continue  # so it was started: nohup, or a job in the background
            signal.signal(number, signal.SIG_DFL)
        system.end_with_parent(signal.SIGTERM)
        environment = _environment()
        if os.getppid() == parent and os.read(held, 1) == GO:
            os.execve(path, list(words), environment)
    except OSError as error:
        os.write(failed, struct.pack("=i", error.errno or errno.EINVAL))
    finally:
        os._exit(127)


def _environment() -> dict[bytes, bytes]:
    """The environment that the tool was given. In the C locale, Python puts LC_CTYPE into its own
    (PEP 538), with which the command would open other files."""
    try:
        with open("/proc/self/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    pairs = (variable.partition(b"=") for variable in variables if b"=" in variable)
    return {name: value for name, _, value in pairs if name}
