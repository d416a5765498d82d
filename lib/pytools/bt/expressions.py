"""Types of expressions: names, members, elements, casts, tuples."""
from __future__ import annotations

from dataclasses import replace

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure, did_you_mean
from pytools.bt import tree
from pytools.bt.casts import Casts
from pytools.bt.promotion import literal_type, promote
from pytools.bt.settings import parameter
from pytools.bt.tree import Wrong
from pytools.bt.typed import CHECKS, Typed

from pytools.bt.types import (
    UNKNOWN, VOID, Aggregate, Array, Bool, Int, Pointer, String, Struct, Tuple,
)  # fmt: skip

if TYPE_CHECKING:
    from typing import Any, Optional

    from pytools.bt.types import Type

__all__ = ["Expressions"]

DEEPEST = 2000
BUILTIN = "__builtin_"  # what bpftrace's own macros call its builtins


class Expressions(Casts):
    """The part of the checker that gives expressions their types."""

    def expression(self, node: Any) -> Typed:
        """The typed form of an expression. Raises Wrong."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Wrong(getattr(node, "at", None), "the expression is nested too deeply")
        try:
            method = getattr(self, "_" + type(node).__name__.strip("_").lower(), None)
            if method is None:
                raise Wrong(getattr(node, "at", None), "this is no expression")
            found: Typed = method(node)
            return found
        finally:
            self.depth -= 1

    # Literals and names.

    def _number(self, node: tree.Number) -> Typed:
        if not -(1 << 63) <= node.value < 1 << 64:
            raise Wrong(node.at, f"{node.value} does not fit into 64 bits")
        return Typed("number", literal_type(node.value), node.at, (), node.value)

    def _text(self, node: tree.Text) -> Typed:
        size = len(node.value.encode("utf-8", "surrogateescape")) + 1
        return Typed("text", String(size), node.at, (), node.value)

    def _boolean(self, node: tree.Boolean) -> Typed:
        return Typed("number", Bool(), node.at, (), node.value)

    def _parameter(self, node: tree.Parameter) -> Typed:
        given = self.options.parameters
        if node.number == 0:
            return Typed("number", Int(8, False), node.at, (), len(given))
        text = given[node.number - 1] if node.number <= len(given) else None
        if text is None:
            return Typed("number", Int(8), node.at, ("parameter", ""), 0)
        try:
            parameter(text, node.number)
        except Failure:
            size = len(text.encode("utf-8", "surrogateescape")) + 1
            return Typed("text", String(size), node.at, ("parameter", text), text)
        return Typed("parameter", Int(8), node.at, ("parameter", text, node.number))

    def _name(self, node: tree.Name) -> Typed:
        if node.name.startswith(BUILTIN):
            node = node._replace(name=node.name[len(BUILTIN) :])
        if node.name in CHECKS or self.argument_number(node.name) is not None:
            return self._call(tree.Call(node.at, node.name, ()))
        constant = self.layouts.constant(node.name)
        if constant is not None:
            number, kind = constant
            return Typed("number", replace(kind, bytes=8), node.at, (), number)
        hint = did_you_mean(node.name, CHECKS, 0.75)
        raise Wrong(node.at, f"Unknown identifier: '{node.name}'", hint)

    def _call(self, node: tree.Call) -> Typed:
        number = self.argument_number(node.name)
        if number is not None:
            if node.arguments:
                raise Wrong(
                    node.at, f"{node.name}() takes no arguments ({len(node.arguments)} given)"
                )
            return self.argument(node.at, node.name, number)
        check = CHECKS.get(node.name)
        if check is None:
            hint = did_you_mean(node.name, CHECKS, behind="()")
            raise Wrong(node.at, f"Unknown function: '{node.name}'", hint)
        return check(self, node)

    def _variable(self, node: tree.Variable) -> Typed:
        variable = self.scopes.find(node.name)
        if variable is None:
            if self.final:
                raise Wrong(node.at, f"Undefined or undeclared variable: ${node.name}")
            return Typed("variable", UNKNOWN, node.at)
        kind = variable.declared or variable.type
        if self.final and kind == UNKNOWN:
            kind = Int(8)
        return Typed("variable", kind, node.at, (variable,))

    def _map(self, node: tree.Map) -> Typed:
        facts = self.facts.access(node.name, True, node.at)
        return self.map_value(facts, None, node.at)

    def _element(self, node: tree.Element) -> Typed:
        facts = self.facts.access(node.name, False, node.at)
        key = self.key(node.keys, node.at)
        self.facts.see_key(facts, key.type, node.at)
        return self.map_value(facts, key, node.at)

    def key(self, keys: Any, at: tree.Span) -> Typed:
        """A map's key: one expression, or a tuple of several."""
        found = [self.value(each) for each in keys]
        if len(found) == 1:
            return found[0]
        return Typed("tuple", Tuple(tuple(each.type for each in found)), at, tuple(found))

    def map_value(self, facts: Any, key: Optional[Typed], at: tree.Span) -> Typed:
        """What a map has at a key (None: a scalar map)."""
        facts.used = True
        if self.final and facts.value == UNKNOWN:
            raise Wrong(at, f"Undefined map: {facts.label}")
        if isinstance(facts.value, Aggregate):
            return Typed("counted", facts.value, at, (facts, key))
        return Typed("map", facts.value, at, (facts, key))

    # Tuples and blocks.

    def _tuple(self, node: tree.Tuple_) -> Typed:
        found = [self.value(each) for each in node.elements]
        for each in found:
            if isinstance(each.type, Aggregate) or each.type == VOID:
                raise Wrong(each.at, f"'{each.type}' cannot be an element of a tuple")
        if len(set(node.names)) != len(node.names):
            raise Wrong(node.at, "two elements of a record have the same name")
        kind = Tuple(tuple(each.type for each in found), tuple(node.names))
        return Typed("tuple", kind, node.at, tuple(found))

    def _block(self, node: tree.Block) -> Typed:
        self.scopes.open()
        try:
            statements = self.statements(node.statements)
            value = self.expression(node.value) if node.value is not None else None
        finally:
            self.scopes.close()
        if value is not None and not statements:
            return value
        kind = value.type if value is not None else VOID
        space = value.space if value is not None else "own"
        return Typed("block", kind, node.at, (statements, value), None, space)

    def _ifvalue(self, node: tree.IfValue) -> Typed:
        then = self._block(node.then)
        if isinstance(node.otherwise, tree.IfValue):
            otherwise = self._ifvalue(node.otherwise)
        else:
            otherwise = self._block(node.otherwise)
        return self.choice(node.at, self.condition(node.condition), then, otherwise)

    def _ternary(self, node: tree.Ternary) -> Typed:
        condition = self.condition(node.condition)
        return self.choice(
            node.at, condition, self.expression(node.then), self.expression(node.otherwise)
        )

    def choice(self, at: tree.Span, condition: Typed, then: Typed, otherwise: Typed) -> Typed:
        """One of two values of one type."""
        then, otherwise = self.plain(then), self.plain(otherwise)
        if then.type == VOID or otherwise.type == VOID:
            if then.type == otherwise.type:
                return Typed("choice", VOID, at, (condition, then, otherwise))
        kind = promote(then.type, otherwise.type)
        if kind is None or VOID in (then.type, otherwise.type):
            raise Wrong(
                at,
                "Branches must return the same type or compatible types: "
                f"have '{then.type}' and '{otherwise.type}'",
            )
        if condition.constant is not None and self.final:
            return self.no_literal(self.cast(then if condition.constant else otherwise, kind))
        parts = (condition, self.cast(then, kind), self.cast(otherwise, kind))
        return Typed("choice", kind, at, parts)

    # Members and elements.

    def _member(self, node: tree.Member) -> Typed:
        owner = self.expression(node.object)
        kind = owner.type
        if kind == UNKNOWN:
            return Typed("member", UNKNOWN, node.at)
        if isinstance(kind, Tuple):
            return self._tuple_element(node, owner, node.name)
        if isinstance(kind, Pointer) and isinstance(kind.to, Tuple):
            return self._tuple_element(node, self.dereference(owner, node.at), node.name)
        if isinstance(kind, Pointer):
            owner = self.dereference(owner, node.at)
            kind = owner.type
        if isinstance(kind, Array) and isinstance(kind.of, Struct) and kind.count:
            kind = VOID
        if not isinstance(kind, Struct) or isinstance(node.name, int):
            raise Wrong(
                node.at,
                f"Can not access field '{node.name}' on expression of type '{owner.type}'",
            )
        field, warning = self.layouts.member(kind, node.name, node.at)
        if warning:
            self.warn(node.at, warning)
        return self.field(owner, field, node.at)

    def field(self, owner: Typed, field: Any, at: tree.Span) -> Typed:
        """A member of a struct."""
        kind = field.type
        inner = owner.space
        if owner.op == "arguments":  # what a tracepoint's pointers point to is the field's own
            inner = "kernel"
        if isinstance(kind, Pointer) and not kind.space:
            outer = {"context": "kernel", "own": ""}.get(inner, inner)
            kind = replace(kind, space=outer)
        return Typed("member", kind, at, (owner, field), None, owner.space)

    def _tuple_element(self, node: Any, owner: Typed, name: Any) -> Typed:
        kind = owner.type
        assert isinstance(kind, Tuple)
        if isinstance(name, str):
            if name not in kind.names:
                near = did_you_mean(name, kind.names)
                hint = f"; {near}" if near else ""
                raise Wrong(node.at, f"Record does not have a field named '{name}'{hint}")
            name = kind.names.index(name)
        elif not 0 <= name < len(kind.elements):
            raise Wrong(
                node.at,
                f"Invalid tuple index: {name}. Found {len(kind.elements)} elements in the tuple.",
            )
        if owner.op == "known":  # typeinfo(), config()
            found: Typed = owner.parts[name]
            return found
        return Typed("element", kind.elements[name], node.at, (owner, name), None, owner.space)

    def _index(self, node: tree.Index) -> Typed:
        owner, index = self.expression(node.object), self.value(node.index)
        kind = owner.type
        if kind == UNKNOWN or index.type == UNKNOWN:
            return Typed("index", UNKNOWN, node.at)
        if isinstance(kind, Tuple):
            if not isinstance(index.constant, int):
                raise Wrong(node.at, "Tuples may only be indexed by an integer literal")
            return self._tuple_element(node, owner, index.constant)
        if not isinstance(index.type, (Int, Bool)):
            raise Wrong(node.at, "The array index operator [] only accepts integer indices")
        if isinstance(kind, Pointer) and isinstance(kind.to, Array):
            owner = self.dereference(owner, node.at)
            kind = owner.type
        count = None
        if isinstance(kind, Array):
            count, of = kind.count, kind.of
        elif isinstance(kind, String):
            count, of = kind.bytes, Int(1, True)
        elif isinstance(kind, Pointer):
            of = kind.to if kind.to != VOID else Int(1, True)
        else:
            raise Wrong(
                node.at,
                "The array index operator [] can only be used on arrays and pointers, "
                f"found {kind}.",
            )
        if count and isinstance(index.constant, int) and not 0 <= index.constant < count:
            raise Wrong(
                node.at,
                f"the index {index.constant} is out of bounds for array of size {count}",
            )
        if isinstance(of, Struct):
            of = self.complete(of, node.at)
        space = (kind.space or self.default_space) if isinstance(kind, Pointer) else owner.space
        if isinstance(of, Pointer) and not of.space:
            of = replace(of, space={"context": "kernel", "own": ""}.get(space, space))
        return Typed("index", of, node.at, (owner, index), None, space)

    def complete(self, kind: Struct, at: tree.Span) -> Type:
        """A struct that is defined, by the name of one that may only have been pointed to."""
        if kind.bytes or isinstance(kind.key, int) or self.layouts.layout(kind).fields:
            return kind
        return self.layouts.named(kind.name, at)

    def dereference(self, pointer: Typed, at: tree.Span) -> Typed:
        """What a pointer points to."""
        kind = pointer.type
        if isinstance(kind, Int):
            return Typed("pointee", Int(8, False), at, (pointer,), None, self.default_space)
        if not isinstance(kind, Pointer):
            raise Wrong(at, f"Can not dereference type '{kind}'. It is not a pointer.")
        to = kind.to
        if to == VOID:
            raise Wrong(at, "Can not dereference a pointer to void: cast it to what it points to")
        if isinstance(to, Struct):
            to = self.complete(to, at)
        space = kind.space or self.default_space
        if isinstance(to, Pointer) and not to.space:
            to = replace(to, space="" if space == "own" else space)
        return Typed("pointee", to, at, (pointer,), None, space)
