"""A machine at the other end of a wire, made of packets: a TUN device in a network namespace of the
test's own. Runs in a child (support.python_child); everything that is sent is of known number."""
from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import stat
import struct
import subprocess
import tempfile
from typing import Iterator

OURS, PEER = "192.0.2.1", "192.0.2.2"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def enter(name: str) -> None:
    """Go to a network namespace by its name (ip-netns)."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/run/netns/{name}", os.O_RDONLY)
    assert not libc.setns(namespace, 0x40000000), os.strerror(ctypes.get_errno())
    os.close(namespace)


@contextlib.contextmanager
def named_namespace() -> Iterator[str]:
    """A network namespace that has a name, with its loopback interface."""
    name = f"pytools-wire-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


# Of the packets that come in there, one of twenty is dropped: classic BPF, as tc(8) takes it. It is
# the remainder of a random number, and TC_ACT_SHOT or TC_ACT_UNSPEC.
LOSE = "5,32 0 0 4294963256,148 0 0 100,53 1 0 5,6 0 0 2,6 0 0 4294967295"


def lose(name: str, how: str) -> bool:
    """Lose 5 % of the packets over loopback, by the interface's queue (``netem``) or by a filter
    behind it (``filter``); whether that can be done here."""
    commands = {
        "netem": [["qdisc", "add", "dev", "lo", "root", "netem", "loss", "5%"]],
        "filter": [
            ["qdisc", "add", "dev", "lo", "clsact"],
            ["filter", "add", "dev", "lo", "ingress", "bpf", "da", "bytecode", LOSE],
        ],
    }
    return all(
        subprocess.run(["tc", "-n", name, *command], capture_output=True, check=False).returncode
        == 0
        for command in commands[how]
    )


def checksum(data: bytes) -> int:
    """The one of IP, TCP and UDP (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def counters(path: str, prefix: str) -> dict[str, int]:
    """The counters of this namespace: of /proc/net/snmp (``Tcp``) or netstat (``TcpExt``)."""
    with open(f"/proc/thread-self/net/{path}") as file:
        names, values = (line.split() for line in file if line.startswith(f"{prefix}: "))
    return dict(zip(names[1:], map(int, values[1:])))


def set_kernel(name: str, value: int) -> None:
    """Set what sysctl(8) sets, in this namespace."""
    with open(f"/proc/sys/{name}", "w") as file:
        file.write(str(value))


class Wire:
    """The device, and packets of IPv4 and IPv6 from the peer behind it."""

    def __init__(self) -> None:
        # The file is in /dev only when the module is loaded, which this does.
        with tempfile.TemporaryDirectory(dir="/dev") as folder:
            path = f"{folder}/tun"
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(10, 200))
            self.fd = os.open(path, os.O_RDWR)
        fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TUN | IFF_NO_PI))
        set_kernel("net/ipv6/conf/wire/accept_dad", 0)
        for command in (
            ["ip", "link", "set", "wire", "up"],
            ["ip", "address", "add", f"{OURS}/24", "dev", "wire"],
            ["ip", "address", "add", "2001:db8::1/64", "dev", "wire", "nodad"],
        ):
            subprocess.run(command, check=True)

    def send(self, carried: bytes, protocol: int, family: int = 4, damage: int = 0) -> None:
        """Send a packet to us, whose checksum is put in at its place if it is TCP's or UDP's;
        ``damage`` is added to that."""
        if family == 4:
            ends = socket.inet_aton(PEER) + socket.inet_aton(OURS)
            false = ends + struct.pack("!BBH", 0, protocol, len(carried))
        else:
            ends = b"".join(socket.inet_pton(socket.AF_INET6, f"2001:db8::{n}") for n in (2, 1))
            false = ends + struct.pack("!IHBB", len(carried), 0, 0, protocol)
        place = {6: 16, 17: 6}.get(protocol)
        if place is not None:
            sum_ = struct.pack("!H", (checksum(false + carried) + damage) & 0xFFFF)
            carried = carried[:place] + sum_ + carried[place + 2 :]
        if family == 4:
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(carried), 0, 0, 64, protocol, 0)
            head = head[:10] + struct.pack("!H", checksum(head + ends))
        else:
            head = struct.pack("!IHBB", 6 << 28, len(carried), protocol, 64)
        os.write(self.fd, head + ends + carried)

    def segment(
        self, port: int, to: int, flags: int, seq: int = 0, ack: int = 0, data: bytes = b"",
        family: int = 4, damage: int = 0, options: bytes = b"",
    ) -> None:  # fmt: skip
        """Send a TCP segment. ``options`` are of whole words of 4 bytes."""
        words = 5 + len(options) // 4
        head = struct.pack("!HHIIBBHHH", port, to, seq, ack, words << 4, flags, 65535, 0, 0)
        self.send(head + options + data, 6, family, damage)

    def datagram(self, port: int, to: int, data: bytes, family: int = 4, damage: int = 0) -> None:
        """Send a UDP datagram."""
        self.send(struct.pack("!HHHH", port, to, 8 + len(data), 0) + data, 17, family, damage)

    def received(self, seconds: float = 0.0) -> bytes | None:
        """The next packet that we send; None if there is none."""
        if select.select([self.fd], [], [], seconds)[0]:
            return os.read(self.fd, 65536)
        return None

    def answers(self, count: int) -> dict[int, int]:
        """The next answers to SYNs: the sequence number of each, by the port that it is for."""
        found: dict[int, int] = {}
        while len(found) < count:
            packet = self.received(30)
            assert packet is not None, f"{len(found)} of {count} answers"
            if packet[0] >> 4 == 4 and packet[9] == 6 and packet[33] == SYN | ACK:
                found[int.from_bytes(packet[22:24], "big")] = int.from_bytes(packet[24:28], "big")
        return found
