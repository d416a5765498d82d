"""solisten shows each listen with what the kernel makes of it."""
from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from support import HAS_KPROBES, Tool, python_child, run_tool
from uring import RING

# A network namespace of its own. told() tells the test what it does.
CHILD = r"""
import ctypes, errno, json, os, socket, struct, subprocess, sys
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.unshare(CLONE_NEWNET), os.strerror(ctypes.get_errno())
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with open("/proc/sys/net/core/somaxconn", "w") as file:
    file.write("1000")
told, kept = [], []

def listen(made, backlog):
    error = libc.listen(made.fileno(), backlog) and ctypes.get_errno()
    address, port = made.getsockname()[:2]
    told.append([address, port, backlog, errno.errorcode[error] if error else None])
    kept.append(made)

def bound(family, address, port=0, kind=socket.SOCK_STREAM, protocol=0):
    made = socket.socket(family, kind, protocol)
    made.bind((address, port))
    return made

print("ready", flush=True)
sys.stdin.readline()
"""
TELL = r"""
listening = subprocess.run(["ss", "-Hltn"], stdout=subprocess.PIPE, text=True).stdout
print(json.dumps([told, listening, os.stat("/proc/self/ns/net").st_ino]), flush=True)
sys.stdin.readline()
"""
KEYS = ("addr", "port", "asked", "error")


def traced(code: str, *options: str) -> tuple[int, Any, list[Any]]:
    """The child's pid, what it told, and what the tool printed."""
    with python_child(CHILD + code + TELL) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        with Tool("solisten", "--json", "-p", str(child.pid), *options) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            events = [json.loads(line) for line in tool.stop().splitlines()]
        return child.pid, told, events


EVERY_KIND = r"""
four, six = socket.AF_INET, socket.AF_INET6
for backlog in (1, 500, 5000):  # the last is more than the kernel allows
    listen(bound(four, "127.0.0.1"), backlog)
    listen(bound(six, "::1"), backlog)
listen(bound(four, "0.0.0.0", 4000), 0)
listen(bound(six, "::", 4001), -1)
listen(bound(six, "::ffff:127.0.0.1"), 3)
listen(kept[0], 77)  # once more
listen(socket.socket(four), 9)  # the kernel chooses a port
listen(bound(four, "127.0.0.1", 4002, socket.SOCK_DGRAM), 1)
again = bound(four, "127.0.0.1")
again.connect(kept[0].getsockname())
listen(again, 2)
# These are none: of a Unix socket, of a file, of nothing.
unix = socket.socket(socket.AF_UNIX)
unix.bind("")
unix.listen(4)
libc.listen(0, 4)
libc.listen(9999, 4)
"""


@pytest.mark.every_kernel
def test_every_listen_with_its_backlog_and_its_error() -> None:
    pid, (told, listening, namespace), events = traced(EVERY_KIND)
    assert [[event[key] for key in KEYS] for event in events] == told
    errors = [event["error"] for event in events]
    assert errors == [None] * 11 + [errors[11], "EINVAL"] and errors[11] in (
        "ENOTSUP",
        "EOPNOTSUPP",
    )
    for event in events:
        assert event["backlog"] == min(event["asked"] % (1 << 32), 1000)
        assert (event["pid"], event["netns"]) == (pid, f"net:[{namespace}]")
        assert event["proto"][-1] == "6" if ":" in event["addr"] else "4"
    # ss has the last backlog of each socket.
    witness = {}
    for line in listening.splitlines():
        _, _, backlog, where, *_ = line.split()
        witness[int(where.rpartition(":")[2])] = int(backlog)
    shown = {event["port"]: event["backlog"] for event in events if not event["error"]}
    assert shown == witness and len(witness) == 10


def test_a_listen_is_of_the_process_that_calls_it_and_of_its_namespace() -> None:
    code = r"""
pid = os.fork()
if not pid:
    listen(bound(socket.AF_INET, "127.0.0.1", 5000), 1)
    os._exit(0)
os.waitpid(pid, 0)
listen(bound(socket.AF_INET, "127.0.0.1", 5001), 1)
"""
    pid, _, events = traced(code)
    assert [(event["pid"], event["port"]) for event in events] == [(pid, 5001)]
    for more, ports in (
        (["-P", "5001"], [5001]), (["-P", "5000,5002"], []), (["-4"], [5001]), (["-6"], []),
        (["--netns", str(os.getpid())], []),
    ):  # fmt: skip
        assert [event["port"] for event in traced(code, *more)[2]] == ports


@pytest.mark.any_types
def test_columns_are_bcc_s_and_those_of_our_own_behind() -> None:
    with python_child(CHILD + 'listen(bound(socket.AF_INET6, "::1", 443), 5)\n' + TELL) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        number = str(os.stat(f"/proc/{child.pid}/ns/net").st_ino)
        with Tool("solisten", "--show-netns", "-n", number) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            child.stdout.readline()
            head, line = tool.stop().splitlines()
    assert head.split() == "PID COMM NETNS PROTO BACKLOG PORT ADDR ERROR".split()
    assert re.fullmatch(
        rf"{child.pid} +python3\S* +net:\[{number}\] TCPv6 +5 +443 ::1 +-", line
    )  # fmt: skip


@pytest.mark.host_only
def test_a_namespace_that_is_not_there_is_refused() -> None:
    result = run_tool("solisten", "-n", "4026539999", "-d", "0")
    assert result.returncode == 2
    assert result.stderr == (
        "solisten: no network namespace with a name or a process has the number 4026539999\n"
    )


@pytest.mark.host_only
def test_says_which_listens_it_does_not_see() -> None:
    messages = run_tool("solisten", "-d", "0", "-v").stderr
    without = " or through io_uring" if not HAS_KPROBES else ""
    assert f"Tracing listens, but not those of 32-bit programs{without}..." in messages


URING = (
    RING
    + r"""
def uring(opcode, fd, address=0, length=0, offset=0):
    # The result of one request.
    submit(opcode, fd, offset, address, length)
    return completion()
"""
)
LISTEN_BY_URING = r"""
LISTEN = 57
for port, backlog in ((6000, 11), (6001, 2000)):
    made = bound(socket.AF_INET, "127.0.0.1", port)
    result = uring(LISTEN, made.fileno(), length=backlog)
    told.append([*made.getsockname(), backlog, result])
    kept.append(made)
datagrams = bound(socket.AF_INET, "127.0.0.1", 6002, socket.SOCK_DGRAM)
told.append([*datagrams.getsockname(), 1, uring(LISTEN, datagrams.fileno(), length=1)])
"""


@pytest.mark.skipif(
    not HAS_KPROBES, reason=f"{os.uname().release} has no kprobes: requests of io_uring are unseen"
)
def test_a_listen_through_io_uring_is_seen() -> None:
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    if release < (6, 11):
        pytest.skip(f"{os.uname().release} has no listen through io_uring")
    _, (told, _, _), events = traced(URING + LISTEN_BY_URING)
    assert [result for *_, result in told[:2]] == [0, 0] and told[2][3] < 0
    assert [[event[key] for key in KEYS[:3]] for event in events] == [row[:3] for row in told]
    assert [event["backlog"] for event in events] == [11, 1000, 1]
    assert [bool(event["error"]) for event in events] == [False, False, True]
