"""What goes over TCP sessions, by process: each socket's own counters, as sock_diag has them at
each look, and as a program reads them when a session ends (``bpf/session_events.h``).

A session is known by its two ends. Its beginning is told in an event before it can be listed, and
its end is told with its last counts, so that each byte counts once: in the session's row of the
interval in which it was first seen to have gone.
"""
from __future__ import annotations

from collections import namedtuple

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.base.text import c_text
from pytools.domains.containers import Containers
from pytools.domains.network_namespaces import namespaces
from pytools.domains.sock_diag import Listed, listed
from pytools.domains.socket_holders import held_by, holders
from pytools.read.ringbuf import RingBuffer

if TYPE_CHECKING:
    from typing import Any, Callable, Container

    from pytools.load.program import Program

    Ends = tuple[bytes, bytes, int, int, int, int, int]

__all__ = ["SessionBytes", "SessionTraffic"]

UNKNOWN, WANTED = 0, 1  # bpf/socket_owner.h
BEGAN, ACCEPTED, ENDED = 0, 1, 2  # bpf/session_events.h
LOOKS = 2  # at whether the process of a session still has it: a server may hand it to a child
ABSENCES = 3  # after which a session is taken for ended, if events were lost
CANNOT_LIST = "cannot list the TCP sessions"


class SessionBytes(NamedTuple):
    """What has gone over the sessions of a process between two ends, in bytes."""

    pid: int | None
    comm: str | None
    cgroup: int
    laddr: bytes
    raddr: bytes
    netns: int
    lport: int
    rport: int
    family: int
    sent: int
    received: int


class _Session:
    """One that is open. ``sent`` and ``received`` are what was counted of it before."""

    __slots__ = (
        "pid", "comm", "cgroup", "owned", "looks", "cookie", "sent", "received", "absent",
    )  # fmt: skip

    def __init__(self) -> None:
        self.pid = self.cgroup = self.cookie = self.sent = self.received = 0
        self.owned = UNKNOWN
        self.comm = ""
        self.looks = self.absent = 0

    def own(self, record: Any) -> None:
        """Its process, as an event has it."""
        self.pid, self.comm, self.cgroup = record.pid, c_text(record.comm), record.cgroup
        self.owned = record.owned


class SessionTraffic:
    """The traffic of all sessions, as a program with ``bpf/session_events.h`` sees them.
    ``complain`` is told what can't be listed. ``ip`` and ``namespace`` are the filters of sockets,
    None if there is none. ``passing`` gives the processes that pass the filters of tasks now: it is
    asked about sessions whose process the program has not seen. None: all do."""

    def __init__(
        self,
        program: Program,
        complain: Callable[[str], None],
        ip: int | None,
        namespace: int | None,
        passing: Callable[[], Container[int]] | None,
    ) -> None:
        self._ring = RingBuffer(program.maps["events"])
        names = [name.rpartition(".")[2] for name in self._ring.members]
        self._record = namedtuple("_record", names)._make  # type: ignore
        self._lost = program.maps["lost"]
        self._complain = complain
        self._complained: set[str] = set()
        self._looked = False
        self._ip, self._namespace = ip, namespace
        self._passing = passing
        self._paths: dict[int, str] = {}
        self._sessions: dict[Ends, _Session] = {}
        self._ended: set[int] = set()  # cookies, since the last look
        self._grown: dict[tuple[Any, ...], list[int]] = {}
        self._containers = Containers()

    # What the program tells.

    def take(self) -> None:
        """Take what the program has told meanwhile, so that there is room for more."""
        while records := self._ring.read():
            for values in records:
                self._told(self._record(values))

    def _told(self, record: Any) -> None:
        ends = (
            record.laddr, record.raddr, record.netns, record.lport, record.rport, record.family,
            record.interface,
        )  # fmt: skip
        session = self._sessions.get(ends)
        if record.what == ENDED:
            if record.cookie:
                self._ended.add(record.cookie)
            self._sessions.pop(ends, None)
            if session is None or session.cookie not in (0, record.cookie):
                if not record.began:
                    return  # it was open before, and not listed
                session = _Session()
            if session.owned == UNKNOWN:
                session.own(record)
            self._count(ends, session, record.sent, record.received)
            return
        if session is None and not record.began:
            return  # the same, and accepted now
        if session is None or record.what == BEGAN:
            session = self._sessions[ends] = _Session()
        session.own(record)
        session.looks = 0

    # What is listed.

    def look(self) -> list[SessionBytes]:
        """What has gone over each session since the last call, the first time since now."""
        self.take()
        if self._paths.keys() != {self._namespace} and any(
            ends[2] not in self._paths for ends in self._sessions
        ):
            self._paths = {}
        found = self._listed()
        # What ended before it could be listed, or was listed and has ended since.
        self.take()
        ended, self._ended = self._ended, set()
        found = [each for each in found if each.cookie not in ended]
        new = {}
        for each in found:
            session = self._session(each)
            if each.inode and session.looks < LOOKS:
                session.looks += 1
                new[each.inode] = session
        self._find_holders(new)
        for each in found:
            self._count(each[:7], self._sessions[each[:7]], each.sent, each.received)
        self._looked = True
        if self._lost.total():
            self._forget({each[:7] for each in found})
        grown, self._grown = self._grown, {}
        return [SessionBytes(*row, *counts) for row, counts in grown.items()]

    def _listed(self) -> list[Listed]:
        found: list[Listed] = []
        left = self._list(list(self._paths), found)
        if left or not self._paths:
            chosen = self._namespace
            self._paths = {
                inode: path
                for inode, path in namespaces().items()
                if chosen is None or inode == chosen
            }
            self._list([inode for inode in left or self._paths if inode in self._paths], found)
        if self._ip is None:
            return found
        return [each for each in found if _version(each) == self._ip]

    def _list(self, inodes: list[int], found: list[Listed]) -> list[int]:
        """List the sockets of these namespaces; those that are not at their path any more."""
        left, refused = [], 0
        for inode in inodes:
            try:
                found += listed(self._paths[inode], inode)
            except FileNotFoundError:
                left.append(inode)
            except OSError as error:
                refused += 1
                why = error.strerror or str(error)
                if refused == len(inodes) and not self._looked:
                    raise Failure(f"{CANNOT_LIST}: {why}") from None
                self._say(f"{CANNOT_LIST} of a network namespace: {why}")
        return left

    def _say(self, text: str) -> None:
        if text not in self._complained:
            self._complained.add(text)
            self._complain(text)

    def _session(self, each: Listed) -> _Session:
        """The session of a socket that is listed; what it has had counts if it has begun here."""
        session = self._sessions.get(each[:7])
        if session is None or session.cookie not in (0, each.cookie):
            session = self._sessions[each[:7]] = _Session()
            session.sent, session.received = each.sent, each.received
        session.cookie, session.absent = each.cookie, 0
        return session

    def _find_holders(self, new: dict[int, _Session]) -> None:
        """Who has these sockets, where it is not the process that is known. Sockets have an inode
        if a process has them."""
        held = {pid: held_by(pid) for pid in {session.pid for session in new.values()} - {0}}
        unowned = {n for n, session in new.items() if n not in held.get(session.pid, ())}
        if not unowned:
            return
        passing = self._passing() if self._passing else None
        for inode, holder in holders(unowned).items():
            session = new[inode]
            session.pid, session.comm, session.looks = holder.pid, holder.comm, LOOKS
            session.cgroup = self._containers.cgroup(holder.pid)
            session.owned = WANTED if passing is None or holder.pid in passing else UNKNOWN

    def _count(self, ends: Ends, session: _Session, sent: int, received: int) -> None:
        more = max(sent - session.sent, 0), max(received - session.received, 0)
        session.sent += more[0]
        session.received += more[1]
        if not any(more) or (self._passing is not None and session.owned != WANTED):
            return
        row = session.pid or None, session.comm or None, session.cgroup, *ends[:6]
        counts = self._grown.setdefault(row, [0, 0])
        counts[0] += more[0]
        counts[1] += more[1]

    def _forget(self, there: Container[Ends]) -> None:
        """Forget sessions whose end may have been lost."""
        for ends, session in list(self._sessions.items()):
            if ends not in there:
                session.absent += 1
                if session.absent >= ABSENCES:
                    del self._sessions[ends]


def _version(each: Listed) -> int:
    """That of the packets, as ``struct ends`` has it."""
    mapped = each.raddr[:12] == bytes(10) + b"\xff\xff"
    return 6 if each.family == 10 and not mapped else 4
