"""What goes over TCP sessions counts once, in whatever order it is told and listed."""
from __future__ import annotations

import errno
import os
import struct
from types import SimpleNamespace
from typing import Any, Callable, Container

import pytest

from pytools.base.errors import Failure
from pytools.domains import session_traffic, sock_diag
from pytools.domains.session_traffic import SessionTraffic
from pytools.domains.sock_diag import Listed
from pytools.domains.socket_holders import Holder

pytestmark = pytest.mark.rendering

NETNS = os.stat("/proc/self/ns/net").st_ino
MEMBERS = (
    "ends.laddr", "ends.raddr", "ends.netns", "ends.lport", "ends.rport", "ends.family", "ends.ip",
    "interface", "what", "owned", "began", "cookie", "sent", "received", "cgroup", "pid", "comm",
)  # fmt: skip
UNKNOWN, WANTED, UNWANTED = 0, 1, 2
BEGAN, ACCEPTED, ENDED = 0, 1, 2
A, B = bytes([192, 0, 2, 1]) + bytes(12), bytes([192, 0, 2, 2]) + bytes(12)


class Kernel:
    """What is told and listed: each list of ``told`` is what is in the ring at one reading."""

    def __init__(self) -> None:
        self.told: list[list[Any]] = []
        self.sockets: list[Listed] = []
        self.lost = 0
        self.error: OSError | None = None
        self.members = MEMBERS
        self.held: dict[int, set[int]] = {}

    def read(self) -> list[Any]:
        return self.told.pop(0) if self.told else []

    def listed(self, path: str, namespace: int) -> list[Listed]:
        if self.error is not None:
            raise self.error
        return self.sockets


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(session_traffic, "RingBuffer", lambda ring: made)
    monkeypatch.setattr(session_traffic, "listed", made.listed)
    monkeypatch.setattr(session_traffic, "holders", lambda inodes: {})
    monkeypatch.setattr(session_traffic, "held_by", lambda pid: made.held.get(pid, set()))
    return made


def traffic(
    kernel: Kernel,
    passing: Callable[[], Container[int]] | None = None,
    say: Callable[[str], None] = print,
) -> SessionTraffic:
    maps = {"events": None, "lost": SimpleNamespace(total=lambda: kernel.lost)}
    program: Any = SimpleNamespace(maps=maps)
    return SessionTraffic(program, say, None, NETNS, passing)


def told(port: int, what: int = BEGAN, began: int = 1, cookie: int = 0, sent: int = 0,
         received: int = 0, pid: int = 0, owned: int = UNKNOWN) -> Any:  # fmt: skip
    return (
        A, B, NETNS, port, 80, 2, 4, 0, what, owned, began, cookie, sent, received, 0, pid,
        b"cat" + bytes(13),
    )  # fmt: skip


def socket(port: int, cookie: int, sent: int, received: int, inode: int = 0) -> Listed:
    return Listed(A, B, NETNS, port, 80, 2, 0, cookie, inode, sent, received)


def bytes_of(sessions: SessionTraffic) -> dict[int, tuple[int, int]]:
    return {row.lport: (row.sent, row.received) for row in sessions.look()}


def test_a_session_that_was_open_before_counts_from_the_first_look_on(kernel: Kernel) -> None:
    kernel.sockets = [socket(1, 10, 1000, 2000)]
    sessions = traffic(kernel)
    assert not bytes_of(sessions)
    kernel.sockets = [socket(1, 10, 1005, 2007)]
    assert bytes_of(sessions) == {1: (5, 7)}
    assert not bytes_of(sessions)
    kernel.told = [[told(1, ENDED, began=0, cookie=10, sent=1006, received=2007)]]
    kernel.sockets = []
    assert bytes_of(sessions) == {1: (1, 0)}


def test_a_session_that_begins_counts_whole_and_once(kernel: Kernel) -> None:
    sessions = traffic(kernel)
    sessions.look()
    kernel.told = [[told(1, pid=7, owned=WANTED), told(2), told(2, ENDED, sent=3, received=4)]]
    kernel.sockets = [socket(1, 10, 100, 200)]
    assert bytes_of(sessions) == {1: (100, 200), 2: (3, 4)}
    kernel.told = [[told(1, ENDED, cookie=10, sent=101, received=200, pid=7, owned=WANTED)]]
    kernel.sockets = []
    assert bytes_of(sessions) == {1: (1, 0)}


def test_one_that_ends_after_it_was_listed_counts_once_also_if_another_follows(
    kernel: Kernel,
) -> None:
    sessions = traffic(kernel)
    sessions.look()
    # What is told behind the list: the end of the one listed, and another between the same ends.
    kernel.told = [
        [told(1)], [],
        [told(1, ENDED, cookie=10, sent=110, received=0), told(1)],
    ]  # fmt: skip
    kernel.sockets = [socket(1, 10, 100, 0)]
    assert bytes_of(sessions) == {1: (110, 0)}
    kernel.sockets = [socket(1, 11, 7, 0)]
    assert bytes_of(sessions) == {1: (7, 0)}


def test_one_whose_beginning_was_lost_counts_from_when_it_is_listed(kernel: Kernel) -> None:
    kernel.sockets = [socket(1, 10, 100, 0)]
    sessions = traffic(kernel)
    sessions.look()
    kernel.lost = 1
    kernel.sockets = [socket(1, 11, 5000, 0)]  # the end was lost, too
    assert not bytes_of(sessions)
    kernel.sockets = [socket(1, 11, 5001, 0)]
    assert bytes_of(sessions) == {1: (1, 0)}


def test_sessions_whose_ends_were_lost_are_forgotten(kernel: Kernel) -> None:
    kernel.sockets = [socket(port, port, 0, 0) for port in range(1, 101)]
    sessions = traffic(kernel)
    sessions.look()
    kernel.sockets = []
    for _ in range(10):
        sessions.look()
    assert len(sessions._sessions) == 100  # nothing was lost: their ends are still to come
    kernel.lost = 1
    for _ in range(session_traffic.ABSENCES):
        sessions.look()
    assert not sessions._sessions


def test_only_sessions_of_processes_that_pass_count(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session_traffic, "holders", lambda inodes: {n: Holder(n, "cat", "") for n in inodes}
    )
    kernel.sockets = [socket(1, 10, 0, 0, inode=5), socket(2, 20, 0, 0, inode=6)]
    sessions = traffic(kernel, lambda: {5})
    sessions.look()
    kernel.told = [[told(3, pid=5, owned=WANTED), told(4, pid=6, owned=UNWANTED), told(5)]]
    kernel.sockets = [socket(port, 10 * port, 1, 1, inode=port + 4 if port < 3 else 0)
                      for port in range(1, 6)]  # fmt: skip
    assert [(row.lport, row.pid) for row in sessions.look()] == [(1, 5), (3, 5)]


def test_a_session_is_its_acceptor_s_until_that_has_it_no_more(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session_traffic, "holders", lambda inodes: {n: Holder(9, "worker", "") for n in inodes}
    )
    sessions = traffic(kernel)
    sessions.look()
    kernel.told = [[told(1), told(1, ACCEPTED, pid=7, owned=WANTED)]]
    kernel.sockets = [socket(1, 10, 1, 0, inode=5)]
    kernel.held = {7: {5}}
    assert [(row.pid, row.comm, row.sent) for row in sessions.look()] == [(7, "cat", 1)]
    kernel.held = {}
    kernel.sockets = [socket(1, 10, 3, 0, inode=5)]
    assert [(row.pid, row.comm, row.sent) for row in sessions.look()] == [(9, "worker", 2)]


def test_a_kernel_that_lists_nothing_is_a_failure_at_the_start_and_a_line_later(
    kernel: Kernel,
) -> None:
    said: list[str] = []
    sessions = traffic(kernel, say=said.append)
    kernel.error = PermissionError(1, "Operation not permitted")
    with pytest.raises(Failure, match="cannot list the TCP sessions: Operation not permitted"):
        sessions.look()
    kernel.error = None
    sessions.look()
    kernel.error = PermissionError(1, "Operation not permitted")
    sessions.look()
    sessions.look()
    assert said == ["cannot list the TCP sessions of a network namespace: Operation not permitted"]


@pytest.mark.parametrize(
    "number, text",
    [(errno.ENOENT, "the kernel has no sock_diag of TCP"), (errno.ENOMEM, "Cannot allocate")],
)
def test_what_the_kernel_refuses_is_no_namespace_that_is_gone(number: int, text: str) -> None:
    data = bytearray(struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -number))
    with pytest.raises(OSError, match=text) as raised:
        list(sock_diag._messages(data, len(data), NETNS))
    assert not isinstance(raised.value, FileNotFoundError)
