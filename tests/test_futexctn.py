"""futexctn against a program that waits for futexes, and says how often and how long."""
from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Iterator

import pytest

from support import Tool, python_child, run_tool

# Each part prints what it did: the futex, the call, how it ended, how often, the least and the most
# time that this took together.
WAITER = r"""
import ctypes, errno, json, os, platform, signal, struct, sys, threading, time
FUTEX = {"x86_64": 202}.get(platform.machine(), 98)
WAITV, WAIT = 449, 455
PRIVATE, U32 = 128, 2
libc = ctypes.CDLL(None, use_errno=True)
words = (ctypes.c_uint32 * 16)()

def address(number):
    return ctypes.addressof(words) + 4 * number

def call(*arguments):
    result = libc.syscall(*(ctypes.c_long(each) for each in arguments))
    return -ctypes.get_errno() if result < 0 else result

def futex(number, command, value=0, timeout=0, other=0, third=0):
    return call(FUTEX, address(number), command | PRIVATE, value, timeout, other, third)

def moment(seconds):
    return ctypes.create_string_buffer(struct.pack("=qq", int(seconds), int(seconds % 1 * 1e9)))

def at(buffer):
    return ctypes.addressof(buffer)

def wake(number):
    while futex(number, 1, 1) != 1:
        time.sleep(0.0001)

def woken_by(waker, *arguments):
    thread = threading.Thread(target=waker, args=arguments)
    thread.start()
    return thread

def timed(times, expected, part):
    total = 0
    for _ in range(times):
        since = time.monotonic()
        result = part()
        total += time.monotonic() - since
        if result == -errno.ENOSYS:
            return None
        assert result == expected, (part, result)
    return total

found = []
def tell(number, name, end, times, least, total):
    if total is not None:
        found.append([hex(address(number)), name, end, times, least, total])

def futexes():
    short = moment(0.002)
    tell(0, "FUTEX_WAIT", "timeout", 20, 0.04,
         timed(20, -errno.ETIMEDOUT, lambda: futex(0, 0, 0, at(short))))
    tell(0, "FUTEX_WAIT", "changed", 30, 0, timed(30, -errno.EAGAIN, lambda: futex(0, 0, 1)))
    tell(1, "FUTEX_WAIT_BITSET", "failed", 3, 0,
         timed(3, -errno.EINVAL, lambda: futex(1, 9, 0)))

    def bitset():
        thread = woken_by(wake, 2)
        result = futex(2, 9, 0, 0, 0, -1)
        thread.join()
        return result
    tell(2, "FUTEX_WAIT_BITSET", "woken", 10, 0, timed(10, 0, bitset))

    def interrupted():
        # Again and again: the first may come before it waits.
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        result = futex(3, 0, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return result
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    tell(3, "FUTEX_WAIT", "signal", 4, 0, timed(4, -errno.EINTR, interrupted))

    def priority():
        held, done = threading.Event(), threading.Event()
        def owner():
            assert futex(4, 6) == 0
            held.set()
            while not words[4] & 0x80000000:  # FUTEX_WAITERS
                time.sleep(0.0001)
            time.sleep(0.002)
            assert futex(4, 7) == 0
        thread = woken_by(owner)
        held.wait()
        result = futex(4, 6)
        thread.join()
        assert futex(4, 7) == 0
        return result
    total = timed(3, 0, priority)
    tell(4, "FUTEX_LOCK_PI", "woken", 6, 0.006, total)

    def several(number):
        waiters = ctypes.create_string_buffer(b"".join(
            struct.pack("=QQII", 0, address(each), PRIVATE | U32, 0) for each in (5, 6)
        ))
        until = moment(time.monotonic() + 0.002) if number is None else None
        thread = None if number is None else woken_by(wake, number)
        result = call(WAITV, at(waiters), 2, 0, at(until) if until else 0, time.CLOCK_MONOTONIC)
        if thread:
            thread.join()
        return result
    total = timed(5, -errno.ETIMEDOUT, lambda: several(None))
    tell(5, "futex_waitv", "timeout", 5, 0, total)  # until a moment: the call may come late
    if total is not None:  # this kernel has the call
        tell(6, "futex_waitv", "woken", 7, 0, timed(7, 1, lambda: several(6)))

    def newest():
        until = moment(time.monotonic() + 0.002)
        return call(WAIT, address(7), 0, 0xffffffff, PRIVATE | U32, at(until), time.CLOCK_MONOTONIC)
    tell(7, "futex_wait", "timeout", 5, 0, timed(5, -errno.ETIMEDOUT, newest))

def many():
    space = (ctypes.c_uint32 * 20000)()
    for number in range(20000):
        call(FUTEX, ctypes.addressof(space) + 4 * number, PRIVATE, 1, 0, 0, 0)
    found.append(20000)

def two():
    short = moment(0.001)
    def waits(number, times):
        for _ in range(times):
            futex(number, 0, 0, at(short))
        found.append([hex(address(number)), threading.get_native_id(), times])
    for number, times in ((8, 11), (9, 13)):
        woken_by(waits, number, times).join()

def stuck():
    threading.Thread(target=futex, args=(10, 0), daemon=True).start()
    while not any(
        open(f"/proc/self/task/{task}/syscall").read().startswith(f"{FUTEX} {address(10):#x} ")
        for task in os.listdir("/proc/self/task")
    ):
        time.sleep(0.001)
    found.append(hex(address(10)))

print(json.dumps([hex(address(number)) for number in range(16)]), flush=True)
for line in sys.stdin:
    found.clear()
    globals()[line.strip()]()
    print(json.dumps(found), flush=True)
"""


class Waiter:
    """The program: its pid, the addresses of its futexes, and what it does when it is asked to."""

    def __init__(self, child: Any) -> None:
        self._child = child
        self.pid = child.pid
        self.addresses: list[str] = json.loads(child.stdout.readline())

    def do(self, part: str) -> list[Any]:
        self._child.stdin.write(part.encode() + b"\n")
        self._child.stdin.flush()
        done: list[Any] = json.loads(self._child.stdout.readline())
        return done


@contextlib.contextmanager
def waiter() -> Iterator[Waiter]:
    with python_child(WAITER) as child:
        yield Waiter(child)


def traced(part: str, *options: str) -> tuple[Waiter, list[Any], str, str]:
    with waiter() as program, Tool("futexctn", "-p", str(program.pid), *options) as tool:
        done = program.do(part)
        printed = tool.stop()
        messages = tool.messages.decode().partition("Hit Ctrl-C to end.\n")[2]
        return program, done, printed, messages


def rows_of(printed: str, program: Waiter) -> list[dict[str, Any]]:
    """Those of the futexes that the program has itself: Python has others."""
    rows = [json.loads(line) for line in printed.splitlines()]
    assert all(row["key"]["pid"] == program.pid for row in rows)
    return [row for row in rows if row["key"]["futex"] in program.addresses]


@pytest.mark.every_kernel
def test_waits_of_known_number_and_length_by_futex_call_and_end() -> None:
    program, done, printed, messages = traced("futexes", "--json", "-s")
    rows = rows_of(printed, program)
    seen = {tuple(row["key"][name] for name in ("futex", "call", "end")): row for row in rows}
    assert len(seen) == len(rows) >= 6 and not messages
    assert {(futex, call, end) for futex, call, end, *_ in done} == set(seen)
    for futex, call, end, number, least, most in done:
        row = seen[futex, call, end]
        assert row["samples"] == number == sum(bucket["count"] for bucket in row["buckets"])
        assert least <= row["total"] / 1e6 <= most, row
        assert row["max"] <= row["total"] and row["key"]["user_stack"] is None
        assert "lost" not in row
    # Those that took longest together come first.
    totals = [row["total"] for row in rows]
    assert totals == sorted(totals, reverse=True)


def test_histograms_have_the_stack_that_waits() -> None:
    program, done, printed, _ = traced("futexes", "--json")
    for row in rows_of(printed, program):
        # In the C library, which may have no name for what is not exported.
        assert row["key"]["user_stack"] and "total" not in row
    timed_out = [
        row for row in rows_of(printed, program)
        if row["key"]["call"] == "FUTEX_WAIT" and row["key"]["end"] == "timeout"
    ]  # fmt: skip
    assert sum(row["samples"] for row in timed_out) == 20
    assert any("syscall" in row["key"]["user_stack"] for row in timed_out)
    for row in timed_out:
        assert all(bucket["lo"] >= 1024 for bucket in row["buckets"] if bucket["count"])


def test_one_futex_or_one_thread() -> None:
    with waiter() as program:
        with Tool("futexctn", "--json", "-l", program.addresses[9]) as tool:
            (_, (futex, tid, number)) = program.do("two")
            (row,) = [json.loads(line) for line in tool.stop().splitlines()]
        assert (row["key"]["futex"], row["samples"], futex) == (futex, number, program.addresses[9])
        # Of several, the one that was woken counts.
        with Tool("futexctn", "--json", "-l", program.addresses[6]) as tool:
            done = {tuple(row[:3]): row[3] for row in program.do("futexes")}
            rows = [json.loads(line) for line in tool.stop().splitlines()]
        expected = done.get((program.addresses[6], "futex_waitv", "woken"), 0)
        assert (
            sum(row["samples"] for row in rows if row["key"]["call"] == "futex_waitv") == expected
        )
    with waiter() as program, Tool("futexctn", "-s", "--json", "-t", str(program.pid)) as tool:
        program.do("two")  # in other threads
        printed = tool.stop()
    assert not rows_of(printed, program)


def test_text() -> None:
    program, done, printed, messages = traced("futexes", "-m")
    assert not messages
    heading = re.escape(f"[{program.pid}] FUTEX_WAIT {program.addresses[0]}: timeout")
    assert re.search(rf"(?m)^python3?\S*{heading}\n(    \S.*\n)+ +msecs : count ", printed)
    program, done, printed, _ = traced("futexes", "-s", "-T")
    lines = printed.splitlines()
    assert lines[0].count(":") == 2
    words = ["PID", "COMM", "FUTEX", "END", "COUNT", "AVG(us)", "MAX(us)", "TOTAL(us)"]
    assert lines[1].split() == words
    (line,) = [each for each in lines if program.addresses[0] in each and "timeout" in each]
    pid, *_, number, average, longest, total = line.split()
    assert (int(pid), number) == (program.pid, "20")
    assert int(average) <= int(longest) <= int(total) and int(total) >= 40_000
    assert all(len(each) <= 80 for each in lines)


@pytest.mark.host_only
def test_what_has_no_room_is_counted() -> None:
    program, (number,), printed, _ = traced("many", "--json", "-s")
    rows = [json.loads(line) for line in printed.splitlines()]
    lost = rows[0]["lost"]
    # Python's own calls may have a place, or none.
    assert 0 < lost < number
    changed = sum(row["samples"] for row in rows if row["key"]["end"] == "changed")
    assert changed <= number <= sum(row["samples"] for row in rows) + lost
    program, done, printed, messages = traced("futexes", "--json", "--stack-storage-size", "1")
    assert re.search(r"futexctn: \d+ stacks lost", messages)
    assert any(row["key"]["user_stack"] == "[lost]" for row in rows_of(printed, program))


@pytest.mark.host_only
@pytest.mark.parametrize("text", ["0xfoo", "-1", "0", "0x1" + "0" * 16])
def test_an_address_that_is_none(text: str) -> None:
    result = run_tool("futexctn", f"-l{text}")
    assert result.returncode == 2 and "argument -l/--lock" in result.stderr.splitlines()[-1]


@pytest.mark.any_types
def test_waits_that_have_not_ended_and_a_futex_of_nobody_are_no_silent_zero() -> None:
    def said(*options: str) -> str:
        result = run_tool("futexctn", "-d", "0.1", "-p", str(program.pid), *options)
        assert result.returncode == 0 and not result.stdout.strip()
        return result.stderr

    with waiter() as program:
        futex = program.do("stuck")[0]
        waits = "futexctn: nothing was seen: 1 thread still waits for a futex\n"
        assert said() == said("-l", futex) == waits
        other = program.addresses[0]
        assert said("-l", other) == (
            f"futexctn: nothing was seen: no thread has waited for the futex {other}\n"
        )
