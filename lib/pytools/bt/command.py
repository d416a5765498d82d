"""The command of -c: started, and held until all is attached."""
from __future__ import annotations

import os
import shlex
import signal

from pytools.base.errors import Failure

__all__ = ["Command"]


class Command:
    """A process that waits before it runs a command, whose words are split as a shell does, without
    one. Raises Failure if there is no such program."""

    def __init__(self, line: str) -> None:
        import shutil

        try:
            self.words = shlex.split(line)
        except ValueError as error:
            raise Failure(f"-c {line!r}: {error}") from None
        if not self.words:
            raise Failure("-c: the command is empty")
        path = shutil.which(self.words[0])
        if path is None:
            raise Failure(f"-c: there is no program {self.words[0]!r}")
        self.path = path
        waiting, self._go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._child(waiting)
        os.close(waiting)

    def _child(self, waiting: int) -> None:
        try:
            os.close(self._go)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            if os.read(waiting, 1):  # nothing: the tool has ended
                os.execv(self.path, self.words)
        except BaseException:
            pass
        os._exit(127)

    def let_go(self) -> None:
        """Run the command."""
        try:
            os.write(self._go, b"g")
        except OSError:  # somebody has ended it
            pass

    def end(self) -> None:
        """End the process, if it has not ended."""
        try:
            os.close(self._go)
        except OSError:
            pass
        try:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return
            os.kill(self.pid, signal.SIGTERM)
        except (ChildProcessError, ProcessLookupError):
            pass
