"""flowtop counts every packet of each flow, and leaves nothing behind."""
from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from typing import Any, Dict, Iterator

import pytest

from pytools.domains.traffic import Traffic
from support import PATIENCE, Tool, run_tool

# UDP, TCP, packets of a protocol without ports, and echo requests, which the kernel
# answers, from the first namespace to the last, which is another process: known
# numbers of known size.
SEND = r"""
import socket, struct, sys
for address, family in (("10.99.1.1", socket.AF_INET), ("fd99:1::1", socket.AF_INET6)):
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.bind(("", 4000))
        for _ in range(300):
            made.sendto(bytes(100), (address, 5000))
        for _ in range(3):
            made.sendto(bytes(4000), (address, 5001))  # in fragments
with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as made:
    for _ in range(50):
        made.sendto(bytes(60), ("10.99.1.1", 0))
for address, family, protocol, request, reply, header in (
    ("10.99.1.1", socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, 20),
    ("fd99:1::1", socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129, 0),
):
    with socket.socket(family, socket.SOCK_RAW, protocol) as made:
        for number in range(40):
            # Of ICMPv6 the kernel puts the checksum in.
            words = [request << 8, 99, number]
            checksum = 0xFFFF - sum(words)
            echo = struct.pack("!4H", words[0], checksum, *words[1:]) + bytes(56)
            made.sendto(echo, (address, 0))
            answer = struct.pack("!BxxxHH", reply, 99, number)
            while True:
                got = made.recv(2000)[header:]
                if got[:1] + got[4:8] == answer[:1] + answer[4:8]:
                    break
with socket.create_connection(("10.99.1.1", 6000)) as made:
    made.sendall(bytes(1_000_000))
    made.shutdown(socket.SHUT_WR)
    assert made.recv(1) == b""
"""
RECEIVE = r"""
import socket
listener = socket.create_server(("10.99.1.1", 6000))
# Else ICMP says that they are closed.
open_ports = [socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)]
for family in (socket.AF_INET, socket.AF_INET6):
    for port in (5000, 5001):
        open_ports.append(socket.socket(family, socket.SOCK_DGRAM))
        if family == socket.AF_INET6:
            open_ports[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        open_ports[-1].bind(("", port))
print("ready", flush=True)
made = listener.accept()[0]
while made.recv(1 << 16):
    pass
"""


def ip(*arguments: str, namespace: str = "") -> None:
    inside = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *inside, *arguments], check=True)


@contextlib.contextmanager
def network() -> Iterator[tuple[str, str, str]]:
    """Three namespaces in a row, with veth between them: one end sends, the middle
    forwards, the other end receives."""
    names = [f"pytools-{end}-{os.getpid()}" for end in "abc"]
    left, middle, right = names
    try:
        for name in names:
            ip("netns", "add", name)
            ip("link", "set", "lo", "up", namespace=name)
        for number, (first, second) in enumerate(((middle, left), (middle, right))):
            near = f"v{number}"
            ip("link", "add", near, "type", "veth", "peer", "name", "far", "netns", second,
               namespace=first)  # fmt: skip
            for name, device, last in ((first, near, 254), (second, "far", 1)):
                # Few packets but ours.
                for setting in ("accept_dad=0", "router_solicitations=0"):
                    key, value = setting.split("=")
                    path = f"/proc/sys/net/ipv6/conf/{device}/{key}"
                    subprocess.run(
                        ["ip", "netns", "exec", name, "sh", "-c", f"echo {value} >{path}"],
                        check=True,
                    )
                ip("address", "add", f"10.99.{number}.{last}/24", "dev", device, namespace=name)
                ip("address", "add", f"fd99:{number}::{last}/64", "dev", device, "nodad",
                   namespace=name)  # fmt: skip
                # Each packet is one on the wire.
                ip("link", "set", device, "gso_max_segs", "1", "up", namespace=name)
        for name in (left, right):
            number = names.index(name) // 2
            ip("route", "add", "default", "via", f"10.99.{number}.254", namespace=name)
            ip("-6", "route", "add", "default", "via", f"fd99:{number}::254", namespace=name)
        forward = "for f in ipv4/ip_forward ipv6/conf/all/forwarding; do "
        forward += "echo 1 >/proc/sys/net/$f; done"
        subprocess.run(["ip", "netns", "exec", middle, "sh", "-c", forward], check=True)
        yield left, middle, right
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def counters(namespace: str, device: str) -> dict[str, int]:
    """The interface's own: packets and bytes, in and out."""
    output = subprocess.run(
        ["ip", "-n", namespace, "-j", "-s", "link", "show", device],
        stdout=subprocess.PIPE, check=True,
    ).stdout  # fmt: skip
    (link,) = json.loads(output)
    stats = link["stats64"]
    return {
        f"{way} {what}": stats[kind][what]
        for way, kind in (("in", "rx"), ("out", "tx"))
        for what in ("packets", "bytes")
    }


def both(namespace: str) -> dict[str, dict[str, int]]:
    """The counters of both interfaces of the namespace in the middle."""
    return {device: counters(namespace, device) for device in ("v0", "v1")}


def grown(readings: list[dict[str, dict[str, int]]], device: str, way: str) -> tuple[int, int]:
    """The packets and the bytes that an interface has counted between two readings."""
    before, after = (reading[device] for reading in readings)
    names = f"{way} packets", f"{way} bytes"
    packets, size = (after[name] - before[name] for name in names)
    return packets, size


def send(left: str, right: str) -> None:
    inside = ["ip", "netns", "exec"]
    with subprocess.Popen(
        [*inside, right, "/usr/bin/python3", "-c", RECEIVE], stdout=subprocess.PIPE
    ) as receiver:
        assert receiver.stdout and receiver.stdout.readline() == b"ready\n"
        subprocess.run(
            [*inside, left, "/usr/bin/python3", "-c", SEND], check=True, timeout=PATIENCE
        )
        assert receiver.wait(PATIENCE) == 0


def qdiscs(namespace: str) -> str:
    """All qdiscs and filters of the namespace's interfaces."""
    text = subprocess.run(
        ["tc", "-n", namespace, "qdisc", "show"], stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    for device in ("v0", "v1"):
        for hook in ("ingress", "egress"):
            text += subprocess.run(
                ["tc", "-n", namespace, "filter", "show", "dev", device, hook],
                capture_output=True, check=False,
            ).stdout.decode()  # fmt: skip
    return text


HEADER = 14  # of Ethernet, which is not counted


@pytest.mark.every_kernel
def test_forwarded_flows_are_what_was_sent_and_what_the_interfaces_count() -> None:
    with network() as (left, middle, right):
        send(left, right)  # so that everybody knows everybody's Ethernet address
        nothing = qdiscs(middle)
        # The tool counts a little longer than the program sends: neighbours are asked for then.
        around, within = [both(middle)], []
        with Tool("flowtop", "--json", "--netns", middle, "-i", "v0,v1", "1000") as tool:
            within.append(both(middle))
            send(left, right)
            within.append(both(middle))
            rows = [json.loads(line) for line in tool.stop().splitlines()]
        around.append(both(middle))
        assert qdiscs(middle) == nothing
        found: Counter[Any] = Counter()
        for row in rows:
            names = ("interface", "direction", "protocol", "saddr", "sport", "daddr", "dport")
            key = [row[name] for name in names]
            found[(*key, "packets")] += row["packets"]
            found[(*key, "bytes")] += row["bytes"]
        for device, way in (("v0", "in"), ("v1", "out")):
            four = "10.99.0.1", 4000, "10.99.1.1"
            six = "fd99::1", 4000, "fd99:1::1"
            assert found[(device, way, "udp", *four, 5000, "packets")] == 300
            assert found[(device, way, "udp", *four, 5000, "bytes")] == 300 * 128
            assert found[(device, way, "udp", *six, 5000, "packets")] == 300
            assert found[(device, way, "udp", *six, 5000, "bytes")] == 300 * 148
            # Only the first fragment has ports.
            assert found[(device, way, "udp", *four, 5001, "packets")] == 3
            assert found[(device, way, "udp", four[0], 0, four[2], 0, "packets")] == 6
            other = ("253", "10.99.0.1", None, "10.99.1.1", None)
            assert found[(device, way, *other, "packets")] == 50
            assert found[(device, way, *other, "bytes")] == 50 * 80
            echoes = (
                ("icmp", "10.99.0.1", "10.99.1.1", 84),
                ("icmp6", "fd99::1", "fd99:1::1", 104),
            )
            back = "out" if way == "in" else "in"
            for protocol, source, target, size in echoes:
                for direction, *ends in ((way, source, target), (back, target, source)):
                    echo = (device, direction, protocol, ends[0], None, ends[1], None)
                    assert found[(*echo, "packets")] == 40
                    assert found[(*echo, "bytes")] == 40 * size
        for device in ("v0", "v1"):
            for way in ("in", "out"):
                mine = [
                    row for row in rows if (row["interface"], row["direction"]) == (device, way)
                ]
                packets = sum(row["packets"] for row in mine)
                size = sum(row["bytes"] for row in mine) + HEADER * packets
                inner, outer = grown(within, device, way), grown(around, device, way)
                assert inner[0] <= packets <= outer[0]
                assert inner[1] <= size <= outer[1]


@pytest.mark.host_only
def test_filters_by_port_and_version() -> None:
    with network() as (left, middle, right):
        with Tool("flowtop", "--json", "--netns", middle, "-P", "5000", "-6", "1000") as tool:
            send(left, right)
            rows = [json.loads(line) for line in tool.stop().splitlines()]
        assert {(row["saddr"], row["dport"]) for row in rows} == {("fd99::1", 5000)}
        assert sum(row["packets"] for row in rows) == 600  # in and out


FOREIGN = ["matchall", "action", "pass"]


@pytest.mark.any_types
def test_after_a_kill_the_next_start_removes_what_is_left() -> None:
    with network() as (_, middle, _):
        nothing = qdiscs(middle)
        with Tool("flowtop", "--netns", middle, "1000") as first:
            first.process.send_signal(signal.SIGKILL)
            first.process.communicate(timeout=PATIENCE)
        assert qdiscs(middle).count("pytools ") == 4
        # Of two that run, each leaves the other's alone; the last removes the rest.
        with Tool("flowtop", "--netns", middle, "1000") as second:
            assert qdiscs(middle).count("pytools ") == 4
            with Tool("flowtop", "--netns", middle, "1000") as third:
                assert qdiscs(middle).count("pytools ") == 8
                second.stop()
                assert qdiscs(middle).count("pytools ") == 4
                third.stop(signal.SIGTERM)
        assert qdiscs(middle) == nothing


@pytest.mark.any_types
def test_what_others_have_made_stays() -> None:
    with network() as (left, middle, right):
        tc = ["tc", "-n", middle]
        subprocess.run([*tc, "qdisc", "add", "dev", "v0", "clsact"], check=True)
        added = subprocess.run(
            [*tc, "filter", "add", "dev", "v0", "ingress", "protocol", "all", "prio", "7",
             *FOREIGN], capture_output=True, text=True, check=False,
        )  # fmt: skip
        nothing = qdiscs(middle)
        with Tool("flowtop", "--json", "--netns", middle, "1000") as tool:
            # And one that comes later, into a clsact of ours.
            late = subprocess.run(
                [*tc, "filter", "add", "dev", "v1", "egress", "protocol", "all", *FOREIGN],
                capture_output=True, check=False,
            )  # fmt: skip
            send(left, right)
            rows = [json.loads(line) for line in tool.stop().splitlines()]
        assert rows
        if late.returncode:
            assert qdiscs(middle) == nothing
            pytest.skip(f"{os.uname().release} has no other classifier: {added.stderr.strip()}")
        left_over = qdiscs(middle)
        assert "pytools" not in left_over
        assert left_over.count("matchall") >= 2 and left_over.count("clsact") == 2


@pytest.mark.host_only
def test_an_interface_that_is_not_there() -> None:
    result = run_tool("flowtop", "-i", "lo,nowhere0")
    assert (result.returncode, result.stderr) == (
        2, "flowtop: there is no network interface 'nowhere0'\n",
    )  # fmt: skip


# Frames as they are, by a packet socket: how many, and what is behind both addresses.
FRAMES = r"""
import socket, struct, sys, time
def ipv4(protocol, payload):
    return struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0,
        bytes([10, 99, 0, 1]), bytes([10, 99, 0, 254])) + payload
def ipv6(next_header, payload):
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, 64) + bytes(15) + b"\1" + \
        bytes(15) + b"\2" + payload
udp = lambda port: struct.pack("!HHHH", 4000, port, 8 + 32, 0) + bytes(32)
tag = lambda kind, number: struct.pack("!HH", kind, number)
label = lambda number, last: struct.pack("!I", number << 12 | last << 8 | 64)
plain, six = struct.pack("!H", 0x0800), struct.pack("!H", 0x86DD)
inside = ipv4(17, udp(5004))
frames = [
    (10, plain + ipv4(17, udp(5000))),
    (20, tag(0x8100, 7) + plain + ipv4(17, udp(5001))),
    (30, tag(0x88A8, 7) + tag(0x8100, 8) + plain + ipv4(17, udp(5002))),
    (5, tag(0x8100, 7) + tag(0x8100, 8) + six + ipv6(17, udp(5002))),
    (40, struct.pack("!H", 0x8847) + label(16, 0) + label(17, 1) + ipv4(17, udp(5003))),
    (4, tag(0x8100, 7) + struct.pack("!H", 0x8847) + label(2, 1) + ipv6(17, udp(5003))),
    (50, plain + ipv4(4, inside)),
    (6, struct.pack("!H", 0x8847) + label(16, 1) + bytes(60)),  # a pseudowire
    (7, struct.pack("!H", 0x88B5) + bytes(60)),
    (8, tag(0x8100, 7) + struct.pack("!H", 0x88B5) + bytes(60)),
    (9, struct.pack("!H", 52) + b"\x42\x42\x03" + bytes(49)),  # 802.2: spanning tree
    (3, struct.pack("!H", 0x0806) + bytes(28)),
    (11, plain + b"\x45" + bytes(9)),  # cut off
    (12, plain + b"\x65" + bytes(59)),  # not what the type says
    (13, six + b"\x45" + bytes(59)),
    (14, b"".join(tag(0x8100, number) for number in range(7)) + plain + inside),
]
made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
made.bind(("far", 0))
target = bytes.fromhex(sys.argv[1].replace(":", ""))
for number, frame in frames:
    for _ in range(number):
        made.send(target + b"\2\0\0\0\0\1" + frame)
"""
# What there is to see of them: the protocol, addresses, the port, packets, bytes of each.
FOUR, SIX = ("10.99.0.1", "10.99.0.254"), ("::1", "::2")
SEEN = {
    ("udp", *FOUR, 5000): (10, 60),
    ("udp", *FOUR, 5001): (20, 60),
    ("udp", *FOUR, 5002): (30, 60),
    ("udp", *SIX, 5002): (5, 80),
    ("udp", *FOUR, 5003): (40, 60),
    ("udp", *SIX, 5003): (4, 80),
    ("ipip", *FOUR, None): (50, 80),
    ("mpls", None, None, None): (6, 64),
    ("0x88b5", None, None, None): (15, 60),
    ("llc", None, None, None): (9, 52),
    ("arp", None, None, None): (3, 28),
    ("0x0800", None, None, None): (23, None),  # of different sizes
    ("0x86dd", None, None, None): (13, 60),
    ("vlan", None, None, None): (14, None),
}  # fmt: skip


def test_what_it_cannot_take_apart_is_a_row() -> None:
    with network() as (left, middle, _):
        output = subprocess.run(
            ["ip", "-n", middle, "-j", "link", "show", "v0"], stdout=subprocess.PIPE, check=True
        ).stdout
        target = json.loads(output)[0]["address"]
        around = [[{"far": counters(left, "far")}], [{"v0": counters(middle, "v0")}]]
        with Tool("flowtop", "--json", "--netns", left, "-i", "far", "1000") as sender, Tool(
            "flowtop", "--json", "--netns", middle, "-i", "v0", "1000"
        ) as receiver:
            within = [[{"far": counters(left, "far")}], [{"v0": counters(middle, "v0")}]]
            subprocess.run(
                ["ip", "netns", "exec", left, "/usr/bin/python3", "-c", FRAMES, target],
                check=True, timeout=PATIENCE,
            )  # fmt: skip
            within[0].append({"far": counters(left, "far")})
            within[1].append({"v0": counters(middle, "v0")})
            found = [
                [json.loads(line) for line in tool.stop().splitlines()]
                for tool in (sender, receiver)
            ]
        around[0].append({"far": counters(left, "far")})
        around[1].append({"v0": counters(middle, "v0")})
        for number, (device, way) in enumerate((("far", "out"), ("v0", "in"))):
            mine = [row for row in found[number] if row["direction"] == way]
            seen = {
                (row["protocol"], row["saddr"], row["daddr"], row["dport"]): row for row in mine
            }
            for key, (packets, size) in SEEN.items():
                assert seen[key]["packets"] == packets, (way, key)
                assert size is None or seen[key]["bytes"] == packets * size, (way, key)
            # Every packet that the interface has counted is in a row.
            least, most = (grown(readings[number], device, way)[0] for readings in (within, around))
            assert 242 <= least <= sum(row["packets"] for row in mine) <= most


class Interface(Dict[str, int]):
    """One that is not up."""

    def get_attr(self, name: str) -> str:
        return f"veth{self['index']}"


class Comings:
    """Of interfaces, one after the other, as IPRoute shows them."""

    index = 0

    def get_links(self) -> list[Interface]:
        self.index += 1
        return [Interface(index=self.index, flags=0)]

    def get_filters(self, **where: int) -> list[object]:
        return []


@pytest.mark.host_only
def test_interfaces_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where containers come and go, each brings one of a new number."""
    monkeypatch.setattr("pyroute2.IPRoute", Comings)
    traffic = Traffic(-1, -1, print, print)
    for _ in range(1000):
        traffic.attach(None)
    assert traffic.links == {1000: "veth1000", 1001: "veth1001"}
