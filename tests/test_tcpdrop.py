"""tcpdrop shows each TCP packet that the kernel drops: as many as the kernel counts, and why."""
from __future__ import annotations

import os
import re

import pytest

import wire
from pytools.facts.kernel import running
from wired import beside, traced

# Segments with a wrong checksum, and such to ports that are closed.
REFUSED = r"""
made = Wire()
listener = socket.create_server((OURS, 80))
step()
for number in range(5):
    made.segment(1000 + number, 80, SYN, damage=1)
for number in range(4):
    made.segment(1000 + number, 80, SYN, family=6, damage=1)
for number in range(3):
    made.segment(2000 + number, 81, SYN)
for number in range(2):
    made.segment(2000 + number, 81, SYN, family=6)
step(grown())
"""
# Two connections fill the queue of those that nobody has accepted; the ACKs of a third one, which
# has had an answer before, are dropped.
OVERFLOW = r"""
set_kernel("net/ipv4/tcp_syncookies", 0)
made = Wire()
listener = socket.create_server((OURS, 80), backlog=1)
step()

def answer(port):
    made.segment(port, 80, SYN)
    found = {}
    while port not in found:  # another one may be answered again meanwhile
        try:
            found.update(made.answers(1))
        except AssertionError:
            step("one")
            sys.exit()
    return found[port]

first, second = answer(3000), answer(3001)
made.segment(3000, 80, ACK, 1, first + 1)
third = answer(3002)
made.segment(3001, 80, ACK, 1, second + 1)
for _ in range(20):
    made.segment(3002, 80, ACK, 1, third + 1)
told = grown()
made.segment(3002, 80, RST, 1)
step(told)
"""


def reasons() -> dict[int, str]:
    return running().btf.enumeration("skb_drop_reason")


def told(name: str) -> bool:
    """Whether the kernel that runs has such a reason."""
    return f"SKB_DROP_REASON_{name}" in reasons().values()


@pytest.mark.every_kernel
def test_wrong_checksums_and_closed_ports_are_as_many_as_the_kernel_counts() -> None:
    with wire.named_namespace() as name:
        run = traced("tcpdrop", name, REFUSED)
    (grown,), events = run.told, run.rows
    wrong = [event for event in events if event["dport"] == 80]
    closed = [event for event in events if event["dport"] == 81]
    assert len(wrong) == grown["InCsumErrors"] == 9
    assert len(closed) == grown["OutRsts"] == 5 == len(events) - len(wrong)
    assert {event["reason"] for event in wrong} == {"TCP_CSUM" if reasons() else None}
    assert {event["reason"] for event in closed} == {"NO_SOCKET" if reasons() else None}
    assert sorted(event["sport"] for event in wrong if event["ip"] == 6) == list(range(1000, 1004))
    assert {event["flags"] for event in events} == {"SYN"}
    for event in events:
        assert event["place"].startswith(f"tcp_v{event['ip']}_rcv+0x"), event["place"]
        assert event["kernel_stack"].split(";")[-1] == event["place"]
        assert (event["interface"], event["netns"]) == ("wire", name)
        assert event["length"] == {4: 40, 6: 60}[event["ip"]]
        expected = (wire.PEER, wire.OURS) if event["ip"] == 4 else ("2001:db8::2", "2001:db8::1")
        assert (event["saddr"], event["daddr"]) == expected


@pytest.mark.every_kernel
def test_a_listener_that_overflows_drops_as_many_as_the_kernel_counts() -> None:
    options = [] if told("TCP_LISTEN_OVERFLOW") or not reasons() else ["-a"]
    with wire.named_namespace() as name:
        run = traced("tcpdrop", name, OVERFLOW, *options)
    if run.told == ["one"]:
        pytest.skip(f"{os.uname().release} has no second handshake in a queue of one")
    (grown,) = run.told
    events = [event for event in run.rows if event["flags"] == "ACK" and event["sport"] == 3002]
    assert len(events) == grown["ListenOverflows"] == grown["ListenDrops"] == 20
    if told("TCP_LISTEN_OVERFLOW"):
        assert {event["reason"] for event in events} == {"TCP_LISTEN_OVERFLOW"}


def test_lines_show_the_reason_and_the_stack() -> None:
    with wire.named_namespace() as name:
        with beside("tcpdrop", name, REFUSED, "-P", "80", "-4") as run:
            head, *lines = run.output.splitlines()
        with beside("tcpdrop", name, REFUSED, "-P", "80", "-4", "--no-stack") as run:
            short = run.output.splitlines()[1:]
    assert head.split() == "TIME PID IP SADDR:SPORT > DADDR:DPORT STATE".split()
    events = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[1:3] for line in events] == [["-", "4"]] * 5
    assert [line.split()[3] for line in events] == [f"192.0.2.2:{1000 + n}" for n in range(5)]
    assert {tuple(line.split()[4:]) for line in events} == {(">", "192.0.2.1:80", "-")}
    reason = "TCP_CSUM" if reasons() else "no reason is told"
    shown = re.compile(rf" +{reason} in tcp_v4_rcv\+0x\w+ \(SYN\)")
    first = [line for line in lines if shown.fullmatch(line)]
    assert len(first) == 5 and sum("netif_receive_skb" in line for line in lines) >= 5
    assert len(short) == 10 and short[1] == first[0]


# Ten segments that are far outside of the window of a connection.
OUTSIDE = r"""
made = Wire()
listener = socket.create_server((OURS, 80))
step()
made.segment(3000, 80, SYN)
(seq,) = made.answers(1).values()
made.segment(3000, 80, ACK, 1, seq + 1)
connection = listener.accept()[0]
for number in range(10):
    made.segment(3000, 80, ACK, 1 + (1 << 30), seq + 1, data=bytes(10))
step()
"""


def test_the_place_is_not_the_function_that_only_drops_for_others() -> None:
    if not reasons():
        pytest.skip(f"{os.uname().release} has no tcp_drop_reason()")
    with wire.named_namespace() as name:
        run = traced("tcpdrop", name, OUTSIDE)
    with wire.named_namespace() as name:
        plain = traced("tcpdrop", name, OUTSIDE, "--no-stack")
    events = [event for event in run.rows if event["length"] == 50]
    assert len(events) == 10
    (place,) = {event["place"] for event in events}
    assert not place.startswith("tcp_drop") and place.startswith("tcp_")
    assert {event["kernel_stack"].split(";")[-1] for event in events} == {place}
    assert {event["state"] for event in events} == {"ESTABLISHED"}
    assert {event["pid"] for event in events} <= {run.pid, None}
    assert sum(event["length"] == 50 for event in plain.rows) == 10
