"""bpfsnoop against the callers themselves, and against strace of the same run."""
from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pytools.domains.bpf_calls import FIELDS, SET_BPF, Names, details
from pytools.facts.kernel import Kernel
from support import EMULATED, ROOT, TOOLS, Tool, needs_btf, run_tool

# Makes one call of each kind, and prints what each returned.
CALLS = r"""
import ctypes, fcntl, json, mmap, os, struct, sys
from pytools.load import loader
from pytools.base import system

loader.raise_memory_limit()
told = []

def call(function, *arguments):
    try:
        told.append(function(*arguments))
    except OSError as error:
        told.append(-error.errno)
    return told[-1]

def bpf(command, attributes):
    return call(system.bpf, command, bytearray(attributes))

def event(kind, config, period, flags, cpu, config1=0):
    attributes = struct.pack("=IIQQQQQQQQ", kind, 72, config, period, 0, 0, flags, 0, config1, 0)
    return call(system.perf_event_open, attributes, cpu)

def text(data):
    strings.append(ctypes.create_string_buffer(data))
    return ctypes.addressof(strings[-1])

strings = []
array = bpf(0, struct.pack("=IIIIIII15sx", 2, 4, 24, 7, 0, 0, 0, b"my_array"))
hash = bpf(0, struct.pack("=IIIIIII15sx", 1, 8, 16, 1000, 1, 0, 0, b"my_hash"))
bpf(0, struct.pack("=IIIIIII15sx", 1, 0, 16, 1000, 0, 0, 0, b"no_key"))
key, value = text(struct.pack("=I", 6)), text(bytes(24))
bpf(2, struct.pack("=IxxxxQQQ", array, key, value, 0))
code = text(struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0))
def program(kind, name):
    head = struct.pack("=IIQQIIQII15sx", kind, 2, code, text(b"GPL"), 0, 0, 0, 0, 0, name)
    return bpf(5, head)
sampler = program(7, b"my_sampler")
raw = program(17, b"my_raw")
program(999, b"no_type")
bpf(17, struct.pack("=QI4x", text(b"sys_enter"), raw))
bpf(17, struct.pack("=QI4x", text(b"no\x1bsuch"), raw))
bpf(7, struct.pack("=QII", text(b"/sys/fs/bpf/no such file"), 0, 0))
clock = event(1, 0, 49, 1 << 10, 0)
event(1, 0, 1000000, 0, 0)
event(1, 0, 49, 1 << 10, 12345)
event(8765, 1, 1, 0, 0)
event(UPROBE, 0, 1, 0, 0, text(b"/no/such/file"))
call(fcntl.ioctl, clock, 0x40042408, sampler)
call(fcntl.ioctl, clock, 0x2400, 0)
call(fcntl.ioctl, clock, 0x2401, 0)
call(fcntl.ioctl, 0, 0x2400, 0)
# At the very end of the memory that can be read.
room = mmap.mmap(-1, 2 * mmap.PAGESIZE)
end = ctypes.addressof(ctypes.c_char.from_buffer(room)) + mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
place = (ctypes.c_char * 12).from_address(end - 12)
place[:] = struct.pack("=III", 0x7FFFFFFE, 0, 0)
call(lambda: system.call(system._BPF, 11, place, 12))
print(json.dumps(told))
"""
UPROBE = Path("/sys/bus/event_source/devices/uprobe/type")
PYTHON = "/usr/bin/python3"  # as the tools: it runs bcc


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "lib")}


def source() -> str:
    return CALLS.replace("UPROBE", UPROBE.read_text().strip())


def expected() -> list[dict[str, Any]]:
    """What each of the calls says of itself."""

    def bpf(command: str, **fields: Any) -> dict[str, Any]:
        return {"call": "bpf", "command": "BPF_" + command, **fields}

    def array(kind: str, name: str, key: int, value: int, entries: int) -> dict[str, Any]:
        return {
            "map_type": "BPF_MAP_TYPE_" + kind, "map_name": name, "key_size": key,
            "value_size": value, "max_entries": entries,
        }  # fmt: skip

    def program(kind: str, name: str) -> dict[str, Any]:
        return {"prog_type": kind, "prog_name": name, "insns": 2, "attach_type": None}

    def event(**fields: Any) -> dict[str, Any]:
        software = {"perf_type": "PERF_TYPE_SOFTWARE", "config": "PERF_COUNT_SW_CPU_CLOCK"}
        rest = {"target_pid": -1, "group_fd": -1, "cpu": 0, "sample_freq": None}
        return {"call": "perf_event_open", "command": None, **software, **rest, **fields}

    def ioctl(request: str, **fields: Any) -> dict[str, Any]:
        return {"call": "ioctl", "command": "PERF_EVENT_IOC_" + request, **fields}

    return [
        bpf("MAP_CREATE", **array("ARRAY", "my_array", 4, 24, 7)),
        bpf("MAP_CREATE", **array("HASH", "my_hash", 8, 16, 1000), flags=1),
        bpf("MAP_CREATE", **array("HASH", "no_key", 0, 16, 1000), ret=-22),
        bpf("MAP_UPDATE_ELEM", map_fd="array"),
        bpf("PROG_LOAD", **program("BPF_PROG_TYPE_PERF_EVENT", "my_sampler")),
        bpf("PROG_LOAD", **program("BPF_PROG_TYPE_RAW_TRACEPOINT", "my_raw")),
        bpf("PROG_LOAD", **program("999", "no_type"), ret=-22),
        bpf("RAW_TRACEPOINT_OPEN", name="sys_enter", prog_fd="raw"),
        bpf("RAW_TRACEPOINT_OPEN", name="no\x1bsuch", prog_fd="raw", ret=-2),
        bpf("OBJ_GET", name="/sys/fs/bpf/no such file", ret=-2),
        event(sample_freq=49, sample_period=None),
        event(sample_period=1000000),
        event(sample_freq=49, cpu=12345),
        event(perf_type="8765", config="1", ret=-2),
        event(perf_type="uprobe", config="0", name="/no/such/file", ret=-2),
        ioctl("SET_BPF", fd="clock", prog_fd="sampler", ret=0),
        ioctl("ENABLE", fd="clock", prog_fd=None, ret=0),
        ioctl("DISABLE", fd="clock", ret=0),
        ioctl("ENABLE", fd=0),
        bpf("PROG_GET_NEXT_ID", id=0x7FFFFFFE, ret=-2),
    ]


# The calls that file descriptors in others come from, by their place.
DESCRIPTORS = {"array": 0, "sampler": 4, "raw": 5, "clock": 10}


@pytest.mark.every_kernel
def test_every_call_says_what_its_caller_asked_for() -> None:
    with Tool("bpfsnoop", "--json") as tool:
        child = subprocess.Popen(
            [PYTHON, "-c", source()], env=environment(), stdout=subprocess.PIPE
        )
        told = json.loads(child.communicate()[0])
        found = [json.loads(line) for line in tool.stop().splitlines()]
    assert all("lost" not in event for event in found)
    assert all(event["pid"] != tool.process.pid for event in found)
    mine = [event for event in found if event["pid"] == child.pid]
    assert [event["ret"] for event in mine] == told
    assert min(told[place] for place in DESCRIPTORS.values()) > 2
    for event, wanted in zip(mine, expected()):
        for name, value in wanted.items():
            if isinstance(value, str) and name.endswith("fd"):
                value = told[DESCRIPTORS[value]]
            assert event[name] == value, (name, event)
    assert len(mine) == len(expected())
    assert {event["comm"][:6] for event in mine} == {"python"}


@pytest.mark.host_only
def test_names_come_from_headers_where_there_are_no_types(tmp_path: Path) -> None:
    text = """
    /* no enum bpf_cmd { BPF_NONE }; */
    enum bpf_cmd {
    \tBPF_MAP_CREATE,
    \tBPF_PROG_TEST_RUN = 0xa, /* also 11, */
    \tBPF_PROG_RUN = BPF_PROG_TEST_RUN,
    \tBPF_PROG_GET_NEXT_ID
    };
    """
    folder = tmp_path / "build" / "include" / "uapi" / "linux"
    folder.mkdir(parents=True)
    (folder / "bpf.h").write_text(textwrap.dedent(text))
    known = Kernel("5.10.0", btf_path=str(tmp_path / "none"), headers=str(tmp_path / "build"))
    assert known.enumeration("bpf_cmd") == {
        0: "BPF_MAP_CREATE", 10: "BPF_PROG_TEST_RUN", 11: "BPF_PROG_GET_NEXT_ID",
    }  # fmt: skip
    assert known.enumeration("no_such_enum") == {}


MAP_CREATE = struct.pack("=IIIIIII15sx", 1, 8, 16, 1000, 0, 0, 0, b"my_map")
PERF_EVENT = struct.pack("=IIQQQQQ", 1, 64, 0, 49, 0, 0, 1 << 10)
ENUMS = {
    "bpf_cmd": {0: "BPF_MAP_CREATE", 6: "BPF_OBJ_PIN"},
    "bpf_map_type": {1: "BPF_MAP_TYPE_HASH"},
    "perf_type_id": {1: "PERF_TYPE_SOFTWARE"},
    "perf_sw_ids": {0: "PERF_COUNT_SW_CPU_CLOCK"},
}


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("call", "arguments", "attributes", "text", "shown"),
    [
        ("bpf", (0, 0, 72, 0), MAP_CREATE, b"",
         "type=HASH name=my_map key=8 value=16 entries=1000"),
        ("bpf", (6, 0, 16, 0), bytes(8) + b"\x05" + bytes(7), b"/x\0", "fd=5 name=/x"),
        ("bpf", (999, 0, 12, 0), bytes(12), b"", ""),
        ("bpf", (0, 0, 72, 0), b"", b"", ""),  # they could not be read
        ("perf_event_open", (0, 2**32 - 1, 3, 2**32 - 1), PERF_EVENT, b"",
         "type=SOFTWARE config=CPU_CLOCK freq=49 cpu=3"),
        ("ioctl", (8, SET_BPF, 5, 0), b"", b"", "fd=8 prog_fd=5"),
    ],
    ids=["create", "pin", "unknown", "unread", "event", "ioctl"],
)  # fmt: skip
def test_arguments_in_words(
    monkeypatch: pytest.MonkeyPatch, call: str, arguments: tuple[int, ...], attributes: bytes,
    text: bytes, shown: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(Kernel, "enumeration", lambda _, name: ENUMS.get(name, {}))
    _, fields = Names(Kernel("6.1")).decoded(call, arguments, attributes, text)
    assert details(fields) == shown
    assert set(fields) <= set(FIELDS)


NUMBER = r"(-?\d+)"
# What strace shows of a call: (our name, pattern).
OF_STRACE = [
    ("prog_type", r"prog_type=(BPF_PROG_TYPE_\w+)"),
    ("prog_name", r'prog_name="([^"]+)"'),
    ("insns", rf"insn_cnt={NUMBER}"),
    ("map_type", r"map_type=(BPF_MAP_TYPE_\w+)"),
    ("map_name", r'map_name="([^"]+)"'),
    ("key_size", rf"key_size={NUMBER}"),
    ("value_size", rf"value_size={NUMBER}"),
    ("max_entries", rf"max_entries={NUMBER}"),
    ("perf_type", r"[{ ]type=(PERF_TYPE_\w+)"),
    ("config", r"config=(PERF_COUNT_\w+)"),
    ("sample_freq", rf"sample_freq={NUMBER}"),
    ("sample_period", rf"sample_period={NUMBER}"),
]
OTHERS = r"(PERF_EVENT_IOC_(?!SET_BPF|ENABLE|DISABLE)|TC|FIO|TIOC)"


@pytest.mark.host_only
@needs_btf
def test_a_tool_of_ours_as_strace_sees_it(tmp_path: Path) -> None:
    """runqlen, as in the listing of docs/from-bpftrace.md."""
    run_tool("runqlen", "-d", "0")  # the image is in the cache
    with Tool("bpfsnoop", "--json") as tool:
        subprocess.run(
            ["strace", "-v", "-o", str(tmp_path / "calls"), "-e", "trace=bpf,perf_event_open,ioctl",
             TOOLS / "runqlen", "-d", "0"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        found = [json.loads(line) for line in tool.stop().splitlines()]
    mine = [event for event in found if event["comm"] == "runqlen"]
    lines = [
        line
        for line in (tmp_path / "calls").read_text().splitlines()
        if " = " in line and not re.match(rf"ioctl\(\d+, {OTHERS}", line)
    ]
    assert len(mine) == len(lines) > 5
    seen = set()
    for event, line in zip(mine, lines):
        call, command = re.match(r"(\w+)\((?:\d+, )?(\w*)", line).groups()  # type: ignore
        assert event["call"] == call
        if call != "perf_event_open":
            assert event["command"] == command
        value, error = re.search(r"= (-?\d+)(?: (E\w+))?[^=]*$", line).groups()  # type: ignore
        assert (event["ret"] < 0) if error else event["ret"] == int(value)
        for name, pattern in OF_STRACE:
            shown = re.search(pattern, line)
            if shown:
                assert str(event[name]) == shown.group(1), (name, event, line)
                seen.add(name)
        if call == "perf_event_open":
            shown = re.search(r"}, (-?\d+), (-?\d+), (-?\d+), ", line)
            assert shown
            wanted = [event["target_pid"], event["cpu"], event["group_fd"]]
            assert [int(word) for word in shown.groups()] == wanted
    assert {"prog_type", "insns", "map_type", "key_size", "perf_type", "sample_freq"} <= seen
    calls = [event["command"] or event["call"] for event in mine]
    assert {"BPF_PROG_LOAD", "perf_event_open", "PERF_EVENT_IOC_SET_BPF"} <= set(calls)


MANY = 3000 if EMULATED else 30000
FLOOD = """
import struct, sys
from pytools.base import system
for number in range(int(sys.argv[1])):
    try:
        system.bpf(13, bytearray(struct.pack("=III", 0x70000000 + number, 0, 0)))
    except OSError:
        pass
"""


def test_no_call_of_many_is_missing() -> None:
    with Tool("bpfsnoop", "--json", "-x", "-c", "prog_get_fd_by_id") as tool:
        child = subprocess.Popen([PYTHON, "-c", FLOOD, str(MANY)], env=environment())
        other = subprocess.Popen([PYTHON, "-c", FLOOD, str(MANY)], env=environment())
        assert (child.wait(), other.wait()) == (0, 0)
        found = [json.loads(line) for line in tool.stop().splitlines()]
    for pid in (child.pid, other.pid):
        ids = [event["id"] for event in found if event.get("pid") == pid]
        assert ids == [0x70000000 + number for number in range(MANY)]
    assert "lost" not in found[-1] and b"lost" not in tool.messages


@pytest.mark.host_only
@pytest.mark.parametrize(
    "options, calls",
    [
        (["-c", "prog_load"], ["PROG_LOAD"] * 3),
        (["-c", "BPF_OBJ_GET", "-c", "ioctl"],
         ["OBJ_GET", "ioctl_SET_BPF", "ioctl_ENABLE", "ioctl_DISABLE", "ioctl_ENABLE"]),
        (["-x", "-c", "MAP_CREATE", "-c", "perf_event_open"],
         ["MAP_CREATE", "perf_event_open", "perf_event_open", "perf_event_open"]),
    ],
)  # fmt: skip
def test_calls_can_be_picked(options: list[str], calls: list[str]) -> None:
    with Tool("bpfsnoop", *options) as tool:
        child = subprocess.Popen(
            [sys.executable, "-c", source()], env=environment(), stdout=subprocess.DEVNULL
        )
        assert child.wait() == 0
        lines = [line.split() for line in tool.stop().splitlines()]
    assert [line[2] for line in lines if line[0] == str(child.pid)] == calls


@pytest.mark.host_only
def test_an_unknown_call_is_bad_usage() -> None:
    result = run_tool("bpfsnoop", "-c", "open")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("bpfsnoop: there is no call open: ")
    assert "PROG_LOAD" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.host_only
def test_text_has_names_and_errors() -> None:
    with Tool("bpfsnoop") as tool:
        child = subprocess.Popen(
            [PYTHON, "-c", source()], env=environment(), stdout=subprocess.PIPE
        )
        told = json.loads(child.communicate()[0])
        lines = tool.stop().splitlines()
    mine = [line.split(None, 4)[2:] for line in lines if line.startswith(f"{child.pid} ")]
    assert mine[0] == [
        "MAP_CREATE",
        str(told[0]),
        "type=ARRAY name=my_array key=4 value=24 entries=7",
    ]
    assert mine[4] == ["PROG_LOAD", str(told[4]), "type=PERF_EVENT name=my_sampler insns=2"]
    assert mine[8] == ["RAW_TRACEPOINT_OPEN", "ENOENT", f"prog_fd={told[5]} name=no\\x1bsuch"]
    clock = "type=SOFTWARE config=CPU_CLOCK freq=49 cpu=0"
    assert mine[10] == ["perf_event_open", str(told[10]), clock]
    assert mine[15] == ["ioctl_SET_BPF", "0", f"fd={told[10]} prog_fd={told[4]}"]
