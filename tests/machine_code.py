"""Functions of machine code that stand in no file, but in /tmp/perf-PID.map, as
those of a just-in-time compiler do: named functions without a compiler. Of processors that
have none here, elf_files.machine_code leaves out the tests."""
from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Iterator

from support import python_child

# For the beginning of a Python child. spin(n) counts down from n; call(f, n) calls
# f(n), and is seen below it. Both keep the frame pointer.
FUNCTIONS = r"""
import atexit, ctypes, mmap, os, sys, time
ROOM = 256
SPIN = bytes.fromhex("5548 89e5 4889f9 48ffc9 75fb 5dc3")
CALL = bytes.fromhex("5548 89e5 4889f8 4889f7 ffd0 5dc3")
if os.uname().machine == "aarch64":
    # stp x29, x30, [sp, #-16]!; mov x29, sp; mov x1, x0; subs x1, x1, #1; b.ne to that;
    # ldp x29, x30, [sp], #16; ret
    SPIN = bytes.fromhex("fd7bbfa9 fd030091 e10300aa 210400f1 e1ffff54 fd7bc1a8 c0035fd6")
    # The same with mov x2, x0; mov x0, x1; blr x2.
    CALL = bytes.fromhex("fd7bbfa9 fd030091 e20300aa e00301aa 40003fd6 fd7bc1a8 c0035fd6")
code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
start = ctypes.addressof(ctypes.c_char.from_buffer(code))
names = ["hot_function", "cold_function", "calling_function"]
places = {}
map_path = f"/tmp/perf-{os.getpid()}.map"
with open(map_path, "w") as symbols:
    for i, (name, body) in enumerate(zip(names, [SPIN, SPIN, CALL])):
        code[i * ROOM : i * ROOM + len(body)] = body
        places[name] = start + i * ROOM
        symbols.write(f"{start + i * ROOM:x} {len(body):x} {name}\n")
call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)(places["calling_function"])

def spin(name, seconds):
    # For so long, by the CPU's clock; how long it was.
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        call(places[name], 20_000)
    return time.thread_time() - begin
"""

# Further functions with names: each calls the function that it is given, with three arguments.
CALLERS = (
    FUNCTIONS
    + r"""
CALL3 = bytes.fromhex("5548 89e5 4889f8 4889f7 4889d6 4889ca ffd0 5dc3")
if os.uname().machine == "aarch64":
    # As CALL, with x4, and x1 and x2 moved, too.
    CALL3 = bytes.fromhex(
        "fd7bbfa9 fd030091 e40300aa e00301aa e10302aa e20303aa 80003fd6 fd7bc1a8 c0035fd6")
libc = ctypes.CDLL(None)
libc.free.argtypes = [ctypes.c_void_p]
made = []

def named(name):
    # A function of that name: call it with a function of libc and its arguments.
    place = start + (len(names) + len(made)) * ROOM
    offset = place - start
    code[offset : offset + len(CALL3)] = CALL3
    made.append(name)
    with open(map_path, "a") as symbols:
        symbols.write(f"{place:x} {len(CALL3):x} {name}\n")
    call = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_uint64] * 3)(place)

    def calling(function, *arguments):
        address = ctypes.cast(getattr(libc, function), ctypes.c_void_p).value
        return call(address, *arguments, *[0] * (3 - len(arguments)))

    return calling

def step():
    # Wait for the test.
    print("ready", flush=True)
    sys.stdin.readline()
"""
)


@contextlib.contextmanager
def stepping(code: str, **environment: str) -> Iterator[Any]:
    """A program that waits now; its pid, and what lets it go on until it waits again."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        child_made = python_child(code)
        child = child_made.__enter__()
    finally:
        os.environ.clear()
        os.environ.update(before)

    def go_on() -> None:
        assert child.stdin and child.stdout
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"ready\n"

    try:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        yield child.pid, go_on
    finally:
        child_made.__exit__(None, None, None)
        Path(f"/tmp/perf-{child.pid}.map").unlink(missing_ok=True)
