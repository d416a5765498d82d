"""capable against a program that knows which capabilities it needs, and what the kernel answers."""
from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
from typing import Any, Iterator

import pytest

from pytools.domains.callers import KernelCallers
from pytools.domains.capabilities import capability_mask, capability_name
from pytools.facts.kernel import symbol_address
from support import Tool, python_child, run_tool

NOBODY = 65534
# Its child is allowed to do something in a user namespace of its own. Then it is allowed two things
# itself, and others not. One of these is asked of cap_capable() alone (PR_SET_SECUREBITS), which
# the compiler may have put into the function that asks.
PROGRAM = r"""
import ctypes, mmap, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
NEW_USER, SET_SECUREBITS, NOROOT = 0x10000000, 28, 1
print("ready", flush=True)
sys.stdin.readline()
child = os.fork()
if not child:
    assert libc.unshare(NEW_USER) == 0
    assert libc.chroot(b"/") == 0
    print(os.getpid(), os.stat("/proc/self/ns/user").st_ino, flush=True)
    os._exit(0)
assert os.waitpid(child, 0) == (child, 0)
for _ in range(100):
    mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()

def denied(function, *arguments):
    try:
        assert function(*arguments) == -1 and ctypes.get_errno() == 1
    except PermissionError:
        pass

assert libc.chroot(b"/") == 0
os.setuid(int(sys.argv[1]))
for _ in range(3):
    denied(libc.chroot, b"/")
denied(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
denied(os.setuid, 0)
denied(libc.prctl, SET_SECUREBITS, NOROOT, 0, 0, 0)
denied(os.kill, 1, 0)
print("done", flush=True)
sys.stdin.readline()
"""
ASKED = [
    ("CAP_SYS_CHROOT", "allow", False, 0),
    ("CAP_SETUID", "allow", True, 0),
    ("CAP_SYS_CHROOT", "deny", False, NOBODY),
    ("CAP_SYS_CHROOT", "deny", False, NOBODY),
    ("CAP_SYS_CHROOT", "deny", False, NOBODY),
    ("CAP_NET_RAW", "deny", False, NOBODY),
    ("CAP_SETUID", "deny", True, NOBODY),
    ("CAP_KILL", "deny", False, NOBODY),
]
DIRECT = "CAP_SETPCAP"
CAPABILITIES = {name for name, *_ in ASKED}


@contextlib.contextmanager
def running() -> Iterator[Any]:
    """The program, before it asks for anything."""
    with python_child(PROGRAM, str(NOBODY)) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        yield child


def ask(child: Any) -> tuple[int, int]:
    """Let it ask; its child, and the number of the user namespace of that."""
    child.stdin.write(b"\n")
    child.stdin.flush()
    pid, namespace = map(int, child.stdout.readline().split())
    assert child.stdout.readline() == b"done\n"
    return pid, namespace


def events(output: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    assert not any("lost" in event for event in found)
    return found


@pytest.mark.every_kernel
def test_each_check_with_its_answer_and_its_namespace() -> None:
    with running() as child, Tool("capable", "--json") as tool:
        of_child, its_namespace = ask(child)
        found = events(tool.stop())
    mine = [e for e in found if e["pid"] == child.pid]
    namespace = os.stat("/proc/self/ns/user").st_ino
    asked = [e for e in mine if e["audit"] and e["name"] in CAPABILITIES - {DIRECT}]
    assert [(e["name"], e["verdict"], e["insetid"], e["uid"]) for e in asked] == ASKED
    assert {(e["userns"], e["tid"]) for e in asked} == {(namespace, child.pid)}
    assert all(e["name"] == capability_name(e["cap"]) for e in mine)
    # For each piece of memory the kernel asks in silence whether the reserve may be used.
    assert [(e["verdict"], e["uid"]) for e in mine if e["name"] == DIRECT] in (
        [], [("deny", NOBODY)],
    )  # fmt: skip
    assert not any("user_stack" in e for e in found)
    (chroot,) = [e for e in found if e["pid"] == of_child and e["name"] == "CAP_SYS_CHROOT"]
    assert (chroot["verdict"], chroot["userns"]) == ("allow", its_namespace)
    assert tool.process.pid not in {e["pid"] for e in found}


@pytest.mark.any_types
def test_the_functions_that_led_to_a_check_each_once() -> None:
    arguments = ["--json", "--failed", "--capability", "SYS_CHROOT,kill"]
    with running() as child, running() as other:
        with Tool("capable", *arguments, "-K", "-U", "--unique", "-p", str(child.pid)) as tool:
            with Tool("capable", "-K", "-u", str(NOBODY), "--unique", "cgroup") as text:
                ask(child)
                ask(other)
                lines = text.stop().splitlines()
            found = events(tool.stop())
    # The three calls are of one place in the program.
    assert [e["name"] for e in found] == ["CAP_SYS_CHROOT", "CAP_KILL"]
    kernel, user = found[0]["kernel_stack"].split(";"), found[0]["user_stack"].split(";")
    assert any("sys_chroot" in name for name in kernel) and user[-1] == "chroot"
    hidden = {"security_capable", "cap_capable"}
    for event in found:
        names = event["kernel_stack"].split(";")
        assert not hidden & set(names) and not any(name.startswith("bpf_") for name in names)
        assert "[unknown]" not in names and event["verdict"] == "deny"
    assert lines[0].split() == "TIME UID PID COMM CAP NAME AUDIT VERDICT".split()
    chroots = [n for n, line in enumerate(lines) if "CAP_SYS_CHROOT" in line]
    assert len(chroots) == 1 and lines[chroots[0]].split()[-2:] == ["1", "deny"]
    assert lines[chroots[0] + 1] == " " * 8 + kernel[-1]


@pytest.mark.any_types
def test_what_is_asked_in_silence_is_shown_only_if_wanted() -> None:
    code = "import os; os.chroot('/'); bytearray(1 << 26)"
    result = run_tool("capable", "-x", "--userns", "--exec", sys.executable, "-c", code)
    head, *lines = result.stdout.splitlines()
    assert head.split() == "TIME UID PID TID COMM CAP NAME AUDIT INSETID VERDICT USERNS".split()
    rows = [dict(zip(head.split(), line.split())) for line in lines]
    assert {row["AUDIT"] for row in rows} == {"1"}
    (chroot,) = [row for row in rows if row["NAME"] == "CAP_SYS_CHROOT"]
    assert (chroot["CAP"], chroot["INSETID"], chroot["VERDICT"]) == ("18", "0", "allow")


@pytest.mark.host_only
@pytest.mark.parametrize("text", ["", "x", "64", "-1", "KILL,", "CAP_", "CAP_CAP_KILL"])
def test_what_is_no_capability_is_refused(text: str) -> None:
    result = run_tool("capable", f"--capability={text}")
    assert result.returncode == 2 and result.stderr.count("\n") == 1


@pytest.mark.host_only
def test_names_of_capabilities() -> None:
    assert [capability_name(n) for n in (0, 21, 40, 41)] == [
        "CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE", "CAP_41",
    ]  # fmt: skip
    assert capability_mask("cap_chown,BPF,63") == 1 | 1 << 39 | 1 << 63


@pytest.mark.host_only
def test_the_kernel_s_callers_stand_behind_what_traces_them() -> None:
    """Whatever aligns the next event behind the addresses."""
    names = ["__traceiter_contention_begin", "vfs_read", "vfs_write", "ksys_read"]
    places = [symbol_address(name) + 4 * (number > 0) for number, name in enumerate(names)]
    data = struct.pack("=8Q", *places, *[0] * 4) + bytes(4)
    assert KernelCallers(["vfs_read", "never"]).names(data) == ("vfs_write", "ksys_read")
    assert KernelCallers(["never"]).names(data) == tuple(names)
