"""tcpconnlat reports how long each connect took, within what the client measured, and failures."""
from __future__ import annotations

import os
from typing import Any

import pytest

import uring
from tcp_work import traced
from test_tcpaccept import MPTCP, ring_or_skip

# An attempt, and what the test is told of it: the peer, errno, the local port, and for how many
# seconds it took at least and at most.
CONNECT = r"""
def connect(family, *peer, least=0, kept=None):
    made = socket.socket(family)
    before = time.monotonic()
    error = made.connect_ex(peer)
    most = time.monotonic() - before
    told.append([peer[0], peer[1], error, made.getsockname()[1], least, most])
    if kept is None:
        made.close()
    else:
        kept.append(made)
"""


def check(pid: int, told: Any, events: list[Any]) -> None:
    assert [[event[name] for name in ("daddr", "dport", "errno")] for event in events] == [
        row[:3] for row in told
    ]
    for event, (peer, _, error, lport, least, most) in zip(events, told):
        assert least * 1e9 <= event["latency_ns"] <= most * 1e9
        assert (event["pid"], event["protocol"]) == (pid, "tcp")
        assert event["ip"] == (6 if peer == "::1" else 4)
        assert error or (event["lport"] == lport and event["saddr"] == peer)


@pytest.mark.every_kernel
def test_the_latency_is_no_longer_than_the_client_waited_for_each_of_300() -> None:
    code = r"""
for _ in range(200):
    connect(socket.AF_INET, "127.0.0.1", port4)
for _ in range(50):
    connect(socket.AF_INET6, "::1", port6)
    connect(socket.AF_INET6, "::ffff:127.0.0.1", port6)
told.append(snmp("ActiveOpens"))
"""
    pid, (*told, active_opens), events = traced("tcpconnlat", code, before=CONNECT)
    assert len(told) == active_opens == 300
    check(pid, told, events)


# A SYN that finds the queue of those that nobody accepts full is dropped. The kernel sends it again
# a second later: it is answered if one was accepted until then.
HELD_BACK = r"""
full = listener(socket.AF_INET, "127.0.0.1", 0)
to = full.getsockname()
held, kept = [], []
connect(socket.AF_INET, *to, kept=kept)

def accept():
    # The SYN is on its way; the row that the test gets has room for how long it was at least.
    while not any(int(line.split()[3], 16) == 2 for line in list(open("/proc/self/net/tcp"))[1:]):
        pass
    began = time.monotonic()
    time.sleep(0.2)
    held.append(time.monotonic() - began)
    full.accept()

accepting = threading.Thread(target=accept)
accepting.start()
connect(socket.AF_INET, *to)
accepting.join()
told[-1][4] = held[0]
"""


@pytest.mark.every_kernel
def test_a_syn_that_is_held_back_takes_as_long_as_that() -> None:
    pid, told, events = traced("tcpconnlat", HELD_BACK, before=CONNECT)
    assert told[1][4] >= 0.2
    check(pid, told, events)


def test_only_those_that_take_at_least_so_long() -> None:
    code = 'for _ in range(50): connect(socket.AF_INET, "127.0.0.1", port4)\n' + HELD_BACK
    # Longer than each of the 50 took, by the client's own clock, and shorter than the last.
    pid, told, events = traced("tcpconnlat", code, "200", before=CONNECT)
    slow = [row for row in told if row[5] >= 0.2]
    assert len(slow) < 10
    assert len(events) <= len(slow)
    assert events[-1]["lport"] == told[-1][3] and events[-1]["latency_ns"] >= 200_000_000


# A device whose other end is this process: it answers a SYN when it likes.
TUN = r"""
import fcntl, random

def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

try:
    device = os.open("/dev/net/tun", os.O_RDWR)
    # IFF_TUN, IFF_NO_PI
    fcntl.ioctl(device, 0x400454ca, struct.pack("16sH22x", b"tun7", 0x1001))
except OSError:
    device = None
else:
    for words in ("addr add 198.51.100.1/24 dev tun7", "link set tun7 up"):
        subprocess.run(["ip", *words.split()], check=True)

def answer(times):
    while True:
        packet = os.read(device, 2000)
        if packet[0] >> 4 != 4 or packet[9] != 6:
            continue
        head = (packet[0] & 15) * 4
        source, target, number = struct.unpack_from("!HHI", packet, head)
        if packet[head + 13] & 0x12 == 2:
            break
    began = time.monotonic()
    time.sleep(0.15)
    ends = packet[16:20] + packet[12:16]
    tcp = lambda check: struct.pack(
        "!HHIIBBHHH", target, source, 7, number + 1, 0x50, 0x12, 1000, check, 0
    )
    check = checksum(ends + struct.pack("!HH", 6, 20) + tcp(0))
    ip = lambda check: struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, check) + ends
    answer = ip(checksum(ip(0))) + tcp(check)
    times.append(time.monotonic() - began)
    os.write(device, answer)
"""


def test_an_answer_that_comes_late_takes_as_long_as_that() -> None:
    code = r"""
if device is not None:
    for _ in range(3):
        times = []
        answering = threading.Thread(target=answer, args=[times])
        answering.start()
        connect(socket.AF_INET, "198.51.100.2", 80, kept=[])
        answering.join()
        told[-1][4] = times[0]
"""
    pid, told, events = traced("tcpconnlat", code, before=CONNECT + TUN)
    if not told:
        pytest.skip(f"{os.uname().release} has no TUN devices")
    assert [event["saddr"] for event in events] == ["198.51.100.1"] * 3
    for event, (_, _, error, lport, least, most) in zip(events, told):
        assert (event["pid"], event["lport"], event["errno"]) == (pid, lport, error) and not error
        assert 0.15 <= least and least * 1e9 <= event["latency_ns"] <= most * 1e9


@pytest.mark.every_kernel
def test_attempts_that_fail_have_their_error() -> None:
    code = r"""
for _ in range(10):
    connect(socket.AF_INET, "127.0.0.1", 1)
    connect(socket.AF_INET6, "::1", 1)
connect(socket.AF_INET, "192.0.2.1", 80)
for protocol in (0, 262) if many else (0,):
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    before = time.monotonic()
    error = made.connect_ex(("192.0.2.1", 80))
    told.append(["192.0.2.1", 80, error, 0, 0, time.monotonic() - before])
# Nobody answers: one that gives up, and two that wait, one until it is closed.
full, kept = listener(socket.AF_INET, "127.0.0.1", 0), []
to = full.getsockname()
connect(socket.AF_INET, *to, kept=kept)
made = socket.socket()
made.setsockopt(socket.IPPROTO_TCP, 18, 1)  # TCP_USER_TIMEOUT, in milliseconds
before = time.monotonic()
error = made.connect_ex(to)
told.append([*to, error, 0, 0, time.monotonic() - before])
for outcome in (errno.ECANCELED, errno.EINPROGRESS):
    made = socket.socket()
    made.setblocking(False)
    assert made.connect_ex(to) == errno.EINPROGRESS
    kept.append(made)
    if outcome == errno.ECANCELED:
        made.close()
    told.append([*to, outcome, 0, 0, 1e9])
"""
    pid, told, events = traced("tcpconnlat", code, before=CONNECT + MPTCP)
    assert {row[2] for row in told} == {0, 111, 101, 110, 125, 115}
    for event in events:
        event["protocol"] = "tcp"  # one was not
    check(pid, told, events)
    names = {"ECONNREFUSED", "ENETUNREACH", "ETIMEDOUT", "ECANCELED", "EINPROGRESS"}
    assert {event["error"] for event in events if event["error"]} == names


@pytest.mark.any_types
def test_what_io_uring_connects_is_the_process_s() -> None:
    ring_or_skip()
    code = r"""
for port in (port4, port4, 1):
    made = socket.socket()
    where = ctypes.create_string_buffer(
        struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, bytes([127, 0, 0, 1]))
    )
    before = time.monotonic()
    submit(16, made.fileno(), 16, ctypes.addressof(where))  # IORING_OP_CONNECT
    error = -completion()
    told.append(
        ["127.0.0.1", port, error, made.getsockname()[1], 0, time.monotonic() - before]
    )
    made.close()
"""
    pid, told, events = traced("tcpconnlat", code, before=CONNECT + uring.RING)
    check(pid, told, events)
    assert [row[2] for row in told] == [0, 0, 111]


@pytest.mark.host_only
def test_in_text_the_columns_are_bccs_and_the_error() -> None:
    code = 'connect(socket.AF_INET, "127.0.0.1", port4); connect(socket.AF_INET, "127.0.0.1", 1)'
    pid, told, (head, *lines) = traced("tcpconnlat", code, "-L", before=CONNECT, text=True)
    bccs = ["PID", "COMM", "IP", "SADDR", "LPORT", "DADDR", "DPORT", "LAT(ms)"]
    assert head == [*bccs, "ERROR"]
    assert [line[-1] for line in lines] == ["-", "ECONNREFUSED"]
    assert lines[0][4] == str(told[0][3]) and lines[0][6] == str(told[0][1])
    assert all(line[-2] == f"{float(line[-2]):.3f}" for line in lines)
