"""Casts that a script asks for, and what it asks of types: sizeof, offsetof, typeof."""
from __future__ import annotations

from dataclasses import replace

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.operators import Operators
from pytools.bt.promotion import literal_type
from pytools.bt.tree import Wrong
from pytools.bt.typed import CHECKS, Typed

from pytools.bt.types import (
    UNKNOWN, Aggregate, Array, Bool, Buffer, Int, Pointer, Special, String, Struct,
)  # fmt: skip

if TYPE_CHECKING:
    from typing import Any

    from pytools.bt.types import Type

__all__ = ["Casts"]


class Casts(Operators):
    """The part of the checker that knows types by their names."""

    def _cast(self, node: tree.Cast) -> Typed:
        operand = self.expression(node.operand)
        kind = self.type_of(node.type)
        if operand.type == UNKNOWN:
            return Typed("cast", kind, node.at)
        if isinstance(operand.type, Aggregate) and operand.op == "counted":
            operand = self.plain(operand)
        source = operand.type
        if isinstance(kind, Pointer) and isinstance(source, (Int, Pointer, Array, String)):
            space = source.space if isinstance(source, Pointer) else ""
            if isinstance(source, (Array, String)):
                if isinstance(source, Array) and source.size == 8:
                    return Typed("cast", kind, node.at, (operand,), None)
                operand = self.address(operand, node.at)
                space = operand.type.space  # type: ignore[attr-defined]
            elif isinstance(source, Int):
                space = self.address_space(operand)
            constant = operand.constant
            if isinstance(constant, int):
                constant &= (1 << 8 * max(source.size, 1)) - 1
            return Typed("cast", replace(kind, space=space), node.at, (operand,), constant)
        if isinstance(kind, Array) and not kind.count and kind.of.size:
            if source.size % kind.of.size:
                raise Wrong(
                    node.at,
                    "Cannot determine array size: the element size is incompatible with the "
                    "cast integer size",
                )
            kind = Array(kind.of, source.size // kind.of.size)
        if isinstance(kind, String) and isinstance(source, String):
            if kind.bytes < source.bytes and kind.bytes:
                raise Wrong(node.at, f'Cannot cast from "{source}" to "{kind}"')
            return self.cast(operand, kind) if kind.bytes else operand
        if not self.castable(source, kind):
            raise Wrong(node.at, f'Cannot cast from "{source}" to "{kind}"')
        if isinstance(kind, Int) and kind.enum and isinstance(operand.constant, int):
            if operand.constant not in dict(kind.enum):
                raise Wrong(
                    node.at,
                    f"Enum: {kind.enum_name} doesn't contain a variant value of {operand.constant}",
                )
        return self.no_literal(self.cast(operand, kind, node.at))

    @staticmethod
    def castable(source: Type, kind: Type) -> bool:
        """Whether a script may ask for that cast."""
        numbers = (Int, Bool, Pointer)
        if isinstance(kind, numbers):
            if isinstance(source, (Array, String, Buffer)) and isinstance(kind, Int):
                return source.size == kind.size
            if isinstance(source, Special) and isinstance(kind, Int):
                return source.kind in ("ksym", "timestamp", "func", "username", "strerror")
            return isinstance(source, numbers)
        if isinstance(kind, (Array, String)):
            if isinstance(source, Int):
                return kind.size == source.size or source.size < kind.size <= 8
            return isinstance(source, (Array, String, Bool)) and kind.size == source.size
        return kind == source or isinstance(kind, Special) and kind.kind == "username"

    def type_of(self, name: Any) -> Type:
        """The type that is written, or that an expression in its place has."""
        if isinstance(name, tree.TypeName):
            if name.of is None:
                if not name.pointers and not name.sizes and self._is_word(name.name):
                    return self.unevaluated(tree.Name(name.at, name.name)).type
                return self.layouts.find(name)
            return self.layouts.modified(self.type_of(name.of), name)
        return self.unevaluated(name).type

    def _is_word(self, name: str) -> bool:
        """Whether a word is a builtin or an enumerator, and no type."""
        if name in CHECKS or self.argument_number(name) is not None:
            return True
        try:
            self.layouts.named(name, None)
            return False
        except Wrong:
            return self.layouts.constant(name) is not None

    def unevaluated(self, node: Any) -> Typed:
        """An expression of which only the type counts: a map without a key is its key there."""
        if isinstance(node, tree.Map) and self.facts.map(node.name).scalar is False:
            return Typed("none", self.facts.map(node.name).key, node.at)
        writers = {name: set(facts.writers) for name, facts in self.facts.maps.items()}
        before = len(self.said)
        found = self.plain(self.expression(node))
        del self.said[before:]
        for name, facts in self.facts.maps.items():
            facts.writers = writers.get(name, set())
        return found

    def _sizeof(self, node: tree.SizeOf) -> Typed:
        kind = self.type_of(node.of)
        if isinstance(kind, Struct):
            kind = self.complete(kind, node.at)
        return Typed("number", literal_type(kind.size), node.at, (), kind.size)

    def _offsetof(self, node: tree.OffsetOf) -> Typed:
        kind = self.type_of(node.of)
        if isinstance(kind, Pointer):
            kind = kind.to
        offset = 0
        for step in node.path:
            if isinstance(step, int):
                if not isinstance(kind, Array):
                    raise Wrong(node.at, f"'{kind}' is no array")
                offset, kind = offset + step * kind.of.size, kind.of
                continue
            if not isinstance(kind, Struct):
                raise Wrong(node.at, f"'{kind}' is not a c_struct type.")
            field, _ = self.layouts.member(kind, step, node.at)
            offset, kind = offset + field.offset // 8, field.type
        return Typed("number", literal_type(offset), node.at, (), offset)
