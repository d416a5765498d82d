"""memleak against programs that know what they have not freed."""
from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import sys
from typing import Any

import pytest

from elf_files import machine_code
from machine_code import CALLERS, stepping
from support import EMULATED, Tool, run_tool

pytestmark = pytest.mark.alone

LEAKS, LEAKED_BYTES = 1000, 100
OTHERS = 2_000 if EMULATED else 10_000

AMONG_OTHERS = (
    CALLERS
    + f"""
leak, tidy = named("leaking_function"), named("tidy_function")
step()
for number in range({OTHERS}):
    if number % {OTHERS // LEAKS} == 0:
        leak("malloc", {LEAKED_BYTES})
    libc.free(tidy("malloc", 16 + number % 500))
step()
"""
)


ALL = ("-o", "0", "-T", "100000", "1000")


def rows(output: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    assert not any("lost" in row for row in found)
    return found


def by_function(output: str, stack: str = "user_stack") -> dict[str, tuple[int, int]]:
    """Bytes and allocations, by the innermost function."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows(output):
        name = re.split(r"\+0x", (row[stack] or "").rpartition(";")[2])[0]
        size, count = found.get(name, (0, 0))
        found[name] = size + row["bytes"], count + row["count"]
    return found


@machine_code
@pytest.mark.any_types
def test_known_leaks_among_many_allocations_are_found_to_the_byte() -> None:
    """By each that is read, by what the kernel adds up, and by a sample."""
    ways: list[list[str]] = [[], ["--combined-only"], ["-s", "4"]]
    with stepping(AMONG_OTHERS) as (pid, go_on), contextlib.ExitStack() as stack:
        tools = [
            stack.enter_context(Tool("memleak", "--json", "-p", str(pid), *options, *ALL))
            for options in ways
        ]
        go_on()
        each, combined, sampled = [by_function(tool.stop()) for tool in tools]
    for found in (each, combined):
        assert found["leaking_function"] == (LEAKS * LEAKED_BYTES, LEAKS)
        assert "tidy_function" not in found
    size, count = sampled["leaking_function"]
    assert size == count * LEAKED_BYTES
    # 250, give or take six standard deviations.
    assert 160 < count < 340 and "tidy_function" not in sampled


EVERY_FUNCTION = (
    CALLERS
    + r"""
big = 1 << 62
calls = {name: named(name) for name in (
    "by_malloc", "by_calloc", "by_aligned", "by_memalign", "by_valloc", "by_array", "by_place",
    "by_realloc", "by_failed", "by_zero", "by_large", "by_mremap")}
place = ctypes.c_void_p()
step()
calls["by_malloc"]("malloc", 101)
calls["by_calloc"]("calloc", 2, 51)
calls["by_aligned"]("aligned_alloc", 64, 128)
calls["by_memalign"]("memalign", 64, 103)
calls["by_valloc"]("valloc", 104)
calls["by_array"]("reallocarray", calls["by_array"]("malloc", 1), 3, 35)
calls["by_place"]("posix_memalign", ctypes.addressof(place), 64, 106)
memory = calls["by_realloc"]("malloc", 7)
calls["by_realloc"]("realloc", memory, 100_007)
assert not calls["by_failed"]("realloc", calls["by_failed"]("malloc", 108), big)
again = calls["by_zero"]("realloc", calls["by_zero"]("malloc", 109), 0)
if again:
    libc.free(again)
calls["by_large"]("malloc", 3_000_001)
libc.free(calls["by_large"]("malloc", 3_000_002))
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
mmap_place = ctypes.cast(libc.mmap, ctypes.c_void_p).value
for size in (40960, 8192):
    # With more arguments than the named functions pass on.
    memory = libc.mmap(None, ctypes.c_size_t(size), 3, 0x22, -1, ctypes.c_long(0))
    if size == 8192:
        libc.munmap(memory, 8192)
calls["by_mremap"]("mremap", libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, 0), 4096, 0)
memory = libc.mmap(None, ctypes.c_size_t(20480), 3, 0x22, -1, ctypes.c_long(0))
libc.munmap(memory, 8192)
step()
"""
)


@pytest.mark.every_kernel
@machine_code
@pytest.mark.any_types
def test_every_function_of_an_allocator() -> None:
    with stepping(EVERY_FUNCTION) as (pid, go_on):
        with Tool("memleak", "--json", "-a", "-p", str(pid), *ALL) as tool:
            go_on()
            output = tool.stop()
    assert {
        name: amount for name, amount in by_function(output).items() if name.startswith("by_")
    } == {
        "by_malloc": (101, 1), "by_calloc": (102, 1), "by_aligned": (128, 1),
        "by_memalign": (103, 1), "by_valloc": (104, 1), "by_array": (105, 1), "by_place": (106, 1),
        "by_realloc": (100_007, 1), "by_failed": (108, 1), "by_large": (3_000_001, 1),
    }  # fmt: skip
    sizes = [row["bytes"] for row in rows(output)]
    assert sizes.count(40960) == 1 and sizes.count(12288) == 1
    assert not {8192, 20480, 3_000_002, 109, 7} & set(sizes)
    assert all(row["age_ms"] > 0 and row["count"] == 1 for row in rows(output))


IN_THREADS = (
    CALLERS
    + r"""
import queue, threading
leak, pass_on, handed = named("leaking"), named("passing_on"), queue.Queue()

def work():
    for number in range(500):
        handed.put(pass_on("malloc", 64))
        handed.put(pass_on("realloc", pass_on("malloc", 8), 80))
        libc.free(handed.get())
        libc.free(handed.get())
        if number % 5 == 0:
            leak("malloc", 72)

step()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
step()
"""
)


@machine_code
@pytest.mark.host_only
def test_memory_that_another_thread_frees() -> None:
    with stepping(IN_THREADS) as (pid, go_on):
        with Tool("memleak", "--json", "-p", str(pid), *ALL) as tool:
            go_on()
            found = by_function(tool.stop())
    assert found["leaking"] == (400 * 72, 400) and "passing_on" not in found


# What it has when it executes another program is gone then.
TWO_PROGRAMS = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for _ in range(%d):
    libc.malloc(%d)
if %d:
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
SIZE = 123_457


def test_a_command_that_executes_another_and_ends() -> None:
    first, second = TWO_PROGRAMS % (5, SIZE, 1), TWO_PROGRAMS % (7, SIZE, 0)
    result = run_tool(
        "memleak", "--json", "-z", str(SIZE), "-Z", str(SIZE), "1000",
        "--exec", sys.executable, "-c", first, second,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # Without frame pointers, one function may have several stacks.
    found = rows(result.stdout)
    assert {row["bytes"] // row["count"] for row in found} == {SIZE}
    assert sum(row["count"] for row in found) == 7


# Of files of eventfd(2), it keeps some open.
EVENTFDS = """
import ctypes, os, sys
with open("/proc/self/comm", "w") as file:
    file.write("keeps-eventfds")
libc = ctypes.CDLL(None)
print("ready", flush=True)
sys.stdin.readline()
for descriptor in [libc.eventfd(0, 0) for _ in range(500)][300:]:
    os.close(descriptor)
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.every_kernel
def test_the_kernel_s_memory_of_open_files() -> None:
    ways: list[list[str]] = [[], ["-C"]]
    with stepping(EVENTFDS) as (_, go_on), contextlib.ExitStack() as stack:
        tools = [
            stack.enter_context(Tool("memleak", "--json", "--comm", "keeps-*", *options, *ALL))
            for options in ways
        ]
        go_on()
        outputs = [tool.stop() for tool in tools]
    for output in outputs:
        # What is missed is missed in interrupts.
        kernel = [row for row in map(json.loads, output.splitlines()) if "lost" not in row]
        own = [
            row for row in kernel
            if re.search(r"do_eventfd[^;]*(;_*kmalloc[^;]*|;kmem_cache_alloc[^;]*)*$",
                         row["kernel_stack"] or "")
        ]  # fmt: skip
        assert sum(row["count"] for row in own) == 300, own
        assert {row["bytes"] % row["count"] for row in own} == {0}
        assert all(row["pid"] is None and row["user_stack"] is None for row in own)


@pytest.mark.host_only
def test_the_kernel_s_memory_of_each_cpu() -> None:
    result = run_tool("memleak", "--percpu", "--json", "-o", "0", "1", "1")
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert all("pcpu_alloc" in row["kernel_stack"] for row in found if "lost" not in row)


@machine_code
@pytest.mark.host_only
def test_each_call_is_a_line_and_tables_are_text() -> None:
    code = CALLERS + (
        "get = named('get')\nstep()\n"
        "libc.free(get('malloc', 70001))\nget('realloc', get('malloc', 70002), 70003)\nstep()\n"
    )
    options = ["-z", "70001", "-Z", "70003"]
    with stepping(code) as (pid, go_on), contextlib.ExitStack() as stack:
        calls = stack.enter_context(Tool("memleak", "-t", *options, "-p", str(pid)))
        table = stack.enter_context(Tool("memleak", "-a", *options, "-p", str(pid), *ALL))
        go_on()
        lines, text = calls.stop().splitlines(), table.stop()
    assert lines[0].split() == ["TIME", "PID", "COMM", "CALL", "SIZE", "ADDRESS"]
    found = [line.split()[3:5] for line in lines[1:]]
    assert found == [
        ["alloc", "70001"], ["free", "70001"], ["alloc", "70002"], ["free", "70002"],
        ["alloc", "70003"],
    ]  # fmt: skip
    address = lines[-1].split()[5]
    assert re.fullmatch(
        rf"\[\d\d:\d\d:\d\d\] Top 100000 stacks with outstanding allocations:\n"
        rf" {{8}}addr = {address} size = 70003\n {{8}}70003 bytes in 1 allocations from stack\n"
        r" {16}get\+0x[0-9a-f]+ \[perf-\d+\.map\]\n( {16}.*\n)*\n",
        text,
    ), text


@machine_code
@pytest.mark.host_only
def test_what_finds_no_room_is_said() -> None:
    code = (
        CALLERS + "get = named('get')\nstep()\nfor _ in range(300): get('malloc', 70001)\nstep()\n"
    )
    options = ["--hash-storage-size", "100", "-z", "70001", "-Z", "70001"]
    with stepping(code) as (pid, go_on):
        with Tool("memleak", *options, "-p", str(pid), *ALL) as tool:
            go_on()
            text = tool.stop()
    kept = int(re.findall(r"bytes in (\d+) allocations", text)[0])
    assert f"{300 - kept} allocations lost, the map is full" in tool.messages.decode()


@machine_code
@pytest.mark.host_only
@pytest.mark.parametrize("name", ["jemalloc", "tcmalloc_minimal", "mimalloc"])
def test_allocators_in_place_of_the_c_library_s(name: str) -> None:
    found = glob.glob(f"/usr/lib/*/lib{name}.so.?")
    if not found:
        pytest.skip(f"lib{name} is not installed")
    with stepping(AMONG_OTHERS, LD_PRELOAD=found[0]) as (pid, go_on):
        with Tool("memleak", "--json", "-p", str(pid), *ALL) as tool:
            go_on()
            amounts = by_function(tool.stop())
    assert amounts["leaking_function"] == (LEAKS * LEAKED_BYTES, LEAKS)
    assert "tidy_function" not in amounts
    assert b"operator new of its own" in tool.messages


@pytest.mark.host_only
@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["-z", "5", "-Z", "4"], 2, "it is more than that of -Z"),
        (["-s", "0"], 2, "is not a whole number"),
        (["-t", "-a"], 2, "not allowed with argument"),
        (["-O", "nonesuch", "-p", str(os.getpid())], 2, "no library nonesuch"),
        (["-O", "/bin/true", "-p", str(os.getpid())], 1, "/bin/true has no function malloc"),
        (["-c", "nonesuch-command"], 1, "there is no such program"),
        (["-c", ""], 2, "argument -c/--command: the command is empty"),
        (["-c", "'"], 2, '"\'" is no command: no closing quotation'),
    ],
)
def test_mistakes(arguments: list[str], status: int, message: str) -> None:
    result = run_tool("memleak", "--duration", "0", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.host_only
def test_options_that_can_do_nothing_are_said() -> None:
    def messages(*options: str) -> str:
        result = run_tool("memleak", "--duration", "0", *options)
        assert result.returncode == 0
        return result.stderr

    own = "-p", str(os.getpid())
    assert "memleak: -P has no effect" in messages("-P", *own)
    assert "no effect without -p" in messages("-O", "c", "--min-size", str(2**62))
    assert "memleak: no function zz_malloc was found" in messages("-S", "zz_", *own)
