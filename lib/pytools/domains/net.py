"""The network: addresses, namespaces, names that DNS gave, sockets through pyroute2."""
from __future__ import annotations

import json
import os
import struct
import subprocess
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Iterator, NamedTuple

from pytools.base import child
from pytools.base.errors import Failure, Usage

__all__ = [
    "Names",
    "Namespaces",
    "Session",
    "address",
    "answers",
    "namespace",
    "namespaces",
    "sessions",
]

HERE = os.path.dirname(os.path.realpath(__file__))


def address(data: bytes, family: int) -> str | None:
    """The text of an address in ``struct ends`` (``bpf/socket.h``); None where it is
    all zeros: not known.

    >>> address(bytes([127, 0, 0, 1]) + bytes(12), AF_INET)
    '127.0.0.1'
    """
    if not any(data):
        return None
    return inet_ntop(AF_INET6, data) if family == AF_INET6 else inet_ntop(AF_INET, data[:4])


# Namespaces.

# Where namespaces have names: those of ip-netns(8), and Docker's.
NAMED = ("/run/netns", "/run/docker/netns")


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def namespace(text: str) -> int:
    """The inode of a network namespace, which is its number in the kernel, by its name
    or by a process in it. Raises Usage."""
    if text.isascii() and text.isdigit():
        found = _inode(f"/proc/{text}/ns/net")
        if found is None:
            raise Usage(f"there is no process {text}, or its namespace can't be read")
        return found
    if "/" not in text:
        for folder in NAMED:
            found = _inode(os.path.join(folder, text))
            if found is not None:
                return found
    raise Usage(f"there is no network namespace {text!r} in {' or '.join(NAMED)}")


def namespaces() -> dict[int, str]:
    """A path of every network namespace that has a name or a process, by inode."""
    paths: dict[int, str] = {}
    processes = [f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdigit()]
    for path in ["/proc/self/ns/net", *_named(), *processes]:
        inode = _inode(path)
        if inode is not None:
            paths.setdefault(inode, path)
    return paths


def _named() -> Iterator[str]:
    for folder in NAMED:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        yield from (os.path.join(folder, name) for name in names)


class Namespaces:
    """Names of network namespaces, by inode."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def name(self, inode: int) -> str:
        """``init`` for that of process 1, the name of one that has a name, else the
        number as /proc writes it: ``net:[4026532008]``."""
        if inode not in self._names:
            if len(self._names) >= 4096:
                self._names.clear()
            self._names[inode] = self._find(inode)
        return self._names[inode]

    @staticmethod
    def _find(inode: int) -> str:
        if inode == _inode("/proc/1/ns/net"):
            return "init"
        for path in _named():
            if inode == _inode(path):
                return os.path.basename(path)
        return f"net:[{inode}]"


# Answers of name servers (RFC 1035, section 4).

TYPE_A, TYPE_AAAA = 1, 28
MOST_NAMES = 65536


def _skip_name(message: bytes, place: int) -> int:
    while message[place]:
        if message[place] >= 0xC0:  # the rest stands elsewhere
            return place + 2
        place += 1 + message[place]
    return place + 1


def answers(message: bytes) -> tuple[bytes, list[bytes]]:
    """The name that was asked for and the addresses of an answer, of 4 and 16 bytes,
    also of one that is cut. Raises ValueError for what is none."""
    found: list[bytes] = []
    try:
        questions, count = struct.unpack_from(">HH", message, 4)
        if questions != 1:
            raise ValueError("not one question")
        labels, place = [], 12
        while message[place]:
            if message[place] > 63:
                raise ValueError("not the name of a question")
            labels.append(message[place + 1 : place + 1 + message[place]])
            place += 1 + message[place]
        place += 5
        if place > len(message):
            raise ValueError("cut within the question")
    except (IndexError, struct.error):
        raise ValueError("cut within the question") from None
    try:
        for _ in range(count):
            place = _skip_name(message, place)
            kind, _, _, size = struct.unpack_from(">HHIH", message, place)
            data = message[place + 10 : place + 10 + size]
            place += 10 + size
            if (kind, len(data)) in ((TYPE_A, 4), (TYPE_AAAA, 16)):
                found.append(data)
    except (IndexError, struct.error):
        pass
    return b".".join(labels), found


class Names:
    """The names that processes have got addresses for, the last ones."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, bytes], bytes] = {}

    def learn(self, pid: int, message: bytes) -> None:
        """Take an answer that a process has received."""
        try:
            name, addresses = answers(message)
        except ValueError:
            return
        if len(self._names) + len(addresses) > MOST_NAMES:
            self._names.clear()
        for found in addresses:
            self._names[pid, found] = name

    def name(self, pid: int, data: bytes, family: int) -> bytes | None:
        """The name for an address in ``struct ends``; None if the process asked for none."""
        if family == AF_INET6 and data[:12] == bytes(10) + b"\xff\xff":
            data, family = data[12:], AF_INET
        return self._names.get((pid, data if family == AF_INET6 else data[:4]))


# Sockets.


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
    listing = child.start(HERE, "sessions_child.py", subprocess.PIPE)
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
