"""tcptracer reports each connection when it is opened, accepted and closed, once each."""
from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

import tcp_work
import uring
from tcp_work import SESSION
from test_tcpaccept import MPTCP, ring_or_skip


def traced(code: str, *options: str, **more: Any) -> tuple[int, Any, list[Any]]:
    return tcp_work.traced("tcptracer", code + "\nquiet()\n", *options, **more)


def rows(events: list[Any]) -> list[tuple[Any, ...]]:
    names = ("type", "pid", "saddr", "sport", "daddr", "dport")
    return [tuple(event[name] for name in names) for event in events]


def wanted(pid: int, told: Any, types: str = "CAX") -> Counter[Any]:
    """Of each session: that the client has opened it, that the server has accepted it, and the end
    of both."""
    found: Counter[Any] = Counter()
    for row in told:
        client = tuple(row[1:5])
        server = client[2:] + client[:2]
        each = [("C", client), ("A", server), ("X", client), ("X", server)]
        found.update((type, pid, *ends) for type, ends in each if type in types)
    return found


@pytest.mark.every_kernel
def test_each_of_200_sessions_is_opened_accepted_and_closed_at_both_ends() -> None:
    code = r"""
for _ in range(30):
    for way in ("client", "server", "reset", "half", "twice"):
        end(begin(socket.AF_INET, ("127.0.0.1", port4), four), way)
for _ in range(10):
    for way in ("client", "server", "reset", "half", "twice"):
        end(begin(socket.AF_INET6, ("::1", port6), six), way)
# No sessions: nobody listens, and a listener is closed.
for _ in range(5):
    socket.socket().connect_ex(("127.0.0.1", 1))
listener(socket.AF_INET, "127.0.0.1").close()
told.append([snmp("ActiveOpens") - 5, snmp("PassiveOpens")])
"""
    pid, (*told, opens), events = traced(code, before=SESSION)
    assert opens == [200, 200] and len(told) == 200
    assert Counter(rows(events)) == wanted(pid, told)
    assert {event["protocol"] for event in events} == {"tcp"}
    assert {event["uid"] for event in events} == {0}
    # Of each end, the first line comes before the last.
    seen: set[Any] = set()
    for type, _, *ends in rows(events):
        assert (tuple(ends) in seen) == (type == "X")
        (seen.remove if type == "X" else seen.add)(tuple(ends))


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_the_end_of_a_session_from_before_has_its_process() -> None:
    # One is closed by its process, and one is reset by a packet.
    before = SESSION + (
        "idle = [begin(socket.AF_INET, ('127.0.0.1', port4), four),"
        " begin(socket.AF_INET6, ('::1', port6), six)]"
    )
    code = 'end(idle[0]); end(idle[1], "reset")'
    pid, told, events = traced(code, before=before)
    assert len(told) == 2 and Counter(rows(events)) == wanted(pid, told, "X")


@pytest.mark.any_types
def test_a_connection_that_nobody_accepts_ends_without_a_process() -> None:
    code = r"""
made = listener(socket.AF_INET, "127.0.0.1")
kept = socket.create_connection(made.getsockname())
told.append([None, *kept.getsockname(), *kept.getpeername()])
made.close()
"""
    pid, told, events = traced(code, before=SESSION)
    found = wanted(pid, told, "CX")
    client = tuple(told[0][1:5])
    server = client[2:] + client[:2]
    del found[("X", pid, *server)]
    found[("X", None, *server)] = 1
    assert Counter(rows(events)) == found


@pytest.mark.host_only
def test_a_session_is_that_of_the_process_that_accepted_it() -> None:
    code = r"""
client, server, *_ = begin(socket.AF_INET, ("127.0.0.1", port4), four)
told.append([None, *client.getsockname(), *client.getpeername()])
other = os.fork()
if not other:
    client.close()
    assert server.recv(1) == b"x"
    os._exit(0)
server.close()
client.send(b"x")
os.waitpid(other, 0)
client.close()
"""
    pid, told, events = traced(code, before=SESSION)
    assert Counter(rows(events)) == wanted(pid, told)


@pytest.mark.host_only
def test_filters_by_process_user_and_version() -> None:
    code = r"""
for _ in range(5):
    end(begin(socket.AF_INET, ("127.0.0.1", port4), four))
    end(begin(socket.AF_INET6, ("::1", port6), six))
os.setuid(4321)
for _ in range(5):
    end(begin(socket.AF_INET, ("127.0.0.1", port4), four))
"""
    pid, told, events = traced(code, "-6", before=SESSION)
    assert Counter(rows(events)) == wanted(pid, [row for row in told if row[1] == "::1"])
    pid, told, events = traced(code, "-u", "4321", before=SESSION)
    assert Counter(rows(events)) == wanted(pid, told[-5:])
    assert {event["uid"] for event in events} == {4321}
    pid, told, events = traced(code, "--comm", "no-such-name", before=SESSION)
    assert events == []


@pytest.mark.any_types
def test_what_io_uring_connects_and_accepts_is_the_process_s() -> None:
    ring_or_skip()
    code = r"""
where = ctypes.create_string_buffer(
    struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port4, bytes([127, 0, 0, 1]))
)
for _ in range(5):
    client = socket.socket()
    submit(16, client.fileno(), 16, ctypes.addressof(where))  # IORING_OP_CONNECT
    assert completion() == 0
    submit(13, four.fileno())  # IORING_OP_ACCEPT
    end((client, socket.socket(fileno=completion()), 0, 0))
"""
    pid, told, events = traced(code, before=SESSION + uring.RING)
    assert len(told) == 5 and Counter(rows(events)) == wanted(pid, told)


@pytest.mark.every_kernel
def test_mptcp_is_told_apart() -> None:
    code = r"""
if many:
    many.bind(("127.0.0.1", 0))
    many.listen()
    for _ in range(5):
        end(begin(socket.AF_INET, many.getsockname(), many, 262))
"""
    pid, told, events = traced(code, before=SESSION + MPTCP)
    if not told:
        pytest.skip(f"{os.uname().release} has no MPTCP")
    assert Counter(rows(events)) == wanted(pid, told)
    assert {event["protocol"] for event in events} == {"mptcp"}


@pytest.mark.host_only
def test_in_text_the_columns_are_bccs() -> None:
    code = 'end(begin(socket.AF_INET, ("127.0.0.1", port4), four))'
    pid, _, (head, *lines) = traced(code, before=SESSION, text=True)
    assert head == "T PID COMM IP SADDR DADDR SPORT DPORT".split()
    assert sorted(line[0] for line in lines) == ["A", "C", "X", "X"]
    assert {line[1] for line in lines} == {str(pid)}
