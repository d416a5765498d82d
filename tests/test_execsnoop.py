"""execsnoop reports every program that is run once, with all its arguments and its end."""
from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
from typing import Any

import pytest

from support import EMULATED, Tool, python_child, run_tool

# What every child begins with. fork(f) runs f in a child of its own and returns
# its pid, at once; each that is told is [pid, what the test needs to know].
CHILD = r"""
import ctypes, json, os, resource, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
told = []

def fork(function, *rest):
    child = os.fork()
    if not child:
        try:
            function()
        except OSError:
            pass
        os._exit(99)
    told.append([child, *rest])
    return child

def run(path, arguments, *rest):
    fork(lambda: os.execv(path, arguments), [os.fsencode(a).hex() for a in arguments], *rest)
    return wait()

def wait():
    return os.waitpid(told[-1][0], 0)[1]

def execveat(dirfd, path, arguments, flags=0):
    number = {"x86_64": 322}.get(os.uname().machine, 281)
    argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments)
    libc.syscall(ctypes.c_long(number), ctypes.c_long(dirfd), path, argv,
                 ctypes.c_long(0), ctypes.c_long(flags))

print("ready", flush=True)
sys.stdin.readline()
"""
TELL = r"""
print(json.dumps(told), flush=True)
sys.stdin.readline()
"""


def traced(
    code: str, *options: str, form: str = "--json", arguments: tuple[str, ...] = ()
) -> tuple[Any, str]:
    """What the child tells, and what the tool printed on its children."""
    with python_child(CHILD + code + TELL, *arguments) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        with Tool("execsnoop", *[form] * bool(form), "-P", str(child.pid), *options) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            output = tool.stop()
            assert b"lost" not in tool.messages
    return told, output


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def argv(event: dict[str, Any]) -> list[bytes]:
    line = event["args"]
    # shlex takes a second for a million characters, and a minute in an emulated machine.
    words = shlex.split(line) if "'" in line else line.split()
    return [os.fsencode(word) for word in words]


@pytest.mark.any_types
def test_500_programs_run_in_parallel_each_with_8_KiB_of_arguments() -> None:
    code = r"""
go = os.pipe()
for number in range(500):
    arguments = ["/bin/true"]
    while sum(map(len, arguments)) + len(arguments) < 8192:
        arguments.append("%d.%d" % (number, len(arguments)) + "x" * (8 * (number % 50)))
    def start():
        os.close(go[1])
        os.read(go[0], 1)
        os.execv("/bin/true", arguments)
    fork(start, arguments)
os.close(go[1])
for pid, _ in told:
    os.waitpid(pid, 0)
"""
    told, output = traced(code, "-e")
    found = events(output)
    assert len(told) == len(found) == 500
    assert {event["pid"]: argv(event) for event in found} == {
        pid: [os.fsencode(word) for word in arguments] for pid, arguments in told
    }
    members = ("ret", "cut", "file", "exit_code")
    assert {tuple(map(event.get, members)) for event in found} == {(0, 0, "/bin/true", 0)}


@pytest.mark.every_kernel
def test_arguments_of_every_size_and_kind_are_whole() -> None:
    code = r"""
true = "/bin/true"
run(true, [true])
run(true, [true, ""])
run(true, [true, "", "", "x", ""])
run(true, ["another name", "a b", "it's", '"', "\\", "\n", "\x1b[31m", "\udcff\udcfe", "\u202e"])
for size in (4094, 4095, 4096, 8189, 8190, 8191, 8192, 16384, 131071):
    run(true, [true, "x" * size, "behind"])
run(true, [true, *map(str, range(20_000))])
resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run(true, [true, *("%0100000d" % number for number in range(50))])
"""
    told, output = traced(code)
    found = events(output)
    assert [event["pid"] for event in found] == [pid for pid, _ in told]
    for event, (_, arguments) in zip(found, told):
        assert argv(event) == [bytes.fromhex(word) for word in arguments]
        assert event["cut"] == 0


MANY = 12 if EMULATED else 50
FAILURES = rf"""
base = os.open("/", os.O_RDONLY)
for number in range({MANY}):
    words = ["argv 0", "unique %d" % number, "x" * number * 300]
    run("/missing/%d" % number, words, "ENOENT", None)
run("/etc/passwd", ["passwd"], "EACCES", None)
run("/bin", ["bin", ""], "EACCES", None)
run("/missing", ["x", *map(str, range(1000))], "ENOENT", None)
for dirfd, path, file in ((base, b"missing", "/dev/fd/%d/missing" % base), (-100, b"missing", None),
                          (base, b"", "/dev/fd/%d" % base), (base, b"/missing", None)):
    words = [b"at", path + b"!"]
    fork(lambda: execveat(dirfd, path, words, 0x1000), [w.hex() for w in words],
         "ENOENT" if path else "EACCES", file)
    wait()
fork(lambda: libc.execve(b"/bin/true", ctypes.c_void_p(8), None), [], "EFAULT", None)
wait()
"""


@pytest.mark.any_types
def test_failed_calls_are_shown_with_their_arguments_on_request() -> None:
    told, output = traced(FAILURES, "-x")
    found = events(output)
    assert [event["pid"] for event in found] == [pid for pid, *_ in told]
    for event, (_, arguments, error, file) in zip(found, told):
        assert event["ret"] == -getattr(errno, error)
        assert argv(event) == [bytes.fromhex(word) for word in arguments]
        assert event["cut"] == (error == "EFAULT")
        assert file is None or event["file"] == file
        assert event["exit_code"] is None
    assert [event["file"] for event in found[:MANY]] == [f"/missing/{n}" for n in range(MANY)]


@pytest.mark.host_only
def test_failed_calls_are_not_shown_without() -> None:
    _, output = traced(FAILURES)
    assert output == ""


@pytest.mark.host_only
def test_what_is_cut_says_so() -> None:
    code = 'run("/missing", ["x"] * 2000)'
    _, output = traced(code, "-x")
    (event,) = events(output)
    assert event["cut"] == 1
    assert argv(event) == [b"x"] * len(argv(event)) and len(argv(event)) >= 1000


@pytest.mark.any_types
def test_programs_run_by_descriptor_and_by_a_thread() -> None:
    code = r"""
true = os.open("/bin/true", os.O_RDONLY)
fork(lambda: os.execve(true, ["by descriptor", "a"], {}), "/dev/fd/%d" % true)
wait()
bin = os.open("/bin", os.O_RDONLY)
fork(lambda: execveat(bin, b"true", [b"at", b"b"]), "/dev/fd/%d/true" % bin)
wait()
def threaded():
    thread = threading.Thread(target=lambda: os.execv("/bin/true", ["by a thread", "c"]))
    thread.start()
    thread.join()
fork(threaded, "/bin/true")
wait()
"""
    told, output = traced(code, "-e")
    found = events(output)
    assert [(e["pid"], e["file"]) for e in found] == [(pid, file) for pid, file in told]
    assert [e["args"] for e in found] == ["'by descriptor' a", "at b", "'by a thread' c"]
    assert {event["exit_code"] for event in found} == {0}


@pytest.mark.every_kernel
def test_end_and_duration_are_those_that_the_parent_sees() -> None:
    code = r"""
python = "/usr/bin/python3"
scripts = ["import os; os._exit(%d)" % status for status in (0, 1, 3, 127, 255)]
scripts += ["import os; os.kill(os.getpid(), %d)" % number for number in (9, 15, 6, 34)]
scripts.append("import os, threading, time\n"
               "threading.Thread(target=lambda: os._exit(7)).start()\ntime.sleep(1000)")
scripts.append("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 9'])")
for script in scripts:
    begin = time.monotonic_ns()
    status = run(python, [python, "-ISc", script])
    told[-1] += [status, time.monotonic_ns() - begin]
"""
    told, output = traced(code, "-e")
    found = events(output)
    assert len(found) == len(told) + 1
    *_, replaced, last = found
    # One that another exec replaced ended with neither.
    assert (replaced["exit_code"], replaced["signal"]) == (None, None)
    assert replaced["duration_ns"] > 0
    assert (last["comm"], last["pid"], last["exit_code"]) == ("sh", replaced["pid"], 9)
    del found[-2]
    for event, (pid, _, status, nanoseconds) in zip(found, told):
        assert event["pid"] == pid
        if os.WIFEXITED(status):
            assert (event["exit_code"], event["signal"]) == (os.WEXITSTATUS(status), None)
        else:
            number = os.WTERMSIG(status)
            assert (event["exit_code"], event["signal"]) == (None, signal.Signals(number).name)
        assert 0 < event["duration_ns"] < nanoseconds


@pytest.mark.host_only
def test_what_still_runs_at_the_end_is_shown() -> None:
    code = r"""
reading, writing = os.pipe()
os.set_inheritable(writing, True)
fork(lambda: os.execv("/bin/sh", ["sh", "-c", "echo >&%d; exec <&-; kill -STOP $$" % writing]))
os.read(reading, 1)
"""
    told, output = traced(code, "-e")
    (event,) = events(output)
    assert event["pid"] == told[0][0] and argv(event)[:2] == [b"sh", b"-c"]
    assert (event["exit_code"], event["signal"], event["duration_ns"]) == (None, None, None)


SOME = r"""
libc.prctl(15, b"the parent", 0, 0, 0)
run("/bin/true", ["true", "a b", "c"])
run("/bin/echo", ["/bin/echo", "-n"])
os.setresuid(12345, 12345, 12345)
run("/bin/true", ["other", "x'y"])
"""


def shown(*options: str) -> list[str]:
    """The last words of each line of text."""
    _, output = traced(SOME, *options, form="")
    _, *lines = output.splitlines()
    return [line[line.index(" 0 ") + 3 :] for line in lines]


@pytest.mark.parametrize(
    "options, lines",
    [
        ([], ["/bin/true a b c", "/bin/echo -n", "other x'y"]),
        (["-q"], ["/bin/true 'a b' c", "/bin/echo -n", "other 'x'\"'\"'y'"]),
        (["--max-args", "2"], ["/bin/true a b ...", "/bin/echo -n", "other x'y"]),
        (["-n", "ec.o$"], ["/bin/echo -n"]),
        (["-l", "a b|x"], ["/bin/true a b c", "other x'y"]),
        (["-u", "12345"], ["other x'y"]),
        (["-u", "root", "-n", "true"], ["/bin/true a b c"]),
        (["--comm", "echo"], ["/bin/echo -n"]),
    ],
)
@pytest.mark.host_only
def test_text_and_filters(options: list[str], lines: list[str]) -> None:
    assert shown(*options) == lines


@pytest.mark.host_only
def test_every_column() -> None:
    told, output = traced(SOME, "-T", "-t", "-U", "-M", "-C", "-e", form="")
    head, first, _, other = output.splitlines()
    assert head.split() == (
        "TIME TIME(s) UID COMM PID PCOMM PPID CPU RET EXIT SECONDS ARGS".split()
    )
    words = first.split()
    assert words[2:5] == ["0", "true", str(told[0][0])]
    assert words[5:7] == ["the", "parent"]
    assert words[9:11] == ["0", "0"] and words[12:] == ["/bin/true", "a", "b", "c"]
    assert other.split()[2] == "12345"


@pytest.mark.host_only
def test_bad_patterns_and_users_are_bad_usage() -> None:
    result = run_tool("execsnoop", "-n", "(")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("execsnoop: --name '(' is no regular expression: ")
    result = run_tool("execsnoop", "-u", "no such user")
    assert (result.returncode, result.stdout) == (2, "")
    assert "there is no user 'no such user'" in result.stderr


@pytest.mark.any_types
def test_many_short_programs_one_after_the_other() -> None:
    with Tool("execsnoop", "--json", "-e", "--comm", "true") as tool:
        shell = subprocess.Popen(["sh", "-c", "for i in $(seq 100); do /bin/true $i; done"])
        assert shell.wait() == 0
        found = [e for e in events(tool.stop()) if e["ppid"] == shell.pid]
    assert [event["args"] for event in found] == [f"/bin/true {i}" for i in range(1, 101)]
    assert {event["exit_code"] for event in found} == {0}
