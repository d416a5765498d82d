"""io_uring for the children of tests: its system calls and rings, by hand."""
from __future__ import annotations

# In front stands a ``libc`` (ctypes). A child that gets no ring says why, as a line of JSON, and
# ends. ``submit`` submits an entry, ``completion`` waits for the next result.
RING = r"""
import ctypes, errno, json, mmap, os, struct, sys
parameters = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 4, parameters)
if ring < 0:
    print(json.dumps(os.strerror(ctypes.get_errno())), flush=True)
    sys.exit()
offsets = (ctypes.c_uint32 * 30).from_buffer(parameters)
sq, cq = offsets[10:20], offsets[20:30]  # head, tail, mask, entries, flags, dropped, array
queue = mmap.mmap(ring, sq[6] + 4 * offsets[0])
ends = mmap.mmap(ring, cq[5] + 16 * offsets[1], offset=0x8000000)
entries = mmap.mmap(ring, 64 * offsets[0], offset=0x10000000)
word = lambda memory, offset: ctypes.c_uint32.from_buffer(memory, offset)

def enter(count, least):
    while libc.syscall(426, ring, count, least, 1, None, 0) != count:
        assert ctypes.get_errno() == errno.EINTR

def submit(code, fd, offset=0, pointer=0, length=0, flags=0, slot=0, how=0, priority=0):
    tail = word(queue, sq[1])
    index = tail.value & word(queue, sq[2]).value
    entries[64 * index : 64 * index + 64] = struct.pack(
        "=BBHiQQIIQHHI16x", code, how, priority, fd, offset, pointer, length, flags, 0, 0, 0, slot
    )
    word(queue, sq[6] + 4 * index).value = index
    tail.value += 1
    enter(1, 0)

def completion():
    head = word(ends, cq[0])
    while head.value == word(ends, cq[1]).value:
        enter(0, 1)
    place = cq[5] + 16 * (head.value & word(ends, cq[2]).value)
    head.value += 1
    return struct.unpack_from("=Qi", ends, place)[1]
"""
