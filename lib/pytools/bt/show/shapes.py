"""Values that Python has no type for."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Array", "Named", "Record", "Shown", "Tuple"]


class Named(NamedTuple):
    """A number that has a name (an enumerator, a pointer): text has the name, JSON the number."""

    name: str
    number: int


class Shown(NamedTuple):
    """Text of the tool's own (the lines of a stack), which is printed as it is."""

    text: str


class Tuple(NamedTuple):
    values: list[Any]


class Array(NamedTuple):
    values: list[Any]


class Record(NamedTuple):
    """The members of a struct: (name, value)."""

    members: list[tuple[str, Any]]
