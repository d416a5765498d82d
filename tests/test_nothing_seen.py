"""A tool that has seen nothing says what it looked for, where that is not there."""
from __future__ import annotations

import os
import socket

import pytest

import capture
from pytools.tool import present
from support import cgroups, kinds, one_in_matrix, python_child, run_tool, tool_names

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


@pytest.mark.parametrize("tool", one_in_matrix(FILTERED))
def test_a_name_that_nobody_has_is_no_silent_zero(tool: str) -> None:
    result = run_tool(tool, "-d", "0", "--comm", NAME)
    assert result.returncode == 0
    assert result.stderr == f"{tool}: nothing was seen: no process is called {NAME}\n"


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


def _users() -> set[int]:
    return {present._user(int(pid)) for pid in os.listdir("/proc") if pid.isdigit()}


def _comm(pid: int) -> str:
    return present._name(pid)
