"""The types of the language: sizes, names as in messages, and what the plan says of each."""
from __future__ import annotations

from dataclasses import dataclass

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Union

__all__ = [
    "Aggregate", "Array", "Bool", "Buffer", "Float", "Int", "None_", "Pointer", "Special",
    "Stack", "String", "Struct", "Tuple", "Type", "UNKNOWN", "VOID", "align_up", "fits_register",
]  # fmt: skip


def align_up(number: int, align: int) -> int:
    """The next multiple of an alignment.

    >>> align_up(5, 4)
    8
    """
    return (number + align - 1) // align * align


@dataclass(frozen=True)
class Type:
    """A type; ``size`` and ``align`` are in bytes, as it lies in keys, values and records."""

    @property
    def size(self) -> int:
        return 0

    @property
    def align(self) -> int:
        return 1

    def plan(self) -> list[Any]:
        """The type as plan.py writes it."""
        return ["none"]


@dataclass(frozen=True)
class None_(Type):
    """What has no value (``printf()``), or none yet (``unknown``)."""

    unknown: bool = False

    def __str__(self) -> str:
        return "none"


VOID, UNKNOWN = None_(), None_(True)


@dataclass(frozen=True)
class Int(Type):
    """``flexible``: a literal that is not negative. ``enum``: its values and their names."""

    bytes: int = 8
    signed: bool = True
    flexible: bool = False
    enum: tuple[tuple[int, str], ...] = ()
    enum_name: str = ""

    @property
    def size(self) -> int:
        return self.bytes

    @property
    def align(self) -> int:
        return self.bytes

    def plan(self) -> list[Any]:
        if self.enum:
            return ["enum", self.size, self.signed, {str(n): name for n, name in self.enum}]
        return ["int", self.size, self.signed]

    def __str__(self) -> str:
        return self.enum_name or f"{'' if self.signed else 'u'}int{8 * self.bytes}"


@dataclass(frozen=True)
class Bool(Type):
    @property
    def size(self) -> int:
        return 1

    def plan(self) -> list[Any]:
        return ["bool"]

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True)
class Float(Type):
    """A floating-point number. Programs in the kernel cannot compute with it: it is shown as
    nothing."""

    bytes: int = 8

    @property
    def size(self) -> int:
        return self.bytes

    @property
    def align(self) -> int:
        return self.bytes

    def __str__(self) -> str:
        return "double" if self.bytes == 8 else "float"


@dataclass(frozen=True)
class String(Type):
    """At most so many bytes; one that fills them all has been cut off, unless it is an ``array`` of
    characters in a struct."""

    bytes: int = 0
    array: bool = False

    @property
    def size(self) -> int:
        return self.bytes

    def plan(self) -> list[Any]:
        return ["string", self.bytes]

    def __str__(self) -> str:
        return f"string[{self.bytes}]"


@dataclass(frozen=True)
class Buffer(Type):
    """A u32 length, and room for so many bytes."""

    bytes: int = 0

    @property
    def size(self) -> int:
        return 4 + self.bytes

    @property
    def align(self) -> int:
        return 4

    def plan(self) -> list[Any]:
        return ["buffer", self.bytes]

    def __str__(self) -> str:
        return f"buffer[{self.bytes}]"


@dataclass(frozen=True)
class Pointer(Type):
    """``space``: "kernel", "user", "own" (memory of the program), or "" if nothing tells."""

    to: Type = VOID
    space: str = ""

    @property
    def size(self) -> int:
        return 8

    @property
    def align(self) -> int:
        return 8

    def plan(self) -> list[Any]:
        return ["pointer", str(self.to) if self.to != VOID else ""]

    def __str__(self) -> str:
        return f"{'void' if self.to == VOID else self.to} *"


@dataclass(frozen=True)
class Struct(Type):
    """A struct or union of the kernel's or of the script's (``layouts.Layouts`` knows its members
    by ``key``, "struct NAME" or a BTF id)."""

    key: Union[str, int] = ""
    name: str = ""
    bytes: int = 0
    alignment: int = 1

    @property
    def size(self) -> int:
        return self.bytes

    @property
    def align(self) -> int:
        return self.alignment

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Array(Type):
    of: Type = VOID
    count: int = 0

    @property
    def size(self) -> int:
        return self.count * self.of.size

    @property
    def align(self) -> int:
        return self.of.align

    def plan(self) -> list[Any]:
        return ["array", self.count, self.of.size, self.of.plan()]

    def __str__(self) -> str:
        return f"{self.of}[{self.count}]"


@dataclass(frozen=True)
class Tuple(Type):
    """A tuple, or a record if its elements have names."""

    elements: tuple[Type, ...] = ()
    names: tuple[str, ...] = ()

    def offsets(self) -> list[int]:
        """Where each element begins."""
        found, end = [], 0
        for element in self.elements:
            end = align_up(end, element.align)
            found.append(end)
            end += element.size
        return found

    @property
    def size(self) -> int:
        if not self.elements:
            return 0
        return align_up(self.offsets()[-1] + self.elements[-1].size, self.align)

    @property
    def align(self) -> int:
        return max((element.align for element in self.elements), default=1)

    def plan(self) -> list[Any]:
        parts = zip(self.offsets(), self.elements)
        if self.names:
            members = zip(self.names, parts)
            return [
                "record",
                self.size,
                [[n, offset, each.plan()] for n, (offset, each) in members],
            ]
        return ["tuple", self.size, [[offset, each.plan()] for offset, each in parts]]

    def __str__(self) -> str:
        if self.names:
            inner = ",".join(f"{n}={e}" for n, e in zip(self.names, self.elements))
            return f"record({inner})"
        return f"({','.join(map(str, self.elements))})"


@dataclass(frozen=True)
class Stack(Type):
    """``kind``: "kstack" or "ustack"."""

    kind: str = "kstack"
    mode: str = "bpftrace"
    depth: int = 127

    @property
    def size(self) -> int:
        return 8

    @property
    def align(self) -> int:
        return 4

    def plan(self) -> list[Any]:
        return [self.kind, self.mode, self.depth]

    def __str__(self) -> str:
        return self.kind


# Size and alignment of what is only looked at by the reader.
_SPECIAL = {
    "ksym": (8, 8), "usym": (16, 8), "inet": (20, 4), "mac": (6, 1), "username": (4, 4),
    "cgroup_path": (8, 8), "timestamp": (8, 8), "strerror": (4, 4), "signal_name": (4, 4),
    "syscall_name": (8, 8), "probe": (4, 4), "func": (8, 8),
}  # fmt: skip


@dataclass(frozen=True)
class Special(Type):
    """What the reader writes out: a symbol, an address of the network, a time, ..."""

    kind: str = ""
    details: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        return _SPECIAL[self.kind][0]

    @property
    def align(self) -> int:
        return _SPECIAL[self.kind][1]

    def plan(self) -> list[Any]:
        return [self.kind, *self.details]

    def __str__(self) -> str:
        words = {"strerror": "string", "signal_name": "string", "syscall_name": "string"}
        words.update({"mac": "mac_address", "probe": "string", "func": "ksym_t"})
        return words.get(self.kind, self.kind + ("_t" if self.kind in ("ksym", "usym") else ""))


# Bytes of what is counted for a key.
_AGGREGATES = {"min": 16, "max": 16, "avg": 16, "stats": 16, "tseries": 24}


@dataclass(frozen=True)
class Aggregate(Type):
    """What a map counts by CPU: ``details`` are as in plan.py, behind the word."""

    kind: str = "count"
    signed: bool = True
    details: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        return _AGGREGATES.get(self.kind, 8)

    @property
    def align(self) -> int:
        return 8

    @property
    def castable(self) -> bool:
        """Whether it has one number, which expressions may ask for."""
        return self.kind in ("count", "sum", "min", "max", "avg")

    @property
    def bucketed(self) -> bool:
        """Whether its keys end with a bucket or a slot."""
        return self.kind in ("hist", "lhist", "tseries")

    def plan(self) -> list[Any]:
        signed = [self.signed] if self.kind in ("sum", "min", "max", "avg", "stats") else []
        return [self.kind, *signed, *self.details]

    def __str__(self) -> str:
        return self.kind + "_t"


def fits_register(kind: Type) -> bool:
    """Whether a value is one number for the program."""
    if isinstance(kind, Special):
        return kind.kind not in ("usym", "inet", "mac")
    return isinstance(kind, (Int, Bool, Pointer))
