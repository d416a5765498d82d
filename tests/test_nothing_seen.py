"""A tool that has seen nothing says what it looked for, where that is not there."""
from __future__ import annotations

import os
import pwd
import re
import socket
import time
from types import SimpleNamespace

import pytest

import capture
from pytools.base.comm import comm
from pytools.base.process_files import users_of
from pytools.tool import present

from support import (
    cgroups, kinds, one_in_matrix, python_child, run_tool, tool_names, wait_for_state,
)  # fmt: skip

NAME = "pytools-nobody"  # that no command has
LIVES = "print('', flush=True); input()"
FILTERED = [
    tool
    for tool in kinds(tool_names())
    if any(action.dest == "comm" for action in capture.load(tool).parser._actions)
]
host_only = pytest.mark.host_only


def why(tool: str, *arguments: str) -> list[str]:
    """The reasons why that tool may see nothing now."""
    return present.reasons(capture.load(tool).tool.options(arguments))


@pytest.mark.every_kernel
@pytest.mark.parametrize("tool", one_in_matrix(FILTERED))
def test_a_name_that_nobody_has_is_no_silent_zero(tool: str) -> None:
    result = run_tool(tool, "--duration", "0", "--comm", NAME)
    assert result.returncode == 0
    # Before it, memleak says what it missed of what others did.
    said = re.sub(r"(?m)^memleak: \d+ calls missed: .*\n", "", result.stderr)
    assert said == f"{tool}: nothing was seen: no process is called {NAME}\n"


@pytest.mark.any_types
def test_nothing_is_said_where_somebody_might_have_done_something() -> None:
    """Of a process that is there, and calls nothing, zero is the truth."""
    with python_child(LIVES) as child:
        lines: list[list[str]] = [[], ["--pidns", str(child.pid)], ["--comm", _comm(child.pid)]]
        for more in lines:
            result = run_tool("opensnoop", "-d", "0", "-p", str(child.pid), *more)
            assert (result.returncode, result.stderr) == (0, ""), more


@pytest.mark.any_types
def test_a_process_that_has_ended_is_named() -> None:
    with python_child(LIVES) as child:
        options = capture.load("opensnoop").tool.options(["-p", str(child.pid)])
        threads = capture.load("opensnoop").tool.options(["-t", str(child.pid)])
        spaces = capture.load("opensnoop").tool.options(["--mntns", str(child.pid)])
        assert present.reasons(options) == present.reasons(threads) == []
        child.kill()
        # Not waited for yet: what is left of it does nothing any more.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert present.reasons(options) == [f"there is no process {child.pid} any more"]
        assert present.reasons(threads) == [f"there is no thread {child.pid} any more"]
        assert present.reasons(spaces) == []  # it was this process's, too


@pytest.mark.any_types
def test_each_filter_says_what_is_not_there() -> None:
    unused = next(uid for uid in range(4_000_000, 5_000_000) if uid not in _users())
    with python_child(LIVES) as child:
        pid = str(child.pid)
        assert why("execsnoop", "-P", pid) == [f"process {pid} has no child"]
        assert why("execsnoop", "-P", str(os.getpid())) == []
        assert why("opensnoop", "-u", str(unused)) == [f"no process belongs to user {unused}"]
        assert why("opensnoop", "-u", str(os.getuid()), "-p", pid) == []
        assert why("opensnoop", "-u", pwd.getpwuid(os.getuid()).pw_name) == []
        assert why("opensnoop", "-n", "*yth?n", "-p", pid) == []
        assert why("opensnoop", "-n", NAME) == [f"no process has {NAME} in its name"]
        assert why("opensnoop", "-n", "ython", "-p", pid) == []
        assert why("opensnoop", "-p", pid, "--comm", _comm(os.getppid())) == (
            [] if _comm(os.getppid()) == _comm(child.pid) else ["no process passes all the filters"]
        )
        assert why("offcputime", "-k", "-p", pid) == ["no process passes all the filters"]
        assert why("offcputime", "-u", "-p", pid) == []


@host_only
def test_an_empty_cgroup_is_named() -> None:
    with cgroups(1) as (folder,), python_child(LIVES) as child:
        message = f"no task is in the cgroup {folder}"
        assert why("opensnoop", "--cgroup", str(folder)) == [message]
        (folder / "cgroup.procs").write_text(str(child.pid))
        assert why("opensnoop", "--cgroup", str(folder)) == []
        assert why("opensnoop", "--cgroup", str(folder.parent)) == []
        child.kill()
        child.wait()


@pytest.mark.any_types
def test_a_port_that_no_socket_has_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert why("tcplife", "-L", str(port)) == []
        assert why("tcplife", "-D", str(port)) == [f"no socket has the remote port {port}"]
        with socket.create_connection(("127.0.0.1", port)):
            assert why("tcplife", "-D", str(port)) == []
    assert why("tcplife", "-L", str(port), "--comm", NAME) == [
        f"no process is called {NAME}",
        *([f"no socket has the local port {port}"] * (port not in present._ports_in_use()[0])),
    ]


# What has begun and has not ended, where only what has ended is shown.


@pytest.mark.any_types
@pytest.mark.parametrize(
    "tool, options, words",
    [
        ("syscount", ["-L"], "1 call has not returned"),
        ("syscount", ["-P", "-x"], "1 call has not returned"),
        ("cpudist", ["-O"], "1 thread has not run again"),
        ("syscount", [], ""),
        ("cpudist", [], ""),
        ("runqlat", [], ""),
        ("runqslower", [], ""),
    ],
)
def test_what_has_not_ended_is_no_silent_zero(tool: str, options: list[str], words: str) -> None:
    with python_child(LIVES) as child:
        assert child.stdout and child.stdout.readline() == b"\n"
        wait_for_state(child.pid, "S")
        result = run_tool(tool, *options, "-p", str(child.pid), "-d", "0.1")
    assert result.returncode == 0
    assert result.stderr == (f"{tool}: nothing was seen: {words}\n" if words else "")


class Table:
    """A map as Map is, of these values by their keys."""

    def __init__(self, values: dict[int, int]) -> None:
        self._values = values

    def total(self, key: int) -> int:
        return self._values.get(key, 0)

    def items(self) -> list[tuple[int, int]]:
        return list(self._values.items())

    def named_values(self) -> list[dict[str, int]]:
        return [{"issued": value} for value in self._values.values()]


@host_only
def test_what_waits_for_a_cpu_a_disk_or_an_answer_is_counted() -> None:
    own = os.getpid()
    since = time.monotonic_ns() - 10**9

    def words(tool: str, table: str, values: dict[int, int], *arguments: str) -> str:
        module = capture.load(tool)
        program = SimpleNamespace(maps={table: Table(values)})
        return str(module.tool.under_way(module.tool.options(arguments), program))

    waits = "waiting_since", {own: since << 8 | 5, 1: 0}
    assert words("runqlat", *waits) == "1 thread waits for a CPU"
    assert words("runqlat", *waits, "-p", "1") == ""
    assert words("runqslower", *waits, "1000") == "1 thread has waited for a CPU so long"
    assert words("runqslower", *waits, "60000000") == ""
    for tool in ("biolatency", "biosnoop", "biotop"):
        assert words(tool, "flights", {1: 5, 2: 0}) == "1 request has not ended"
        assert words(tool, "flights", {1: 5, 2: 1}) == "2 requests have not ended"
        assert words(tool, "flights", {}) == ""
    assert words("wakeuptime", "asleep_since", waits[1]) == "1 thread still sleeps"
    assert words("gethostlatency", "calls", {1: 1, 2: 1}) == "2 look-ups have not ended"


def _users() -> set[int]:
    return {user for pid in os.listdir("/proc") if pid.isdigit() for user in users_of(int(pid))}


def _comm(pid: int) -> str:
    return os.fsdecode(comm(f"/proc/{pid}") or b"")
