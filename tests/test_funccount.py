"""funccount against programs that count their own calls, and its ways to attach."""
from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any, Sequence

import pytest

import capture
from arm64_code import program_of_32_bits
from programs import program_ids, wait_until_detached
from pytools.load import attach, multi_attach, program
from pytools.tool import many_probes
from pytools.tool.waiting import Progress
from pytools.facts import differences
from pytools.domains import probes
from pytools.load.attach import Attachment
from pytools.facts.elf import File
from pytools.base.errors import Failure
from pytools.compile.image import ProgramSpec
from pytools.facts.kernel import running
from pytools.load.loader import Loaded
from pytools.load.multi_attach import Target
from support import Tool, needs_functions, python_child, run_tool

PYTHON = os.path.realpath(sys.executable)
# Those that this Python was built with.
GC_NAMES = {probe.name for probe in File(PYTHON).probes() if probe.name.startswith("gc__")}
GC_PROBES = [f"u:{PYTHON}:{name}" for name in sorted(GC_NAMES)]
# Waits for a line, makes known numbers of calls in a folder, and says so.
CALLS = """
import ctypes, gc, os, signal, sys
libc = ctypes.CDLL(None)
gc.disable()
folder = sys.argv[1] + "/folder"
signal.signal(signal.SIGUSR1, lambda *ignored: None)
print("ready", flush=True)
sys.stdin.readline()
for i in range(1000):
    libc.lrand48()
for i in range(300):
    libc.mrand48()
for i in range(20):
    os.kill(os.getpid(), signal.SIGUSR1)
    os.mkdir(folder)
    os.rmdir(folder)
for i in range(37):
    gc.collect()
for i in range(500):
    os.getppid()
os.write(1, b"done\\n")
os.read(0, 1)
"""


def counted(folder: Path, *arguments: str) -> dict[str, int]:
    """What funccount counts in the program."""
    return counted_in(CALLS, [str(folder)], *arguments)


def counted_in(code: str, words: Sequence[str], *arguments: str) -> dict[str, int]:
    before = program_ids()
    with python_child(code, *words) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("funccount", "--json", "-p", str(child.pid), *arguments) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            lines = [json.loads(line) for line in tool.stop().splitlines()]
    wait_until_detached(before)
    assert all(set(line) == {"ts", "func", "count"} for line in lines), lines
    return {line["func"]: line["count"] for line in lines}


@pytest.mark.every_kernel
def test_tracepoints_functions_and_probes_of_one_process(tmp_path: Path) -> None:
    found = counted(
        tmp_path, "t:syscalls:sys_enter_getp*id", "t:syscalls:sys_exit_getppid", "t:signal:*",
        "c:*rand48", *GC_PROBES,
    )  # fmt: skip
    libc = next(name for name in found if name.endswith(":lrand48")).partition(":")[0]
    assert found == {
        "syscalls:sys_enter_getppid": 500,
        "syscalls:sys_exit_getppid": 500,
        "syscalls:sys_enter_getpid": 20,
        "signal:signal_generate": 20,
        "signal:signal_deliver": 20,
        f"{libc}:lrand48": 1000,
        f"{libc}:mrand48": 300,
        **{f"{os.path.basename(PYTHON)}:python:{name}": 37 for name in GC_NAMES},
    }


# mov eax, 64; int 0x80; ret: getppid() as a 32-bit program numbers it. Then calls of functions
# that have another name than the call, and one that fails. On arm64 a whole program makes the
# 32-bit calls, at the end.
SINGLE_CALLS = r"""
import ctypes, mmap, os, socket, sys
print("ready", flush=True)
sys.stdin.readline()
libc = ctypes.CDLL(None)
if "int 0x80" in sys.argv:
    memory = mmap.mmap(-1, 4096, prot=7)
    memory.write(b"\x53\xb8\x40\0\0\0\xcd\x80\x5b\xc3")
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    assert all([call() == os.getppid() for _ in range(40)])
for i in range(30):
    os.uname()
for i in range(20):
    libc.umount2(b"/nowhere", 0)
for i in range(10):
    libc.semget(-1, -1, 0)
if "/" in "".join(sys.argv[1:]):
    for i in range(40):
        os.getppid()
    os.execv(sys.argv[1], sys.argv[1:])
os.write(1, b"done\n")
os.read(0, 1)
"""


def test_many_system_calls_at_once(tmp_path: Path) -> None:
    words = []
    if os.uname().machine == "x86_64":
        words = ["int 0x80"]
    elif os.uname().machine == "aarch64":
        words = [str(tmp_path / "compat")]
        # A 32-bit getppid() is 64 there, too.
        program_of_32_bits(tmp_path / "compat", 64, 40, b"done\n")
    if words:
        probe = subprocess.run(
            ["/usr/bin/python3", "-c", SINGLE_CALLS, *words], input=b"\n", capture_output=True,
            check=False,
        )  # fmt: skip
        # This kernel may run no 32-bit programs (CONFIG_IA32_EMULATION, CONFIG_COMPAT).
        if probe.returncode == -signal.SIGSEGV or b"Exec format error" in probe.stderr:
            words = []
    names = ("newuname", "umount", "semget", "getp*id")  # 12 tracepoints
    found = counted_in(SINGLE_CALLS, words, *(f"t:syscalls:sys_*_{name}" for name in names))
    for way in ("enter", "exit"):
        assert found[f"syscalls:sys_{way}_newuname"] == 30
        assert found[f"syscalls:sys_{way}_umount"] == 20
        assert found[f"syscalls:sys_{way}_semget"] == 10  # x86-64: 64, a 32-bit getppid()
        assert found.get(f"syscalls:sys_{way}_getppid", 0) == 40 * len(words)


@needs_functions
def test_functions_of_the_kernel(tmp_path: Path) -> None:
    # Few: before v6.12 the kernels of the matrix attach to them one by one.
    found = counted(tmp_path, "vfs_[mrw]*", "p:vfs_fsync")
    assert found["vfs_mkdir"] == 20
    assert found["vfs_write"] == 1
    found = counted(tmp_path, "-r", "p:^security_inode_(mk|rm)dir$")
    assert found == {"security_inode_mkdir": 20, "security_inode_rmdir": 20}


THOUSAND = "p:^(ext4|jbd2|security|vfs)_"


@needs_functions
def test_exact_counts_among_a_thousand_functions_of_the_kernel(tmp_path: Path) -> None:
    known = running()
    if not known.has_btf or known.btf.function("register_fprobe_ips") is None:
        pytest.skip(f"{known.release} has no kprobe.multi: a minute of grace periods")
    assert len(probes.find(known, THOUSAND, regex=True)) > 1000
    found = counted(tmp_path, "-r", THOUSAND)
    for function in ("vfs_mkdir", "vfs_rmdir", "security_inode_mkdir", "security_inode_rmdir"):
        assert found[function] == 20


@pytest.mark.host_only
def test_a_cpu_and_an_interval(tmp_path: Path) -> None:
    assert counted(tmp_path, "-c", "54321", "t:syscalls:sys_enter_getppid") == {}
    result = run_tool("funccount", "-T", "-i", "0.2", "-d", "0.5", "t:sched:sched_switch")
    lines = result.stdout.splitlines()
    assert [line.split() for line in lines].count(["FUNC", "COUNT"]) == 3
    assert sum(line.startswith("sched:sched_switch ") for line in lines) == 3


@pytest.mark.host_only
def test_a_thousand_functions_of_a_program() -> None:
    before = program_ids()
    with Tool("funccount", "--json", "bash:*") as tool:
        subprocess.run(["bash", "-c", "for i in 1 2 3; do :; done"], check=True)
        lines = [json.loads(line) for line in tool.stop().splitlines()]
    wait_until_detached(before)
    assert b"Counting " in tool.messages
    number = int(tool.messages.rpartition(b"Counting ")[2].split()[0])
    assert number > 1000
    found = {line["func"]: line["count"] for line in lines}
    assert found["bash:main"] == 1


# Bad use.


@pytest.mark.host_only
@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["t:no:such"], 1, "nothing that can be traced matches t:no:such"),
        (["c:no_such_function"], 1, "nothing that can be traced matches c:no_such_function"),
        (["u:c:no_such"], 1, "nothing that can be traced matches u:c:no_such"),
        (["t:sched"], 2, "t:sched:: a tracepoint is t:CATEGORY:NAME"),
        (["u:c"], 2, "u:c: a program or library and a name are missing"),
        (["no such library:x"], 2, "there is no program and no library no such library"),
        (["-r", "t:sched:("], 2, "'(' is no regular expression"),
        (["/etc/passwd:x"], 1, "cannot read /etc/passwd: not an ELF file"),
    ],
)
def test_what_is_not_there(arguments: list[str], status: int, words: str) -> None:
    result = run_tool("funccount", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith(f"funccount: {words}"), result.stderr
    assert len(result.stderr.splitlines()) == 1


# Ways to attach, in this process.


def prepared(count: int) -> program.Program:
    source = capture.capture("funccount")
    settings = {**source.settings, "CPU": -1}
    return program.prepare(
        source._replace(settings=settings), {"counts": count}, True, lambda line: None
    )


def numbered(patterns: Sequence[str]) -> tuple[list[str], list[Target]]:
    found = [one for pattern in patterns for one in probes.find(running(), pattern)]
    targets = [
        place._replace(number=number) for number, one in enumerate(found) for place in one.places
    ]
    return [one.name.rpartition(":")[2] for one in found], targets


@pytest.mark.every_kernel
@pytest.mark.any_types
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
def test_each_way_to_attach_counts_the_same(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if at_once:
        monkeypatch.setattr(multi_attach, "MOST_SINGLE_CALLS", 0)
    else:
        monkeypatch.setattr(multi_attach._Many, "_can", lambda self, attach_type: False)
        monkeypatch.setattr(differences, "raw_tracepoints_count", lambda kernel: False)
    names, targets = numbered(
        ["c:lrand48", "c:mrand48", "t:syscalls:sys_enter_getpgid",
         "t:syscalls:sys_exit_getpgid", "t:signal:signal_generate", *GC_PROBES]
    )  # fmt: skip
    traced = prepared(len(names))
    told = []
    traced.attach()
    try:
        progress = lambda done, total: told.append((done, total))  # noqa: E731
        assert traced.attach_many("count", targets, progress) == []
        libc = ctypes.CDLL(None)
        gc.disable()
        for _ in range(50):
            libc.lrand48()
        libc.mrand48()
        for _ in range(7):
            gc.collect()
        for _ in range(90):
            os.getpgid(0)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGURG)  # which is ignored
    finally:
        gc.enable()
        traced.detach()
    assert told[-1] == (len(targets), len(targets))
    counts = [traced.maps["counts"].total(number) for number in range(len(names))]
    found = dict(zip(names, counts))
    # Others are counted as well: of these there are none, or few.
    assert found["lrand48"] == 50 and found["mrand48"] == 1
    assert found["sys_enter_getpgid"] >= 90 and found["sys_exit_getpgid"] >= 90
    assert found["signal_generate"] >= 3
    assert all(found[name] >= 7 for name in GC_NAMES)
    assert traced.missed() == 0
    for _, fd in traced._loaded.programs:
        os.close(fd)


class Refusing:
    """Stands for a kernel that attaches to any functions but some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: set[str], unsupported: bool) -> None:
        self.links: list[list[str]] = []
        self.events: list[tuple[str, int]] = []
        self.bad = bad
        self.unsupported = unsupported
        monkeypatch.setattr(attach, "kprobe_multi", self.multi)
        monkeypatch.setattr(attach, "kprobe_event", self.event)
        monkeypatch.setattr(multi_attach._Many, "_can", lambda self, attach_type: True)
        monkeypatch.setattr(multi_attach._Many, "_load", self.load)
        monkeypatch.setattr(type(running()), "has_kprobes", True)
        self.loads: list[tuple[str, int]] = []

    def load(self, kind: str, number: int) -> int:
        self.loads.append((kind, number))
        return number

    def multi(
        self,
        fd: int,
        functions: Sequence[str],
        numbers: Sequence[int],
        returns: bool,
        session: bool = False,
    ) -> int:
        if self.unsupported:
            raise OSError(524, "")
        if self.bad & set(functions):
            raise OSError(3, "")  # ESRCH
        self.links.append(list(functions))
        return 0

    def event(self, name: str, fd: int, cpu: int, returns: bool) -> int:
        if name in self.bad:
            raise OSError(22, "")  # EINVAL
        self.events.append((name, fd))
        return 0


def attach_functions(count: int) -> list[Target]:
    targets = [Target("function", f"f{number}", number) for number in range(count)]
    spec = ProgramSpec("probes__count", "probes", "count", b"\0" * 8, [])
    return multi_attach.attach_many(
        Attachment(), Loaded(), spec, {}, targets, running(), lambda done, total: None
    )


@pytest.mark.host_only
def test_functions_that_are_refused_are_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Refusing(monkeypatch, {"f3", "f700", "f701"}, unsupported=False)
    refused = attach_functions(1000)
    assert {target.name for target in refused} == {"f3", "f700", "f701"}
    attached = [name for link in kernel.links for name in link]
    assert sorted(attached) == sorted({f"f{n}" for n in range(1000)} - {"f3", "f700", "f701"})
    assert len(kernel.links) < 40 and kernel.loads == [("kprobe.multi", -1)]


@pytest.mark.host_only
def test_a_kernel_without_kprobe_multi_gets_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Refusing(monkeypatch, {"f3"}, unsupported=True)
    refused = attach_functions(10)
    assert [target.name for target in refused] == ["f3"]
    assert kernel.events == [(f"f{n}", n) for n in range(10) if n != 3]


@pytest.mark.host_only
def test_names_of_what_is_refused_are_on_standard_error(capsys: Any) -> None:
    names = [f"f{number}" for number in range(20)]
    refused = [Target("function", name, number) for number, name in enumerate(names)]
    person = argparse.Namespace(tool="funccount", waiting=True)
    many_probes.name_refused(person, refused[:2], names, "count")
    assert capsys.readouterr().err == (
        "funccount: the kernel lets nobody attach to 2 of them: f0, f1\n"
    )
    many_probes.name_refused(person, [], names, "count")
    assert capsys.readouterr().err == ""
    with pytest.raises(Failure, match="there is nothing to count"):
        many_probes.name_refused(person, refused, names, "count")
    assert capsys.readouterr().err.endswith(
        ": f0, f1, f10, f11, f12, f13, f14, f15, f16, f17, ...\n"
    )


class Clock:
    """A time.monotonic() that goes on by half a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


@pytest.mark.host_only
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_after_a_second(
    terminal: bool, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", Clock())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    waiting = types.SimpleNamespace(ended=False)
    progress = Progress("funccount", "attached to", waiting)  # type: ignore[arg-type]
    for done in range(1, 5):
        progress(done, 4)
    shown = capsys.readouterr().err
    if terminal:
        parts = [f"\rfunccount: attached to {done} of 4\x1b[K" for done in (2, 3)]
        assert shown == "".join([*parts, "\r\x1b[K"])
    else:
        assert shown == "funccount: attached to 2 of 4\n"
    waiting.ended = True
    with pytest.raises(KeyboardInterrupt):
        progress(1, 4)
