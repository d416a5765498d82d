"""The types that the kernel wants of a program with callbacks: that each is a function, and static;
and of one that other programs can be attached to: its name.

The format is described in the kernel's Documentation/bpf/btf.rst."""
from __future__ import annotations

import ctypes
import struct

from pytools.base import system

__all__ = ["load", "records"]

BTF_LOAD = 18
KIND_INT, KIND_PTR, KIND_FUNC, KIND_FUNC_PROTO = 1, 2, 12, 13
GLOBAL = 1  # BTF_FUNC_GLOBAL
SIGNED_32 = 1 << 24 | 32
FUNCTION, NAMED = 3, 6  # the ids of the functions' types


def load(name: str = "") -> int:
    """The descriptor of types with one static function, ``int function()``, and one of that name,
    if there is one, ``int NAME(void *ctx)``. Raises OSError."""
    strings = b"\0int\0function\0ctx\0" + name.encode() + b"\0"
    types = struct.pack("=IIII", 1, KIND_INT << 24, 4, SIGNED_32)
    types += struct.pack("=III", 0, KIND_FUNC_PROTO << 24, 1)
    types += struct.pack("=III", 5, KIND_FUNC << 24, 2)
    if name:
        types += struct.pack("=III", 0, KIND_PTR << 24, 0)
        types += struct.pack("=IIIII", 0, KIND_FUNC_PROTO << 24 | 1, 1, 14, 4)
        types += struct.pack("=III", 18, KIND_FUNC << 24 | GLOBAL, 5)
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    data = ctypes.create_string_buffer(header + types + strings, 24 + len(types) + len(strings))
    attributes = struct.pack("=QQIII", ctypes.addressof(data), 0, len(data), 0, 0)
    return system.bpf(BTF_LOAD, bytearray(attributes))


def records(functions: list[int], named: bool = False) -> bytes:
    """struct bpf_func_info of the program, which has a name or not, and of the functions behind it,
    by where they start."""
    first = struct.pack("=II", 0, NAMED if named else FUNCTION)
    return first + b"".join(struct.pack("=II", start, FUNCTION) for start in functions)
