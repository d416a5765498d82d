"""tcpstates reports each change of a socket's state once: its process, its ends, its time."""
from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

import uring
import tcp_work
from tcp_work import SESSION
from test_tcpaccept import MPTCP, ring_or_skip


def traced(code: str, *options: str, **more: Any) -> tuple[int, Any, list[Any]]:
    return tcp_work.traced("tcpstates", code + "\nquiet()\n", *options, **more)


ACTIVE = ["CLOSE SYN_SENT", "SYN_SENT ESTABLISHED"]
PASSIVE = ["LISTEN SYN_RECV", "SYN_RECV ESTABLISHED"]
FIRST = ["ESTABLISHED FIN_WAIT1", "FIN_WAIT1 FIN_WAIT2", "FIN_WAIT2 CLOSE"]
SECOND = ["ESTABLISHED CLOSE_WAIT", "CLOSE_WAIT LAST_ACK", "LAST_ACK CLOSE"]
RESET = ["ESTABLISHED CLOSE"]
# How a session ends: the changes of the client's socket and of the server's.
WAYS = {
    "client": (ACTIVE + FIRST, PASSIVE + SECOND),
    "half": (ACTIVE + FIRST, PASSIVE + SECOND),
    "server": (ACTIVE + SECOND, PASSIVE + FIRST),
    "twice": (ACTIVE + FIRST, PASSIVE + SECOND),
    "reset": (ACTIVE + RESET, PASSIVE + RESET),
}


def lives(events: list[Any]) -> list[list[Any]]:
    """The events of each socket, until it is closed or the tool ended."""
    found: list[list[Any]] = []
    open_now: dict[str, list[Any]] = {}
    for event in events:
        if event["skaddr"] not in open_now:
            open_now[event["skaddr"]] = []
            found.append(open_now[event["skaddr"]])
        open_now[event["skaddr"]].append(event)
        if event["newstate"] == "CLOSE":
            del open_now[event["skaddr"]]
    return found


def changes(life: list[Any]) -> list[str]:
    return [f"{event['oldstate']} {event['newstate']}" for event in life]


def ends(life: list[Any]) -> tuple[int, int]:
    return life[-1]["lport"], life[-1]["rport"]


@pytest.mark.every_kernel
def test_the_exact_changes_of_125_sessions() -> None:
    code = r"""
for _ in range(20):
    for way in ("client", "server", "reset", "half", "twice"):
        end(begin(socket.AF_INET, ("127.0.0.1", port4), four), way)
for _ in range(5):
    for way in ("client", "server", "reset", "half", "twice"):
        end(begin(socket.AF_INET6, ("::1", port6), six), way)
begun = begin(socket.AF_INET, ("127.0.0.1", port4), four)
time.sleep(0.1)
end(begun, "client")
"""
    pid, told, events = traced(code, before=SESSION)
    assert len(told) == 126
    found: dict[tuple[int, int], list[Any]] = {}
    for life in lives(events):
        found.setdefault(ends(life), []).append(life)
    for way, _, port, _, to, least, most in told:
        # A port may be used again: the first of these sessions is the one that ended first.
        client, server = found[port, to].pop(0), found[to, port].pop(0)
        assert (changes(client), changes(server)) == WAYS[way]
        # Until it is accepted, nobody has the server's socket.
        assert {event["pid"] for event in client + server[2:]} == {pid}
        assert {event["pid"] for event in server[:2]} == {None}
        for life in (client, server):
            assert life[0]["duration_ns"] is None
            assert all(event["duration_ns"] >= 0 for event in life[1:])
            assert {event["protocol"] for event in life} == {"tcp"}
            assert {event["ip"] for event in life} == {4 if life[-1]["laddr"] != "::1" else 6}
            assert {event["rport"] for event in life} == {ends(life)[1]}
            assert life[-1]["laddr"] == life[-1]["raddr"]
        first = server if way == "server" else client
        assert least * 1e9 <= first[2]["duration_ns"] <= most * 1e9
    assert not any(left for left in found.values())


@pytest.mark.every_kernel
def test_listeners_and_attempts_that_fail() -> None:
    code = r"""
for _ in range(10):
    listener(socket.AF_INET, "127.0.0.1").close()
    made = socket.socket()
    told.append(made.connect_ex(("127.0.0.1", 1)))
    made.close()
# One that waits to be accepted when its listener is closed.
made = listener(socket.AF_INET, "127.0.0.1")
kept = socket.create_connection(made.getsockname())
made.close()
"""
    pid, told, events = traced(code)
    assert told == [111] * 10
    found = Counter(tuple(changes(life)) for life in lives(events))
    assert found == {
        ("CLOSE LISTEN", "LISTEN CLOSE"): 11,
        ("CLOSE SYN_SENT", "SYN_SENT CLOSE"): 10,
        (*ACTIVE, "ESTABLISHED CLOSE"): 1,
        (*PASSIVE, "ESTABLISHED CLOSE"): 1,
    }
    assert {event["pid"] for event in events} == {pid, None}


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_sockets_from_before_have_their_process_and_how_long_they_were_open() -> None:
    # No data yet: the kernel knows since when they are established.
    before = SESSION + (
        "idle = [begin(socket.AF_INET, ('127.0.0.1', port4), four),"
        " begin(socket.AF_INET6, ('::1', port6), six)]"
    )
    code = 'for each in idle: end(each, "client")\nquiet(); four.close()'
    pid, told, events = traced(code, before=before)
    found = {ends(life): life for life in lives(events)}
    for _, _, port, _, to, least, most in told:
        assert (changes(found[port, to]), changes(found[to, port])) == (FIRST, SECOND)
        # The clock of the kernel's own record is the timer tick, of at most 10 ms.
        duration = found[port, to][0]["duration_ns"] / 1e9
        assert least - 0.05 <= duration <= most + 0.05
        assert all(event["duration_ns"] is not None for event in found[to, port])
    assert changes(events[-1:]) == ["LISTEN CLOSE"] and events[-1]["duration_ns"] is None
    assert {event["pid"] for event in events} == {pid}


@pytest.mark.host_only
def test_a_session_is_that_of_the_process_that_accepted_it() -> None:
    code = r"""
client, server, *_ = begin(socket.AF_INET, ("127.0.0.1", port4), four)
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
    pid, _, events = traced(code, before=SESSION)
    unaccepted = ("LISTEN", "SYN_RECV")
    assert {event["pid"] for event in events if event["oldstate"] not in unaccepted} == {pid}


@pytest.mark.host_only
def test_filters_by_port_process_and_version() -> None:
    code = r"""
for _ in range(5):
    end(begin(socket.AF_INET, ("127.0.0.1", port4), four), "client")
    end(begin(socket.AF_INET6, ("::1", port6), six), "server")
    end(begin(socket.AF_INET, ("127.0.0.1", port6), six), "reset")
told.append([port4, port6])
"""

    def seen(*options: str) -> Any:
        _, told, events = traced(code, *options, before=SESSION)
        return Counter(tuple(changes(life)) for life in lives(events)), told

    found, _ = seen("-6")
    assert found == {tuple(ACTIVE + SECOND): 5, tuple(PASSIVE + FIRST): 5}
    found, _ = seen("-L", "1,2")
    assert found == {}
    # What belongs to no process yet is left out.
    found, _ = seen("--comm", "python3*", "-4")
    assert found == {
        tuple(ACTIVE + FIRST): 5, tuple(SECOND): 5, tuple(ACTIVE + RESET): 5, tuple(RESET): 5,
    }  # fmt: skip


@pytest.mark.any_types
def test_the_remote_port_is_known_from_the_first_change_on() -> None:
    code = r"""
made = socket.socket()
made.bind(("127.0.0.1", 0))
told.append(made.getsockname()[1])
made.connect(("127.0.0.1", port4))
print(told.pop(), flush=True)
sys.stdin.readline()
end((made, four.accept()[0], 0, 0), "client")
"""
    # All the tool is asked for is the server's side of that client.
    before = SESSION + code.partition("made.connect")[0]
    code = 'made.connect(("127.0.0.1", port4)); end((made, four.accept()[0], 0, 0), "client")'
    _, told, events = traced(code, before=before)
    (life,) = [life for life in lives(events) if life[0]["rport"] == told[0]]
    assert changes(life) == PASSIVE + SECOND
    assert {(event["raddr"], event["rport"]) for event in life} == {("127.0.0.1", told[0])}


@pytest.mark.any_types
def test_what_io_uring_accepts_is_the_process_s() -> None:
    ring_or_skip()
    code = r"""
for _ in range(5):
    submit(13, four.fileno())  # IORING_OP_ACCEPT
    client = socket.create_connection(("127.0.0.1", port4))
    server = socket.socket(fileno=completion())
    end((client, server, 0, 0), "client")
"""
    pid, told, events = traced(code, before=SESSION + uring.RING)
    servers = [life for life in lives(events) if changes(life) == PASSIVE + SECOND]
    assert len(servers) == len(told) == 5
    assert {event["pid"] for life in servers for event in life[2:]} == {pid}


@pytest.mark.every_kernel
def test_subflows_of_mptcp_are_told_apart() -> None:
    code = r"""
if many:
    many.bind(("127.0.0.1", 0))
    many.listen()
    for _ in range(5):
        end(begin(socket.AF_INET, many.getsockname(), many, 262), "client")
"""
    pid, told, events = traced(code, before=SESSION + MPTCP)
    if not told:
        pytest.skip(f"{os.uname().release} has no MPTCP")
    found = [life for life in lives(events) if changes(life)[0] != "CLOSE LISTEN"]
    assert len(found) == 10
    assert Counter(changes(life)[0] for life in found) == {ACTIVE[0]: 5, PASSIVE[0]: 5}
    assert {event["protocol"] for life in found for event in life} == {"mptcp"}
    # The kernel closes a subflow when the two ends agree that their connection ends.
    assert all(life[-1]["newstate"] == "CLOSE" for life in found)
    assert {event["pid"] for life in found for event in life[2:]} == {pid}


@pytest.mark.host_only
def test_in_text_the_columns_are_bccs() -> None:
    code = 'end(begin(socket.AF_INET, ("127.0.0.1", port4), four), "client")'
    _, told, (head, *lines) = traced(code, before=SESSION, text=True)
    bccs = "SKADDR C-PID C-COMM LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS"
    assert head == bccs.split()
    assert all(len(line) == len(head) and line[8] == "->" for line in lines)
    assert len(lines) == 10 and sum(line[-1] == "-" for line in lines) == 2
