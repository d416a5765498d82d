"""Functions and USDT probes of ELF files: read from any bytes, and attached to."""
from __future__ import annotations

import os
import re
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import elf_files
from pytools.load import attach, program
from pytools.facts import differences, elf
from pytools.compile import usdt
from pytools.facts.elf import File, Probe
from pytools.base.errors import Failure
from pytools.load.program import Program
from pytools.read.ringbuf import RingBuffer
from pytools.compile.unrendered import Unrendered
from support import python_child

host_only = pytest.mark.host_only


# Reading.


def made(folder: Path, data: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(data)
    return path


@elf_files.machine_code
def test_a_program_s_functions_and_probes_are_where_they_were_put(tmp_path: Path) -> None:
    path = tmp_path / "probed"
    places = elf_files.probed_program(path, 1)
    with File(str(path)) as file:
        found = {function.name: function.offset for function in file.functions()}
        probes = file.probes()
    assert found == {name: places[name] - elf_files.TEXT for name in ("_start", "loop")}
    (guarded, *free) = probes
    assert guarded[:3] == ("test", "guarded", places["guarded"] - elf_files.TEXT)
    content = path.read_bytes()
    assert content[guarded.offset :].startswith(elf_files.NOP)
    # The semaphore is in the data, which begins on a page of its own.
    assert guarded.semaphore % 4096 == 0x40 and guarded.arguments == elf_files.GUARDED
    assert [(probe.offset, probe.semaphore) for probe in free] == [
        (places[name] - elf_files.TEXT, 0) for name in ("first", "second")
    ]


@elf_files.machine_code
def test_a_file_that_was_moved_after_it_was_linked(tmp_path: Path) -> None:
    address = elf_files.TEXT + elf_files.HEADERS + 8
    notes = elf_files.note("a", "b", address - 0x10000, "", base=0x1234)
    path = made(tmp_path, elf_files.elf(b"\x90" * 64, notes, base=0x1234 + 0x10000))
    with File(str(path)) as file:
        assert file.probes() == [Probe("a", "b", elf_files.HEADERS + 8, 0, "")]


def readelf(*options: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        ["readelf", "-W", *options], env=environment, capture_output=True, text=True, check=True
    ).stdout


def files_with_symbols() -> list[str]:
    """The C library in use, Python, and the shell."""
    with open("/proc/self/maps") as lines:
        paths = [line.split()[-1] for line in lines]
    libc = next(path for path in paths if re.search(r"/(libc\.so\.6|libc-\d.*\.so)$", path))
    return [libc, os.path.realpath(sys.executable), os.path.realpath("/bin/sh")]


@host_only
def test_functions_with_versions_as_readelf_has_them() -> None:
    row = re.compile(r"\s+\d+: (\w+)\s+(\w+) (?:FUNC|IFUNC)\s+\w+ +\w+ +(?:\[.*\] +)?\d+ (\S+)")
    for path in files_with_symbols():
        expected = set()
        for line in readelf("--dyn-syms", path).splitlines():
            if match := row.match(line):
                address, size, name = match.groups()
                expected.add((name, int(address, 16), int(size, 0)))
        with File(path) as file:
            functions = list(file.exported())
            loads = re.findall(r"LOAD\s+0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", readelf("-l", path))
            found = set()
            for function in functions:
                (start,) = (
                    function.offset - int(offset, 16) + int(address, 16)
                    for offset, address, size in loads
                    if 0 <= function.offset - int(offset, 16) < int(size, 16)
                )
                sign = "@@" if function.default else "@"
                version = sign + function.version if function.version else ""
                found.add((function.name + version, start, function.size))
        assert found == expected


@host_only
def test_probes_as_readelf_has_them() -> None:
    """Of every library here: probes of C++, of the loader, of Python."""
    folder = os.path.dirname(files_with_symbols()[0])
    paths = [*files_with_symbols(), *(f"{folder}/{name}" for name in sorted(os.listdir(folder)))]
    checked = 0
    for path in paths:
        if ".so" not in path and "/bin/" not in path or not os.path.isfile(path):
            continue
        try:
            with File(path) as file:
                probes = file.probes()
        except Failure:
            continue
        if not probes:
            continue
        text = readelf("-n", path)
        fields = ("Provider", "Name", "Arguments")
        columns = [re.findall(rf"\s{field}: ?(.*)$", text, re.M) for field in fields]
        assert [(probe.provider, probe.name, probe.arguments) for probe in probes] == [
            tuple(map(str.strip, row)) for row in zip(*columns)
        ]
        checked += len(probes)
        for probe in probes:
            if probe.arguments:
                usdt.arguments(probe.arguments)
    if not checked:
        pytest.skip("no file with probes is installed here")


@host_only
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n" * 10, "not an ELF file"),
        (b"\x7fELF\1\1\1" + bytes(100), "not a 64-bit program"),
        (elf_files.elf(b"", machine=2), "of another kind of machine"),
    ],
)
def test_what_is_no_program_of_this_machine_is_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = made(tmp_path, content)
    with pytest.raises(Failure, match=f"^cannot read {path}: {message}$"):
        File(str(path))


@host_only
def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, message in (
        (str(tmp_path), "not a regular file"),
        (str(tmp_path / "fifo"), "not a regular file"),
        (str(tmp_path / "none"), "ENOENT"),
        ("a\0b", "no file has such a name"),
    ):
        with pytest.raises(Failure, match=message):
            File(path)


def read_all(path: Path) -> None:
    """Whatever is in the file: an answer, or a Failure."""
    try:
        with File(str(path)) as file:
            for part in (file.functions, file.exported, file.symbol_names, file.probes):
                try:
                    for item in part():
                        if isinstance(item, Probe):
                            usdt.arguments(item.arguments, "x86_64")
                except Failure:
                    pass
    except Failure:
        pass


def _symbols(count: int) -> bytes:
    """Functions, whose names are the ends of one long name."""
    return b"".join(
        struct.pack("<IBBHQQ", 1 + number % 100, 0x12, 0, 1, number, 8) for number in range(count)
    )


LONG_NAME = b"\0" + b"a" * 16000  # at the start of the strings


def _versions(count: int) -> bytes:
    """Definitions of versions, with names of the same kind."""
    return b"".join(
        struct.pack("<HHHHIIIII", 1, 0, number & 0xFFFF, 1, 0, 20, 28, 1 + number % 100, 0)
        for number in range(count)
    )


MOST_MEMORY = 1 << 28  # bytes, more than at the start


@host_only
@pytest.mark.parametrize(
    "sections, message",
    [
        # 1 GiB and more of zeros, of which the disk has none.
        ([(2, 1 << 28, b"", 2, 24), (3, 1 << 30, b"", 0, 0)], "268435456 bytes of symbols"),
        ([(2, 24 << 10, b"", 2, 24), (3, 1 << 40, b"", 0, 0)], "bytes of symbols' names"),
        ([(11, 24 << 16, _symbols(1 << 16), 2, 24), (3, 1 << 26, LONG_NAME, 0, 0)], "names"),
        (
            [
                (11, 96, _symbols(4), 2, 24),
                (3, 1 << 26, LONG_NAME, 0, 0),
                (elf.SHT_GNU_VERDEF, 28 << 16, _versions(1 << 16), 2, 0),
                (elf.SHT_GNU_VERSYM, 8, b"", 1, 2),
            ],
            "versions' names",
        ),
    ],
    ids=["sparse symbols", "sparse names", "long names", "long versions"],
)
def test_no_file_takes_the_memory_of_its_reader(
    tmp_path: Path, sections: list[tuple[int, int, bytes, int, int]], message: str
) -> None:
    path = tmp_path / "hostile"
    elf_files.hostile(path, *sections)
    child = os.fork()
    if not child:
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
            resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY,) * 2)
            with File(str(path)) as file, pytest.raises(Failure, match=message):
                list(file.functions())
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A file made by hand, and a small one with versions."""
    path = tmp_path_factory.mktemp("samples") / "probed"
    elf_files.probed_program(path, 1)
    return [path.read_bytes(), Path(files_with_symbols()[2]).read_bytes()]


@pytest.mark.host_only
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damage_is_a_failure_at_most(
    data: st.DataObject, samples: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(0, 8))):
        # The tables at the end, and the head, are what is read.
        place = data.draw(st.integers(0, 255) | st.integers(0, len(content) - 1))
        place = data.draw(st.sampled_from([place, len(content) - 1 - place]))
        value = data.draw(st.binary(min_size=1, max_size=8))
        content[place : place + len(value)] = value[: len(content) - place]
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    read_all(path)


# Arguments.


@host_only
@pytest.mark.parametrize(
    ("machine", "description", "expected"),
    [
        ("x86_64", "-4@%eax", [(-4, "ctx->ax", False)]),
        ("x86_64", "8@%r12 1@%r9b 2@%r10w", [(8, "ctx->r12", False), (1, "ctx->r9", False),
                                             (2, "ctx->r10", False)]),
        ("x86_64", "1@%sil 1@%ah -2@%bp", [(1, "ctx->si", False), (1, "ctx->ax >> 8", False),
                                           (-2, "ctx->bp", False)]),
        ("x86_64", "8@-16(%rbp)", [(8, "ctx->bp + 0xfffffffffffffff0ULL", True)]),
        ("x86_64", "4@8(%rax,%rdx,4) 4@(%rdi)", [(4, "ctx->ax + ctx->dx * 4 + 0x8ULL", True),
                                                 (4, "ctx->di", True)]),
        ("x86_64", "-4@$-1 8@$18446744073709551615", [(-4, "0xffffffffffffffffULL", False),
                                                      (8, "0xffffffffffffffffULL", False)]),
        ("x86_64", "8f@%xmm0 8@global(%rip) 4@%eax", [None, None, (4, "ctx->ax", False)]),
        ("x86_64", "3@%eax 8@$1;evil 8@%rax;", [None, None, None]),
        ("x86_64", "", []),
        ("aarch64", "-4@w0 8@x19 8@[sp, 12]", [(-4, "ctx->regs[0]", False),
                                               (8, "ctx->regs[19]", False),
                                               (8, "ctx->sp + 0xcULL", True)]),
        ("aarch64", "8@[x2] 8@[x2,-8] 4@[x1, x2] 4@-5 8@x31",
         [(8, "ctx->regs[2]", True), (8, "ctx->regs[2] + 0xfffffffffffffff8ULL", True),
          (4, "ctx->regs[1] + ctx->regs[2]", True), (4, "0xfffffffffffffffbULL", False), None]),
    ],
)  # fmt: skip
def test_places_of_arguments(machine: str, description: str, expected: list[Any]) -> None:
    assert usdt.arguments(description, machine) == [
        None if one is None else usdt.Argument(*one) for one in expected
    ]


@host_only
@given(st.text(max_size=60), st.sampled_from(["x86_64", "aarch64"]))
def test_no_text_of_a_file_s_reaches_c(description: str, machine: str) -> None:
    plain = re.compile(r"(ctx->\w+(\[\d+\])?( >> 8| \* \d)?|0x[0-9a-f]+ULL|0ULL)( \+ (?!$)|$)")
    for argument in usdt.arguments(description, machine):
        if argument is not None:
            assert plain.sub("", argument.value) == ""


# Attaching.

PUT = r"""
#include <linux/ptrace.h>

struct event {
	s64 first;
	s64 second;
	u64 which;
	u64 pid;
};
EVENTS(events, struct event);
BPF_PERCPU_ARRAY(lost, u64, 1);
#include "events.h"

static inline int put(s64 first, s64 second, u64 which)
{
	struct event *event = reserve_event();

	if (!event)
		return 0;
	event->first = first;
	event->second = second;
	event->which = which;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	submit_event(event);
	return 0;
}
"""


@pytest.fixture(params=[True, pytest.param(False, marks=host_only)], ids=["as it is", "old"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one link for many places where the kernel has it; and as before Linux 6.6."""
    if not request.param:
        monkeypatch.setattr(differences, "has_uprobe_multi", lambda kernel: False)


def started(template: str, **probes: list[str]) -> Program:
    source = Unrendered(PUT + template, probes=probes)
    # An image of the cache is for the kernel as it is.
    made = program.prepare(source, {"events": 1 << 22}, False, lambda line: None)
    made.attach()
    return made


def records(ring: RingBuffer, pid: int) -> Iterator[tuple[Any, ...]]:
    while found := ring.read():
        yield from (record[:3] for record in found if record[3] == pid)


@pytest.mark.usefixtures("either_way")
@elf_files.machine_code
def test_probes_with_their_arguments_at_every_place_and_with_a_semaphore(tmp_path: Path) -> None:
    path, rounds = tmp_path / "probed", 200
    elf_files.probed_program(path, rounds)
    with File(str(path)) as file:
        probes = file.probes()
        ways = [probe.arguments for probe in probes]
        traced = started(
            "USDT(guarded, int minus, u64 number)\n{\n\treturn put(minus, number, 1);\n}\n"
            "USDT(free, u8 low, s64 seven)\n{\n\treturn put(low, seven, 2);\n}\n",
            guarded=ways[:1],
            free=ways[1:],
        )
        for name in ("guarded", "free"):
            named = [probe for probe in probes if probe.name == name]
            assert traced.attach_usdt(name, file, named) == [probe.offset for probe in named]
    ring = RingBuffer(traced.maps["events"])
    with subprocess.Popen([str(path)], stdin=subprocess.PIPE) as child:
        child.communicate(b"x")
        found = list(records(ring, child.pid))
    assert child.returncode == rounds % 256, "the semaphore was not raised in it"
    expected = []
    for number in range(rounds, 0, -1):
        expected += [(-number, number, 1), (number & 255, -7, 2), (number & 255, -7, 2)]
    assert found == expected
    traced.detach()
    unwatched = subprocess.run([str(path)], input=b"x", check=False)
    assert unwatched.returncode == 0, "the semaphore is still raised"


CALLS = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.a64l.restype = ctypes.c_long
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[1])):
    libc.ffsl(ctypes.c_long(1 << number % 60), 5)
    libc.a64l(b"/" * (number % 5))
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.every_kernel
@pytest.mark.usefixtures("either_way")
def test_calls_and_returns_once_each_by_whatever_name_of_the_file(tmp_path: Path) -> None:
    libc = files_with_symbols()[0]
    (tmp_path / "link").symlink_to(libc)
    traced = started(
        "UPROBE(ffsl, long value, int five)\n{\n\treturn put(value, five, 1);\n}\n"
        "URETPROBE(ffsl, int result)\n{\n\treturn put(result, 0, 2);\n}\n"
        "URETPROBE(a64l, long result)\n{\n\treturn put(result, 0, 3);\n}\n"
    )
    with python_child(CALLS, "100") as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        for path in (libc, str(tmp_path / "link"), f"/proc/{child.pid}/root{libc}"):
            with File(path) as file:
                for name in ("ffsl", "a64l"):
                    places = [f.offset for f in file.exported() if f.name == name and f.default]
                    assert len(places) == 1
                    # For this process only: Python calls them elsewhere, too.
                    new = traced.attach_uprobe(name, file, places, pid=child.pid)
                    assert new == (places if path == libc else [])
        ring = RingBuffer(traced.maps["events"])
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"done\n"
        found = list(records(ring, child.pid))
        traced.detach()
    expected = []
    for number in range(100):
        value = 1 << number % 60
        word = sum(1 << 6 * digit for digit in range(number % 5))
        expected += [(value, 5, 1), (number % 60 + 1, 0, 2), (word, 0, 3)]
    assert found == expected


@host_only
def test_a_kernel_without_uprobes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "UPROBE_PMU", "/nowhere")
    attach._uprobe_pmu.cache_clear()
    try:
        with pytest.raises(Failure, match="this kernel has no uprobes"):
            started("UPROBE(nothing)\n{\n\treturn 0;\n}\n")
    finally:
        monkeypatch.undo()
        attach._uprobe_pmu.cache_clear()


def test_a_place_that_cannot_be_attached_to_is_named(tmp_path: Path) -> None:
    path = made(tmp_path, elf_files.elf(b"\x90"))
    traced = started("UPROBE(nothing)\n{\n\treturn 0;\n}\n")
    with File(str(path)) as file, pytest.raises(Failure, match=f"nothing at {path}"):
        traced.attach_uprobe("nothing", file, [1 << 40])
    traced.detach()
