"""BPF programs, maps and links that a test makes by bpf(2) itself, without the library's loader."""
from __future__ import annotations

import ctypes
import os
import socket
import struct
from types import TracebackType
from typing import Sequence

from pytools.base import system
from pytools.load import loader

MAP_CREATE, PROG_LOAD, OBJ_PIN, PROG_ATTACH, PROG_DETACH = 0, 5, 6, 8, 9
TEST_RUN, INFO, RAW_TRACEPOINT_OPEN, BTF_LOAD, LINK_CREATE = 10, 15, 17, 18, 28
HASH, ARRAY = 1, 2
RAW_TRACEPOINT, TRACEPOINT, XDP, PERF_EVENT, CGROUP_SKB, SCHED_CLS = 17, 5, 6, 7, 8, 3
KPROBE, TRACING, SK_LOOKUP = 2, 26, 30
SET_BPF = 0x40042408
UPROBE_MULTI = 48  # enum bpf_attach_type


class Made:
    """What was made, until the end of the block."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def __enter__(self) -> Made:
        loader.raise_memory_limit()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for descriptor in self.descriptors:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the test has closed it

    def _keep(self, descriptor: int) -> int:
        self.descriptors.append(descriptor)
        return descriptor

    def map(self, kind: int, name: str, key: int = 4, value: int = 8, entries: int = 100) -> int:
        return self._keep(
            system.bpf(
                MAP_CREATE,
                bytearray(
                    struct.pack("=IIIIIII16s", kind, key, value, entries, 0, 0, 0, name.encode())
                ),
            )
        )

    def program(
        self,
        kind: int,
        name: str,
        maps: Sequence[int] = (),
        attach_type: int = 0,
        types: int = 0,
        type_id: int = 0,
        returned: int = 0,
    ) -> int:
        """A program that returns a number; ``types`` is a descriptor of type information, in which
        the first function of the program is 3."""
        code = b"".join(struct.pack("=BBhiQ", 0x18, 0x11, 0, fd, 0) for fd in maps)
        code += struct.pack("=BBhi", 0xB7, 0, 0, returned) + struct.pack("=Q", 0x95)
        text = ctypes.create_string_buffer(code, len(code))
        license_ = ctypes.create_string_buffer(b"GPL")
        functions = ctypes.create_string_buffer(struct.pack("=II", 0, 3), 8)
        attributes = struct.pack(
            "=IIQQIIQII16sIIIIQIIQII", kind, len(code) // 8, ctypes.addressof(text),
            ctypes.addressof(license_), 0, 0, 0, 0, 0, name.encode(), 0, attach_type, types,
            8 if types else 0, ctypes.addressof(functions) if types else 0, 1 if types else 0,
            0, 0, 0, type_id,
        )  # fmt: skip
        return self._keep(system.bpf(PROG_LOAD, bytearray(attributes)))

    def types(self, function: str) -> int:
        """Type information of a program whose first function has that name."""
        texts = b"\0int\0" + function.encode() + b"\0"
        types = struct.pack("=IIII", 1, 1 << 24, 4, 1 << 24 | 32)  # 1: int
        types += struct.pack("=III", 0, 13 << 24, 1)  # 2: int ()
        types += struct.pack("=III", 5, 12 << 24 | 1, 2)  # 3: the function, global
        head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(texts))
        data = ctypes.create_string_buffer(head + types + texts, 24 + len(types) + len(texts))
        attributes = struct.pack("=QQIII", ctypes.addressof(data), 0, len(data), 0, 0)
        return self._keep(system.bpf(BTF_LOAD, bytearray(attributes)))

    def raw_tracepoint(self, program: int, name: str | None) -> int:
        """A link of a program to a raw tracepoint; None: to what it was loaded for."""
        text = ctypes.create_string_buffer((name or "").encode())
        address = ctypes.addressof(text) if name else 0
        attributes = struct.pack("=QIxxxx", address, program)
        return self._keep(system.bpf(RAW_TRACEPOINT_OPEN, bytearray(attributes)))

    def link(self, program: int, target: int, attach_type: int, flags: int = 0) -> int:
        attributes = struct.pack("=IIII48x", program, target, attach_type, flags)
        return self._keep(system.bpf(LINK_CREATE, bytearray(attributes)))

    def link_of_uprobes(self, program: int, path: str, offsets: Sequence[int]) -> int:
        """A link of a program to places in a file; raises OSError before Linux v6.6."""
        text = ctypes.create_string_buffer(os.fsencode(path))
        places = (ctypes.c_uint64 * len(offsets))(*offsets)
        attributes = struct.pack(
            "=IIIIQQQQIII4x", program, 0, UPROBE_MULTI, 0, ctypes.addressof(text),
            ctypes.addressof(places), 0, 0, len(offsets), 0, 0,
        )  # fmt: skip
        return self._keep(system.bpf(LINK_CREATE, bytearray(attributes)))

    def perf_event(
        self, program: int, kind: int, config: int, more: bytes = b"", flags: int = 0
    ) -> int:
        """A perf event on CPU 0, at which a program runs, if there is one."""
        attributes = struct.pack("=IIQQQQQ", kind, 112, config, 1000000, 0, 0, flags) + more
        event = self._keep(system.perf_event_open(attributes.ljust(112, b"\0"), 0))
        if not program:
            return event
        libc = ctypes.CDLL(None, use_errno=True)
        assert not libc.ioctl(event, ctypes.c_ulong(SET_BPF), program), ctypes.get_errno()
        return event

    @staticmethod
    def attach(program: int, target: int, attach_type: int, command: int = PROG_ATTACH) -> None:
        system.bpf(command, bytearray(struct.pack("=IIII", target, program, attach_type, 0)))

    @staticmethod
    def pin(descriptor: int, path: str) -> None:
        text = ctypes.create_string_buffer(os.fsencode(path))
        system.bpf(OBJ_PIN, bytearray(struct.pack("=QII", ctypes.addressof(text), descriptor, 0)))

    @staticmethod
    def run(program: int, times: int) -> None:
        """Run a program of raw tracepoints so many times."""
        context = ctypes.create_string_buffer(96)
        attributes = struct.pack(
            "=IIIIQQIIIIQQII", program, 0, 0, 0, 0, 0, 0, 0, len(context), 0,
            ctypes.addressof(context), 0, 0, 0,
        )  # fmt: skip
        for _ in range(times):
            system.bpf(TEST_RUN, bytearray(attributes))


def number(descriptor: int) -> int:
    """The id of an object."""
    with open(f"/proc/self/fdinfo/{descriptor}") as file:
        known = dict(line.split(":\t") for line in file.read().splitlines() if ":\t" in line)
    return int(next(known[key] for key in ("link_id", "map_id", "prog_id") if key in known))


def loopback() -> int:
    return socket.if_nametoindex("lo")
