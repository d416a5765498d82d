"""The TCP sockets of a network namespace, with what has gone over each, as the kernel's sock_diag
lists them (sock_diag(7), linux/inet_diag.h).

pyroute2 takes 90 microseconds for a socket, because it decodes all that is known of it. This
takes 4: it looks at some numbers."""
from __future__ import annotations

import errno
import os
import socket
import struct

from pytools.base import system
from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.beside import Beside

if TYPE_CHECKING:
    from typing import Generator, Iterator


__all__ = ["Listed", "listed"]

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_INFO = 2
# Those with a session: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
STATES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11
# In which the peer's FIN has come, which the kernel counts as a byte.
HAS_FIN = {8, 9, 11}
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
# Family, state, ports in the network's byte order, addresses, interface, cookie, inode.
_MESSAGE = struct.Struct("=BBxx2s2s16s16sIII4x4x4x4xI")
_RECEIVED, _SENT = struct.Struct("=Q"), struct.Struct("=QQ")  # in struct tcp_info
_RECEIVED_AT, _SENT_AT = 128, 200
BUFFER_BYTES = 1 << 18
PATIENCE_SECONDS = 60.0  # an emulated machine takes ten, where a real one takes a quarter of one


class Listed(NamedTuple):
    """A socket. The first seven are as in ``struct ends`` (``bpf/ends.h``), and tell sessions that
    are there at the same time apart."""

    laddr: bytes
    raddr: bytes
    netns: int
    lport: int
    rport: int
    family: int
    interface: int
    cookie: int
    inode: int
    sent: int
    received: int


def listed(path: str, namespace: int) -> list[Listed]:
    """The sockets in the network namespace at that path of /proc or /run, which has that inode.
    Raises FileNotFoundError if it is not there any more, and other OSErrors."""
    found: list[Listed] = []
    # In a thread, which alone goes there, and ends. Nothing keeps the namespace for longer.
    looking = Beside(lambda: found.extend(_in_namespace(path, namespace)))
    if not looking.wait(PATIENCE_SECONDS):
        raise OSError(errno.ETIMEDOUT, f"no answer in {PATIENCE_SECONDS:.0f} seconds")
    return found


def _in_namespace(path: str, namespace: int) -> Iterator[Listed]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise FileNotFoundError(errno.ENOENT, path) from None
        raise
    try:
        if os.fstat(descriptor).st_ino != namespace:
            raise FileNotFoundError(errno.ENOENT, path)  # another process has that number
        if os.stat("/proc/thread-self/ns/net").st_ino != namespace:
            system.enter_network_namespace(descriptor)
    finally:
        os.close(descriptor)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
    ) as diag:
        diag.settimeout(PATIENCE_SECONDS)
        buffer = bytearray(BUFFER_BYTES)
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << INET_DIAG_INFO - 1, STATES)
            size = _HEADER.size + len(request)
            header = _HEADER.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, family, 0)
            diag.send(header + request)
            done = False
            while not done:
                end = diag.recv_into(buffer)
                done = yield from _messages(buffer, end, namespace)


def _messages(buffer: bytearray, end: int, namespace: int) -> Generator[Listed, None, bool]:
    """The sockets of what was read; returns whether that was the end of the list."""
    place = 0
    while place + _HEADER.size <= end:
        length, kind, _, _, _ = _HEADER.unpack_from(buffer, place)
        if kind == NLMSG_DONE:
            return True
        if kind == NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", buffer, place + _HEADER.size)
            if error == -errno.ENOENT:  # which would be a namespace that is gone
                raise OSError(errno.EPROTONOSUPPORT, "the kernel has no sock_diag of TCP")
            raise OSError(-error, os.strerror(-error))
        message = place + _HEADER.size
        info = _info(buffer, message + _MESSAGE.size, place + length)
        if info:
            (
                family, state, lport, rport, laddr, raddr, interface, low, high, inode,
            ) = _MESSAGE.unpack_from(buffer, message)  # fmt: skip
            (received,) = _RECEIVED.unpack_from(buffer, info + _RECEIVED_AT)
            sent, again = _SENT.unpack_from(buffer, info + _SENT_AT)
            yield Listed(
                laddr, raddr, namespace, int.from_bytes(lport, "big"),
                int.from_bytes(rport, "big"), family, interface, high << 32 | low, inode,
                sent - again, received - (state in HAS_FIN),
            )  # fmt: skip
        place += (length + 3) & ~3
    return False


def _info(buffer: bytearray, place: int, end: int) -> int:
    """Where struct tcp_info is among the attributes; 0 where it is not: of TIME_WAIT."""
    while place + 4 <= end:
        length, kind = struct.unpack_from("=HH", buffer, place)
        if kind == INET_DIAG_INFO and length >= 4 + _SENT_AT + _SENT.size:
            return place + 4
        if length < 4:
            break
        place += (length + 3) & ~3
    return 0
