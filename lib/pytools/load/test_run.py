"""A program that is attached to nothing, run by the tool itself (BPF_PROG_TEST_RUN): of raw
tracepoint programs since Linux commit 1b4d60ec162f (v5.10)."""
from __future__ import annotations

import ctypes
import struct

from pytools.base import system
from pytools.load.loader import refusal

__all__ = ["run"]

PROG_TEST_RUN = 10
ARGUMENTS = 12  # of a raw tracepoint, at most (MAX_BPF_FUNC_ARGS)
_CONTEXT = ctypes.create_string_buffer(8 * ARGUMENTS)


def run(program: int) -> int:
    """Run a raw tracepoint program once, with arguments that are zero, by its descriptor: what it
    returns. Raises Failure."""
    # prog_fd, retval, data and their sizes, repeat, duration, sizes of the context, its address.
    attributes = bytearray(
        struct.pack(
            "=IIIIQQIIIIQQII", program, 0, 0, 0, 0, 0, 0, 0, len(_CONTEXT), 0,
            ctypes.addressof(_CONTEXT), 0, 0, 0,
        )
    )  # fmt: skip
    try:
        system.bpf(PROG_TEST_RUN, attributes)
    except OSError as error:
        raise refusal("run a BPF program", error) from None
    (returned,) = struct.unpack_from("=i", attributes, 4)
    return int(returned)
