"""bpflist beside objects that the test makes, and beside bpftool."""
from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bpf_objects_made import (
    ARRAY, CGROUP_SKB, HASH, KPROBE, PERF_EVENT, RAW_TRACEPOINT, SK_LOOKUP, TRACEPOINT, TRACING,
    UPROBE_MULTI, XDP, Made, number,
)  # fmt: skip
from pytools.domains import bpf_objects
from pytools.domains.containers import Containers
from pytools.facts.kernel import running
from support import needs_btf, needs_functions, python_child, run_tool

host_only = pytest.mark.host_only
# enum bpf_attach_type
CGROUP_INET_INGRESS, CGROUP_INET_EGRESS = 0, 1
SK_LOOKUP_ATTACH, TRACE_FENTRY, TRACE_ITER, PERF_EVENT_ATTACH = 36, 24, 28, 41


# What this process has had before a test: another test may have left something open.
OTHERS: set[tuple[str, int]] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS.clear()
    OTHERS.update((row["type"], row["id"]) for row in listed(os.getpid()))


def listed(pid: int | None = None) -> list[dict[str, Any]]:
    """What bpflist has, of a process."""
    result = run_tool("bpflist", "-v", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    rows = [row for row in rows if (row["type"], row["id"]) not in OTHERS]
    return [row for row in rows if pid is None or row["pid"] == pid]


def bpftool(kind: str) -> dict[int, dict[str, Any]]:
    shown = subprocess.run(["bpftool", "-j", kind, "show"], stdout=subprocess.PIPE, check=True)
    return {each["id"]: each for each in json.loads(shown.stdout)}


def of(rows: list[dict[str, Any]], kind: str, descriptor: int) -> dict[str, Any]:
    """The row of an object."""
    (row,) = (r for r in rows if (r["type"], r["id"]) == (kind, number(descriptor)))
    return row


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_lists_exactly_what_was_made_as_bpftool_has_it() -> None:
    with Made() as made:
        small = made.map(HASH, "small", entries=10)
        large = made.map(ARRAY, "large", value=100, entries=100_000)
        first = made.program(RAW_TRACEPOINT, "first", maps=[small, large])
        second = made.program(XDP, "second", maps=[small])
        link = made.raw_tracepoint(first, "sched_process_exec")
        programs, maps, links = bpftool("prog"), bpftool("map"), bpftool("link")
        rows = listed(os.getpid())
        found = {(row["type"], row["id"]) for row in rows}
        assert found == {
            ("prog", number(first)), ("prog", number(second)), ("map", number(small)),
            ("map", number(large)), ("link", number(link)),
        }  # fmt: skip
        for descriptor, name in ((first, "first"), (second, "second")):
            row, shown = of(rows, "prog", descriptor), programs[number(descriptor)]
            assert (row["kind"], row["name"], row["tag"], row["uid"], row["memory"]) == (
                shown["type"], name, shown["tag"], shown["uid"], shown["bytes_memlock"],
            )  # fmt: skip
            assert shown["name"] == name
        for descriptor, name in ((small, "small"), (large, "large")):
            row, shown = of(rows, "map", descriptor), maps[number(descriptor)]
            assert (row["kind"], row["name"], row["memory"]) == (
                shown["type"], name, shown["bytes_memlock"],
            )  # fmt: skip
        assert of(rows, "map", large)["memory"] >= 100 * 100_000
        assert of(rows, "map", large)["programs"] == str(number(first))
        assert of(rows, "map", small)["programs"] == f"{number(first)}, {number(second)}"
        row, shown = of(rows, "link", link), links[number(link)]
        assert shown["prog_id"] == number(first) and row["programs"] == str(number(first))
        assert row["kind"] == "raw_tracepoint"
        assert row["attached"] == f"rawtracepoint:{shown['tp_name']}"
        assert of(rows, "prog", first)["attached"] == "rawtracepoint:sched_process_exec"
        assert of(rows, "prog", second)["attached"] is None


@host_only
def test_all_of_the_machine_is_what_bpftool_has() -> None:
    """What others make and remove meanwhile is left out: it is not there both before and after."""
    OTHERS.clear()
    with Made() as made:
        made.map(HASH, "mine")
        made.raw_tracepoint(made.program(RAW_TRACEPOINT, "mine"), "sched_process_exec")
        for kind in ("prog", "map", "link"):
            before = bpftool(kind)
            rows = [row for row in listed() if row["type"] == kind]
            after = bpftool(kind)
            stayed = set(before) & set(after)
            assert stayed <= {row["id"] for row in rows} and stayed
            assert all(row["id"] in before or row["id"] > max(before) for row in rows)
            for row in rows:
                if row["id"] not in stayed:
                    continue
                shown, then = before[row["id"]], after[row["id"]]
                # A bpftool that is older than the type has its number.
                assert row["kind"] == bpf_objects.LINK_TYPES.get(shown["type"], shown["type"])
                # That of some maps grows with their elements.
                if shown.get("bytes_memlock") == then.get("bytes_memlock"):
                    assert row["memory"] == shown.get("bytes_memlock"), shown
                if kind != "link":
                    assert (row["name"] or "") == shown.get("name", ""), shown


@pytest.mark.any_types
def test_the_table_counts_them_by_process_as_bcc_does() -> None:
    with Made() as made:
        for place in range(3):
            counts = made.map(HASH, f"map_{place}")
        programs = [made.program(RAW_TRACEPOINT, "p", maps=[counts]) for _ in range(2)]
        links = [made.raw_tracepoint(program, "sched_process_exec") for program in programs]
        mine = listed(os.getpid())
        assert Counter(row["type"] for row in mine) == {"prog": 2, "map": 3, "link": 2}
        before = Counter(kind for kind, _ in OTHERS)
        OTHERS.clear()
        memory = Counter({row["type"]: 0 for row in mine})
        for row in listed(os.getpid()):
            memory[row["type"]] += row["memory"] or 0
        result = run_tool("bpflist")
        lines = result.stdout.splitlines()
        assert lines[0].split() == ["PID", "COMM", "TYPE", "COUNT", "MEMORY"]
        own = [line.split() for line in lines if line.startswith(f"{os.getpid()} ")]
        assert [[words[-3], words[-2], words[-1]] for words in own] == [
            ["prog", str(2 + before["prog"]), str(memory["prog"])],
            ["map", str(3 + before["map"]), str(memory["map"])],
            ["link", str(2 + before["link"]), "-"],
        ]
        assert len(links) == 2 and max(map(len, lines)) <= 80
    assert before or f"\n{os.getpid()} " not in run_tool("bpflist").stdout


@host_only
def test_counts_are_bcc_s_of_what_has_a_descriptor() -> None:
    peer = "/usr/sbin/bpflist-bpfcc"
    if not os.path.exists(peer):
        pytest.skip(f"{os.uname().release} has no bcc tools installed")
    with Made() as made:
        maps = [made.map(HASH, "map") for _ in range(3)]
        for _ in range(2):
            made.program(RAW_TRACEPOINT, "program", maps=maps)
        theirs = subprocess.run([peer], stdout=subprocess.PIPE, text=True, check=True).stdout
        counts = []
        for output in (theirs, run_tool("bpflist").stdout):
            rows = [line.split() for line in output.splitlines()]
            counts.append({row[2]: row[3] for row in rows if row[0] == str(os.getpid())})
        before = Counter(kind for kind, _ in OTHERS)
        made_of = {"prog": 2 + before["prog"], "map": 3 + before["map"]}
        assert counts[0] == counts[1]
        assert {kind: int(counts[1][kind]) for kind in made_of} == made_of


@pytest.mark.any_types
def test_what_a_process_keeps_without_a_descriptor_of_it_is_its_own() -> None:
    """A link keeps its program, and that its maps; a perf event keeps its program."""
    with Made() as made:
        counts = made.map(HASH, "counts")
        program = made.program(RAW_TRACEPOINT, "by_link", maps=[counts])
        made.raw_tracepoint(program, "sched_process_exec")
        event = running().tracepoint_id("sched", "sched_process_exec")
        other = made.program(TRACEPOINT, "by_event")
        made.perf_event(other, 2, event)
        known = {("map", number(counts)), ("prog", number(program)), ("prog", number(other))}
        for descriptor in (counts, program, other):
            os.close(descriptor)
        rows = listed(os.getpid())
        assert known < {(row["type"], row["id"]) for row in rows} and len(rows) == 4


def test_perf_events_are_shown_by_what_they_are_at(tmp_path: Path) -> None:
    # A file that nobody runs: elsewhere, the place may be the middle of an instruction.
    program = str(tmp_path / "program")
    shutil.copy("/bin/true", program)
    with Made() as made:
        path = ctypes.create_string_buffer(os.fsencode(program))
        with open("/sys/bus/event_source/devices/uprobe/type") as file:
            uprobe = int(file.read())
        at_user = made.program(KPROBE, "at_user")
        where = struct.pack("=QQ", ctypes.addressof(path), 0x2000)
        made.perf_event(at_user, uprobe, 0, struct.pack("=II", 0, 0) + where)
        at_return = made.program(KPROBE, "at_return")
        made.perf_event(at_return, uprobe, 1, struct.pack("=II", 0, 0) + where)
        traced = made.program(TRACEPOINT, "traced")
        event = running().tracepoint_id("syscalls", "sys_enter_listen")
        made.perf_event(traced, 2, event)
        sampled = made.program(PERF_EVENT, "sampled")
        made.perf_event(sampled, 1, 0)
        rows = listed(os.getpid())
        assert of(rows, "prog", at_user)["attached"] == f"uprobe:{program}:0x2000"
        assert of(rows, "prog", at_return)["attached"] == f"uretprobe:{program}:0x2000"
        assert of(rows, "prog", traced)["attached"] == "tracepoint:sys_enter_listen"
        assert of(rows, "prog", sampled)["attached"] == "perf_event"
        shown = run_tool("bpflist", "-v").stdout
        assert f"\n        uprobe:{program}:0x2000\n" in shown


def test_links_to_perf_events_and_to_many_places(tmp_path: Path) -> None:
    program = str(tmp_path / "program")
    shutil.copy("/bin/true", program)
    with Made() as made:
        try:
            many = made.program(KPROBE, "many", attach_type=UPROBE_MULTI)
            link = made.link_of_uprobes(many, program, [0x2000, 0x2010])
        except OSError:
            pytest.skip(f"{os.uname().release} has no links to many functions of programs")
        traced = made.program(TRACEPOINT, "traced")
        event = made.perf_event(0, 2, running().tracepoint_id("syscalls", "sys_enter_listen"))
        at_event = made.link(traced, event, PERF_EVENT_ATTACH)
        sampled = made.program(PERF_EVENT, "sampled")
        switches = made.link(sampled, made.perf_event(0, 1, 3), PERF_EVENT_ATTACH)
        rows = listed(os.getpid())
        for number_of, place in (
            (link, f"uprobe:{program}:2 places"), (at_event, "tracepoint:sys_enter_listen"),
            (switches, "perf_event:context-switches"),
        ):  # fmt: skip
            assert of(rows, "link", number_of)["attached"] == place
        assert of(rows, "prog", many)["attached"] == f"uprobe:{program}:2 places"
        assert of(rows, "prog", traced)["attached"] == "tracepoint:sys_enter_listen"
        assert of(rows, "prog", sampled)["attached"].startswith("perf_event:context-switches")


@needs_functions
@needs_btf
def test_functions_have_their_names() -> None:
    with Made() as made, open("/sys/bus/event_source/devices/kprobe/type") as file:
        name = ctypes.create_string_buffer(b"vfs_unlink")
        at_call = made.program(KPROBE, "at_call")
        where = struct.pack("=IIQQ", 0, 0, ctypes.addressof(name), 0)
        made.perf_event(at_call, int(file.read()), 0, where)
        function = running().btf.function("vfs_unlink")
        assert function is not None
        type_id = next(n for n in running().btf.ids("vfs_unlink", 12))
        typed = made.program(TRACING, "typed", attach_type=TRACE_FENTRY, type_id=type_id)
        made.raw_tracepoint(typed, None)
        rows = listed(os.getpid())
        assert of(rows, "prog", at_call)["attached"] == "kprobe:vfs_unlink"
        # The kernel tells the function since Linux v6.0.
        told = bpftool("link")
        (shown,) = (each for each in told.values() if each["prog_id"] == number(typed))
        expected = "fentry:vfs_unlink" if "target_btf_id" in shown else "fentry"
        assert of(rows, "prog", typed)["attached"] == expected


@needs_btf
def test_an_iterator_and_a_network_namespace() -> None:
    with Made() as made, open("/proc/self/ns/net") as namespace:
        type_id = next(n for n in running().btf.ids("bpf_iter_task", 12))
        each_task = made.program(TRACING, "each_task", attach_type=TRACE_ITER, type_id=type_id)
        made.link(each_task, 0, TRACE_ITER)
        chosen = made.program(SK_LOOKUP, "chosen", attach_type=SK_LOOKUP_ATTACH, returned=1)
        made.link(chosen, namespace.fileno(), SK_LOOKUP_ATTACH)
        rows = listed(os.getpid())
        assert of(rows, "prog", each_task)["attached"] == "iter:task"
        assert re.fullmatch(r"sk_lookup:(init|net:\[\d+\])", of(rows, "prog", chosen)["attached"])


def test_cgroups_are_shown_by_their_paths_with_a_link_and_without() -> None:
    root = Containers().root
    if not os.path.exists(f"{root}/cgroup.controllers"):
        pytest.skip(f"{os.uname().release} has no cgroups of version 2 here")
    path = f"{root}/pytools-{os.getpid()}"
    os.mkdir(path)
    folder = os.open(path, os.O_RDONLY)
    try:
        with Made() as made:
            linked = made.program(CGROUP_SKB, "linked", attach_type=CGROUP_INET_INGRESS, returned=1)
            made.link(linked, folder, CGROUP_INET_INGRESS)
            alone = made.program(CGROUP_SKB, "alone", attach_type=CGROUP_INET_EGRESS, returned=1)
            made.attach(alone, folder, CGROUP_INET_EGRESS)
            known = number(alone)
            rows = listed(os.getpid())
            name = f"/pytools-{os.getpid()}"
            assert of(rows, "prog", linked)["attached"] == f"cgroup_inet_ingress:{name}"
            assert of(rows, "prog", alone)["attached"] == f"cgroup_inet_egress:{name}"
            os.close(alone)  # now the cgroup alone keeps it
            (row,) = (r for r in listed() if (r["type"], r["id"]) == ("prog", known))
            assert (row["pid"], row["comm"]) == (None, None)
            assert row["attached"] == f"cgroup_inet_egress:{name}"
    finally:
        os.close(folder)
        os.rmdir(path)


IN_NAMESPACE = r"""
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from bpf_objects_made import SCHED_CLS, XDP, Made, loopback, number
from pyroute2 import IPRoute
made = Made()
xdp = made.program(XDP, "xdp", returned=2)
made.link(xdp, loopback(), 37, 2)
filter_ = made.program(SCHED_CLS, "filter")
ip = IPRoute()
ip.tc("add", "clsact", loopback())
ip.tc("add-filter", "bpf", loopback(), fd=filter_, name="mine", parent=0xFFFFFFF2,
      direct_action=True)
tcx = made.program(SCHED_CLS, "tcx")
try:
    made.link(tcx, loopback(), 46)
except OSError:  # before Linux v6.6
    tcx = 0
print(number(xdp), number(filter_), number(tcx) if tcx else 0, flush=True)
input()
"""


def test_devices_of_another_network_namespace() -> None:
    namespace = f"pytools-bpflist-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    tests = os.path.dirname(os.path.realpath(__file__))
    code = "import os, sys; os.execvp('ip', ['ip', 'netns', 'exec', sys.argv[1], *sys.argv[2:]])"
    inside = [namespace, "/usr/bin/python3", "-c", IN_NAMESPACE, tests, f"{tests}/../lib"]
    try:
        with python_child(code, *inside) as child:
            assert child.stdout
            xdp, filter_, tcx = map(int, child.stdout.readline().split())
            rows = {(r["type"], r["id"]): r for r in listed(child.pid)}
            assert rows["prog", xdp]["attached"] == f"xdp:lo in {namespace}"
            assert rows["prog", filter_]["attached"] == f"tc_ingress:lo in {namespace}"
            assert not tcx or rows["prog", tcx]["attached"] == "tcx_ingress:lo"
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)


def test_what_is_pinned_has_its_path_and_no_process() -> None:
    with tempfile.TemporaryDirectory(prefix="pytools bpflist ") as folder:
        subprocess.run(["mount", "-t", "bpf", "none", folder], check=True)
        try:
            with Made() as made:
                counts = made.map(HASH, "counts")
                program = made.program(RAW_TRACEPOINT, "program", maps=[counts])
                link = made.raw_tracepoint(program, "sched_process_exec")
                known = {}
                for kind, descriptor in (("map", counts), ("prog", program), ("link", link)):
                    known[kind, number(descriptor)] = f"{folder}/{kind}"
                    made.pin(descriptor, f"{folder}/{kind}")
            rows = {(r["type"], r["id"]): r for r in listed()}
            for each, path in known.items():
                assert (rows[each]["pid"], rows[each]["pinned"]) == (None, path)
            for path in known.values():
                assert f"\n        pinned at {path}\n" in run_tool("bpflist", "-v").stdout
        finally:
            subprocess.run(["umount", folder], check=True)


@host_only
def test_a_process_s_name_reaches_no_terminal_as_it_is() -> None:
    code = """
import ctypes, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from bpf_objects_made import HASH, Made
made = Made()
made.map(HASH, "counts")
open("/proc/self/comm", "wb").write(b"a\\x1b[2J\\nb")
print("ready", flush=True)
input()
"""
    tests = os.path.dirname(os.path.realpath(__file__))
    with python_child(code, tests, f"{tests}/../lib") as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        line = next(
            line for line in run_tool("bpflist").stdout.splitlines()
            if line.startswith(f"{child.pid} ")
        )  # fmt: skip
        assert "\x1b" not in line and r"a\x1b[2J\x0ab" in line
        (row,) = listed(child.pid)
        assert row["comm"] == "a\x1b[2J\nb"


@needs_btf
@host_only
def test_the_names_of_types_are_the_kernel_s() -> None:
    for enum, prefix, known in (
        ("bpf_prog_type", "BPF_PROG_TYPE_", bpf_objects.PROGRAM_TYPES),
        ("bpf_map_type", "BPF_MAP_TYPE_", bpf_objects.MAP_TYPES),
        ("bpf_link_type", "BPF_LINK_TYPE_", bpf_objects.LINK_TYPES),
        ("bpf_attach_type", "BPF_", bpf_objects.ATTACH_TYPES),
    ):
        for value, name in running().btf.enumeration(enum).items():
            short = name[len(prefix) :].lower().replace("_deprecated", "")
            if not name.startswith("__"):
                assert known[value] == short
