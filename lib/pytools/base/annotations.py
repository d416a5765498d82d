"""What modules need at run time of what they say about types.

A warm start takes a thirtieth of a second, and a tenth of that would be typing: its import, and the
named tuples that it makes. So the library imports typing for type checkers only. Neither does it
import dataclasses, which takes inspect with it and 10 ms of a cold start.
"""
from __future__ import annotations

from collections import namedtuple

__all__ = ["NamedTuple", "TYPE_CHECKING", "dataclass", "replace"]

TYPE_CHECKING = False  # type checkers take it for true
if TYPE_CHECKING:
    from dataclasses import dataclass, replace
    from typing import NamedTuple
else:

    def dataclass(frozen):
        """A class of constants, as dataclasses.dataclass(frozen=True) makes one: all of its
        members have defaults, those of its bases come first."""

        def decorated(cls):
            inherited = getattr(cls, "_members", ())
            cls._members = (*inherited, *cls.__dict__.get("__annotations__", ()))
            cls.__init__, cls.__setattr__ = _take_members, _refuse
            cls.__eq__, cls.__hash__, cls.__repr__ = _is_same, _hash_members, _show_members
            return cls

        assert frozen
        return decorated

    def replace(instance, **changed):
        """A copy with other values of some members, as dataclasses.replace makes it."""
        return type(instance)(**{**instance.__dict__, **changed})

    def _take_members(self, *given, **named):
        values = dict(zip(self._members, given), **named)
        if len(values) < len(given) + len(named) or not values.keys() <= set(self._members):
            raise TypeError(f"{type(self).__name__} has the members {', '.join(self._members)}")
        for member in self._members:
            self.__dict__[member] = values[member] if member in values else getattr(self, member)

    def _refuse(self, name, value):
        raise AttributeError(f"{type(self).__name__}.{name} can't be changed")

    def _is_same(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def _hash_members(self):
        return hash((type(self), *self.__dict__.values()))

    def _show_members(self):
        members = ", ".join(f"{member}={value!r}" for member, value in self.__dict__.items())
        return f"{type(self).__name__}({members})"

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
