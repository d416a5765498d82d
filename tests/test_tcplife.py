"""tcplife reports each session's ends once: processes, bytes, time, namespace."""
from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from pytools.domains import tcp_sessions
from support import PATIENCE, ROOT, TOOLS, Tool, python_child

# A client and a server, processes in the namespace that is given. session() does one
# session and tells the test of it: [the client's port, what the client wrote and what
# it read, the longest and the shortest time it can have been open, in seconds].
CHILD = r"""
import ctypes, json, os, signal, socket, struct, sys, time
signal.alarm(int(sys.argv[2]))
libc = ctypes.CDLL(None, use_errno=True)
namespace = os.open("/run/netns/" + sys.argv[1], os.O_RDONLY)
assert not libc.setns(namespace, 0x40000000), os.strerror(ctypes.get_errno())
told = []
REQUEST = struct.Struct("=QQcc")

def read(made, size):
    while size:
        data = made.recv(min(size, 1 << 16))
        assert data
        size -= len(data)

def finish(made, way):
    if way == b"r":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if way == b"h":
        made.shutdown(socket.SHUT_WR)
        made.recv(1)
    made.close()

def serve(listener):
    while True:
        made = listener.accept()[0]
        head = made.recv(REQUEST.size, socket.MSG_WAITALL)
        if head:
            up, down, way, first = REQUEST.unpack(head)
            read(made, up)
            made.sendall(bytes(down + 1))  # one more: it has read all
            try:
                made.recv(1)  # the client has read all
                if first == b"c":
                    made.recv(1)
            except ConnectionResetError:
                pass
            finish(made, way)
        done.send(b"x")

def begin(family, address):
    before = time.monotonic()
    made = socket.socket(family)
    made.connect((address, ports[family]))
    return made, before, time.monotonic()

def end(begun, up, down, way=b"n", first=b"c"):
    made, before, after = begun
    head = REQUEST.pack(up, down, way if first == b"s" else b"n", first)
    made.sendall(head + bytes(up))
    down += 1
    read(made, down)
    info = made.getsockopt(socket.IPPROTO_TCP, 11, 256)
    received, = struct.unpack_from("=Q", info, 128)
    sent, again = struct.unpack_from("=QQ", info, 200)
    assert [sent - again, received] == [REQUEST.size + up, down]
    port, to = made.getsockname()[1], made.getpeername()[1]
    least = time.monotonic() - after if first == b"c" else 0
    made.sendall(b"!")
    if first == b"s":
        try:
            made.recv(1)
        except ConnectionResetError:
            pass
    finish(made, way if first == b"c" else b"n")
    done_here.recv(1)
    told.append([port, to, REQUEST.size + up + 1, down, time.monotonic() - before, least])

def quiet():
    # Until no socket is on its way to its end: but for TIME_WAIT and LISTEN.
    while True:
        states = set()
        for name in ("tcp", "tcp6"):
            with open("/proc/thread-self/net/" + name) as lines:
                states |= {line.split()[3] for line in list(lines)[1:]}
        if states <= {"06", "0A"}:
            return

listeners, ports = {}, {}
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    listeners[family] = socket.create_server((address, 0), family=family)
    ports[family] = listeners[family].getsockname()[1]
done_here, done = socket.socketpair()
servers = {}
for family, listener in listeners.items():
    servers[family] = os.fork()
    if not servers[family]:
        with open("/proc/self/comm", "w") as file:
            file.write("server%d" % family)
        os.close(1)  # so that the test sees the client's end
        try:
            serve(listener)
        finally:
            os.kill(os.getppid(), 9)
"""
STEP = r"""
print(json.dumps([list(servers.values()), list(ports.values())]), flush=True)
sys.stdin.readline()
"""
TELL = r"""
quiet()
print(json.dumps(told), flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def named_namespace() -> Iterator[str]:
    name = f"pytools-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def traced(
    before: str, code: str, *options: str, text: bool = False
) -> tuple[list[int], list[int], Any, list[Any]]:
    """The pids of the client and the servers, the servers' ports, what the client
    told, and what the tool printed (with ``text`` the words of lines, else the values of JSON);
    ``before`` is done before the tool starts."""
    with named_namespace() as name:
        with python_child(CHILD + before + STEP + code + TELL, name, f"{PATIENCE:.0f}") as child:
            assert child.stdin and child.stdout
            servers, ports = json.loads(child.stdout.readline())
            filters = [option.replace("SERVER", str(servers[0])) for option in options]
            form = [] if text else ["--json"]
            with Tool("tcplife", *form, "--netns", name, *filters) as tool:
                child.stdin.write(b"\n")
                child.stdin.flush()
                told = json.loads(child.stdout.readline())
                if text:
                    lines = [line.split() for line in tool.stop().splitlines()]
                    return [child.pid, *servers], ports, told, lines
                events = [json.loads(line) for line in tool.stop().splitlines()]
        found = [event for event in events if "lost" not in event]
        assert all(event["netns"] == name for event in found)
        return [child.pid, *servers], ports, told, found


def check(
    pids: list[int], ports: list[int], told: Any, events: list[Any], lossy: bool = False
) -> None:
    """Both ends of every session, in whatever order they ended. A session whose last packets
    are lost lasts longer than its processes care for."""
    assert len(events) == 2 * len(told)
    by_ports: dict[tuple[int, int], list[Any]] = {}
    for event in events:
        by_ports.setdefault((event["lport"], event["rport"]), []).append(event)
    for port, to, up, down, most, least in told:
        # A port may be used again: the first of these sessions is the one that ended first.
        client, server = by_ports[port, to].pop(0), by_ports[to, port].pop(0)
        family = ports.index(to)
        assert client["pid"] == pids[0]
        assert server["pid"] == pids[1 + family]
        assert server["comm"] == ("server2", "server10")[family]
        assert client["ip"] == server["ip"] == (4, 6)[family]
        assert client["raddr"] == server["laddr"] == ("127.0.0.1", "::1")[family]
        assert (client["tx_bytes"], client["rx_bytes"]) == (up, down)
        assert (server["tx_bytes"], server["rx_bytes"]) == (down, up)
        for end in (client, server):
            if not end["before"]:
                assert end["exact"] and least * 1e9 <= end["duration_ns"]
                assert lossy or end["duration_ns"] <= most * 1e9


@pytest.mark.every_kernel
def test_both_ends_of_every_session_with_its_bytes() -> None:
    code = r"""
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    for up, down in ((0, 0), (1, 0), (0, 1), (1000, 70000), (10_000_000, 1_000_000)):
        for way in (b"n", b"h", b"r"):
            for first in (b"c", b"s"):
                end(begin(family, address), up, down, way, first)
# No sessions: nobody listens, or a listener is closed.
socket.socket().connect_ex(("127.0.0.1", 1))
socket.create_server(("127.0.0.1", 0)).close()
"""
    pids, ports, told, events = traced("", code)
    assert len(told) == 60
    check(pids, ports, told, events)
    assert not any(event["before"] for event in events)


BEFORE = r"""
idle = [
    begin(family, address)
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
]
"""


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_sessions_from_before_have_process_and_start_and_are_marked() -> None:
    # No data yet when the tool starts: the kernel knows since when.
    code = """
for begun in idle:
    end(begun, 1000, 2000)
end(begin(socket.AF_INET, "127.0.0.1"), 5, 5)
"""
    pids, ports, told, events = traced(BEFORE, code)
    check(pids, ports, told, events)
    for event in events:
        (row,) = [row for row in told if set(row[:2]) == {event["lport"], event["rport"]}]
        *_, most, least = row
        assert event["before"] == (row != told[-1])
        # The clock of the kernel's own record is the timer tick, of at most 10 ms.
        if event["exact"]:
            assert least - 0.05 <= event["duration_ns"] / 1e9 <= most + 0.05
        else:
            assert event["duration_ns"] / 1e9 <= most
    exact = [event["exact"] for event in events]
    assert exact.count(1) == len(events)


@pytest.mark.host_only
def test_in_text_the_duration_is_a_number_and_a_mark_stands_behind_it() -> None:
    code = """
for begun in idle:
    end(begun, 1000, 2000)
end(begin(socket.AF_INET, "127.0.0.1"), 5, 5)
"""
    _, _, told, (head, *lines) = traced(BEFORE, code, text=True)
    assert head[8:] == ["MS", "B"]
    assert len(lines) == 2 * len(told)
    for line in lines:
        (row,) = [row for row in told if {str(port) for port in row[:2]} == {line[3], line[5]}]
        assert line[8] == f"{float(line[8]):.2f}"
        assert line[9:] == ([] if row == told[-1] else ["before"])
        assert line[9:] or row[5] * 1e3 - 0.005 <= float(line[8]) <= row[4] * 1e3 + 0.005


@pytest.mark.host_only
def test_filters_by_process_and_port() -> None:
    code = r"""
for begun in idle:
    end(begun, 10, 10)
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    for _ in range(5):
        end(begin(family, address), 10, 10)
"""
    pids, ports, _, events = traced(BEFORE, code, "-p", "SERVER")
    assert [(event["pid"], event["lport"]) for event in events] == [(pids[1], ports[0])] * 6
    pids, _, _, events = traced(BEFORE, code, "-6", "--comm", "server10")
    assert [event["pid"] for event in events] == [pids[2]] * 6
    _, ports, told, events = traced(BEFORE, code, "-L", "1,2")
    assert not events


def has_netem(name: str) -> bool:
    added = subprocess.run(
        ["tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "loss", "3%"],
        capture_output=True, check=False,
    )  # fmt: skip
    return added.returncode == 0


def test_bytes_that_are_sent_again_count_once() -> None:
    with named_namespace() as name:
        if not has_netem(name):
            pytest.skip(f"{os.uname().release} has no sch_netem: packets can't be lost")
    # ip(8) names the namespace alike in the same process.
    code = r"""
import subprocess
subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "3%"], check=True)
end(begin(socket.AF_INET, "127.0.0.1"), 3_000_000, 1_000_000)
subprocess.run(["tc", "qdisc", "delete", "dev", "lo", "root"], check=True)
"""
    check(*traced("", code), lossy=True)


# With TCP Fast Open, the SYN waits for the first data where the peer's cookie is known, and the
# server has the data with the SYN.
FAST_OPEN = r"""
with open("/proc/sys/net/ipv4/tcp_fastopen", "w") as file:
    file.write("3")
listeners[socket.AF_INET].setsockopt(socket.IPPROTO_TCP, 23, 16)  # TCP_FASTOPEN

def begin_fast(waits):
    before = time.monotonic()
    made = socket.socket()
    made.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
    made.connect(("127.0.0.1", ports[socket.AF_INET]))
    assert waits == (made.getsockopt(socket.IPPROTO_TCP, 11, 256)[0] == 2)  # TCP_SYN_SENT
    return made, before, time.monotonic()

end(begin_fast(False), 1, 1)
"""
FAST_SESSIONS = r"""
for first in (b"c", b"s"):
    for up, down in ((0, 0), (1000, 70000)):
        made = begin_fast(True)[0]
        time.sleep(0.5)
        now = time.monotonic()
        end((made, now, float("inf")), up, down, first=first)
# No data, no session.
begin_fast(True)[0].close()
"""


def test_a_fast_open_is_a_session_from_its_syn_on() -> None:
    pids, ports, told, events = traced("", FAST_OPEN + FAST_SESSIONS)
    assert len(told) == 5
    for row in told[1:]:
        row[-1] = 0  # least
    check(pids, ports, told, events)
    assert not any(event["before"] for event in events)


def test_a_fast_open_that_is_accepted_before_the_handshake_ends_is_not_from_before() -> None:
    with named_namespace() as name:
        if not has_netem(name):
            pytest.skip(f"{os.uname().release} has no sch_netem: packets can't be delayed")
    # The server has the data, and its answer is on its way, 0.2 s before the client's ACK.
    code = r"""
import subprocess
subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "100ms"], check=True)
made, now = begin_fast(True)[0], time.monotonic()
end((made, now, float("inf")), 5, 5)
"""
    pids, ports, told, events = traced("", FAST_OPEN + code)
    told[-1][-1] = 0
    check(pids, ports, told, events, lossy=True)
    assert not any(event["before"] for event in events)
    # It begins 0.1 s before the client has the answer, and ends 0.1 s after the client is done.
    lengths = {event["pid"]: event["duration_ns"] for event in events[2:]}
    assert lengths[pids[1]] > lengths[pids[0]] + 100_000_000


# The tool, with another child in the place of the one that lists sockets.
WITH_CHILD = r"""
import sys
sys.path.insert(0, sys.argv.pop(1))
from pytools.collection import catalogue
from pytools.domains import tcp_sessions
tcp_sessions.HERE = sys.argv.pop(1)
tool = catalogue.load(sys.argv[0])
tool.tool.run(tool.start)
"""


def lister(folder: Path, code: str) -> list[str]:
    """The command of a tcplife whose child is this code."""
    (folder / tcp_sessions.CHILD).write_text(code)
    code = WITH_CHILD.replace("sys.argv[0]", repr(str(TOOLS / "tcplife")))
    return [sys.executable, "-c", code, str(ROOT / "lib"), str(folder)]


@pytest.mark.host_only
@pytest.mark.parametrize("to_all", [True, False])
def test_interrupted_while_it_lists_sockets_it_is_done(tmp_path: Path, to_all: bool) -> None:
    began = tmp_path / "began"
    os.mkfifo(began)
    code = f"import time; open({str(began)!r}, 'w').close(); time.sleep(1000)"
    with subprocess.Popen(
        lister(tmp_path, code), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as tool:  # fmt: skip
        began.read_bytes()  # it lists
        # As a terminal does, or as kill(1).
        (os.killpg if to_all else os.kill)(tool.pid, signal.SIGINT)
        output, messages = tool.communicate(timeout=PATIENCE)
    assert (tool.returncode, messages) == (0, b"")
    assert output.startswith(b"PID")


@pytest.mark.host_only
@pytest.mark.parametrize(
    "code, why",
    [
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("raise SystemExit(3)", "status 3, no reason given"),
        ("raise OSError('no such thing')", "OSError: no such thing"),
        ("print('[')", "the child that lists them gave no list"),
        ("print('[1, 2]')", "the child that lists them gave no list"),
        ("import json; print(json.dumps([[], ['no']]))", "of 1 network namespaces: no"),
    ],
)
def test_each_failure_to_list_sockets_has_its_reason(tmp_path: Path, code: str, why: str) -> None:
    command = [*lister(tmp_path, code), "-d", "0"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("tcplife: cannot list the sockets that are open")
    assert result.stderr.endswith(f"{why}\n")
