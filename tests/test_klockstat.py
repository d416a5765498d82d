"""klockstat against a program whose threads fight for locks, which it holds for known times."""
from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import struct
from pathlib import Path
from typing import Any, Iterator, Sequence

import pytest

import capture
from pytools.base import system
from pytools.facts.differences import sees_spinlocks
from pytools.facts.kernel import running
from support import ROOT, Tool, on_host_only, python_child, run_tool

# A thread writes from memory that is not there (userfaultfd), and keeps the lock of the pipe or of
# the file until there is some. Meanwhile another thread wants the lock, to write there, too.
FIGHTERS = r"""
import ctypes, fcntl, mmap, os, platform, queue, struct, sys, threading, time
sys.setswitchinterval(1e-5)
USERFAULTFD = {"x86_64": 323}.get(platform.machine(), 282)
API, REGISTER, ZEROPAGE = 0xC018AA3F, 0xC020AA00, 0xC020AA04
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
fault = libc.syscall(USERFAULTFD, os.O_CLOEXEC)
fcntl.ioctl(fault, API, struct.pack("=QQQ", 0xAA, 0, 0))
area = mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
missing = ctypes.addressof(ctypes.c_char.from_buffer(area))
fcntl.ioctl(fault, REGISTER, struct.pack("=QQQQ", missing, PAGE, 1, 0))
byte = ctypes.create_string_buffer(b"x", 1)
wanted, done = (queue.SimpleQueue(), queue.SimpleQueue()), queue.SimpleQueue()

def writes(asked, address):
    done.put(threading.get_native_id())
    while True:
        fd = asked.get()
        since = time.monotonic_ns()
        assert libc.write(fd, ctypes.c_void_p(address), 1) == 1
        done.put(time.monotonic_ns() - since)

tids = []
for asked, address in zip(wanted, (missing, ctypes.addressof(byte))):
    threading.Thread(target=writes, args=(asked, address), daemon=True).start()
    tids.append(done.get())

def waits():
    with open(f"/proc/self/task/{tids[1]}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "D"

def fight(holds, wants, seconds):
    area.madvise(mmap.MADV_DONTNEED)
    wanted[0].put(holds)
    os.read(fault, 32)
    wanted[1].put(wants)
    while not waits():
        time.sleep(0)
    since = time.monotonic_ns()
    time.sleep(seconds)
    least = time.monotonic_ns() - since
    fcntl.ioctl(fault, ZEROPAGE, struct.pack("=QQQq", missing, PAGE, 0, 0))
    # Whoever is the first to be done.
    return least, max(done.get(), done.get())

pipes = [(os.pipe()[1],) * 2 for _ in range(3)]
file = [os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY) for _ in range(2)]
os.unlink(sys.argv[1])
print(tids[1], flush=True)
sys.stdin.readline()
for fds in (pipes, [file] * 5):
    rounds = [fight(*both, 0.05) for both in fds for _ in range(2)]
    print(*map(sum, zip(*rounds)), max(least for least, _ in rounds), flush=True)
sys.stdin.readline()
"""
FOLDER = Path(os.environ.get("PYTOOLS_SCRATCH", ROOT / "build"))
PIPES, TIMES = 3, 2
KERNEL = os.environ.get("PYTOOLS_KERNEL", os.uname().release)
has_tracepoints = pytest.mark.skipif(
    not sees_spinlocks(running()),
    reason=f"{KERNEL} has no tracepoints of locks, which are there since Linux 5.19",
)


@contextlib.contextmanager
def fighters() -> Iterator[tuple[Any, int]]:
    """The program before it fights, and the thread that waits."""
    FOLDER.mkdir(exist_ok=True)
    with python_child(FIGHTERS, str(FOLDER / "fought for")) as child:
        assert child.stdout
        yield child, int(child.stdout.readline())


def fight(child: Any) -> list[list[int]]:
    """Of the pipes and of the file: for how long the waiter had to wait at least, how long its
    writes took, both together, and the longest."""
    child.stdin.write(b"\n")
    child.stdin.flush()
    return [list(map(int, child.stdout.readline().split())) for _ in range(2)]


def rows(tool: Tool) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in tool.stop().splitlines()]
    assert not any("lost" in row for row in found)
    return found


MUTEXES = ("mutex", "rt-mutex")


def of_pipes(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # In 7.3 a write takes the lock at two places. With PREEMPT_RT all are of one kind.
    mutexes = [row for row in found if row["type"] in MUTEXES]
    return [row for row in mutexes if "pipe_" in row["caller"]]


def is_right(seen: int, fought: int) -> bool:
    """The program also writes to a pipe that the test reads: now and then, that is a wait."""
    return fought <= seen <= fought + 4


@pytest.mark.every_kernel
def test_waits_of_known_length_by_caller() -> None:
    with fighters() as (child, waiter), Tool("klockstat", "--json", "-p", str(child.pid)) as tool:
        expected = fight(child)
        found = rows(tool)
    pipes = [row for row in of_pipes(found) if row["max_tid"] == waiter]
    locks = [row for row in found if row["type"] in ("rwsem:W", "rt-mutex")]
    files = [row for row in locks if "write_iter+" in row["caller"]]
    for callers, count, (least, most, longest) in zip(
        (pipes, files), (PIPES * TIMES, 10), expected
    ):
        assert is_right(sum(row["count"] for row in callers), count)
        assert least <= sum(row["total_ns"] for row in callers) <= most
        assert longest <= max(row["max_ns"] for row in callers) <= most
        assert all(row["avg_ns"] == row["total_ns"] // row["count"] for row in callers)
        for row in callers:
            assert row["max_tid"] == waiter
            # Python 3.14 gives the kernel the names of its threads.
            assert row["max_thread"].startswith(("python3", "Thread-"))


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_by_lock_and_by_thread() -> None:
    with fighters() as (child, waiter), contextlib.ExitStack() as tools:
        by_lock, by_thread, all_of_it = (
            tools.enter_context(Tool("klockstat", "-p", str(child.pid), *options))
            for options in (["--by-lock", "--json"], ["-P", "--json", "-s", "3"], ["-n1", "-s2"])
        )
        fight(child)
        locks, threads = of_pipes(rows(by_lock)), rows(by_thread)
        head, first, second, *rest = all_of_it.stop().splitlines()
    fought = [row for row in locks if row["max_ns"] >= 40_000_000]
    assert len({row["lock"] for row in fought}) == PIPES
    assert [row["count"] for row in fought] == [TIMES] * PIPES
    threads = [row for row in threads if row["tid"] == waiter and row["type"] in MUTEXES]
    # With PREEMPT_RT, the file's lock is in the same row.
    waits = PIPES * TIMES + 10 * (threads[0]["type"] == "rt-mutex")
    assert [is_right(row["count"], waits) for row in threads] == [True]
    assert [len(row["kernel_stack"].split(";")) for row in threads] == [3]
    assert threads[0]["kernel_stack"].split(";")[-1] == threads[0]["caller"]
    columns = re.split(" {2,}", head.strip())
    assert columns == ["Caller", "Avg Spin", "Count", "Max spin", "Total spin"]
    # Below the one row is the function that called the caller, and nothing else.
    assert first.split()[0] != second.split()[0] and not any(rest)


@pytest.mark.any_types
@pytest.mark.parametrize(
    "options", [["-c", "nobody_"], *on_host_only(["-t", "1"], ["-L", "0xfff0"])]
)
def test_what_nobody_waits_for_is_no_row(options: Sequence[str]) -> None:
    with fighters() as (child, _), Tool("klockstat", "--json", *options) as tool:
        fight(child)
        found = rows(tool)
    assert not of_pipes(found) and not [row for row in found if row["caller"] == "nobody_"]


class Locks:
    """Waits for locks that do not exist, of a process on one CPU: the programs of a trace, run by
    hand (raw tracepoints since Linux 5.10)."""

    SPIN, READ, MUTEX = 1, 2, 32

    def __init__(self, trace: Any) -> None:
        self._begin, self._end = (
            trace.program.descriptor(f"raw_tracepoint__contention_{what}")
            for what in ("begin", "end")
        )

    def begin(self, lock: int, flags: int) -> None:
        self._run(self._begin, lock, flags)

    def end(self, lock: int) -> None:
        self._run(self._end, lock, 0)

    @staticmethod
    def _run(program: int, *arguments: int) -> None:
        given = ctypes.create_string_buffer(struct.pack("=12Q", *arguments, *[0] * 10))
        address = ctypes.addressof(given)
        attributes = struct.pack(
            "=IIIIQQIIIIQQII", program, 0, 0, 0, 0, 0, 0, 0, 96, 0, address, 0, 0, 0
        )
        system.bpf(10, bytearray(attributes))  # BPF_PROG_TEST_RUN


MANY, FIRST = 10_000, 0x10000


def many(locks: Locks) -> None:
    """Each is waited for in one of three ways: as a spinlock, also one within another, and as a
    mutex, for which a thread spins before it sleeps."""
    for lock in range(FIRST, FIRST + MANY):
        if lock % 3 == 0:
            locks.begin(lock, locks.SPIN)
            locks.begin(1, locks.SPIN | locks.READ)
            locks.end(1)
        elif lock % 3 == 1:
            locks.begin(lock, locks.MUTEX | locks.SPIN)
            locks.begin(lock, locks.MUTEX)
        else:
            locks.begin(lock, locks.READ)
        locks.end(lock)
        locks.end(lock)  # a second end is none


def collected(*options: str, room: int = 0) -> Any:
    """What klockstat collects of these waits, with room for so many."""
    module = capture.load("klockstat")
    sizes = module.map_sizes
    if room:
        module.map_sizes = lambda stacks: {**sizes(stacks), "totals": room}
    try:
        trace = module.start(module.tool.options(list(options)))
    finally:
        module.map_sizes = sizes
    with contextlib.closing(trace):
        child = os.fork()
        if not child:
            try:
                os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
                many(Locks(trace))
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        return trace.collect()


@has_tracepoints
def test_nothing_is_lost_with_ten_thousand_locks() -> None:
    found = collected("--by-lock")
    assert not found.lost
    kinds = {row["lock"]: (row["type"], row["count"]) for row in found.rows}
    names = {0: "spinlock", 1: "mutex", 2: "rwsem:R"}
    for lock in range(FIRST, FIRST + MANY):
        assert kinds[f"{lock:#x}"] == (names[lock % 3], 1)
    spinlocks = sum(lock % 3 == 0 for lock in range(FIRST, FIRST + MANY))
    assert kinds["0x1"] == ("rwlock:R", spinlocks)


@has_tracepoints
@pytest.mark.host_only
def test_what_there_is_no_room_for_is_said() -> None:
    found = collected("--by-lock", room=1000)
    made = {f"{lock:#x}" for lock in (1, *range(FIRST, FIRST + MANY))}
    counted = sum(row["count"] for row in found.rows if row["lock"] in made)
    spinlocks = sum(lock % 3 == 0 for lock in range(FIRST, FIRST + MANY))
    assert found.lost["lost"] >= MANY + spinlocks - counted > 8000


@pytest.mark.host_only
@pytest.mark.parametrize(
    "options",
    [["-S", "max"], ["-S", "acq_max,x"], ["-L", "no such"], ["-L", "0x"], ["-L", ""], ["-s", "0"]],
)
def test_what_is_not_there_is_refused(options: Sequence[str]) -> None:
    result = run_tool("klockstat", *options)
    assert result.returncode == 2 and result.stderr.count("\n") == 1


def test_filters_of_its_own_that_nothing_passes_are_no_silent_zero() -> None:
    for options, why in (
        (["-c", "nobody_"], "no function whose name begins with nobody_ has waited for a lock"),
        (["-L", "0xfff0"], "no task has waited for the lock 0xfff0"),
    ):
        result = run_tool("klockstat", "-d", "0", *options)
        assert result.stderr == f"klockstat: nothing was seen: {why}\n"
