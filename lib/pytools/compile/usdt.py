"""The arguments of USDT probes: from the compiler's words for a place to C that reads it.

An argument is ``SIZE@PLACE``: 1, 2, 4 or 8 bytes, less than zero for a signed
number; the place is an operand of the machine's assembler (systemtap's
sys/sdt.h). It differs from site to site of a probe, so each way to
read them has a program of its own.
"""
from __future__ import annotations

import os
import re

from pytools.base.annotations import NamedTuple
from pytools.base.errors import Failure

__all__ = ["Argument", "arguments"]


class Argument(NamedTuple):
    """What an argument is: its size in bytes (less than 0: signed), and the C of
    its value, or of the address where it is in the process's memory."""

    size: int
    value: str
    memory: bool = False

    def declare(self, name: str) -> str:
        """C that declares the variable ``name`` with the argument's value; ``ctx`` are
        the registers."""
        kind = f"{'s' if self.size < 0 else 'u'}{8 * abs(self.size)}"
        if not self.memory:
            return f"\t{kind} {name} = ({kind})({self.value});"
        return (
            f"\t{kind} {name} = 0;\n\n"
            f"\tbpf_probe_read_user(&{name}, sizeof({name}), (void *)({self.value}));"
        )


# Of the assembler's registers: their members of struct pt_regs.
_X86 = {
    **{f"r{name}": name for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip")},
    **{f"r{number}": f"r{number}" for number in range(8, 16)},
}


def _x86_register(name: str) -> str:
    """C for a register by any of its names: %rax, %eax, %ax, %al, %ah, %r8d."""
    if name in _X86:
        return f"ctx->{_X86[name]}"
    if re.fullmatch(r"e(ax|bx|cx|dx|si|di|bp|sp)|r\d+[dwb]", name):
        name = "r" + name[1:] if name[0] == "e" else name[:-1]
    elif name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp"):
        name = "r" + name
    elif re.fullmatch(r"[abcd]h", name):
        return f"ctx->{name[0]}x >> 8"
    elif re.fullmatch(r"[abcd]l", name):
        name = f"r{name[0]}x"
    elif name in ("sil", "dil", "bpl", "spl"):
        name = "r" + name[:2]
    if name not in _X86:
        raise Failure(f"no register {name}")
    return f"ctx->{_X86[name]}"


_NUMBER = r"[-+]?(?:0[xX][0-9a-fA-F]{1,16}|\d{1,20})"
_X86_MEMORY = re.compile(
    rf"({_NUMBER})?\((?:%(\w+))?(?:,\s*%(\w+)(?:,\s*([1248]))?)?\)",
)


def _number(text: str) -> int:
    value = int(text, 0) if "x" in text.lower() else int(text)
    if not -(1 << 63) <= value < 1 << 64:
        raise Failure(f"{text} does not fit into 64 bits")
    return value


def _constant(value: int) -> str:
    # Wrapped to 64 bits, as the machine has it.
    return f"{value & (1 << 64) - 1:#x}ULL"


def _x86_64(size: int, place: str) -> Argument:
    if match := re.fullmatch(r"%(\w+)", place):
        return Argument(size, _x86_register(match.group(1)))
    if match := re.fullmatch(rf"\$({_NUMBER})", place):
        return Argument(size, _constant(_number(match.group(1))))
    if match := _X86_MEMORY.fullmatch(place):
        offset, base, index, scale = match.groups()
        parts = [_x86_register(base)] if base else []
        if index:
            parts.append(f"{_x86_register(index)} * {scale or 1}")
        if not parts:
            raise Failure("no base")
        if offset:
            parts.append(_constant(_number(offset)))
        return Argument(size, " + ".join(parts), memory=True)
    raise Failure("not a place that is known")


def _arm64_register(name: str) -> str:
    if name in ("sp", "wsp"):
        return "ctx->sp"
    if name in ("xzr", "wzr"):
        return "0ULL"
    if name in ("fp", "lr"):
        name = {"fp": "x29", "lr": "x30"}[name]
    if re.fullmatch(r"[xw]\d{1,2}", name) and int(name[1:]) <= 30:
        return f"ctx->regs[{int(name[1:])}]"
    raise Failure(f"no register {name}")


def _aarch64(size: int, place: str) -> Argument:
    if re.fullmatch(r"[a-z]\w*", place):
        return Argument(size, _arm64_register(place))
    if match := re.fullmatch(rf"#?({_NUMBER})", place):
        return Argument(size, _constant(_number(match.group(1))))
    if match := re.fullmatch(rf"\[(\w+)(?:,\s*(?:#?({_NUMBER})|(\w+)))?\]", place):
        base, offset, index = match.groups()
        parts = [_arm64_register(base)]
        if index:
            parts.append(_arm64_register(index))
        if offset:
            parts.append(_constant(_number(offset)))
        return Argument(size, " + ".join(parts), memory=True)
    raise Failure("not a place that is known")


_MACHINES = {"x86_64": _x86_64, "aarch64": _aarch64}
# A place has no blank in it but behind a comma.
_ARGUMENT = re.compile(r"(?:(-?[0-9]+)(f?)@)?((?:,\s+|\S)+)")
MOST_ARGUMENTS = 12  # of sys/sdt.h


def arguments(description: str, machine: str = "") -> list[Argument | None]:
    """The arguments of a probe's site, of the machine at hand or that of the name; None
    for one that can't be read (a floating-point number, a place that is not known).
    Raises Failure where none of that machine's can.

    >>> arguments("-4@%eax 8@-16(%rbp)", "x86_64")[0]
    Argument(size=-4, value='ctx->ax', memory=False)
    """
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        raise Failure(f"probes' arguments are not known on {machine}")
    found: list[Argument | None] = []
    for match in list(_ARGUMENT.finditer(description))[:MOST_ARGUMENTS]:
        digits, floating, place = match.groups()
        size = int(digits) if digits and len(digits) < 4 else 8
        try:
            if floating or abs(size) not in (1, 2, 4, 8):
                raise Failure("not a number of bytes")
            found.append(_MACHINES[machine](size, place))
        except Failure:
            found.append(None)
    return found
