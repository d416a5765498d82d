"""--exec: a command and all its children are traced from their first moment to their last, and
nothing else is."""
from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, Sequence

import pytest

import capture
from programs import program_ids, wait_until_detached
from pytools.base import held
from pytools.base.errors import Failure
from pytools.compile.template import render

from support import (
    PATIENCE, TOOLS, Tool, in_fork, needed, on_host_only, python_child, run_tool, tool_names,
)  # fmt: skip

host_only = pytest.mark.host_only
FILTERED = [
    tool
    for tool in tool_names()
    if any(action.dest == "command" for action in capture.load(tool).parser._actions)
]


def opened(folder: Path, *command: str) -> list[str]:
    """The names in a folder that opensnoop has seen opened by a command."""
    result = run_tool("opensnoop", "--json", "--exec", *command)
    assert (result.returncode, result.stderr) == (0, "")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert not any("lost" in event for event in events)
    paths = [Path(event["path"] or "") for event in events]
    return sorted(path.name for path in paths if path.parent == folder)


# Opens what it is named: in the process, in a thread, in a child, in a grandchild whose parent has
# ended, in a program that another thread than the first becomes, and in a child of that.
FAMILY = """
import os, subprocess, sys, threading
folder = sys.argv[1] + "/"

def touch(name):
    os.close(os.open(folder + name, os.O_RDONLY | os.O_CREAT))

touch("process")
thread = threading.Thread(target=touch, args=["thread"])
thread.start()
thread.join()
if not os.fork():
    touch("child")
    if not os.fork():
        while os.getppid() == int(sys.argv[2] or 0):
            pass
        touch("orphan")
    os._exit(0)
os.wait()
program = ["/bin/sh", "-c", f": >{folder}program; (: >{folder}subshell)"]
threading.Thread(target=os.execv, args=[program[0], program]).start()
threading.Event().wait()
"""


@contextlib.contextmanager
def others(folder: Path) -> Iterator[None]:
    """A process that has nothing to do with it, and opens a file there all the time."""
    code = "import sys\nprint(flush=True)\nwhile True: open(sys.argv[1]).close()"
    (folder / "others").touch()
    with python_child(code, str(folder / "others")) as child:
        assert child.stdout and child.stdout.readline()
        yield


def test_a_command_its_threads_and_all_that_descend_from_it(tmp_path: Path) -> None:
    names = sorted(["process", "thread", "child", "orphan", "program", "subshell"])
    with others(tmp_path):
        for _ in range(3):
            command = [sys.executable, "-Wignore", "-c", FAMILY, str(tmp_path), ""]
            assert opened(tmp_path, *command) == names


# Many children that open a file at once, and end.
STORM = """
import os, sys
for number in range(int(sys.argv[2])):
    if not os.fork():
        os.close(os.open(f"{sys.argv[1]}/{number}", os.O_RDONLY | os.O_CREAT))
        os._exit(0)
for number in range(int(sys.argv[2])):
    os.wait()
"""


@pytest.mark.every_kernel
def test_no_child_runs_before_it_is_followed(tmp_path: Path) -> None:
    number = 500
    names = opened(tmp_path, sys.executable, "-c", STORM, str(tmp_path), str(number))
    assert names == sorted(map(str, range(number)))


CALLS = """
import ctypes, os
call = ctypes.CDLL(None).getppid
for _ in range(1000):
    call()
if not os.fork():
    for _ in range(500):
        call()
"""


@pytest.mark.parametrize("options", [[], *on_host_only(["-L"], ["-P"])])
def test_syscount_counts_the_calls_of_a_command_and_the_last_interval(options: list[str]) -> None:
    """The child is still at work when the command has ended, and the interval is not over."""
    spin = "import ctypes\ncall = ctypes.CDLL(None).getppid\nprint(flush=True)\nwhile True: call()"
    with python_child(spin) as other:
        assert other.stdout and other.stdout.readline()
        arguments = [*options, "--json", "--syscall", "getppid", "1000"]
        result = run_tool("syscount", *arguments, "--exec", sys.executable, "-c", CALLS)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert sum(row["count"] for row in rows) == 1500
    if "-P" in options:
        assert sorted(row["count"] for row in rows) == [500, 1000]


def test_the_command_has_one_exec_and_no_call_of_what_held_it() -> None:
    result = run_tool("syscount", "--json", "--exec", "/bin/true")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    counts = {row["syscall"]: row["count"] for row in rows}
    assert counts["execve"] == 1 and counts["exit_group"] == 1
    assert not {"prctl", "clone", "getppid", "fork"} & set(counts)


@host_only
def test_the_tool_ends_after_the_last_child(tmp_path: Path) -> None:
    """Which outlives the command, and has another session."""
    code = """
import os, sys
if not os.fork():
    os.setsid()
    parent = os.getppid()
    sys.stdin.readline()
    os.close(os.open(sys.argv[1] + "/late", os.O_RDONLY | os.O_CREAT))
    os._exit(0)
print("ended", flush=True)
"""
    tool = subprocess.Popen(
        [TOOLS / "opensnoop", "--json", "--exec", sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert tool.stdout and tool.stdout.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        tool.wait(0.5)
    output, messages = tool.communicate(b"\n", timeout=PATIENCE)
    assert (tool.returncode, messages) == (0, b"")
    assert f"{tmp_path}/late" in output.decode()


@host_only
@pytest.mark.parametrize(
    "command, said",
    [
        (["exit 3"], "the command ended with status 3"),
        (["kill -KILL $$"], "the command was killed by SIGKILL"),
        (["exit 0"], ""),
    ],
)
def test_how_the_command_ended_is_said_and_is_not_the_tools_status(
    command: Sequence[str], said: str
) -> None:
    result = run_tool("opensnoop", "--exec", "sh", "-c", *command)
    assert result.returncode == 0
    assert result.stderr == (f"opensnoop: {said}\n" if said else "")


@host_only
def test_what_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "script").write_text(": nothing")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "orphan").write_text("#!/no/such/shell\n")
    (tmp_path / "orphan").chmod(0o755)
    for name, reason in (
        ("no-such-program", "there is no such program in PATH"),
        (f"{tmp_path}/none", "No such file or directory"),
        (f"{tmp_path}/text/x", "Not a directory"),
        (f"{tmp_path}/text", f"{tmp_path}/text is not executable"),
        (str(tmp_path), f"{tmp_path} is a directory"),
        (f"{tmp_path}/script", "Exec format error (a script without #!?)"),
        (f"{tmp_path}/orphan", "No such file or directory"),
        ("", "there is no such program in PATH"),
        ("a" * 5000 + "/", "File name too long"),
        ("\x1b[2J", "there is no such program in PATH"),
    ):
        result = run_tool("opensnoop", "--exec", name)
        assert (result.returncode, result.stdout) == (1, ""), name
        assert result.stderr == f"opensnoop: cannot run {name!r}: {reason}\n"


@host_only
def test_bad_usage_is_one_line() -> None:
    for arguments, said in (
        (["--exec"], "argument --exec: a command must follow"),
        (["-p", "1", "--exec", "true"], "argument --exec: not allowed with argument -p/--pid"),
        (["--exec", "true", "--comm"], None),  # an option of the command's
    ):
        result = in_fork("opensnoop", *arguments)
        if said:
            assert result.returncode == 2 and said in result.stderr
            assert len(result.stderr.splitlines()) == 1
        else:
            assert result.returncode == 0


# What a program is given by whoever starts it.
GIVEN = """
import json, os, resource, sys
status = open("/proc/self/status").read().splitlines()
limits = {name: resource.getrlimit(getattr(resource, name))
          for name in dir(resource) if name.startswith("RLIMIT_")}
environment = open("/proc/self/environ", "rb").read().split(b"\\0")
print(json.dumps([
    [line for line in status if line.split(":")[0] in
     ("SigIgn", "SigBlk", "SigCgt", "Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs")],
    sorted(limits.items()), sorted(os.fsdecode(each) for each in environment if each),
    os.getcwd(), os.umask(0), os.getpgrp(), os.getsid(0), os.nice(0),
    sorted(int(name) for name in os.listdir("/proc/self/fd")),
    open("/proc/self/cgroup").read(), sys.argv[1:],
]), file=sys.stderr)
"""


@host_only
@pytest.mark.parametrize("shell", ["", "trap '' INT HUP; ulimit -n 500 -l 4000; "])
def test_the_command_gets_what_it_would_get_without_the_tool(shell: str) -> None:
    program = """exec "$@" 5</dev/null"""
    words = [sys.executable, "-c", GIVEN, "--", "--json", "-p", "a b", ""]
    environment = {"PATH": os.environ["PATH"], "A": "\udcff", "B": ""}
    found = [
        subprocess.run(
            ["bash", "-c", shell + program, "bash", *before, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment, check=True, start_new_session=False,
        ).stderr
        for before in (list[str](), [str(TOOLS / "opensnoop"), "--exec"])
    ]  # fmt: skip
    assert json.loads(found[0]) == json.loads(found[1])


def has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], PATIENCE)[0])


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@host_only
def test_a_held_command_never_runs_if_the_tool_is_killed(tmp_path: Path) -> None:
    before = program_ids()
    tool = subprocess.Popen(
        [TOOLS / "opensnoop", "--no-cache", "--exec", "touch", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL,
    )
    while not children(tool.pid):
        assert tool.poll() is None
    pidfd = os.pidfd_open(children(tool.pid)[0])
    tool.kill()
    tool.wait()
    assert has_ended(pidfd)
    os.close(pidfd)
    assert not (tmp_path / "run").exists()
    wait_until_detached(before)


WAITS = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *rest: (print("terminated", flush=True), os._exit(0)))
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""


@host_only
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT", "SIGTERM", "duration"])
def test_a_command_is_told_to_end_when_the_tool_ends_before(how: str) -> None:
    before = program_ids()
    output, end = os.pipe()
    more = ["--duration", "0.5"] if how == "duration" else []
    tool = subprocess.Popen(
        [TOOLS / "syscount", "--json", *more, "--exec", sys.executable, "-c", WAITS],
        stdout=end,
        start_new_session=True,
    )
    os.close(end)
    with open(output) as lines:
        pidfd = os.pidfd_open(int(lines.readline()))
        if how != "duration":
            tool.send_signal(getattr(signal, how))
        assert tool.wait(PATIENCE) == (-signal.SIGKILL if how == "SIGKILL" else 0)
        assert has_ended(pidfd)
        os.close(pidfd)
        assert "terminated\n" in lines.read()
    wait_until_detached(before)


@host_only
def test_one_tool_of_each_way_to_wait_ends_with_the_command() -> None:
    """With a histogram, stacks, a table, events."""
    work = "sum(range(10**7))"
    result = run_tool("runqlat", "--json", "--exec", sys.executable, "-c", work)
    (histogram,) = (json.loads(line) for line in result.stdout.splitlines())
    assert result.returncode == 0 and histogram["samples"] > 0
    result = run_tool("profile", "-F", "999", "--json", "--exec", sys.executable, "-c", work)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    # It has the tool's name until the kernel has found the program.
    names = {row["comm"] for row in rows}
    assert result.returncode == 0 and names <= {_comm(), "python3", "profile"}
    assert sum(row.get("samples", 0) for row in rows) > 10
    result = run_tool("execsnoop", "--json", "--exec", "sh", "-c", "/bin/true; /bin/true; :")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    commands = Counter(event["comm"] for event in events)
    assert commands == {"sh": 1, "true": 2}


def _comm() -> str:
    return os.path.basename(sys.executable)[:15]


@pytest.mark.rendering
@pytest.mark.parametrize("tool", FILTERED)
def test_no_tool_has_the_programs_of_exec_already(tool: str) -> None:
    for release in ("5.10", "7.3"):
        kernel = capture.recorded(release)
        captured = capture.capture(tool, needed(tool, ["--exec", "true"]), kernel)
        programs = [hook.program for hook in render(captured, kernel).hooks]
        assert len(set(programs)) == len(programs)
        assert "raw_tracepoint__sched_process_fork" in programs


@host_only
def test_a_program_is_found_as_a_shell_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second", "third"):
        (tmp_path / folder).mkdir()
    (tmp_path / "first" / "run").mkdir()
    (tmp_path / "second" / "run").write_text("")
    (tmp_path / "third" / "run").write_text("")
    (tmp_path / "third" / "run").chmod(0o755)
    path = ":".join(str(tmp_path / name) for name in ("none", "first", "second", "third"))
    monkeypatch.setenv("PATH", path)
    assert held.executable("run") == f"{tmp_path}/third/run"
    (tmp_path / "third" / "run").unlink()
    with pytest.raises(Failure, match="second/run is not executable"):
        held.executable("run")


@host_only
def test_collecting_runs_the_command_and_closing_ends_it(tmp_path: Path) -> None:
    module = capture.load("opensnoop")
    options: Any = module.tool.options(["--exec", sys.executable, "-c", WAITS])
    trace = module.start(options)
    try:
        deadline = time.monotonic() + PATIENCE
        rows: list[Any] = []
        while not rows and time.monotonic() < deadline:
            rows += trace.collect().rows
        pids = options.family.pids()
        pidfd = os.pidfd_open(min(pids))
        assert {row["pid"] for row in rows} <= pids
    finally:
        trace.close()
    assert has_ended(pidfd)
    os.close(pidfd)


@host_only
def test_ctrl_c_while_it_is_held(tmp_path: Path) -> None:
    with Tool("opensnoop", "--exec", "sleep", "1000") as tool:
        assert "PATH" in tool.stop()
