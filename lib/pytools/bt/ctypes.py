"""C's types: integers by their names, and where C puts the members of a struct."""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.fields import Field
from pytools.bt.types import Bool, Int, align_up

if TYPE_CHECKING:
    from typing import Any, Optional

    from pytools.bt.types import Type

__all__ = ["constant", "integer", "lay_out"]

_SIZES = {"char": 1, "short": 2, "int": 4, "long": 8}
_TYPEDEFS = {
    "size_t": Int(8, False), "ssize_t": Int(8, True), "uintptr_t": Int(8, False),
    "intptr_t": Int(8, True), "ptrdiff_t": Int(8, True), "pid_t": Int(4, True),
    "uid_t": Int(4, False), "gid_t": Int(4, False), "off_t": Int(8, True), "time_t": Int(8, True),
    "bool": Bool(), "_Bool": Bool(),
}  # fmt: skip


# include/linux/sched.h, unchanged from Linux v5.10 to v7.3.
_TASK_STATES = {
    "TASK_RUNNING": 0, "TASK_INTERRUPTIBLE": 1, "TASK_UNINTERRUPTIBLE": 2, "__TASK_STOPPED": 4,
    "__TASK_TRACED": 8, "EXIT_DEAD": 16, "EXIT_ZOMBIE": 32, "TASK_PARKED": 64, "TASK_DEAD": 128,
}  # fmt: skip


def integer(name: str) -> Optional[Type]:
    """The integer (or bool) of that name; None if it is none.

    >>> str(integer("unsigned long int")), str(integer("__u16"))
    ('uint64', 'uint16')
    """
    if name in _TYPEDEFS:
        return _TYPEDEFS[name]
    match = re.fullmatch(
        r"(?:__)?(?:(u)?int(8|16|32|64)(?:_t)?|([us])(8|16|32|64)|[bl]e(16|32|64))", name
    )
    if match:
        unsigned, bits, sign, short, order = match.groups()
        return Int(int(bits or short or order) // 8, not (unsigned or sign == "u" or order))
    words = name.split()
    if not words or set(words) - {"unsigned", "signed", *_SIZES}:
        return None
    sizes = [word for word in words if word in _SIZES and word != "int"]
    size = _SIZES[sizes[0]] if sizes else 4
    return Int(size, "unsigned" not in words)


def constant(name: str) -> Optional[int]:
    """The value of a constant of a header whose #include a script may have, and that the kernel's
    types don't tell (<errno.h>, <signal.h>, <sys/syscall.h>, <sys/socket.h>, <fcntl.h>,
    <sys/stat.h>, <linux/sched.h>); None for all else.

    >>> constant("EPERM"), constant("AF_INET6")
    (1, 10)
    """
    import errno
    import os
    import signal
    import socket
    import stat

    from pytools.facts import syscalls

    if name in errno.errorcode.values():
        return int(getattr(errno, name))
    if re.fullmatch(r"SIG[A-Z0-9]+", name) and hasattr(signal, name):
        return int(getattr(signal, name))
    if re.fullmatch(r"(AF|SOCK|IPPROTO)_[A-Z0-9_]+", name) and hasattr(socket, name):
        return int(getattr(socket, name))
    if re.fullmatch(r"O_[A-Z]+", name) and hasattr(os, name):
        return int(getattr(os, name))
    if re.fullmatch(r"S_I[A-Z]{3,4}", name) and hasattr(stat, name):
        return int(getattr(stat, name))
    if name in _TASK_STATES:
        return _TASK_STATES[name]
    match = re.fullmatch(r"(?:__NR|SYS)_(\w+)", name)
    if not match:
        return None
    return (
        next(iter(syscalls.numbers(match[1])), None) if match[1] in syscalls.all_names() else None
    )


def lay_out(
    layouts: Any, record: tree.CRecord, base: int, fields: dict[str, Field]
) -> tuple[int, int]:
    """Put the members of a struct or union, from bit ``base`` on, into ``fields``; those of one
    inside that has no name stand in the outer one. Its size and alignment in bytes. Raises Wrong.
    """
    position, size, align = 0, 0, 1  # in bits, in bits, in bytes
    union = record.word == "union"
    for member in record.members:
        if union:
            position = 0
        inner: dict[str, Field] = {}
        if member.record is not None and not member.name:
            inner_size, inner_align = lay_out(layouts, member.record, 0, inner)
            inner_size *= 8
        else:
            kind = _member_type(layouts, member)
            inner_size, inner_align = 8 * kind.size, kind.align
        if record.packed:
            inner_align = 1
        if member.bits:
            unit = 8 * kind.size
            if member.bits > unit:
                raise tree.Wrong(member.at, f"{member.name} has more bits than its type")
            if position // unit != (position + member.bits - 1) // unit and not record.packed:
                position = align_up(position, unit)
            inner_size = member.bits
        else:
            position = align_up(position, 8 * inner_align)
        if member.name:
            fields[member.name] = Field(member.name, base + position, kind, member.bits)
        for field in inner.values():
            fields[field.name] = field._replace(offset=base + position + field.offset)
        position += inner_size
        size, align = max(size, position), max(align, inner_align)
    return align_up(align_up(size, 8) // 8, align), align


def _member_type(layouts: Any, member: tree.CMember) -> Type:
    if member.record is None:
        assert member.type is not None
        found: Type = layouts.find(member.type)
        return found
    if member.record.name:
        layouts.define(member.record)
        base: Type = layouts.named(f"{member.record.word} {member.record.name}", member.at)
    else:
        base = layouts.unnamed(member.record)
    if member.type is not None:
        base = layouts.modified(base, member.type)
    return base
