"""skbdrop shows each packet that the kernel drops, of any protocol: as many as others count."""
from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from typing import Any

import pytest

import wire
from pytools.facts.kernel import running
from wired import beside, traced

# UDP: to closed ports, to a full socket, and with a wrong checksum; and what has no known Ethernet
# type, over loopback.
PACKETS = r"""
made = Wire()
full = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
full.bind((OURS, 5000))
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("lo", 0))

def dropped():
    (found,) = json.loads(subprocess.check_output(["ip", "-s", "-j", "link", "show", "lo"]))
    return found["stats64"]["rx"]["dropped"]

start = dropped()
step()
for number in range(30):
    made.datagram(4000, 5001, bytes(100))
for number in range(20):
    made.datagram(4000, 5001, bytes(100), family=6)
for number in range(40):
    made.datagram(4001, 5000, bytes(1000))
for number in range(10):
    made.datagram(4002, 5001, bytes(100), damage=1)
for number in range(15):
    raw.send(bytes(12) + b"\x88\xb5" + bytes(50))
with open("/proc/thread-self/net/snmp6") as file:
    closed = {name: int(value) for name, value in map(str.split, file)}["Udp6NoPorts"]
step(grown(), closed, dropped() - start)
"""
# Of the datagrams over loopback, a filter drops those to port 7777: classic BPF, as tc(8) takes it.
DROP_7777 = "4,40 0 0 36,21 0 1 7777,6 0 0 2,6 0 0 4294967295"
DATAGRAMS = r"""
import contextlib
step()
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("127.0.0.1", 0))
# One for each port, which is open.
others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in range(2)]
for port, other in enumerate(others):
    other.bind(("127.0.0.1", 7777 + port))
    other.setblocking(False)
for number in range(500):
    for port, other in enumerate(others):
        made.sendto(bytes(10), ("127.0.0.1", 7777 + port))
        with contextlib.suppress(BlockingIOError):
            other.recv(10)  # else the socket would be full
step(made.getsockname()[1])
"""


def has_reasons() -> bool:
    return bool(running().btf.enumeration("skb_drop_reason"))


def reason(name: str) -> str | None:
    """That reason, where the kernel tells reasons."""
    return name if has_reasons() else None


def of_datagrams(run: Any) -> dict[str, int]:
    """How many packets of each kind the kernel counts."""
    grown, closed, dropped = run.told
    return {
        "closed": grown["UdpNoPorts"] + closed, "full": grown["UdpRcvbufErrors"],
        "wrong": grown["UdpInCsumErrors"], "unknown": dropped,
    }  # fmt: skip


@pytest.mark.every_kernel
def test_packets_are_as_many_as_the_kernel_counts() -> None:
    with wire.named_namespace() as name:
        run = traced("skbdrop", name, PACKETS)
    counted = of_datagrams(run)
    assert counted["closed"] == 50 and counted["wrong"] == 10 and counted["unknown"] == 15
    assert 0 < counted["full"] < 40
    kinds = {
        ("udp", 4000, 5001, reason("NO_SOCKET")): counted["closed"],
        ("udp", 4001, 5000, reason("SOCKET_RCVBUFF")): counted["full"],
        ("udp", 4002, 5001, reason("UDP_CSUM")): counted["wrong"],
        ("0x88b5", None, None, reason("UNHANDLED_PROTO")): counted["unknown"],
    }
    found = [row for row in run.rows if (row["protocol"], row["sport"]) != ("icmp", None)]
    names = "protocol", "sport", "dport", "reason"
    assert Counter(tuple(row[each] for each in names) for row in found) == kinds
    for row in found:
        assert row["interface"] == ("wire" if row["protocol"] == "udp" else "lo")
        assert row["place"] and row["netns"] == name
    full = [row for row in found if row["dport"] == 5000]
    # The kernel tells which socket a packet is for since v6.11.
    tells = len(running().btf.raw_tracepoint("kfree_skb") or ()) > 3
    holder = run.pid if tells else None
    assert {(row["pid"], row["length"]) for row in full} == {(holder, 1028)}


def test_counts_are_the_same_sums() -> None:
    with wire.named_namespace() as name:
        run = traced("skbdrop", name, PACKETS, "-c")
    counted = of_datagrams(run)
    places = Counter[Any]()
    for row in run.rows:
        places[row["protocol"], row["place"].partition("+")[0]] += row["packets"]
        assert row["bytes"] >= row["packets"]
    if has_reasons():
        sums = Counter[Any]()
        for row in run.rows:
            sums[row["reason"]] += row["packets"]
        assert sums["NO_SOCKET"] == counted["closed"]
        assert sums["SOCKET_RCVBUFF"] == counted["full"]
        assert sums["UDP_CSUM"] == counted["wrong"]
        assert sums["UNHANDLED_PROTO"] == counted["unknown"]
    assert sum(row["packets"] for row in run.rows if row["protocol"] == "0x88b5") == 15
    udp = sum(row["packets"] for row in run.rows if row["protocol"] == "udp")
    assert udp == counted["closed"] + counted["full"] + counted["wrong"]


def tc(name: str, *arguments: str) -> Any:
    made = subprocess.run(
        ["tc", "-n", name, "-s", "-j", *arguments], capture_output=True, check=True
    )
    return json.loads(made.stdout) if made.stdout else None


@pytest.mark.every_kernel
def test_a_rule_drops_exactly_those_that_it_is_for() -> None:
    with wire.named_namespace() as name:
        tc(name, "qdisc", "add", "dev", "lo", "clsact")
        rule = ["bpf", "da", "bytecode", DROP_7777]
        tc(name, "filter", "add", "dev", "lo", "ingress", *rule)
        run = traced("skbdrop", name, DATAGRAMS)
        (dropped,) = (each["drops"] for each in tc(name, "qdisc") if each["kind"] == "clsact")
    (port,) = run.told
    assert dropped == 500
    names = "protocol", "saddr", "sport", "daddr", "dport", "reason", "interface"
    kind = "udp", "127.0.0.1", port, "127.0.0.1", 7777, reason("TC_INGRESS"), "lo"
    assert Counter(tuple(row[each] for each in names) for row in run.rows) == {kind: dropped}


@pytest.mark.every_kernel
def test_netem_drops_as_many_as_it_counts() -> None:
    with wire.named_namespace() as name:
        if not wire.lose(name, "netem"):
            pytest.skip(f"{os.uname().release} has no sch_netem")
        run = traced("skbdrop", name, DATAGRAMS)
        (dropped,) = (each["drops"] for each in tc(name, "qdisc") if each["kind"] == "netem")
    rows = [row for row in run.rows if row["dport"] in (7777, 7778)]
    lost = [row for row in rows if row["reason"] is None or "QDISC" in row["reason"]]
    assert len(lost) == dropped > 0
    assert {row["sport"] for row in lost} == set(run.told)


def test_lines_show_the_reason_and_with_options_the_place_and_the_stack() -> None:
    with wire.named_namespace() as name:
        with beside("skbdrop", name, PACKETS, "-P", "4002") as run:
            plain = run.output.splitlines()
        with beside("skbdrop", name, PACKETS, "-P", "4002", "--place", "-K") as run:
            stacks = run.output.splitlines()
    told = reason("UDP_CSUM") or "-"
    ends = ["192.0.2.2:4002", "192.0.2.1:5001"]
    assert plain[0].split() == ["TIME", "PROTO", "SOURCE", "DESTINATION", "REASON"]
    # The answers of ICMP to these packets have no ports.
    assert [line.split()[1:] for line in plain[1:]] == [["udp", *ends, told]] * 10
    events = [line.split() for line in stacks[1:] if not line.startswith(" ")]
    assert len(events) == 10
    places = {tuple(event[4:]) for event in events}
    assert len(places) == 1
    (place,) = {event[5] for event in events}
    assert sum(line.split()[0] == place for line in stacks) == 10
