"""bt at the kernel's functions and at BPF programs: which are there, which may be traced, and whose
calls are counted."""
from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Iterator

import pytest

from pytools.bt import sessions
from pytools.bt.expand import expand
from pytools.bt.layouts import Layouts
from pytools.bt.parse import parse
from pytools.bt.plan import Plan, Point
from pytools.bt.probes import _arguments
from pytools.compile.image import Image, ProgramSpec
from pytools.facts import btf, kernel
from pytools.facts.differences import has_fentry
from pytools.load.programs import functions
from support import python_child
from test_bt import Started, bt
from test_bt_emit import READS, printed_of

RUNNING = kernel.running()
WITH_FUNCTIONS = pytest.mark.skipif(not RUNNING.has_kprobes, reason="no kernel functions")
NONE_LEFT = "Probe has no valid attach points."
# Reads so often from /dev/zero, first alone, then once more for each line that it is told.
READER = f"""
import os
zero = os.open("/dev/zero", os.O_RDONLY)
print("ready", flush=True)
input()
for _ in range({READS}):
    os.read(zero, 4093)
print("done", flush=True)
input()
"""


def refused(*arguments: str, status: int = 1, **options: str) -> str:
    """What bt says on standard error of a program that it refuses."""
    result = bt(*arguments, env={**os.environ, **options})
    assert (result.returncode, result.stdout) == (status, ""), result
    return result.stderr


# Which are there.


def test_a_filter_of_probes_that_leaves_none() -> None:
    program = "kprobe:vfs_read { exit(); }"
    assert refused("--probe-filter", "nonesuch", "-e", program) == "No probes to attach\n"
    said = refused("--probe-filter", "[nonesuch", "-e", program, status=2)
    assert said.startswith("ERROR: Invalid --probe-filter regex '[nonesuch': ")


@pytest.mark.parametrize("kind", ["tracepoint:syscalls", "rawtracepoint"])
def test_a_pattern_without_a_match_is_left_out_if_another_point_is_there(kind: str) -> None:
    there = "tracepoint:raw_syscalls:sys_enter"
    result = bt("-q", "-e", f"{kind}:nonesuch*, {there} {{ @ = 1; exit(); }}")
    assert (result.returncode, result.stdout.strip()) == (0, "@: 1")
    assert f"WARNING: No matches for {kind}:nonesuch*. Skipping." in result.stderr.replace(
        f"{kind.partition(':')[0]} ", f"{kind.partition(':')[0]}:"
    )
    assert f"ERROR: {NONE_LEFT}" in refused("-e", f"{kind}:nonesuch* {{ exit(); }}")
    ignoring = f"config = {{ missing_probes = ignore }} {kind}:nonesuch*, {there} {{ exit(); }}"
    assert bt("-q", "-e", ignoring).stderr == ""


@WITH_FUNCTIONS
@pytest.mark.every_kernel
def test_functions_that_cannot_be_traced(tmp_path: Path) -> None:
    said = refused("-e", "kprobe:nonesuch:vfs_read { }")
    assert "ERROR: specified module nonesuch in probe kprobe:nonesuch:vfs_read is not" in said
    assert "ERROR: No matches for kprobe vmlinux:nonesuch." in refused(
        "-e", "kprobe:vmlinux:nonesuch { }"
    )
    assert f"ERROR: {NONE_LEFT} No matches for kprobe rcu_*." in refused("-e", "kprobe:rcu_* { }")
    name = next(name for name in RUNNING.functions() if name.startswith("rcu_"))
    assert f"WARNING: {name} is not traceable" in refused("-e", f"kprobe:{name} {{ }}")
    said = refused("--unsafe", "-e", "kprobe:0x12345678 { }")
    assert "ERROR: Unable to attach probe: kprobe:305419896." in said
    said = refused("-e", "k:* { @[probe] = count(); }")
    assert re.search(
        r"ERROR: Your program is trying to generate more than \d+ BPF programs, which exceeds the "
        r"current limit of 1024\nk:\* { @\[probe\] = count\(\); }\n~~~\n"
        r"HINT: You can increase the limit through the BPFTRACE_MAX_BPF_PROGS environment variable",
        said,
    )
    listed = tmp_path / "functions"
    listed.write_text("vfs_write\n")
    given = ("--traceable-functions", str(listed))
    assert "No matches for kprobe vfs_read." in refused(*given, "-e", "kprobe:vfs_read { }")
    result = bt(*given, "-q", "-e", "BEGIN { exit(); } kprobe:vfs_write { }")
    assert (result.returncode, result.stderr) == (0, "")
    result = bt(*given, "--unsafe", "-e", "BEGIN { exit(); } kprobe:vfs_read { }")
    assert result.returncode == 0 and "WARNING: vfs_read is not traceable" in result.stderr
    assert "Attached 2 probes" in result.stderr
    names = bt(*given, "-l", "kprobe:vfs_*").stdout.split()
    assert names == ["kprobe:vfs_write"]


@WITH_FUNCTIONS
@pytest.mark.every_kernel
def test_a_function_by_its_address() -> None:
    address = kernel.symbol_address("vfs_read")
    program = f"kprobe:{address} /pid == $1 && arg2 == 4093/ {{ @[probe] = count(); }}"
    assert printed_of(program, READER, flags=("--unsafe",)) == {f"@[kprobe:{address}]: {READS}"}


def test_the_limit_of_probes() -> None:
    said = refused("-e", "t:syscalls:sys_enter_r* { @ = count(); }", BPFTRACE_MAX_PROBES="3")
    assert re.match(r"ERROR: Can't attach to \d+ probes because it exceeds .* limit of 3 ", said)
    said = refused(
        "-e", "t:syscalls:sys_enter_r* { @[probe] = count(); }", BPFTRACE_MAX_BPF_PROGS="3"
    )
    assert re.search(r"generate more than \d+ BPF programs, .* limit of 3\n", said)


@WITH_FUNCTIONS
@pytest.mark.every_kernel
def test_a_helper_that_the_kernel_does_not_allow_there() -> None:
    if not has_fentry(RUNNING):
        pytest.skip(f"{RUNNING.release} has no fentry")
    program = "fentry:vfs_read { print(path(args.file.f_path)); }"
    said = refused("-e", program)
    assert said.startswith("stdin:1:25-47: ERROR: helper bpf_d_path not allowed in probe\n"), said


# Whose calls are counted.


@pytest.fixture
def other_reader() -> Iterator[None]:
    """A process that reads all the time."""
    code = 'import os\nzero = os.open("/dev/zero", 0)\nprint(flush=True)\n'
    code += "while True: os.read(zero, 4093)"
    with python_child(code) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield


@pytest.mark.every_kernel
def test_only_a_process_is_counted(other_reader: None) -> None:
    program = (
        "tracepoint:syscalls:sys_enter_read /args.count == 4093/ "
        "{ @t = count(); @[pid] = count(); }"
        "rawtracepoint:sys_enter { @pids[pid] = 1; }"
    )
    wanted = {f"@t: {READS}"}
    if RUNNING.has_kprobes:
        program += "kprobe:vfs_read /arg2 == 4093/ { @k = count(); }"
        program += "kretprobe:vfs_rea[d] /retval == 4093/ { @kr = count(); }"
        wanted.add(f"@k: {READS}")
    if RUNNING.has_kprobes and has_fentry(RUNNING):
        program += "fentry:vfs_read /args.count == 4093/ { @f = count(); }"
        wanted.add(f"@f: {READS}")
    lines = printed_of(program, READER, flags=("-p", "$1"))
    # Before Linux v5.18, a kretprobe watches as many calls at once as there are processors.
    returned = [int(line[len("@kr: ") :]) for line in lines if line.startswith("@kr: ")]
    assert all(0 < count <= READS for count in returned)
    lines -= {f"@kr: {count}" for count in returned}
    (pids,) = {line for line in lines if line.startswith("@pids")}
    pid = pids[len("@pids[") : -len("]: 1")]
    assert lines == wanted | {pids, f"@[{pid}]: {READS}"}


# A function's beginning and its end in one program.

BOTH = """
kprobe:vfs_rea[d] /pid == $1 && arg2 == 4093/ { @began = count(); @at[tid] = nsecs; }
kretprobe:vfs_rea[d] /@at[tid]/ { @ended = count(); @bytes = sum(retval); delete(@at[tid]); }
"""


@WITH_FUNCTIONS
@pytest.mark.every_kernel
@pytest.mark.parametrize("program", [BOTH, BOTH.replace("rea[d]", "read")], ids=["pattern", "name"])
def test_a_function_begins_and_returns(program: str) -> None:
    wanted = {f"@began: {READS}", f"@ended: {READS}", f"@bytes: {READS * 4093}"}
    assert printed_of(program, READER) == wanted
    is_one = sessions._is_return(RUNNING) is not None
    attached = bt("-e", f"{program} BEGIN {{ exit(); }}", "1").stderr
    assert f"Attached {2 if is_one else 3} probes\n" in attached


def code(*instructions: int) -> bytes:
    return b"".join(struct.pack("=Bi3x", 0xB7, number) for number in instructions)


def test_two_programs_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [
        ProgramSpec("p0", "kprobe", "f", code(10, 11, 12), [(1, "map")], [(2, "number")]),
        ProgramSpec("p1", "kretprobe", "f", code(20, 21), [(0, "map")]),
        ProgramSpec("p2", "kprobe", "g", code(30), [], []),
    ]
    points = [
        Point("kprobe", "f", "kprobe:f", ["p0"], action=0),
        Point("kretprobe", "f", "kretprobe:f", ["p1"], action=1),
        Point("kprobe", "g", "kprobe:g", ["p2"], action=2),
    ]
    image, plan = Image([], programs), Plan(points, [], [])
    monkeypatch.setattr(sessions, "_is_return", lambda running: 77)
    monkeypatch.setattr(sessions, "_is_there", lambda point, running: True)
    (one, other), joined = sessions.joined(image, plan, RUNNING)[0][1], None
    assert (one.name, one.kind, one.target, other) == ("p0", "kprobe.session", "f", programs[2])
    at = {one.instructions[8 * n : 8 * n + 8]: n for n in range(len(one.instructions) // 8)}
    assert [at[code(n)] for n in (20, 21, 10, 11, 12)] == [5, 6, 8, 9, 10]
    assert one.maps == [(5, "map"), (9, "map")] and one.settings == [(10, "number")]
    joined = sessions.joined(image, plan, RUNNING)[1]
    assert [point.kind for point in joined.points] == ["kprobe", "off", "kprobe"]
    # Not if an action has another point, or the function another program.
    for change in (points[1]._replace(action=0), points[1]._replace(target="h")):
        other_plan = plan._replace(points=[points[0], change, points[2]])
        assert sessions.joined(image, other_plan, RUNNING) == (image, other_plan)
    monkeypatch.setattr(sessions, "_is_return", lambda running: None)
    assert sessions.joined(image, plan, RUNNING) == (image, plan)


# Arguments that take two registers.

CALLER = f"""
import ctypes
libc = ctypes.CDLL(None)
attributes = ctypes.create_string_buffer(b"\\1" * 2222, 2222)
print("ready", flush=True)
input()
for _ in range({READS}):
    libc.syscall({321 if os.uname().machine == "x86_64" else 280}, 1111, attributes, 2222)
print("done", flush=True)
input()
"""


def test_an_argument_that_takes_two_registers_moves_those_behind_it() -> None:
    if not RUNNING.has_btf or not RUNNING.btf.ids("__sys_bpf", btf.FUNC):
        pytest.skip(f"{RUNNING.release} has no __sys_bpf")
    layouts = Layouts(RUNNING, expand(parse("BEGIN { }")))
    arguments, _ = _arguments("fexit", "__sys_bpf", RUNNING, layouts)
    assert arguments is not None
    places = {name: field.offset for name, field in layouts.layout(arguments).fields.items()}
    # Linux v7.3 has more behind them.
    assert places.items() >= {"cmd": 0, "uattr": 64, "size": 192}.items()


@WITH_FUNCTIONS
@pytest.mark.every_kernel
def test_arguments_behind_a_struct() -> None:
    if not has_fentry(RUNNING) or not RUNNING.btf.ids("__sys_bpf", btf.FUNC):
        pytest.skip(f"{RUNNING.release} has no __sys_bpf")
    program = (
        "fexit:__sys_bpf /pid == $1 && args.cmd == 1111/ "
        "{ @[args.size, (int64)retval] = count(); }"
    )
    assert printed_of(program, CALLER) == {f"@[2222, -7]: {READS}"}  # -E2BIG


# Programs at programs.


def test_programs_that_bt_runs_itself_have_names() -> None:
    with Started("-q", "-e", "BEGIN { @ = 1; } interval:ms:50 { @++; print(@); @--; }") as started:
        names = [function.name for function in functions()]
        assert {"begin_1", "interval_us_50000_2", "interval_us_50000_2_step2"} <= set(names), names
        started.stop()


@WITH_FUNCTIONS
@pytest.mark.every_kernel
def test_a_program_at_a_program() -> None:
    if not has_fentry(RUNNING):
        pytest.skip(f"{RUNNING.release} has no fentry")
    with Started("-q", "-e", "interval:us:54321 { @++; }") as started:
        name = "interval_us_54321_1"
        (number,) = [each.program for each in functions() if each.name == name]
        for target in (name, "interval_us_5432*", f"{number}:{name}"):
            for kind in ("fentry", "fexit"):
                body = "{ print(probe); print(args.ctx != 0); exit(); }"
                result = bt("-q", "-e", f"{kind}:bpf:{target} {body}")
                assert result.returncode == 0, result.stderr
                words = result.stdout.split()
                assert words[:2] == [f"{kind}:bpf:{number}:{name}", "true"], result
        said = refused("-e", f"fexit:bpf:{name} {{ print(retval); }}")
        assert "retval of BPF programs is not supported" in said
        assert "No matches for fentry bpf:nonesuch." in refused("-e", "fentry:bpf:nonesuch { }")
        started.stop()
    assert "is no id of a BPF program" in refused("-e", "fentry:bpf:x:y { }")
