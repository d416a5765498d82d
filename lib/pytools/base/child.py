"""Child processes: what brings LLVM with it runs in one, and ends with it.

One that is forked has what its parent has imported, and is there at once; one that is started is a
Python of its own, for what must not share the parent's modules.
"""
from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure

if TYPE_CHECKING:
    import subprocess
    from typing import Callable, NoReturn, TextIO

__all__ = ["Forked", "output", "reason", "start"]

LOOK_SECONDS = 0.05


class Forked:
    """A child that calls a function, whose standard input it is given, and ends.

    It goes on from where this process is: the function needs no Python that starts, and imports
    only what is not imported yet. What it writes to its standard output and standard error is read
    when it has ended. In a session of its own: Ctrl-C is the tool's, which ends the child. Raises
    Failure, in which ``what`` is what it is for.
    """

    def __init__(self, what: str, function: Callable[[], None]) -> None:
        self.returncode: int | None = None  # as subprocess has it
        opened: list[int] = []
        try:
            opened += os.pipe()
            opened.append(os.memfd_create("output"))
            opened.append(os.memfd_create("messages"))
            self._pid = os.fork()
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            raise Failure(f"cannot start {what}: {error.strerror}") from None
        requested, self._request, self._output, self._messages = opened
        if not self._pid:
            _be_child(function, (requested, self._output, self._messages))
        os.close(requested)

    def give(self, request: bytes) -> None:
        """Let it have all of its standard input."""
        descriptor, self._request = self._request, -1
        try:
            with open(descriptor, "wb") as file:
                file.write(request)
        except BrokenPipeError:
            pass  # it has ended, and says why

    def wait(self) -> tuple[bytes, bytes]:
        """What it has written as output and as messages, when it has ended."""
        self._reap()
        both = self._output, self._messages
        self._output = self._messages = -1
        found = []
        for descriptor in both:
            with open(descriptor, "rb") as file:
                file.seek(0)
                found.append(file.read())
        return found[0], found[1]

    def end(self) -> None:
        """End it, if it has not ended."""
        if self.returncode is None:
            os.kill(self._pid, signal.SIGKILL)
            self._reap()
        for descriptor in (self._request, self._output, self._messages):
            if descriptor >= 0:
                os.close(descriptor)
        self._request = self._output = self._messages = -1

    def _reap(self) -> None:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _be_child(function: Callable[[], None], streams: tuple[int, int, int]) -> NoReturn:
    """What the child does: as good as a process of its own, it calls the function."""
    status = 1
    own: list[TextIO] = []
    try:
        gc.disable()  # what the parent has left is not this one's to take apart
        os.setsid()
        os.chdir("/")
        signal.set_wakeup_fd(-1)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for name in os.listdir("/proc/self/fd"):
            # One of them was the list's own.
            if int(name) >= len(streams):
                with contextlib.suppress(OSError):
                    os.close(int(name))
        own += [open(0), open(1, "w"), open(2, "w", errors="backslashreplace")]
        sys.stdin, sys.stdout, sys.stderr = own
        for name in os.environ.keys() - _environment().keys():
            del os.environ[name]
        function()
        status = 0
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1
        if isinstance(stopped.code, str):
            print(stopped.code, file=sys.stderr)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        try:
            for stream in own[1:]:
                stream.flush()
        finally:
            os._exit(status)


def start(what: str, folder: str, script: str, messages: int) -> subprocess.Popen[bytes]:
    """Run a script in a folder, with pipes on its standard input and output, and
    ``messages`` (as subprocess has it) for its standard error. Raises Failure, in which ``what``
    is what it is for. In a session of its own: Ctrl-C is the tool's, which ends the child."""
    import subprocess

    # -I: nothing from the environment or the working directory is imported.
    # -B: an installed tool, which is started with it, writes nothing where it lies.
    flags = "-IB" if sys.dont_write_bytecode else "-I"
    try:
        return subprocess.Popen(
            [sys.executable, flags, os.path.join(folder, script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise Failure(f"cannot start {what}: {error.strerror}") from None


def output(
    child: subprocess.Popen[bytes], seconds: float, interrupted: Callable[[], bool]
) -> tuple[bytes, bytes]:
    """What a child writes to its output and as messages until it ends. Raises TimeoutError after
    so many seconds, and KeyboardInterrupt as soon as ``interrupted`` says so. The child is gone
    then."""
    import subprocess

    deadline = time.monotonic() + seconds
    try:
        while not interrupted():
            try:
                return child.communicate(timeout=LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if time.monotonic() >= deadline:
                    raise TimeoutError from None
        raise KeyboardInterrupt
    except BaseException:
        child.kill()
        child.communicate()
        raise


def reason(status: int, messages: str = "") -> str:
    """Why a child failed that ended with a status (as subprocess has it): never nothing.

    >>> reason(-9), reason(1, "Traceback ...\\nOSError: no such thing"), reason(1)
    ('killed by signal 9', 'OSError: no such thing', 'status 1, no reason given')
    """
    if status < 0:
        return f"killed by signal {-status}"
    return "".join(messages.strip().splitlines()[-1:]) or f"status {status}, no reason given"


def _environment() -> dict[str, str]:
    # An image is kept for all who start the tool later: no environment of one of them may have
    # made bcc compile it for another machine (ARCH, which builders of kernels set) or from other
    # headers.
    return {
        name: text
        for name, text in os.environ.items()
        if name != "ARCH" and not name.startswith("BCC_")
    }
