"""From bcc's description of a C type to Python values."""
from __future__ import annotations

import struct

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator


__all__ = ["Layout"]

# The C types as clang spells them, as codes of Python's struct.
_CODES = {
    "_Bool": "?", "bool": "?", "char": "b", "signed char": "b", "unsigned char": "B",
    "short": "h", "unsigned short": "H", "int": "i", "unsigned int": "I",
    "long": "q", "unsigned long": "Q", "long long": "q", "unsigned long long": "Q",
}  # fmt: skip


class Layout:
    """The members of a C value, flattened in their order.

    ``names`` are the members (``outer.inner`` for nested ones); ``unpack``
    turns bytes into a tuple of as many values: int, bool, bytes for an array of
    char, a tuple for any other array.

    >>> Layout(["key", [["pid", "unsigned int"], ["comm", "char", [16]]], "struct"]).names
    ['pid', 'comm']
    """

    def __init__(self, description: Any, size: int = 0) -> None:
        self.names: list[str] = []
        self._arrays: list[tuple[int, int]] = []  # (place, length) from the right
        codes = ""
        for name, code, count in _flatten(description, ""):
            if name is None:
                codes += f"{count}x"
            elif not count:
                codes += code
                self.names.append(name)
            elif code in "bB":
                codes += f"{count}s"
                self.names.append(name)
            else:
                codes += f"{count}{code}"
                self._arrays.append((len(self.names), count))
                self.names.append(name)
        # bcc's descriptions name all padding; @ aligns what they do not.
        self.struct = struct.Struct("@" + codes)
        if size > self.struct.size:
            self.struct = struct.Struct(f"@{codes}{size - self.struct.size}x")
        self.size = self.struct.size
        # The same as unpack, and faster where there is nothing to put together.
        self.unpack_from: Callable[..., tuple[Any, ...]] = (
            self.unpack if self._arrays else self.struct.unpack_from
        )

    def unpack(self, data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[Any, ...]:
        values = self.struct.unpack_from(data, offset)
        for place, count in self._arrays:
            values = (*values[:place], values[place : place + count], *values[place + count :])
        return values

    def value(self, data: bytes, offset: int = 0) -> Any:
        """The one value of a type with one member, else a tuple of all."""
        values = self.unpack(data, offset)
        return values[0] if len(self.names) == 1 else values


def _flatten(description: Any, prefix: str) -> Iterator[tuple[str | None, str, int]]:
    """(name, struct code, array length or 0); padding has no name."""
    if isinstance(description, str):
        yield prefix or "value", _code(description), 0
        return
    if len(description) == 3 and isinstance(description[1], list):
        _, members, word = description
        if word == "union":  # the first member stands for all
            sizes = [Layout(["", [member], "struct"]).size for member in members]
            members = [members[0], ["__pad_", "char", [max(sizes) - sizes[0]]]]
        for name, *rest in members:
            if name.startswith("__pad_"):
                yield None, "", rest[1][0]
                continue
            inner = f"{prefix}.{name}" if prefix and name else prefix or name
            if rest[-1] in ("struct", "union"):  # anonymous: [members, word]
                yield from _flatten(["", *rest], inner)
            else:
                yield from _flatten(rest[0] if len(rest) == 1 else rest, inner)
        return
    # [type, [length]] of an array; bit-fields, [type, width], do not stand in maps.
    kind, (length, *_) = description
    yield prefix if length else None, _code(kind), length  # one without elements is no member


def _code(kind: Any) -> str:
    code = _CODES.get(kind) if isinstance(kind, str) else None
    if code is None:
        raise ValueError(f"no layout for the C type {kind!r}")
    return code
