"""What modules need at run time of what they say about types.

A warm start takes a thirtieth of a second, and a tenth of that would be typing: its import, and the
named tuples that it makes. So the library imports typing for type checkers only.
"""
from __future__ import annotations

from collections import namedtuple

__all__ = ["NamedTuple", "TYPE_CHECKING"]

TYPE_CHECKING = False  # type checkers take it for true
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    # What Python itself puts into the body of a class.
    _PYTHONS = ("__module__", "__qualname__", "__annotations__", "__firstlineno__")
    _PYTHONS += ("__static_attributes__", "__classcell__")

    class _Members(type):
        """Makes a class with annotated members a tuple's, as typing.NamedTuple does."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            members = list(body["__annotations__"])
            defaults = [body[member] for member in members if member in body]
            made = namedtuple(name, members, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                if key not in members and key not in _PYTHONS:
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Members):
        """The base of a class whose annotated members are those of a tuple."""
