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
CHILD = "tcp_sessions_child.py"
CANNOT_LIST = "cannot list the sockets that are open"


def sessions(interrupted: Callable[[], bool]) -> tuple[dict[int, Session], list[str]]:
    """The TCP sessions of every network namespace that has a name or a process, by the
    socket's cookie, which the kernel keeps for it from now on; and why others can't be listed, a
    text for each namespace. Raises Failure, and KeyboardInterrupt as soon as ``interrupted`` says
    so."""
    # In a child: pyroute2 would be three times the memory of a tool, and namespaces
    # are entered.
    listing = child.start("the child that lists sockets", HERE, CHILD, subprocess.PIPE)
    try:
        output, messages = child.output(listing, LONGEST_LISTING, interrupted)
    except TimeoutError:
        # pyroute2 waits on where the kernel refuses: it may lack sock_diag.
        raise Failure(f"{CANNOT_LIST}: no answer in {LONGEST_LISTING} seconds") from None
    try:
        if listing.returncode == 0:
            found, left_out = json.loads(output)
            return {cookie: Session(*values) for cookie, *values in found}, left_out
        why = child.reason(listing.returncode, messages.decode("utf-8", "replace"))
    except (TypeError, ValueError):
        why = "the child that lists them gave no list"
    raise Failure(f"{CANNOT_LIST}: {why}")


class OpenBefore:
    """The sessions that were open before a tool could see them begin. ``complain`` is told why
    they can't be listed: the tool is as good for the others. ``interrupted`` says that nobody
    wants them any more."""

    def __init__(self, complain: Callable[[str], None], interrupted: Callable[[], bool]) -> None:
        self._complain = complain
        self._interrupted = interrupted
        self._looked = 0
        self._open: dict[int, Session] = {}

    def look(self) -> None:
        """Look at those that are open now."""
        self._looked = kernel_time()
        try:
            self._open, left_out = sessions(self._interrupted)
        except Failure as error:
            self._complain(str(error))
        except KeyboardInterrupt:
            if not self._interrupted():
                raise
        else:
            if left_out:
                where = f"of {len(left_out)} network namespaces"
                self._complain(f"{CANNOT_LIST}, {where}: {left_out[0]}")

    def known(self, cookie: int) -> Session | None:
        """The session whose socket has that cookie, if it was listed, and has not ended."""
        return self._open.get(cookie)

    def end(self, cookie: int) -> Session:
        """The session whose socket has that cookie, which has ended. One that was not listed has
        begun when they were listed, or before."""
        return self._open.pop(cookie, Session(0, "", self._looked, False))
