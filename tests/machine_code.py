"""Functions of machine code that stand in no file, but in /tmp/perf-PID.map, as
those of a just-in-time compiler do: named functions without a compiler. Of processors that
have none here, elf_files.machine_code leaves out the tests."""
from __future__ import annotations

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
