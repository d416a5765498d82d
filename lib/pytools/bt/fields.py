"""A member of a struct."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from pytools.bt.types import Type

__all__ = ["Field"]


class Field(NamedTuple):
    """A member: ``offset`` in bits; ``bits`` is the width of a bit-field, 0 of all others. ``loc``:
    the member is a u32 that says where a string of a tracepoint's record is ("data" from the start
    of the record, "rel" from behind the member)."""

    name: str
    offset: int
    type: Type
    bits: int = 0
    loc: str = ""
