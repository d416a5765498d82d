"""The BPF programs that the kernel has, and the functions in them that have types: to these, other
programs can be attached (fentry and fexit, since Linux commit 5b92a28aae4d, v5.5)."""
from __future__ import annotations

import ctypes
import struct

from pytools.base import system
from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Iterator

    from pytools.facts.btf import Btf

__all__ = ["Function", "descriptor", "functions", "types"]

PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD, BTF_GET_FD_BY_ID = 11, 13, 15, 19
# struct bpf_prog_info: where btf_id is, and behind it func_info_rec_size, func_info, nr_func_info.
BTF_ID, FUNC_INFO_END = 128, 152
_FUNC_INFO = "=IIQII"


class Function(NamedTuple):
    """A function of a program: the ids of the program, of its types, and of the function's type
    among them."""

    program: int
    name: str
    types: int
    type_id: int


def _ids() -> Iterator[int]:
    number = 0
    while True:
        attributes = bytearray(struct.pack("=III", number, 0, 0))
        try:
            system.bpf(PROG_GET_NEXT_ID, attributes)
        except OSError:
            return
        (number,) = struct.unpack_from("=I", attributes, 4)
        yield number


def descriptor(program: int) -> int:
    """The descriptor of the program of that id. Raises OSError."""
    return system.bpf(PROG_GET_FD_BY_ID, bytearray(struct.pack("=III", program, 0, 0)))


def _information(fd: int, info: ctypes.Array[ctypes.c_char]) -> None:
    attributes = struct.pack("=IIQ", fd, len(info), ctypes.addressof(info))
    system.bpf(OBJ_GET_INFO_BY_FD, bytearray(attributes))


def types(number: int) -> Btf:
    """The types of that id. Raises OSError."""
    import os

    from pytools.facts.btf import Btf

    fd = system.bpf(BTF_GET_FD_BY_ID, bytearray(struct.pack("=III", number, 0, 0)))
    try:
        info = ctypes.create_string_buffer(struct.pack("=QI20x", 0, 0), 32)
        _information(fd, info)
        (size,) = struct.unpack_from("=8xI", info)
        data = ctypes.create_string_buffer(size)
        struct.pack_into("=QI", info, 0, ctypes.addressof(data), size)
        _information(fd, info)
    finally:
        os.close(fd)
    return Btf(data.raw, f"types of a BPF program ({number})")


def functions() -> list[Function]:
    """All functions of all programs that have types, by program. Those that go meanwhile are left
    out; there are none for whoever may not ask."""
    import os

    found = []
    for number in _ids():
        try:
            fd = descriptor(number)
        except OSError:
            continue
        try:
            found += _functions_of(number, fd)
        except OSError:
            continue
        finally:
            os.close(fd)
    return found


def _functions_of(program: int, fd: int) -> list[Function]:
    info = ctypes.create_string_buffer(FUNC_INFO_END)
    _information(fd, info)
    btf_id, size, _, count, _ = struct.unpack_from(_FUNC_INFO, info, BTF_ID)
    if not btf_id or not count:
        return []
    records = ctypes.create_string_buffer(size * count)
    info = ctypes.create_string_buffer(FUNC_INFO_END)
    struct.pack_into(_FUNC_INFO, info, BTF_ID, 0, size, ctypes.addressof(records), count, 0)
    _information(fd, info)
    known = types(btf_id)
    found = []
    for place in range(count):
        (type_id,) = struct.unpack_from("=4xI", records, size * place)
        found.append(Function(program, known.name(type_id), btf_id, type_id))
    return found
