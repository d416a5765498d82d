"""What an instruction that loads 64 bits may stand for, beside a map and a setting.

Functions that a helper calls back (bpf_for_each_map_elem, bpf_loop) are put behind the programs
that name them. bcc compiles them as programs of their own (Hook kind ``callback``, target ``each``
or ``loop``), which have one argument: pointers that their program gave. The first is the program's
context; bpf_for_each_map_elem's second and third argument, the key and the value of an element, are
put into the others. A program names a callback by a setting, ``call:NAME``: the kernel wants the
distance to its first instruction there (BPF_PSEUDO_FUNC, since Linux commit 69c087ba6225, v5.13).
"""
from __future__ import annotations

import struct
import sys

from pytools.base.annotations import TYPE_CHECKING
from pytools.compile.image import ProgramSpec

if TYPE_CHECKING:
    from typing import Sequence

__all__ = ["CALL", "CALLBACK", "VARIABLE", "link"]

CALL, VARIABLE = "call:", "btf:"
CALLBACK = "callback"
PSEUDO_BTF_ID, PSEUDO_FUNC = 3, 4
# What stands before a callback, by its target: of bpf_for_each_map_elem *(u64 *)(r4 + 8) = r2;
# *(u64 *)(r4 + 16) = r3; r1 = r4, and of bpf_loop r1 = r2.
_BEGIN = {
    "each": bytes.fromhex("7b24080000000000" "7b34100000000000" "bf41000000000000"),
    "loop": bytes.fromhex("bf21000000000000"),
}


def link(programs: Sequence[ProgramSpec]) -> list[ProgramSpec]:
    """The programs without the callbacks, which stand behind those that need them."""
    callbacks = {program.name: program for program in programs if program.kind == CALLBACK}
    return [_linked(program, callbacks) for program in programs if program.kind != CALLBACK]


def _linked(program: ProgramSpec, callbacks: dict[str, ProgramSpec]) -> ProgramSpec:
    code = bytearray(program.instructions)
    maps, settings = list(program.maps), list(program.settings)
    starts: dict[str, int] = {}
    done = 0
    while done < len(settings):
        place, name = settings[done]
        done += 1
        if name.startswith(VARIABLE):
            _put(code, place, PSEUDO_BTF_ID, int(name[len(VARIABLE) :]))
        if not name.startswith(CALL):
            continue
        called = callbacks[name[len(CALL) :]]
        if called.name not in starts:
            start = starts[called.name] = len(code) // 8
            begin = _BEGIN[called.target]
            code += begin + called.instructions
            start += len(begin) // 8
            maps += [(start + number, table) for number, table in called.maps]
            settings += [(start + number, setting) for number, setting in called.settings]
        _put(code, place, PSEUDO_FUNC, starts[called.name] - place - 1)
    return program._replace(
        instructions=bytes(code),
        maps=maps,
        settings=[each for each in settings if not each[1].startswith((CALL, VARIABLE))],
        functions=list(starts.values()),
    )


def _put(code: bytearray, place: int, kind: int, number: int) -> None:
    """Make an instruction that loads 64 bits one of that kind."""
    registers = code[8 * place + 1]
    if sys.byteorder == "little":
        code[8 * place + 1] = registers & 15 | kind << 4
    else:
        code[8 * place + 1] = registers & 0xF0 | kind
    struct.pack_into("=i4xi", code, 8 * place + 4, number, 0)
