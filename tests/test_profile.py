"""profile against programs that say themselves how long they ran in which function."""
from __future__ import annotations

import contextlib
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any, Iterator

import pytest

from elf_files import machine_code
from machine_code import FUNCTIONS
from support import EMULATED, SPIN, Tool, cgroups, end, last_cpu, python_child, run_tool
from test_stacks import drawn

pytestmark = pytest.mark.alone


def rows(output: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    assert not any("lost" in row for row in found)
    return found


def samples(found: list[dict[str, Any]]) -> int:
    return sum(row["samples"] for row in found)


# Each stretch is long beside the time between two samples. The functions take
# turns in no order that samples could fall into step with.
TWO_FUNCTIONS = (
    FUNCTIONS
    + r"""
import random
os.sched_setaffinity(0, [int(sys.argv[1])])
print("ready", flush=True)
sys.stdin.readline()
ran = {"hot_function": 0.0, "cold_function": 0.0}
begin = time.process_time()
turns = ["hot_function"] * 28 + ["cold_function"] * 12
random.Random(1).shuffle(turns)
for name in turns:
    ran[name] += spin(name, 0.03)
print(*ran.values(), time.process_time() - begin, flush=True)
sys.stdin.read()
"""
)
RATE = 499


@pytest.mark.every_kernel
@machine_code
def test_two_functions_have_their_shares_of_an_ended_process(tmp_path: Path) -> None:
    graph, scope = tmp_path / "graph.svg", tmp_path / "scope.json"
    with python_child(TWO_FUNCTIONS, str(last_cpu())) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool(
            "profile", "-F", str(RATE), "-p", str(child.pid), "--json",
            "--svg", str(graph), "--speedscope", str(scope),
        ) as tool:  # fmt: skip
            child.stdin.write(b"\n")
            child.stdin.flush()
            hot, cold, seconds = map(float, child.stdout.readline().split())
            end(child)
            found = rows(tool.stop())
    Path(f"/tmp/perf-{child.pid}.map").unlink()
    assert {row["pid"] for row in found} == {child.pid}
    leaves: Counter[str] = Counter()
    called = 0
    for row in found:
        functions = (row["user_stack"] or "").split(";")
        if functions[-1] in ("hot_function", "cold_function"):
            # Not in the instructions before the frame pointer is set.
            called += row["samples"] if functions[-2:-1] == ["calling_function"] else 0
            if row["kernel_stack"] is None:
                leaves[functions[-1]] += row["samples"]
    both = sum(leaves.values())
    # The rest are the interpreter's, and the kernel's: many where timers are emulated.
    assert both > 0.5 * samples(found) and called > 0.95 * both
    # An emulated processor that stood still is sampled once, however long that was.
    near = 0.1 if EMULATED else 0.03
    assert leaves["hot_function"] / both == pytest.approx(hot / (hot + cold), abs=near)
    # A sample is so much time on the CPU, in the process as it counts it itself.
    assert samples(found) / RATE <= 1.05 * seconds
    assert EMULATED or samples(found) / RATE >= 0.95 * seconds
    # The other forms have the same in them.
    total = samples(found)
    boxes = drawn(graph.read_text())
    width = {title: width for title, _, _, _, width in boxes}
    hot_width = sum(width for title, _, _, _, width in boxes if title == "hot_function")
    assert hot_width / width["all"] == pytest.approx(leaves["hot_function"] / total, abs=0.03)
    (profile,) = json.loads(scope.read_text())["profiles"]
    assert sum(profile["weights"]) == total


# Reads zeros for a while, and sums up; then ends.
KERNEL_AND_LIBRARY = r"""
import sys, time, zlib
print("ready", flush=True)
sys.stdin.readline()
data = bytearray(1 << 20)
with open("/dev/zero", "rb", buffering=0) as zeros:
    end = time.process_time() + 0.8
    while time.process_time() < end:
        for _ in range(4):
            zeros.readinto(data)
        zlib.crc32(data)
print("done", flush=True)
sys.stdin.read()
"""


def reading(*options: str) -> list[dict[str, Any]]:
    """What profile prints of that program."""
    with python_child(KERNEL_AND_LIBRARY) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("profile", "-F", "199", "-p", str(child.pid), "--json", *options) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            end(child)
            return rows(tool.stop())


@pytest.mark.every_kernel
def test_the_kernels_functions_and_those_of_an_ended_process_have_names() -> None:
    found = reading()
    total = samples(found)
    assert total > 50
    stacks = [(row["kernel_stack"] or "", row["user_stack"] or "", row) for row in found]
    in_read = samples([row for kernel, _, row in stacks if "vfs_read" in kernel.split(";")])
    assert in_read > 0.1 * total
    summing = samples([row for kernel, user, row in stacks if not kernel and "crc32" in user])
    assert summing > 0.1 * total
    unknown = samples([row for kernel, _, row in stacks if "[unknown]" in kernel])
    assert unknown < 0.01 * total


@contextlib.contextmanager
def spinning() -> Iterator[int]:
    with python_child(SPIN, str(last_cpu())) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        yield child.pid


@pytest.mark.host_only
def test_options_choose_what_is_sampled() -> None:
    """One process that spins on the last CPU, seen or not."""
    with cgroups(2) as (folder, other), spinning() as pid:
        (folder / "cgroup.procs").write_text(str(pid))

        def seen(*arguments: str, why: str = "") -> list[dict[str, Any]]:
            result = run_tool("profile", "--json", "0.5", *arguments)
            assert (result.returncode, result.stderr) == (0, why)
            return [row for row in rows(result.stdout) if row["pid"] == pid]

        assert samples(seen("-C", str(last_cpu()))) > 0
        assert samples(seen("--cgroup", str(folder))) > 0
        why = f"profile: nothing was seen: no task is in the cgroup {other}\n"
        assert seen("--cgroup", str(other), why=why) == []
        assert samples(seen("-L", str(pid), "--period", "10000000")) > 0
        for row in seen("-U", "-p", str(pid)):
            assert row["kernel_stack"] is None
        for row in seen("-K", "-p", str(pid)):
            assert row["user_stack"] is None


def idle_ticks() -> int:
    """How long the CPUs have been idle together, in hundredths of a second."""
    return sum(map(int, Path("/proc/stat").read_text().split(maxsplit=6)[4:6]))


@pytest.mark.any_types
def test_idle_cpus_are_sampled_on_request_only() -> None:
    for arguments in ["0.3"], ["-I", "0.3"]:
        before = idle_ticks()
        result = run_tool("profile", "--json", "-K", "-F", "999", *arguments)
        idle = idle_ticks() - before > 20
        sampled = 0 in {row["pid"] for row in rows(result.stdout)}
        assert sampled == ("-I" in arguments) or not idle


@pytest.mark.host_only
def test_text_and_folded_lines() -> None:
    with spinning() as pid:
        text = run_tool("profile", "-a", "-d", "-p", str(pid), "1").stdout
        lines = run_tool("profile", "-adf", "-p", str(pid), "1").stdout.splitlines()
    stacks = text.rstrip("\n").split("\n\n")
    amounts = []
    for stack in stacks:
        *functions, owner, amount = stack.splitlines()
        assert re.fullmatch(rf"    -                [\w.]+ \({pid}\)", owner)
        assert all(re.fullmatch(r"    \S.*", function) for function in functions)
        assert re.fullmatch(r"        \d+", amount)
        amounts.append(int(amount))
    assert amounts == sorted(amounts) and sum(amounts) > 0
    for line in lines:
        assert re.fullmatch(r"python[\w.]*;.+ \d+", line)
    assert len(lines) == len({line.rpartition(" ")[0] for line in lines})


@pytest.mark.host_only
def test_offsets_and_addresses_are_those_of_the_kernel() -> None:
    symbols: dict[str, set[int]] = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, _, name = line.split()[:3]
        symbols.setdefault(name, set()).add(int(address, 16))
    found = reading("-s", "-A")
    frames = ";".join(row["kernel_stack"] or "" for row in found).split(";")
    places = [re.fullmatch(r"(\S+)\+(0x[0-9a-f]+) \[(0x[0-9a-f]+)\]", frame) for frame in frames]
    named = [place for place in places if place]
    assert "vfs_read" in {place[1] for place in named}
    for place in named:
        assert int(place[3], 16) - int(place[2], 16) in symbols[place[1]]


@pytest.mark.any_types
def test_what_does_not_fit_is_counted_by_kind() -> None:
    with spinning() as pid:
        result = run_tool(
            "profile", "--json", "-F", "999", "-p", str(pid), "0.5", "--stack-storage-size", "1"
        )
        messages = result.stderr
        assert re.search(r"^profile: \d+ stacks lost", messages, re.M)
        last = json.loads(result.stdout.splitlines()[-1])
        assert last["lost"] == sum(map(int, re.findall(r"^profile: (\d+) ", messages, re.M)))
        result = run_tool(
            "profile", "-f", "-F", "999", "-p", str(pid), "0.5", "--hash-storage-size", "1"
        )
    assert re.search(r"^profile: \d+ counts lost, the map is full", result.stderr, re.M)


# Mistakes.


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--duration", "1", "1"], 2, "the duration is given twice"),
        (["--svg", "a", "--speedscope", "a", "1"], 2, "--svg and --speedscope name the same file"),
        (["-U", "-K"], 2, "not allowed with argument"),
        (["-f", "--json"], 2, "not allowed with argument"),
        (["-C", "4096", "--duration", "0"], 1, "CPU 4096 is not online"),
        (["--svg", "/nowhere/a.svg", "--duration", "0"], 1, "cannot write to /nowhere/a.svg"),
        (["--speedscope", "/dev/full", "--duration", "0"], 1, "cannot write to /dev/full"),
    ],
)
@pytest.mark.host_only
def test_mistakes_are_said_in_one_line(arguments: list[str], status: int, message: str) -> None:
    result = run_tool("profile", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.host_only
def test_a_flame_graph_of_a_pipe_and_over_a_longer_file(tmp_path: Path) -> None:
    path = tmp_path / "graph.svg"
    path.write_text("x" * 100_000)
    result = run_tool("profile", "--duration", "0", "--svg", str(path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    ElementTree.parse(path)
    result = run_tool("profile", "--duration", "0", "--svg", "/dev/stdout")
    ElementTree.fromstring(result.stdout)


# Threads that have names of their own, as those of Java do.
NAMED_THREADS = """
import ctypes, sys, threading
libc = ctypes.CDLL(None)
libc.prctl(15, b"main name", 0, 0, 0)  # PR_SET_NAME

def run(name):
    libc.prctl(15, name, 0, 0, 0)
    started.wait()
    while True:
        pass

started = threading.Barrier(3)
for name in (b"first thread", b"second thread"):
    threading.Thread(target=run, args=[name], daemon=True).start()
started.wait()
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.any_types
def test_the_threads_of_a_process_are_one_tower_or_one_for_each_name() -> None:
    with python_child(NAMED_THREADS) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"

        def towers(*arguments: str) -> set[str]:
            result = run_tool("profile", "-K", "-f", "-F", "499", "1", *arguments)
            assert (result.returncode, result.stderr) == (0, "")
            lines = [line.rpartition(" ")[0].split(";") for line in result.stdout.splitlines()]
            depth = 2 if "--thread-names" in arguments else 1
            return {";".join(line[:depth]) for line in lines}

        pid = str(child.pid)
        often = ["-p", pid, "-F", "499", "1"]
        assert towers("--comm", "main*") == {"main name"}
        assert towers("-p", pid, "--thread-names") >= {
            "main name;first thread", "main name;second thread",
        }  # fmt: skip
        assert towers("-p", pid, "--thread", "*d thread") == {"main name"}
        result = run_tool("profile", "-K", "--json", *often, "--thread", "first*")
        assert {row["comm"] for row in rows(result.stdout)} == {"main name"}
        result = run_tool("profile", "-K", "--json", *often, "--thread-names")
        found = {(row["comm"], row["thread"]) for row in rows(result.stdout)}
        assert ("main name", "first thread") in found


HAS_CYCLES = os.path.exists("/sys/bus/event_source/devices/cpu") or os.path.exists(
    "/sys/bus/event_source/devices/armv8_pmuv3_0"
)
NO_CYCLES = "profile: no CPU counts its cycles here, as in most virtual machines"


def event_of(*options: str) -> tuple[str, list[str]]:
    """What it says that it samples by, and what else it says without being asked."""
    with Tool("profile", *options) as tool:
        tool.stop()
    said = tool.messages.decode().splitlines()
    (event,) = (line for line in said if line.startswith("profile: attached to perf event "))
    notes = [line for line in said if line.startswith("profile: no ")]
    return re.sub(r"profile: attached to perf event |, CPUs .*", "", event), notes


@pytest.mark.host_only
@pytest.mark.skipif(not HAS_CYCLES, reason="no CPU counts its cycles here")
def test_cycles_are_counted_where_the_cpus_do() -> None:
    assert event_of() == ("cpu-cycles, 49 Hz", [])
    assert event_of("-c", "10000000") == ("cpu-cycles, every 10000000 cycles", [])
    assert event_of("-e", "cpu-cycles", "-F", "99") == ("cpu-cycles, 99 Hz", [])
    with spinning() as pid:
        found = rows(run_tool("profile", "--json", "-p", str(pid), "-c", "10000000", "1").stdout)
    assert samples(found) > 10


@pytest.mark.skipif(HAS_CYCLES, reason="the CPUs count their cycles here")
def test_where_no_cpu_counts_cycles_the_clock_does() -> None:
    assert event_of() == ("cpu-clock, 49 Hz", [])
    said = f"{NO_CYCLES}: -c counts nanoseconds (say --period, or -e cpu-clock -c)"
    assert event_of("-c", "10000000") == ("cpu-clock, every 10000000 ns", [said])
    result = run_tool("profile", "-e", "cpu-cycles", "1")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{NO_CYCLES}: use -e cpu-clock\n"


@pytest.mark.host_only
def test_nanoseconds_are_asked_for_by_period_or_event() -> None:
    for options in (["--period", "10000000"], ["-e", "cpu-clock", "-c", "10000000"]):
        assert event_of(*options) == ("cpu-clock, every 10000000 ns", [])
    result = run_tool("profile", "-e", "cpu-cycles", "--period", "10000000", "1")
    assert result.returncode == 2
    assert result.stderr == ("profile: argument --period: nanoseconds are those of -e cpu-clock\n")
    for options in (["-F", "9", "-c", "10000"], ["-c", "10000", "--period", "10000"]):
        assert run_tool("profile", *options).returncode == 2
