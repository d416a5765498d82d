"""Which type holds values of two others.

Integers follow bpftrace's rules: a literal has the smallest signed type that holds it, and a
literal that is not negative takes the sign of what it meets (``flexible``); signed and unsigned
make a signed type that holds both, at most one of 64 bits.
"""
from __future__ import annotations

from dataclasses import replace

from pytools.base.annotations import TYPE_CHECKING

from pytools.bt.types import (
    UNKNOWN, VOID, Aggregate, Array, Buffer, Int, Pointer, Special, Stack, String, Struct, Tuple,
)  # fmt: skip

if TYPE_CHECKING:
    from typing import Optional

    from pytools.bt.types import Type

__all__ = ["literal_type", "promote"]


def literal_type(number: int) -> Int:
    """The type of a literal, as bpftrace finds it.

    >>> str(literal_type(-129))
    'int16'
    """
    for size in (1, 2, 4, 8):
        limit = 1 << (8 * size - 1)
        if -limit <= number < limit:
            return Int(size, True, number >= 0)
    return Int(8, False)


def _promote_integers(a: Int, b: Int) -> Int:
    """The type of the values of both; that of an enum stays if nothing else comes in."""
    size = max(a.bytes, b.bytes)
    if a.enum == b.enum and a.bytes == b.bytes and a.signed == b.signed:
        return a if not a.flexible else b
    if a.enum and b.flexible or b.enum and a.flexible:
        return a if a.enum else b
    if a.signed == b.signed:
        return Int(size, a.signed, a.flexible and b.flexible)
    if a.flexible or b.flexible:
        return Int(size, b.signed if a.flexible else a.signed)
    wider = a if a.signed else b  # the signed one
    other = b if a.signed else a
    if wider.bytes > other.bytes:
        return Int(wider.bytes, True)
    return Int(min(2 * size, 8), True)


def promote(a: Type, b: Type) -> Optional[Type]:
    """The type that holds values of both; None if there is none."""
    if a == b or b == UNKNOWN:
        return a
    if a == UNKNOWN:
        return b
    if isinstance(a, Int) and isinstance(b, Int):
        return _promote_integers(a, b)
    if isinstance(a, Aggregate) and isinstance(b, Int) and a.castable:
        return _promote_integers(Int(8, a.signed), b)
    if isinstance(b, Aggregate) and isinstance(a, Int) and b.castable:
        return _promote_integers(a, Int(8, b.signed))
    if isinstance(a, Aggregate) and isinstance(b, Aggregate) and a.kind == b.kind:
        return replace(a, signed=True) if a.details == b.details else None
    if isinstance(a, String) and isinstance(b, String):
        return String(max(a.bytes, b.bytes))
    if isinstance(a, Buffer) and isinstance(b, Buffer):
        return Buffer(max(a.bytes, b.bytes))
    if isinstance(a, Pointer) and isinstance(b, Pointer):
        return _promote_pointers(a, b)
    if isinstance(a, Stack) and isinstance(b, Stack) and a.kind == b.kind and a.mode == b.mode:
        return a if a.depth == b.depth else None
    if isinstance(a, Tuple) and isinstance(b, Tuple):
        return _promote_tuples(a, b)
    if isinstance(a, Special) and isinstance(b, Special) and {a.kind, b.kind} == {"func", "ksym"}:
        return Special("func")
    if isinstance(a, Array) and isinstance(b, Array) and a.count == b.count:
        inner = promote(a.of, b.of)
        return Array(inner, a.count) if inner is not None and inner.size == a.of.size else None
    return None


def _promote_pointers(a: Pointer, b: Pointer) -> Optional[Type]:
    space = a.space or b.space
    if a.to == VOID or b.to == VOID:
        return Pointer(b.to if a.to == VOID else a.to, space)
    if isinstance(a.to, Struct) and isinstance(b.to, Struct):
        return Pointer(a.to, space) if a.to.name == b.to.name else None
    inner = promote(a.to, b.to)
    return Pointer(inner, space) if inner is not None else None


def _promote_tuples(a: Tuple, b: Tuple) -> Optional[Type]:
    if len(a.elements) != len(b.elements) or set(a.names) != set(b.names):
        return None
    others = b.elements
    if a.names:
        others = tuple(b.elements[b.names.index(name)] for name in a.names)
    found = [promote(one, other) for one, other in zip(a.elements, others)]
    if any(each is None for each in found):
        return None
    return Tuple(tuple(each for each in found if each is not None), a.names)
