"""syscount counts every system call once, by name, process and error, and times it."""
from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from arm64_code import program_of_32_bits
from pytools.domains.process_names import names_now
from pytools.facts import syscalls
from support import Tool, on_host_only, python_child, run_tool

X86 = os.uname().machine == "x86_64"
ARM64 = os.uname().machine == "aarch64"

# What every child begins with: it goes on when it is sent a line, and does
# nothing more when it has printed one.
CHILD = r"""
import ctypes, json, mmap, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
print("ready", flush=True)
sys.stdin.readline()
"""
TELL = r"""
print(json.dumps(told), flush=True)
sys.stdin.readline()
"""


def traced(code: str, *options: str, each: bool = True) -> tuple[int, Any, list[dict[str, Any]]]:
    """The pid of a child that runs the code, what it tells, and the tool's rows."""
    with python_child(CHILD + code + TELL) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        mine = ["-p", str(child.pid)] if each else []
        with Tool("syscount", "--json", *mine, *options) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            found = rows(tool.stop())
            assert b"lost" not in tool.messages
    return child.pid, told, found


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def counts(found: list[dict[str, Any]]) -> Counter[str]:
    """The calls by name, all intervals together."""
    total: Counter[str] = Counter()
    for row in found:
        total[row["syscall"]] += row["count"]
    return total


GETPPID = r"""
told = []
for _ in range(100_000):
    os.getppid()
"""


@pytest.mark.every_kernel
@pytest.mark.parametrize(
    "options", [[], ["-L"], *on_host_only(["-E"], ["--syscall", "getppid"], ["0.1"])]
)
def test_counts_100_000_calls_exactly(options: list[str]) -> None:
    _, _, found = traced(GETPPID, *options)
    assert counts(found)["getppid"] == 100_000
    if "--syscall" in options:
        assert set(counts(found)) == {"getppid"}


def test_counts_the_calls_of_each_process_exactly() -> None:
    code = r"""
libc.prctl(15, b"many calls", 0, 0, 0)
told = []
for number in range(8):  # more than there are CPUs: they are preempted
    told.append(os.fork())
    if not told[-1]:
        libc.prctl(15, b"some calls", 0, 0, 0)
        for _ in range(10_000 + number):
            os.getppid()
        os._exit(0)
for _ in range(50_000):
    os.getppid()
for child in told:
    os.waitpid(child, 0)
"""
    pid, children, found = traced(code, "-P", "--syscall", "getppid", each=False)
    by_pid = {row["pid"]: row for row in found}
    assert by_pid[pid]["count"] == 50_000 and by_pid[pid]["comm"] == "many calls"
    assert [by_pid[child]["count"] for child in children] == list(range(10_000, 10_008))
    assert {by_pid[child]["comm"] for child in children} == {"some calls"}


@pytest.mark.any_types
@pytest.mark.parametrize("options", [[], ["-L"]])
def test_counts_calls_of_processes_that_preempt_each_other(options: list[str]) -> None:
    code = r"""
told = []
for number in range(6):  # more than there are CPUs
    told.append(os.fork())
    if not told[-1]:
        libc.prctl(15, b"preempted calls", 0, 0, 0)
        for _ in range(20_000):
            os.getppid()
        os._exit(0)
for child in told:
    os.waitpid(child, 0)
"""
    _, _, found = traced(code, "--comm", "preempted calls", *options, each=False)
    assert counts(found)["getppid"] == 120_000


FAILURES = r"""
told = []
for number in range(5000):
    try:
        os.close(9999)
    except OSError:
        pass
    if number < 3000:
        try:
            os.rmdir("/missing")
        except OSError:
            pass
    os.getppid()
"""


def test_failures_are_counted_by_error() -> None:
    _, _, found = traced(FAILURES, "-x", "-E")
    by_error = {(row["syscall"], row["error"]): row["count"] for row in found}
    assert by_error["close", "EBADF"] == 5000
    assert by_error["rmdir" if X86 else "unlinkat", "ENOENT"] == 3000
    assert "getppid" not in counts(found) and "none" not in {row["error"] for row in found}


@pytest.mark.host_only
@pytest.mark.parametrize("error", ["EBADF", "9"])
def test_one_error_alone(error: str) -> None:
    _, _, found = traced(FAILURES, "-e", error)
    assert counts(found) == {"close": 5000}


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_errors_of_each_process_timed() -> None:
    pid, _, found = traced(FAILURES, "-P", "-E", "-L", "-e", "EBADF", each=False)
    (row,) = [row for row in found if row["pid"] == pid]
    assert (row["error"], row["count"]) == ("EBADF", 5000)
    assert 0 < row["average_ns"] <= row["maximum_ns"] <= row["time_ns"]


@pytest.mark.any_types
def test_time_is_that_of_the_calls() -> None:
    code = r"""
import select
took = []
for _ in range(40):
    begin = time.monotonic_ns()
    select.poll().poll(10)
    took.append(time.monotonic_ns() - begin)
told = took
"""
    _, took, found = traced(code, "-L", "--syscall", "poll" if X86 else "ppoll")
    (row,) = found
    assert row["count"] == 40
    assert 40 * 10_000_000 <= row["time_ns"] <= sum(took)
    assert sorted(took)[-2] * 0.5 < row["maximum_ns"] <= max(took)
    assert row["average_ns"] == row["time_ns"] // 40


def named(folder: Path, program: str) -> str:
    """A program under a name that nothing else on the machine has."""
    link = folder / f"counted-{program}"
    link.symlink_to(f"/bin/{program}")
    return str(link)


@pytest.mark.any_types
def test_calls_that_do_not_return_count(tmp_path: Path) -> None:
    true = named(tmp_path, "true")
    with Tool("syscount", "--json", "--comm", os.path.basename(true)) as tool:
        for _ in range(20):
            subprocess.run([true], check=True)
        found = counts(rows(tool.stop()))
    assert found["exit_group"] == 20


@pytest.mark.any_types
def test_a_call_that_a_signal_interrupts_is_counted_once() -> None:
    code = r"""
import signal
import struct
signal.signal(signal.SIGALRM, lambda *_: None)
told = []
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
for _ in range(50):
    libc.pause()
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    pause = "pause" if X86 else "ppoll"  # by which C libraries pause where there is no such call
    _, _, found = traced(code, "-x")
    assert counts(found)[pause] == 50 and "rt_sigreturn" not in counts(found)
    _, _, found = traced(code)
    assert counts(found)[pause] == 50 <= counts(found)["rt_sigreturn"]


# mov eax, 20; int 0x80; ret: getpid() as a 32-bit program numbers it.
COMPAT = r"""
memory = mmap.mmap(-1, 4096, prot=7)
memory.write(b"\x53\xb8\x14\0\0\0\xcd\x80\x5b\xc3")
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
told = [call() for _ in range(1000)]
"""


@pytest.mark.every_kernel
@pytest.mark.any_types
@pytest.mark.parametrize("options", [[], *on_host_only(["-E"], ["-L"])])
def test_32_bit_calls_are_told_apart(options: list[str], tmp_path: Path) -> None:
    code = COMPAT
    if ARM64:
        # There, a program makes calls of one kind only. 20 is its getpid(), too.
        program_of_32_bits(tmp_path / "compat", 20, 1000, b"null\n")
        code = f"os.execv({str(tmp_path / 'compat')!r}, ['compat'])"
    probe = subprocess.run(
        ["/usr/bin/python3", "-c", CHILD + code], input=b"\n", capture_output=True, check=False
    )
    if probe.returncode == -signal.SIGSEGV or b"Exec format error" in probe.stderr:
        pytest.skip(f"{os.uname().release} has no 32-bit programs (CONFIG_IA32_EMULATION, COMPAT)")
    pid, told, found = traced(code, *options)
    assert told == (None if ARM64 else [pid] * 1000)
    # By its number where neither libseccomp nor the C library's headers are installed.
    assert counts(found)[syscalls.name(20 + syscalls.COMPAT)] == 1000
    assert counts(found)[syscalls.name(20)] == 0


@pytest.mark.host_only
def test_dd_reads_and_writes_as_often_as_it_is_told(tmp_path: Path) -> None:
    dd = named(tmp_path, "dd")
    with Tool("syscount", "--json", "--comm", os.path.basename(dd)) as tool:
        subprocess.run(
            [dd, "if=/dev/zero", "of=/dev/null", "bs=1", "count=100000", "status=none"], check=True
        )
        found = counts(rows(tool.stop()))
    assert found["write"] == 100_000
    assert 100_000 <= found["read"] < 100_100


@pytest.mark.host_only
def test_text_has_ten_rows_or_as_many_as_asked_for() -> None:
    code = GETPPID + "os.getpid(); os.listdir('/'); os.pipe(); os.getcwd(); os.umask(0); os.nice(0)"
    with python_child(CHILD + code + TELL) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("syscount", "-p", str(child.pid), "-T", "3") as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            child.stdout.readline()
            head, first, *rest = tool.stop().split("\n")
    assert head.split() == ["SYSCALL", "COUNT"] and first.split() == ["getppid", "100000"]
    assert len([line for line in rest if line]) == 2


@pytest.mark.host_only
def test_names_and_counts_are_those_of_strace(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    program = tmp_path / "witnessed"  # a name that nothing else on the machine has
    program.symlink_to("/usr/bin/python3")
    script = "import os, socket; os.listdir('/'); socket.socketpair(); os.uname()"
    with Tool("syscount", "--json", "--comm", program.name) as tool:
        strace = subprocess.run(
            ["strace", "-c", "-U", "calls,name", str(program), "-IS", "-c", script],
            stderr=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        found = counts(rows(tool.stop()))
    lines = [line.split() for line in strace.stderr.splitlines()]
    witnessed = {words[1]: int(words[0]) for words in lines if words and words[0].isdigit()}
    del witnessed["total"]
    del witnessed["execve"]  # made under the name of who calls it
    assert len(witnessed) > 15
    assert {name: found[name] for name in witnessed} == witnessed
    assert set(found) - set(witnessed) <= {"exit_group"}


@pytest.mark.host_only
def test_list_and_names() -> None:
    result = run_tool("syscount", "-l")
    names = result.stdout.split()
    assert result.returncode == 0 and names == sorted(set(names)) and len(names) > 300
    for name in ("read", "getppid", "openat2", "exit_group"):
        assert name in names
    if X86:
        assert syscalls.name(110) == "getppid"
        assert syscalls.name(64 + syscalls.COMPAT) == "getppid (32-bit)"
        assert syscalls.numbers("getppid") == [110, 64 + syscalls.COMPAT]
        functions = {"getppid": 110, "newuname": 63, "umount": 166, "no_such_call": None}
        assert {name: syscalls.number_of_function(name) for name in functions} == functions
    assert syscalls.name(1999) == "[1999]"


@pytest.mark.host_only
def test_calls_that_are_newer_than_what_is_installed_have_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = [(number, syscalls.name(number)) for number in range(424, 472)]
    for source in ("_of_libseccomp", "_of_headers", "_of_bcc"):
        monkeypatch.setattr(syscalls, source, lambda compat: {})
    syscalls._by_number.cache_clear()
    syscalls._by_name.cache_clear()
    try:
        # What is installed has no other name for any of them.
        assert [(number, syscalls.name(number)) for number, _ in known] == known
        assert dict(known)[471] == "rseq_slice_yield"
        assert syscalls.number_of_function("mseal") == 462
        assert syscalls.numbers("mseal") == [462, 462 + syscalls.COMPAT]
        assert syscalls.name(462 + syscalls.COMPAT) == "mseal (32-bit)"
    finally:
        syscalls._by_number.cache_clear()
        syscalls._by_name.cache_clear()


MSEAL = r"""
told = []
for _ in range(1000):
    libc.syscall(462, 1, 0, 0)  # fails: 1 is not at the beginning of a page
"""


@pytest.mark.host_only
def test_counts_a_call_of_linux_6_10_by_its_name() -> None:
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 10):
        pytest.skip("mseal is a call of Linux 6.10")
    _, _, found = traced(MSEAL, "--syscall", "mseal")
    assert counts(found) == {"mseal": 1000}


@pytest.mark.host_only
def test_names_without_libseccomp_and_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "_of_libseccomp", lambda compat: {})
    monkeypatch.setattr(syscalls, "_of_headers", lambda compat: {})
    syscalls._by_number.cache_clear()
    try:
        if X86:
            assert syscalls.name(110) == "getppid"  # bcc's own table
            assert syscalls.numbers("getppid") == [110]
        assert syscalls.name(64 + syscalls.COMPAT) == "[64] (32-bit)"
    finally:
        syscalls._by_number.cache_clear()


@pytest.mark.host_only
@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64", "s390x", "loongarch64", "?"])
def test_a_failure_of_what_knows_names_is_a_number(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> Any:
        raise AttributeError("what was expected is not there")

    release = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*release[:4], machine)))
    monkeypatch.setattr("ctypes.CDLL", fail)
    monkeypatch.setattr("platform.machine", lambda: machine)  # of bcc's module
    steps: list[list[str]] = [[], ["_of_headers"], ["_of_headers", "_of_bcc"]]
    for failing in steps:
        for name in failing:
            monkeypatch.setattr(syscalls, name, fail)
        syscalls._by_number.cache_clear()
        try:
            assert syscalls.name(1999) == "[1999]"
            assert re.fullmatch(r"\[39\]|[a-z0-9_]+", syscalls.name(39))
            assert re.fullmatch(r"(\[20\]|[a-z0-9_]+) \(32-bit\)", syscalls.name(20 + 2048))
        finally:
            syscalls._by_number.cache_clear()
    assert syscalls.name(39) == "[39]"
    syscalls._by_number.cache_clear()


@pytest.mark.host_only
@pytest.mark.skipif(
    not os.path.exists("/usr/include/asm-generic/unistd.h"), reason="no headers of the C library"
)
def test_another_machine_s_calls_have_the_names_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    release = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*release[:4], "aarch64")))
    found = syscalls._of_headers(False)
    # include/uapi/asm-generic/unistd.h
    known = {39: "umount2", 25: "fcntl", 62: "lseek", 79: "newfstatat", 173: "getppid"}
    assert {number: found[number] for number in known} == known
    assert set(range(403, 424)).isdisjoint(found)


@pytest.mark.host_only
def test_a_table_of_nothing_has_its_headings() -> None:
    result = run_tool("syscount", "--comm", "no such command", "-P", "-L", "-d", "0")
    why = "nothing was seen: no process is called no such command"
    assert (result.returncode, result.stderr) == (0, f"syscount: {why}\n")
    assert result.stdout.split() == "PID COMM COUNT TIME(us) AVG(us) MAX(us)".split()


@pytest.mark.host_only
def test_unknown_names_are_bad_usage() -> None:
    result = run_tool("syscount", "--syscall", "no_such_call")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "syscount: there is no system call no_such_call (-l prints them all)\n"
    )
    assert run_tool("syscount", "-e", "ENOSUCH").returncode == 2


class EndedNames:
    """The map of a program, which gives one value at a time."""

    names = {4_000_000: b"ended\0\0\0\0\0\0\0\0\0\0\0"}

    def get(self, key: bytes) -> bytes | None:
        return self.names.get(struct.unpack("=I", key)[0])


@pytest.mark.host_only
def test_of_the_names_of_processes_that_ended_only_those_in_rows_are_read() -> None:
    """There are 16,384 of them, each interval."""
    program: Any = argparse.Namespace(maps={"ended_names": EndedNames()})
    name = names_now(program)
    assert (name(4_000_000), name(4_000_001)) == ("ended", None)
    assert name(os.getpid()) == Path("/proc/self/comm").read_text().strip()
