"""tcptop against what programs have sent and received: each byte once, and whose it is."""
from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections import Counter
from typing import Any, Iterator

import pytest

from support import PATIENCE, Tool, cgroups, in_fork, python_child

# A server and clients in the namespace that is given. Each line that comes in is evaluated. A
# session is a client's socket; swap() sends so many bytes both ways, which both ends have read
# when it returns. The server is the process itself, or with "fork" a child for each session.
CHILD = r"""
import ctypes, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
namespace = os.open("/run/netns/" + sys.argv[1], os.O_RDONLY)
assert not libc.setns(namespace, 0x40000000), os.strerror(ctypes.get_errno())
SIZES = struct.Struct("=QQ")

def read(made, size):
    while size:
        # What is looked at only does not count.
        made.recv(1000, socket.MSG_PEEK)
        data = made.recv(min(size, 1 << 16))
        assert data
        size -= len(data)

def serve(made):
    while True:
        head = made.recv(SIZES.size, socket.MSG_WAITALL)
        if not head:
            break
        up, down = SIZES.unpack(head)
        read(made, up - SIZES.size)
        made.sendall(bytes(down - 1))
        made.recv(1)  # the client has read all
        made.sendall(b"!")
    made.close()

def server(listener, forks):
    import threading
    os.close(1)  # so that the test sees the client's end
    with open("/proc/self/comm", "w") as file:
        file.write("server")
    while True:
        made = listener.accept()[0]
        if not forks:
            threading.Thread(target=serve, args=(made,), daemon=True).start()
        elif os.fork():
            made.close()
        else:
            with open("/proc/self/comm", "w") as file:
                file.write("worker")
            serve(made)
            os._exit(0)

def listen(address, forks=False):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, 0))
    listener.listen(1000)
    child = os.fork()
    if not child:
        server(listener, forks)
    return child, listener.getsockname()[1]

def connect(address, port):
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.connect((address, port))
    return made

def swap(made, up, down):
    made.sendall(SIZES.pack(up - 1, down) + bytes(up - 1 - SIZES.size))
    read(made, down - 1)
    made.sendall(b"!")
    read(made, 1)
    return made.getsockname()[1]

def whole(address, port, up, down):
    made = connect(address, port)
    name = swap(made, up, down)
    made.shutdown(socket.SHUT_WR)
    assert made.recv(1) == b""
    made.close()
    return name

signal.alarm(int(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    exec("result = " + line)
    print(repr(result) if isinstance(result, (int, tuple, list)) else None, flush=True)
"""
MEGABYTE = 1_000_000


class Work:
    """The child, which evaluates what it is asked to."""

    def __init__(self, child: subprocess.Popen[bytes], namespace: str) -> None:
        self.child, self.namespace = child, namespace

    def __call__(self, text: str) -> Any:
        assert self.child.stdin and self.child.stdout
        self.child.stdin.write(text.encode() + b"\n")
        self.child.stdin.flush()
        return eval(self.child.stdout.readline())


@contextlib.contextmanager
def work() -> Iterator[Work]:
    """The child in a namespace of its own."""
    name = f"pytools-top-{os.getpid()}"
    try:
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        with python_child(CHILD, name, str(int(PATIENCE))) as child:
            assert child.stdout and child.stdout.readline() == b"ready\n"
            yield Work(child, name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def sums(found: list[dict[str, Any]]) -> dict[tuple[int, int], tuple[int, int]]:
    """The bytes that each end has sent and received, by its local and its remote port."""
    sent: Counter[Any] = Counter()
    received: Counter[Any] = Counter()
    for row in found:
        sent[row["lport"], row["rport"]] += row["tx_bytes"]
        received[row["lport"], row["rport"]] += row["rx_bytes"]
    return {ends: (sent[ends], received[ends]) for ends in {*sent, *received}}


@pytest.mark.every_kernel
@pytest.mark.parametrize("interval", ["1000", "0.1"])
def test_each_byte_of_100_megabytes_counts_once(interval: str) -> None:
    expected: dict[tuple[int, int], tuple[int, int]] = {}

    def went(client: int, server: int, up: int, down: int) -> None:
        before = expected.get((client, server), (0, 0))
        up, down = before[0] + up, before[1] + down
        expected[client, server], expected[server, client] = (up, down), (down, up)

    with work() as do:
        four, six, both = (do(f"listen({a!r})")[1] for a in ("127.0.0.1", "::1", "::"))
        # One that was there before counts from now on.
        old = do(f"(old := connect('127.0.0.1', {four})) and swap(old, {MEGABYTE}, {MEGABYTE})")
        with Tool("tcptop", "--json", "--netns", do.namespace, interval) as tool:
            went(old, four, 10 * MEGABYTE, 7)
            assert do(f"swap(old, {10 * MEGABYTE}, 7)") == old
            # Sessions that begin and end while it looks, and between two looks.
            for number in range(40):
                port, address = [(four, "127.0.0.1"), (six, "::1"), (both, "127.0.0.1")][number % 3]
                up, down = MEGABYTE + number, 10 * number + 2
                went(do(f"whole({address!r}, {port}, {up}, {down})"), port, up, down)
            # One that stays, and one that was there before and ends.
            went(do(f"(new := connect('::1', {six})) and swap(new, 20, {40 * MEGABYTE})"),
                 six, 20, 40 * MEGABYTE)  # fmt: skip
            went(old, four, 100, 100)
            do("swap(old, 100, 100), old.shutdown(1), old.recv(1), old.close()")
            left = 100 * MEGABYTE - sum(up + down for up, down in expected.values()) // 2
            went(do(f"swap(new, 20, {left - 20})"), six, 20, left - 20)
            output = tool.stop()
        assert b"lost" not in tool.messages
    found = sums(rows(output))
    assert found == expected
    assert sum(sent for sent, _ in found.values()) == 100 * MEGABYTE
    assert sum(received for _, received in found.values()) == 100 * MEGABYTE


@pytest.mark.every_kernel
def test_a_session_is_given_to_who_connected_accepted_or_has_it() -> None:
    with work() as do:
        server, port = do("listen('127.0.0.1')")
        forking, other = do("listen('127.0.0.1', forks=True)")
        client = do("os.getpid()")
        before = do(f"(before := connect('127.0.0.1', {port})) and swap(before, 50, 50)")
        worker = do(f"(worked := connect('127.0.0.1', {other})) and swap(worked, 50, 50)")
        with Tool("tcptop", "--json", "--netns", do.namespace, "0.05") as tool:
            for name in ("before", "worked"):
                do(f"swap({name}, 1000, 2000)")
            during = do(f"(during := connect('127.0.0.1', {port})) and swap(during, 1000, 2000)")
            short = do(f"whole('127.0.0.1', {port}, 1000, 2000)")
            found = rows(tool.stop())
    owners = {(row["lport"], row["rport"]): (row["pid"], row["comm"]) for row in found}
    for session in (before, during, short):
        assert owners[session, port][0] == client
        assert owners[port, session] == (server, "server")
    assert owners[worker, other][0] == client
    pid, comm = owners[other, worker]
    assert comm == "worker" and pid not in (forking, client, server)
    assert {row["netns"] for row in found} == {do.namespace}


def test_a_session_that_a_server_hands_to_its_child_becomes_the_child_s() -> None:
    with work() as do, Tool("tcptop", "--json", "--netns", do.namespace, "0.02") as tool:
        forking, port = do("listen('127.0.0.1', forks=True)")
        do(f"(worked := connect('127.0.0.1', {port})) and swap(worked, 50, 50)")
        # The tool looks in between, as often as it takes until it has looked twice.
        for _ in range(200):
            do("swap(worked, 1000, 2000)")
        found = [row for row in rows(tool.stop()) if row["lport"] == port]
    assert found[-1]["comm"] == "worker" and found[-1]["pid"] != forking
    assert sums(found).popitem()[1] == (50 + 200 * 2000, 50 + 200 * 1000)


def test_filters_of_tasks_and_sockets_hold_for_sessions_before_and_after() -> None:
    with cgroups(1) as (folder,), work() as do:
        server, port = do("listen('127.0.0.1')")
        _, six = do("listen('::1')")
        (folder / "cgroup.procs").write_text(str(server))
        client = do("os.getpid()")
        do(f"(before := connect('127.0.0.1', {port})) and swap(before, 50, 50)")
        # How many rows of IPv4 (of two sessions), and of IPv6 (of one).
        for arguments, pids, number, number6 in (
            (["-p", str(server)], {server}, 2, 0),
            (["-p", str(client)], {client}, 2, 1),
            (["--comm", "serv*"], {server}, 2, 1),
            (["--cgroup", str(folder)], {server}, 2, 0),
            (["-4"], {client, server}, 4, 0),
            (["-6"], set(), 0, 2),
        ):
            with Tool("tcptop", "--json", "--netns", do.namespace, *arguments, "1000") as tool:
                do("swap(before, 1000, 2000)")
                do(f"whole('127.0.0.1', {port}, 1000, 2000)")
                do(f"whole('::1', {six}, 1000, 2000)")
                found = rows(tool.stop())
            four = [row for row in found if port in (row["lport"], row["rport"])]
            assert {row["pid"] for row in four} == pids, arguments
            assert (len(four), len(found) - len(four)) == (number, number6), arguments


def test_the_busiest_come_first_and_no_more_than_asked_for() -> None:
    with work() as do:
        _, port = do("listen('127.0.0.1')")
        for order, numbers in (("all", [2, 1]), ("sent", [1, 2]), ("received", [2, 1])):
            with Tool(
                "tcptop", "-C", "--netns", do.namespace, "-s", order, "-r", "2",
                "-p", str(do("os.getpid()")), "1000",
            ) as tool:  # fmt: skip
                ports = {
                    1: do(f"whole('127.0.0.1', {port}, 2000000, 20)"),
                    2: do(f"whole('127.0.0.1', {port}, 20, 3000000)"),
                    3: do(f"whole('127.0.0.1', {port}, 20, 20)"),
                }
                lines = [line.split() for line in tool.stop().splitlines() if line]
            assert lines[0] == "PID COMM LADDR RADDR RX_KB TX_KB".split()
            assert [line[2] for line in lines[1:]] == [f"127.0.0.1:{ports[n]}" for n in numbers]
            assert {tuple(line[-2:]) for line in lines[1:]} == {("0", "1953"), ("2930", "0")}


@pytest.mark.host_only
def test_an_order_that_there_is_not_is_refused() -> None:
    result = in_fork("tcptop", "-s", "rx")
    assert result.returncode == 2 and "argument -s/--sort: invalid choice" in result.stderr


def test_a_namespace_that_comes_later_is_seen() -> None:
    with Tool("tcptop", "--json", "0.05") as tool:
        with work() as do:
            _, port = do("listen('127.0.0.1')")
            client = do(f"(made := connect('127.0.0.1', {port})) and swap(made, 1000, 2000)")
            for _ in range(10):
                do("swap(made, 1000, 2000)")
        found = [row for row in rows(tool.stop()) if (row["lport"], row["rport"]) == (client, port)]
    assert sums(found) == {(client, port): (11 * 1000, 11 * 2000)}
