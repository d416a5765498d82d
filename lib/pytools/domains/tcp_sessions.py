"""The TCP sessions that are open, as the kernel's sock_diag lists them (pyroute2, in a child)."""
from __future__ import annotations

import json
import os
import subprocess

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base import child
from pytools.base.errors import Failure
from pytools.base.system import kernel_time

if TYPE_CHECKING:
    from typing import Callable


__all__ = ["OpenBefore", "Session", "sessions"]

HERE = os.path.dirname(os.path.realpath(__file__))


class Session(NamedTuple):
    """A TCP session that is open. ``pid`` is a process that holds it, or 0; ``began`` is
    monotonic time in nanoseconds, and exact or else the latest that it can be."""

    pid: int
    comm: str
    began: int
    exact: bool


# Seconds: an emulated machine takes ten, where a real one takes a quarter of one.
LONGEST_LISTING = 60


def sessions() -> dict[int, Session]:
    """The TCP sessions of every network namespace that has a name or a process, by the
    socket's cookie, which the kernel keeps for it from now on. Raises Failure."""
    # In a child: pyroute2 would be three times the memory of a tool, and namespaces
    # are entered.
    listing = child.start(HERE, "tcp_sessions_child.py", subprocess.PIPE)
    try:
        output, messages = listing.communicate(timeout=LONGEST_LISTING)
    except subprocess.TimeoutExpired:
        # pyroute2 waits on where the kernel refuses: it may lack sock_diag.
        listing.kill()
        listing.communicate()
        raise Failure("cannot list the sockets that are open: no answer") from None
    if listing.returncode:
        why = messages.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Failure("cannot list the sockets that are open: " + "".join(why))
    return {cookie: Session(*values) for cookie, *values in json.loads(output)}


class OpenBefore:
    """The sessions that were open before a tool could see them begin. ``complain`` is told why
    they can't be listed: the tool is as good for the others."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._looked = 0
        self._open: dict[int, Session] = {}

    def look(self) -> None:
        """Look at those that are open now."""
        self._looked = kernel_time()
        try:
            self._open = sessions()
        except Failure as error:
            self._complain(str(error))

    def end(self, cookie: int) -> Session:
        """The session whose socket has that cookie, which has ended. One that was not listed has
        begun when they were listed, or before."""
        return self._open.pop(cookie, Session(0, "", self._looked, False))
