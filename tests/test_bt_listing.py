"""bt -l: probes in bpftrace's spelling, by pattern, of files, of processes, of a program."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytools.base.errors import Failure
from pytools.bt.listing import listed
from pytools.bt.wrong import Wrong
from pytools.domains import probes
from pytools.facts.kernel import running

SOURCE = """
#include <unistd.h>
int counted_one(int n) { return n + 1; }
int counted_two(int n) { return n + 2; }
int main(void) { write(1, "x", 1); pause(); return counted_one(1) + counted_two(2); }
"""


def lines(*arguments: Any, **named: Any) -> list[str]:
    said: list[str] = []
    named["warn"] = said.append
    found = list(listed(*arguments, **named))
    assert found or said, "nothing is listed, and nobody says so"
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("no compiler")
    folder = tmp_path_factory.mktemp("listed")
    (folder / "program.c").write_text(SOURCE)
    subprocess.run(["gcc", "-o", folder / "program", folder / "program.c"], check=True)
    return folder / "program"


def test_tracepoints_with_their_fields() -> None:
    assert lines("tracepoint:raw_syscalls:*") == [
        "tracepoint:raw_syscalls:sys_enter",
        "tracepoint:raw_syscalls:sys_exit",
    ]
    assert lines("t:raw_syscalls:sys_exit", True) == [
        "tracepoint:raw_syscalls:sys_exit",
        "    long id",
        "    long ret",
    ]
    assert "tracepoint:sched:sched_switch" in lines("*sched_switch*")
    assert "tracepoint:sched:sched_switch" in lines("tracepoint:*_switch")
    assert set(lines()) > {f"tracepoint:{name}" for name in probes.tracepoints(running())}


def test_events_and_units() -> None:
    found = lines("*ware:*")
    assert {"software:cpu-clock:", "software:cpu:", "hardware:cpu-cycles:"} <= set(found)
    assert lines("interval:*") == [f"interval:{unit}:" for unit in ("hz", "ms", "s", "us")]
    assert lines("software:faults") == ["software:faults:"]


def test_several_patterns_and_what_nothing_matches() -> None:
    assert lines("profile:hz,software:cs") == ["profile:hz:", "software:cs:"]
    said: list[str] = []
    assert not list(listed("no_such.bt", warn=said.append))
    assert said[0].startswith("WARNING: It appears that 'no_such.bt' is a filename but the file")
    assert said[1] == "WARNING: nothing matches no_such.bt on this machine"


@pytest.mark.every_kernel
def test_raw_tracepoints_have_a_module_and_arguments() -> None:
    if not running().has_btf:
        pytest.skip("no types")
    name = "rawtracepoint:vmlinux:consume_skb"
    for pattern in ("rawtracepoint:consume_skb", "rt:vmlinux:consume_skb", name):
        assert lines(pattern) == [name]
    shown = lines(name, True)
    assert shown[1] == "    struct sk_buff * skb"
    assert not [line for line in shown if "__data" in line]


@pytest.mark.every_kernel
def test_functions() -> None:
    kernel = running()
    if not kernel.has_kprobes:
        pytest.skip("no kprobes")
    assert lines("kprobe:vfs_read") == ["kprobe:vfs_read"]
    assert "kprobe:vfs_read" in lines("*vfs_rea*")
    assert lines("kr:vmlinux:vfs_read") == ["kretprobe:vmlinux:vfs_read"]
    if probes.fentries(kernel):
        assert lines("fentry:vfs_read", True)[:2] == [
            "fentry:vmlinux:vfs_read",
            "    struct file * file",
        ]
        assert lines("kretfunc:vfs_read", True)[-1].endswith(" retval")


def test_types() -> None:
    if not running().has_btf:
        pytest.skip("no types")
    assert lines("struct list_head", True) == [
        "vmlinux: struct list_head {",
        "\tstruct list_head *next;",
        "\tstruct list_head *prev;",
        "};",
    ]
    assert "vmlinux: struct task_struct" in lines("struct task_*")
    both = lines("struct file,enum pid_type", True)
    assert "vmlinux: struct file {" in both and "\tPIDTYPE_TGID = 1," in both


@pytest.mark.host_only  # the machines have no compiler
def test_functions_of_files_and_processes(program: Path) -> None:
    expected = [f"uprobe:{program}:counted_one", f"uprobe:{program}:counted_two"]
    assert lines(f"uprobe:{program}:counted_*") == expected
    assert lines(f"*:{program}:counted_*") == expected
    assert lines(f"u:{program.parent}/prog*:counted_*") == expected
    with subprocess.Popen([program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stdout.read(1) == b"x"
            assert lines("uprobe:*:counted_*", False, process.pid) == expected
            assert expected[0] in lines("", False, process.pid)
        finally:
            process.kill()
    with pytest.raises(Failure, match="of which file"):
        lines("uprobe:*:counted_*")
    with pytest.raises(Failure):
        lines("uprobe:/no/such/file:*")


@pytest.mark.host_only  # the machines have no compiler
def test_the_probes_of_a_program(tmp_path: Path, program: Path) -> None:
    text = (
        f"hardware:cache-misses:10 {{ }} BEGIN {{ }} i:ms:1,i:1s {{ }} u:{program}:counted_* {{ }} "
        "t:raw_syscalls:sys_e* { }"
    )
    expected = [
        "hardware:cache-misses:",
        "interval:ms:",
        "interval:us:",
        f"uprobe:{program}:counted_one",
        f"uprobe:{program}:counted_two",
        "tracepoint:raw_syscalls:sys_enter",
        "tracepoint:raw_syscalls:sys_exit",
    ]
    assert lines("", program=text) == expected
    (tmp_path / "x.bt").write_text(text)
    assert lines(os.fspath(tmp_path / "x.bt")) == expected
    with pytest.raises(Wrong):
        lines("", program="BEGIN {")
