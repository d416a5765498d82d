"""Bytes to values, by the plan's types; values to bpftrace's text and to its JSON.

A value is an int, a bool, a str (of the traced: it is escaped in text), bytes (a buffer), None, or
one of the classes of ``shapes``.
"""
from __future__ import annotations

import struct
import sys

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import escape, json_text, text_of
from pytools.bt.show.shapes import Array, Named, Record, Shown, Tuple

if TYPE_CHECKING:
    from typing import Any, Callable

    from pytools.bt.plan import Type
    from pytools.bt.show.names import Names

    Decode = Callable[[bytes, int], Any]

__all__ = [
    "buffer_text", "decoder", "int_code", "json", "json_key", "json_object", "key_text", "size_of",
    "text",
]  # fmt: skip

_SIGNED, _UNSIGNED = {1: "b", 2: "h", 4: "i", 8: "q"}, {1: "B", 2: "H", 4: "I", 8: "Q"}
# Bytes of the types that have always as many.
_SIZES = {
    "bool": 1, "pointer": 8, "kstack": 8, "ustack": 8, "ksym": 8, "usym": 16, "inet": 20, "mac": 6,
    "username": 4, "cgroup_path": 8, "timestamp": 8, "strerror": 4, "signal_name": 4,
    "syscall_name": 8, "probe": 4, "func": 8, "none": 0, "count": 8, "sum": 8, "min": 16, "max": 16,
    "avg": 16, "stats": 16, "hist": 8, "lhist": 8, "tseries": 16,
}  # fmt: skip


# Types.


def size_of(kind: Type) -> int:
    """How many bytes a value of a type has.

    >>> size_of(["string", 16]), size_of(["array", 3, 4, ["int", 4, True]])
    (16, 12)
    """
    word = kind[0]
    if word in ("int", "enum", "string", "tuple", "record"):
        return int(kind[1])
    if word == "buffer":
        return 4 + int(kind[1])
    if word == "array":
        return int(kind[1] * kind[2])
    return _SIZES[word]


def int_code(size: int, signed: bool) -> str:
    """The code of an integer in Python's struct."""
    return (_SIGNED if signed else _UNSIGNED)[size]


# From bytes.


def decoder(kind: Type, names: Names) -> Decode:
    """A function that gives the value at an offset of some bytes."""
    word = kind[0]
    if word in ("int", "enum", "bool", "pointer", "ksym"):
        return _number(kind, names)
    if word == "string":
        return _string(kind[1], names.trailer(kind))
    if word in ("tuple", "record", "array"):
        return _compound(kind, names)
    if word == "buffer":
        return _buffer
    if word == "none":
        return lambda data, offset: None
    if word == "inet":
        return _inet
    if word == "mac":
        return lambda data, offset: Shown(":".join(f"{b:02X}" for b in data[offset : offset + 6]))
    return names.decoder(kind)


def _number(kind: Type, names: Names) -> Decode:
    word = kind[0]
    size, signed = (kind[1], kind[2]) if word in ("int", "enum") else (size_of(kind), False)
    unpack = struct.Struct("=" + int_code(size, signed)).unpack_from
    if word == "int":
        return lambda data, offset: unpack(data, offset)[0]
    if word == "bool":
        return lambda data, offset: unpack(data, offset)[0] != 0
    if word == "pointer":

        def pointer(data: bytes, offset: int) -> Named:
            (address,) = unpack(data, offset)
            return Named(f"{address:#x}", address)

        return pointer
    if word == "ksym":
        return lambda data, offset: Shown(names.kernel(unpack(data, offset)[0]))
    enumerators = kind[3]

    def enumerator(data: bytes, offset: int) -> Named:
        (number,) = unpack(data, offset)
        return Named(enumerators.get(str(number), str(number)), number)

    return enumerator


def _string(size: int, trailer: str) -> Decode:
    def string(data: bytes, offset: int) -> str:
        # Without a NUL it was cut.
        part, end, _ = data[offset : offset + size].partition(b"\0")
        return text_of(part) if end or not size else text_of(part) + trailer

    return string


def _buffer(data: bytes, offset: int) -> bytes:
    length = int.from_bytes(data[offset : offset + 4], sys.byteorder)
    return data[offset + 4 : offset + 4 + length]


def _inet(data: bytes, offset: int) -> Shown:
    import socket

    family = int.from_bytes(data[offset : offset + 4], sys.byteorder)
    if family == socket.AF_INET:
        return Shown(socket.inet_ntop(family, data[offset + 4 : offset + 8]))
    if family == socket.AF_INET6:
        return Shown(socket.inet_ntop(family, data[offset + 4 : offset + 20]))
    return Shown("")


def _compound(kind: Type, names: Names) -> Decode:
    word = kind[0]
    if word == "tuple":
        parts = [(place, decoder(inner, names)) for place, inner in kind[2]]
        return lambda data, offset: Tuple([get(data, offset + place) for place, get in parts])
    if word == "record":
        members = [(member[0], member[1], _member(member, names)) for member in kind[2]]
        return lambda data, offset: Record(
            [(name, get(data, offset + place)) for name, place, get in members]
        )
    _, count, stride, inner = kind
    get = decoder(inner, names)
    return lambda data, offset: Array([get(data, offset + stride * i) for i in range(count)])


def _member(member: list[Any], names: Names) -> Decode:
    """That of a struct's member: [name, offset, type], and a bit-field's first bit and width."""
    kind = member[2]
    if len(member) == 3:
        return decoder(kind, names)
    bit, bits = map(int, member[3:])
    size = int(kind[1])
    signed = kind[0] == "int" and kind[2]

    def bit_field(data: bytes, offset: int) -> int:
        number: int = int.from_bytes(data[offset : offset + size], sys.byteorder)
        if sys.byteorder == "big":
            number >>= 8 * size - bit - bits
        else:
            number >>= bit
        number &= (1 << bits) - 1
        return number - (1 << bits) if signed and number >> bits - 1 else number

    return bit_field


# To text.


def text(value: Any) -> str:
    """A value as bpftrace prints it, with what the traced wrote escaped.

    >>> print(text(Tuple([1, True, "a\\x1b"])), text(Record([("m", 2)])), text(Array([1, 2])))
    (1, true, a\\x1b) { .m = 2 } [1,2]
    """
    kind = type(value)
    if kind is str:
        return escape(value)
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is Shown:
        return str(value.text)
    if kind is Named:
        return str(value.name)
    if kind is Tuple:
        return "(" + ", ".join(map(text, value.values)) + ")"
    if kind is Array:
        return "[" + ",".join(map(text, value.values)) + "]"
    if kind is Record:
        if not value.members:
            return "{}"
        return "{ " + ", ".join(f".{name} = {text(inner)}" for name, inner in value.members) + " }"
    if kind is bytes:
        return buffer_text(value)
    return "null"


def buffer_text(data: bytes, ascii_as_it_is: bool = True, escaped: bool = True) -> str:
    r"""A buffer: printable ASCII, and all else as \xNN; or as pairs of digits.

    >>> print(buffer_text(b"a\0"), buffer_text(b"a\0", False), buffer_text(b"a\0", False, False))
    a\x00 \x61\x00 61 00
    """
    if not escaped:
        return data.hex(" ")
    return "".join(
        chr(byte) if ascii_as_it_is and 32 <= byte <= 126 else f"\\x{byte:02x}" for byte in data
    )


def key_text(value: Any) -> str:
    """A map's key: the members of a tuple without parentheses around them."""
    shown = text(value)
    return shown[1:-1] if type(value) is Tuple else shown


# To JSON.


def json(value: Any) -> str:
    """A value as bpftrace's JSON has it. A number that a double cannot hold exactly is a string.

    >>> print(json(Tuple([1, "a"])), json(Named("ONE", 1)), json((1 << 53) + 1))
    [1,"a"] 1 "9007199254740993"
    """
    kind = type(value)
    if kind is str:
        return json_text(value)
    if kind is int:
        return str(value) if int(float(value)) == value else f'"{value}"'
    if kind is bool:
        return "true" if value else "false"
    if kind is Shown:
        return json_text(value.text)
    if kind is Named:
        return json(value.number)
    if kind is Tuple or kind is Array:
        return "[" + ",".join(map(json, value.values)) + "]"
    if kind is Record:
        return json_object([(name, json(inner)) for name, inner in value.members])
    if kind is bytes:
        return "[" + ",".join(str(b - 256 if b > 127 else b) for b in value) + "]"
    return "null"


def json_object(members: list[tuple[str, str]]) -> str:
    """A JSON object of names and values that are JSON already."""
    return "{" + ", ".join(f"{json_text(name)}: {value}" for name, value in members) + "}"


def json_key(value: Any) -> str:
    """A map's key as the name of a member: as text without blanks.

    >>> json_key(Tuple(["sh", 2]))
    'sh,2'
    """
    if type(value) is str:
        return value.replace(" ", "")
    if type(value) is Tuple:
        return ",".join(map(_inner_key, value.values))
    return _inner_key(value)


def _inner_key(value: Any) -> str:
    if type(value) is Tuple:
        return "(" + ",".join(map(_inner_key, value.values)) + ")"
    return (value if type(value) is str else text(value)).replace(" ", "")
