"""tcpaccept reports each accept once: process, addresses, how long the connection had waited."""
from __future__ import annotations

import json
import os
from typing import Any

import pytest

import uring
from support import python_child
from tcp_work import SETUP, traced

# A connection that is accepted, and what the test is told of it: the peer's address and port, the
# local ones, and for how many seconds it can have waited at least and at most.
ACCEPT = r"""
def established(port):
    return states(port).count(1)

def waiting(family, to, sure=True):
    made = socket.socket(family)
    before = time.monotonic()
    known = sure and established(to[1])
    made.connect(to)
    while sure and established(to[1]) == known:
        pass
    return made, before, time.monotonic()

def take(begun, listener, pause=0):
    made, before, after = begun
    time.sleep(pause)
    least = time.monotonic() - after
    taken = listener.accept()[0]
    most = time.monotonic() - before
    told.append([*taken.getpeername()[:2], *taken.getsockname()[:2], least if pause else 0, most])
    return made, taken

def accept(family, to, listener, pause=0):
    for each in take(waiting(family, to, pause > 0), listener, pause):
        each.close()
"""


def rows(events: list[Any]) -> list[list[Any]]:
    return [[event[name] for name in ("raddr", "rport", "laddr", "lport")] for event in events]


def check(pid: int, told: Any, events: list[Any]) -> None:
    assert rows(events) == [row[:4] for row in told]
    for event, (raddr, _, _, _, least, most) in zip(events, told):
        assert least * 1e9 <= event["wait_ns"] <= most * 1e9
        assert event["ip"] == (6 if raddr == "::1" else 4)
        assert (event["pid"], event["error"], event["protocol"]) == (pid, None, "tcp")


@pytest.mark.every_kernel
def test_each_of_300_accepts_once() -> None:
    code = r"""
for _ in range(200):
    accept(socket.AF_INET, ("127.0.0.1", port4), four)
for _ in range(50):
    accept(socket.AF_INET6, ("::1", port6), six)
    accept(socket.AF_INET, ("127.0.0.1", port6), six)
for pause in (0.05, 0.2):
    accept(socket.AF_INET, ("127.0.0.1", port4), four, pause)
# These are none: nobody connects, and what is accepted is no TCP.
four.setblocking(False)
try:
    four.accept()
except BlockingIOError:
    pass
unix = socket.socket(socket.AF_UNIX)
unix.bind("\0tcpaccept-%d" % os.getpid())
unix.listen()
local = socket.socket(socket.AF_UNIX)
local.connect(unix.getsockname())
unix.accept()
told.append(snmp("PassiveOpens"))
"""
    pid, (*told, passive_opens), events = traced("tcpaccept", code, before=ACCEPT)
    assert len(told) == passive_opens == 302
    check(pid, told, events)
    assert {event["netns"] for event in events} == {events[0]["netns"]}


@pytest.mark.every_kernel
def test_connections_that_nobody_accepts_are_shown_when_their_listener_is_closed() -> None:
    code = r"""
for number in range(4):
    made = socket.create_connection(("127.0.0.1", port4))
    told.append([*made.getsockname()[:2], *made.getpeername()[:2]])
    # One ends its side, and one resets the connection, which keeps its place in the queue.
    if number == 1:
        made.shutdown(socket.SHUT_WR)
    if number == 2:
        close_hard(made)
    else:
        globals()["kept%d" % number] = made
while len(states(port4)) > 4 or states(port4).count(8) != 1:
    pass
four.accept()
four.close()
told.append(snmp("PassiveOpens"))
"""
    pid, (*told, passive_opens), events = traced("tcpaccept", code)
    assert sorted(rows(events)) == sorted(told) and passive_opens == 4
    outcomes = {event["rport"]: (event["pid"], event["error"], event["errno"]) for event in events}
    nobody = (None, "ECONNABORTED", 103)
    assert [outcomes[port] for _, port, *_ in told] == [(pid, None, 0), nobody, nobody, nobody]
    assert {event["comm"] for event in events if event["error"]} == {None}


@pytest.mark.any_types
def test_a_connection_that_was_reset_while_it_waited_is_accepted() -> None:
    code = r"""
begun = waiting(socket.AF_INET, ("127.0.0.1", port4))
ends = [*begun[0].getsockname()[:2], *begun[0].getpeername()[:2]]
close_hard(begun[0])
while established(port4):
    pass
four.accept()
told.append(ends)
"""
    pid, told, events = traced("tcpaccept", code, before=ACCEPT)
    assert rows(events) == told
    assert [(event["pid"], event["error"]) for event in events] == [(pid, None)]


def test_the_process_is_the_one_that_accepts() -> None:
    code = r"""
for _ in range(5):
    begun = waiting(socket.AF_INET, ("127.0.0.1", port4))
    other = os.fork()
    if not other:
        four.accept()
        os._exit(0)
    os.waitpid(other, 0)
    told.append(other)
"""
    _, told, events = traced("tcpaccept", code, before=ACCEPT)
    assert [event["pid"] for event in events] == told


@pytest.mark.any_types
def test_a_connection_that_waited_before_the_tool_started_has_no_wait() -> None:
    before = ACCEPT + "begun = waiting(socket.AF_INET, ('127.0.0.1', port4))"
    pid, told, events = traced("tcpaccept", "take(begun, four)", before=before)
    assert rows(events) == [row[:4] for row in told]
    assert [(event["pid"], event["wait_ns"]) for event in events] == [(pid, None)]


@pytest.mark.host_only
def test_filters_by_port_version_and_process() -> None:
    code = r"""
for _ in range(5):
    accept(socket.AF_INET, ("127.0.0.1", port4), four)
    accept(socket.AF_INET6, ("::1", port6), six)
    accept(socket.AF_INET, ("127.0.0.1", port6), six)
kept = waiting(socket.AF_INET, ("127.0.0.1", port4))
four.close()
told.append(port4)
"""
    _, told, events = traced("tcpaccept", code, "-4", before=ACCEPT)
    assert rows(events)[:-1] == [row[:4] for row in told[:-1] if row[0] != "::1"]
    assert len(events) == 11 and events[-1]["error"] == "ECONNABORTED"
    _, told, events = traced("tcpaccept", code, "-6", before=ACCEPT)
    assert rows(events) == [row[:4] for row in told[:-1] if row[0] == "::1"]
    # What nobody accepts is no process's.
    _, told, events = traced("tcpaccept", code, "--comm", "python3*", before=ACCEPT)
    assert rows(events) == [row[:4] for row in told[:-1]]
    _, told, events = traced("tcpaccept", code, "-P", "1,2", before=ACCEPT)
    assert events == []


@pytest.mark.host_only
def test_in_text_the_columns_are_bccs_and_two_more() -> None:
    code = 'accept(socket.AF_INET, ("127.0.0.1", port4), four)'
    pid, told, (head, line) = traced("tcpaccept", code, before=ACCEPT, text=True)
    bccs = ["PID", "COMM", "IP", "RADDR", "RPORT", "LADDR", "LPORT"]
    assert head == [*bccs, "WAIT(ms)", "ERROR"]
    assert line[:1] + line[2:7] == [str(pid), "4", *map(str, told[0][:4])] and line[8] == "-"
    assert line[7] == f"{float(line[7]):.3f}"


ACCEPT_CODE, CLOSE_CODE = 13, 19  # IORING_OP_ACCEPT, IORING_OP_CLOSE
BY_URING = r"""
sources = []

def connect():
    made = socket.create_connection(("127.0.0.1", port4))
    sources.append(made)
    told.append([*made.getsockname(), *made.getpeername()])

for _ in range(20):
    submit(13, four.fileno())
    connect()
    assert completion() >= 0
    connect()
    submit(13, four.fileno())
    assert completion() >= 0
# A result that is the number of a connection that was accepted: no accept.
pipe = os.pipe()
os.write(pipe[1], bytes(4096))
one = four.fileno()
assert one < 4096
buffer = ctypes.create_string_buffer(4096)
for _ in range(3):
    connect()
    taken = four.accept()[0]
    sources.append(taken)
    submit(22, pipe[0], 2**64 - 1, ctypes.addressof(buffer), taken.fileno())  # IORING_OP_READ
    assert completion() == taken.fileno()
"""
MANY = r"""
submit(13, four.fileno(), priority=1)  # IORING_ACCEPT_MULTISHOT
for _ in range(20):
    connect()
    result = completion()
    if result < 0:
        # Linux before 5.19 does not have it.
        assert result == -errno.EINVAL
        del told[-1:]
        four.close()
        break
"""
# The descriptor is in a table of the ring: no descriptor of the process.
DIRECT = r"""
table = (ctypes.c_int * 4)(-1, -1, -1, -1)
assert not libc.syscall(427, ring, 2, table, 4)  # IORING_REGISTER_FILES
submit(13, four.fileno(), slot=2)
connect()
result = completion()
if result == 0:
    time.sleep(0.001)
    submit(19, 0, slot=2)
    assert completion() == 0
    quiet_port = told[-1][1]
    sources[-1].close()
else:
    # Linux before 5.15 does not have it, and may have accepted it as usual.
    told.append("no slots")
"""


def has_io_uring_slots() -> bool:
    return tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (5, 15)


def ring_or_skip() -> None:
    with python_child(SETUP + uring.RING) as child:
        assert child.stdout is not None
        why = child.stdout.readline()
        if why:
            pytest.skip(f"{os.uname().release} has no io_uring: {json.loads(why)}")


@pytest.mark.every_kernel
@pytest.mark.parametrize("way", ["one", "many", "direct"])
def test_accepts_through_io_uring_are_seen(way: str) -> None:
    ring_or_skip()
    if way == "direct" and not has_io_uring_slots():
        # Debian's 5.10 has the io_uring of 5.15, whose tracepoint does not tell of it.
        pytest.skip(f"{os.uname().release} has no event of accepts into a table of io_uring")
    code = {"one": BY_URING, "many": MANY, "direct": DIRECT}[way]
    setup = uring.RING + BY_URING.partition("for _")[0]
    pid, told, events = traced("tcpaccept", code, before=setup)
    if told[-1:] == ["no slots"]:
        pytest.skip(f"{os.uname().release} has no accepts into a table of io_uring")
    assert rows([event for event in events if not event["error"]]) == told
    assert {event["pid"] for event in events if not event["error"]} <= {pid}


MPTCP = r"""
try:
    many = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)  # IPPROTO_MPTCP
except OSError as error:
    many = None
"""


@pytest.mark.every_kernel
def test_mptcp_is_told_apart() -> None:
    code = r"""
if many:
    many.bind(("127.0.0.1", 0))
    many.listen()
    for protocol in (262, 262, 6):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        made.connect(many.getsockname())
        taken = many.accept()[0]
        name = "tcp" if protocol == 6 else "mptcp"
        told.append([*taken.getpeername(), *taken.getsockname(), name])
"""
    pid, told, events = traced("tcpaccept", code, before=MPTCP)
    if not told:
        pytest.skip(f"{os.uname().release} has no MPTCP")
    assert [[*row, event["protocol"]] for row, event in zip(rows(events), events)] == told
    assert {event["pid"] for event in events} == {pid}
