"""bindsnoop shows each bind with what the kernel makes of it, and the options of the socket."""
from __future__ import annotations

import json
import os
import re
from collections import Counter
from typing import Any

import pytest

from support import HAS_KPROBES, Tool, python_child, run_tool
from test_solisten import CHILD, TELL, URING

# told() has what the socket itself says when it is bound.
BIND = r"""
LEVELS = {"F": (0, 15), "T": (0, 19), "N": (0, 24), "R": (1, 2), "r": (1, 15)}

def bind(family, kind, address, port, letters="", device="", protocol=0):
    made = socket.socket(family, kind, protocol)
    for letter in letters:
        made.setsockopt(*LEVELS[letter], 1)
    if device:
        made.setsockopt(socket.SOL_SOCKET, 25, device.encode() + b"\0")
    error = None
    try:
        made.bind((address, port))
        address, port = made.getsockname()[:2]
    except OSError as failed:
        error = errno.errorcode[failed.errno]
    opts = "".join(c if c in letters else "." for c in "FTNRr")
    index = socket.if_nametoindex(device) if device else 0
    told.append([address, port, opts, index, error])
    kept.append(made)

TCP, UDP, four, six = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.AF_INET, socket.AF_INET6
"""
KEYS = ("addr", "port", "opts", "if", "error")


def traced(code: str, *options: str, form: str = "--json") -> tuple[int, Any, str]:
    """The child's pid, what it told, and what the tool printed."""
    with python_child(CHILD + BIND + code + TELL) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        with Tool("bindsnoop", *[form] * bool(form), "-p", str(child.pid), *options) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            return child.pid, told, tool.stop()


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


EVERY_KIND = r"""
for number, (family, address) in enumerate([(four, "127.0.0.1"), (six, "::1")]):
    for kind in (TCP, UDP):
        port = 4000 + 100 * number + 10 * kind
        bind(family, kind, address, port)
        for place, letters in enumerate(["R", "r", "Rr", "F", "T", "N", "FTNRr"], 1):
            bind(family, kind, address, port + place, letters)
        bind(family, kind, address, port + 8, device="lo")
        bind(family, kind, address, 0)  # the kernel chooses
        bind(family, kind, address, port)  # in use
bind(four, TCP, "127.0.0.1", 0, "N")  # it chooses only when the socket connects
bind(four, TCP, "0.0.0.0", 4500)
bind(six, UDP, "::", 4501)
bind(six, TCP, "::ffff:127.0.0.1", 4502)
bind(four, TCP, "192.0.2.1", 4503, "F")  # no address of this machine
bind(four, UDP, "192.0.2.1", 4504, "T")
bind(four, UDP, "192.0.2.1", 4505)
bind(six, TCP, "2001:db8::1", 4506)
# These are none: of Unix and netlink sockets, of a file, of nothing.
socket.socket(socket.AF_UNIX).bind("")
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))
libc.bind(0, b"\2\0" + bytes(14), 16)
libc.bind(9999, b"\2\0" + bytes(14), 16)
"""


@pytest.mark.every_kernel
def test_every_bind_with_its_options_and_its_error() -> None:
    pid, (told, _, namespace), output = traced(EVERY_KIND, "-E")
    found = events(output)
    assert [[event[key] for key in KEYS] for event in found] == told
    assert len(told) == 4 * 11 + 8
    errors = Counter(event["error"] for event in found)
    assert errors == {None: 46, "EADDRINUSE": 4, "EADDRNOTAVAIL": 2}
    for event in found:
        assert (event["pid"], event["netns"]) == (pid, f"net:[{namespace}]")
        assert event["ip"] == (6 if ":" in event["addr"] else 4)
    protocols = [event["prot"] for event in found]
    assert protocols[:44] == [*["TCP"] * 11, *["UDP"] * 11] * 2
    assert found[9]["port"] > 0 and found[44]["port"] == 0


def test_without_e_only_those_that_succeed() -> None:
    _, (told, _, _), output = traced(EVERY_KIND)
    rows = [[event[key] for key in KEYS] for event in events(output)]
    assert rows == [row for row in told if row[4] is None]


def test_filters_by_port_version_user_and_namespace() -> None:
    code = r"""
bind(four, TCP, "127.0.0.1", 443)
bind(six, UDP, "::1", 53)
os.setresuid(65534, 65534, 0)
bind(four, UDP, "127.0.0.1", 8080)
os.setresuid(0, 0, 0)
bind(four, TCP, "127.0.0.1", 443)
"""
    cases: list[tuple[list[str], list[int]]] = [
        ([], [443, 53, 8080]), (["-P", "443,53"], [443, 53]), (["-6"], [53]),
        (["-4"], [443, 8080]), (["--netns", str(os.getpid())], []),
        (["-E", "-P", "443"], [443, 443]),
        (["-u", "0"], [443, 53]),
    ]  # fmt: skip
    for options, ports in cases:
        assert [event["port"] for event in events(traced(code, *options)[2])] == ports, options


def test_counts_by_address_and_port() -> None:
    code = r"""
for _ in range(30):
    bind(four, TCP, "127.0.0.1", 8443, "Rr")
for _ in range(20):
    bind(four, UDP, "127.0.0.1", 8443, "Rr")
for _ in range(10):
    bind(six, UDP, "::", 53, "Rr")
bind(four, TCP, "192.0.2.1", 1)
bind(four, socket.SOCK_RAW, "127.0.0.1", 0, protocol=253)
"""
    rows = [
        (event["laddr"], event["lport"], event["binds"])
        for event in events(traced(code, "--count")[2])
    ]
    assert rows == [("127.0.0.1", 8443, 50), ("::", 53, 10), ("127.0.0.1", None, 1)]
    lines = traced(code, "--count", "-E", form="")[2].splitlines()
    assert lines[0].split() == ["LADDR", "LPORT", "BINDS"]
    assert [line.split() for line in lines[1:] if line][-2:] in (
        [["192.0.2.1", "1", "1"], ["127.0.0.1", "-", "1"]],
        [["127.0.0.1", "-", "1"], ["192.0.2.1", "1", "1"]],
    )


@pytest.mark.any_types
def test_columns_are_bcc_s() -> None:
    code = 'bind(four, TCP, "127.0.0.1", 443, "Rr", "lo")\nbind(six, UDP, "::1", 53, "F")\n'
    pid, _, output = traced(code, form="")
    head, first, second = output.splitlines()
    assert head.split() == "PID COMM PROT ADDR PORT OPTS IF".split()
    assert re.fullmatch(rf"{pid} +python3\S* +TCP  127\.0\.0\.1 +443 \.\.\.Rr +1", first)
    assert re.fullmatch(rf"{pid} +python3\S* +UDP  ::1 +53 F\.\.\.\. +0", second)
    pid, _, output = traced(code, "-twUE", form="")
    head, first, _ = output.splitlines()
    assert head.split() == "TIME(s) UID PID COMM PROT ADDR PORT OPTS IF ERROR".split()
    assert re.match(rf"\d\.\d{{6}} +0 +{pid} ", first)
    assert first.index("443") > first.index("127.0.0.1") + 39


@pytest.mark.host_only
def test_says_which_binds_it_does_not_see() -> None:
    messages = run_tool("bindsnoop", "-d", "0", "-v").stderr
    without = " or through io_uring" if not HAS_KPROBES else ""
    assert f"Tracing binds, but not those of 32-bit programs{without}..." in messages


BIND_BY_URING = r"""
OPCODE = 56
for port, letters in ((6000, "R"), (6000, ""), (6001, "")):
    made = socket.socket()
    for letter in letters:
        made.setsockopt(*LEVELS[letter], 1)
    address = struct.pack("=H", 2) + struct.pack("!H4s8x", port, bytes([127, 0, 0, 1]))
    kept.append((made, ctypes.create_string_buffer(address, 16)))
    told.append([port, uring(OPCODE, made.fileno(), ctypes.addressof(kept[-1][1]), offset=16)])
"""


@pytest.mark.skipif(
    not HAS_KPROBES, reason=f"{os.uname().release} has no kprobes: requests of io_uring are unseen"
)
def test_a_bind_through_io_uring_is_seen() -> None:
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    if release < (6, 11):
        pytest.skip(f"{os.uname().release} has no bind through io_uring")
    _, (told, _, _), output = traced(URING + BIND_BY_URING, "-E")
    assert told == [[6000, 0], [6000, -98], [6001, 0]]
    rows = [
        (event["addr"], event["port"], event["opts"], event["error"]) for event in events(output)
    ]
    # Of one that fails, the kernel has the address in a place that is not looked at.
    assert rows == [
        ("127.0.0.1", 6000, "...R.", None), ("0.0.0.0", 0, ".....", "EADDRINUSE"),
        ("127.0.0.1", 6001, ".....", None),
    ]  # fmt: skip
