"""Types of what operators make, and the casts that go unsaid."""
from __future__ import annotations

import operator

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.promotion import literal_type, promote
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed

from pytools.bt.types import (
    UNKNOWN, VOID, Aggregate, Array, Bool, Buffer, Int, Pointer, Special, String, Struct, Tuple,
    fits_register,
)  # fmt: skip

if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from pytools.bt.layouts import Layouts
    from pytools.bt.scope import Facts, Scopes
    from pytools.bt.types import Type

__all__ = ["Operators"]

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")

_FOLDED: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b if b < 64 else 1 << 64,
    ">>": lambda a, b: (a if a >= 0 else a + (1 << 64)) >> b,
    "/": lambda a, b: (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1),
    "%": lambda a, b: (abs(a) % abs(b)) * (1 if a >= 0 else -1),
}
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Operators:
    """The part of the checker that knows operators. What it has to know of all else is the
    checker's (``check.Checker``)."""

    facts: Facts
    scopes: Scopes
    layouts: Layouts
    options: Any
    final: bool
    depth: int
    said: list[tuple[Any, str]]
    default_space: str
    form: Any
    first_point: Callable[[], Any]

    if TYPE_CHECKING:

        def expression(self, node: Any) -> Typed:
            ...

        def statements(self, nodes: Any) -> list[Typed]:
            ...

        def dereference(self, pointer: Typed, at: tree.Span) -> Typed:
            ...

        def argument_number(self, name: str) -> Optional[tuple[str, int]]:
            ...

        def argument(self, at: tree.Span, name: str, number: Any) -> Typed:
            ...

        def complete(self, kind: Struct, at: tree.Span) -> Type:
            ...

    def warn(self, at: Any, text: str) -> None:
        """Say something once."""
        if (at, text) not in self.said:
            self.said.append((at, text))

    def value(self, node: Any) -> Typed:
        """An expression that has a value, that of a counted map as a number."""
        found = self.plain(self.expression(node))
        if found.type == VOID:
            raise Wrong(found.at, "this has no value")
        return found

    def plain(self, node: Typed) -> Typed:
        """A counted map's value as a number."""
        if node.op == "counted" and isinstance(node.type, Aggregate):
            if not node.type.castable:
                return node
            node.parts[0].asked = True
            return Typed("total", Int(8, node.type.signed), node.at, node.parts)
        return node

    def condition(self, node: Any) -> Typed:
        """An expression as what is true or not."""
        found = self.value(node)
        if found.type == UNKNOWN or isinstance(found.type, (Int, Bool, Pointer)):
            return found
        if isinstance(found.type, Special) and found.type.kind in ("ksym", "func", "timestamp"):
            return found
        raise Wrong(found.at, f"Invalid condition: {found.type}")

    def cast(self, node: Typed, kind: Type, at: Any = None) -> Typed:
        """A value as one of another type, which it fits into."""
        if node.type == kind or UNKNOWN in (node.type, kind):
            return node
        constant = node.constant
        if isinstance(constant, int) and isinstance(kind, Int) and not isinstance(constant, bool):
            constant &= (1 << 8 * kind.bytes) - 1
            if kind.signed and constant >> (8 * kind.bytes - 1):
                constant -= 1 << 8 * kind.bytes
            return node._replace(type=kind, constant=constant, at=at or node.at)
        if isinstance(kind, Bool) and isinstance(constant, int):
            constant = bool(constant)
        elif not isinstance(kind, (Pointer, String)):
            constant = None
        return Typed("cast", kind, at or node.at, (node,), constant, "own")

    @staticmethod
    def no_literal(node: Typed) -> Typed:
        """A number that is known, but was not written so: operators compute with its type."""
        if node.op == "number" and not node.parts:
            return node._replace(parts=("computed",))
        return node

    # Unary.

    def _unary(self, node: tree.Unary) -> Typed:
        if node.operator == "&":
            return self.address(self.expression(node.operand), node.at)
        operand = self.value(node.operand)
        kind = operand.type
        if kind == UNKNOWN:
            return Typed("unary", UNKNOWN, node.at)
        if node.operator == "*":
            return operand if operand.op == "arguments" else self.dereference(operand, node.at)
        if node.operator == "!":
            if not isinstance(kind, (Int, Bool, Pointer)):
                raise self._misused(node, kind)
            truth = None if operand.constant is None else not operand.constant
            return Typed("unary", Bool(), node.at, ("!", operand), truth)
        if not isinstance(kind, Int):
            raise self._misused(node, kind)
        if isinstance(operand.constant, int) and operand.op == "number" and not operand.parts:
            value = -operand.constant if node.operator == "-" else ~operand.constant
            if node.operator == "~":  # as bpftrace has it: of 64 bits
                return Typed("number", Int(8, False), node.at, (), value & (1 << 64) - 1)
            if value < -(1 << 63):
                raise Wrong(node.at, f"{value} does not fit into 64 bits")
            return Typed("number", literal_type(value), node.at, (), value)
        signed = kind.signed or node.operator == "-"
        return Typed("unary", Int(8, signed), node.at, (node.operator, operand))

    @staticmethod
    def _misused(node: tree.Unary, kind: Type) -> Wrong:
        return Wrong(
            node.at,
            f"The {node.operator} operator can not be used on expressions of type '{kind}'",
        )

    def address(self, node: Typed, at: tree.Span) -> Typed:
        """A pointer to where a value is."""
        if node.op in ("variable", "map") or node.space == "own":
            if node.op == "variable" and node.type == UNKNOWN:
                return Typed("address", UNKNOWN, at)
            if node.op == "variable":
                self.facts.pointed.add(node.parts[0].key)
            space = "own"
        else:
            space = {"context": "kernel"}.get(node.space, node.space)
        if isinstance(node.type, Struct) and node.op == "arguments":
            raise Wrong(at, "the arguments have no address")
        return Typed("address", Pointer(node.type, space), at, (node,))

    def address_space(self, node: Typed) -> str:
        """Where an integer points to, as far as that is known."""
        if node.op == "cast":
            return self.address_space(node.parts[0]) if node.parts else ""
        if node.op in ("member", "index", "pointee") and node.space == "user":
            return "user"
        if node.op == "binary" and isinstance(node.parts[1], Typed):
            return self.address_space(node.parts[1])
        return "kernel" if node.op in ("curtask", "kaddr") else self.default_space

    # Binary.

    def _binary(self, node: tree.Binary) -> Typed:
        # A chain of operators may be long: its left side is walked down, not descended.
        chain = [node]
        while isinstance(chain[-1].left, tree.Binary):
            chain.append(chain[-1].left)
        left = self.value(chain[-1].left)
        for each in reversed(chain):
            left = self.binary(each.at, each.operator, left, self.value(each.right))
        return left

    def binary(self, at: tree.Span, operator: str, left: Typed, right: Typed) -> Typed:
        """An operator applied to two values. Raises Wrong."""
        a, b = left.type, right.type
        if operator in ("&&", "||"):
            for side in (left, right):
                if side.type != UNKNOWN and not isinstance(side.type, (Int, Bool, Pointer)):
                    raise self._mismatch(at, operator, a, b)
            return Typed("logical", Bool(), at, (operator, left, right))
        comparison = operator in COMPARISONS
        if UNKNOWN in (a, b):
            return Typed("binary", Bool() if comparison else UNKNOWN, at)
        if isinstance(a, Pointer) or isinstance(b, Pointer):
            return self._pointers(at, operator, left, right)
        numbers = (Int, Bool)
        if isinstance(a, numbers) and isinstance(b, numbers):
            return self._integers(at, operator, left, right)
        if operator in ("==", "!="):
            left, right = self.named(left), self.named(right)
            found = self._equality(at, operator, left, right)
            if found is not None:
                return found
        timed = (Int, Special)
        if isinstance(a, timed) and isinstance(b, timed) and fits_register(a) and fits_register(b):
            if {getattr(x, "kind", "ksym") for x in (a, b)} <= {"ksym", "func", "username"}:
                return self._integers(
                    at, operator, self.cast(left, Int(8, False)), self.cast(right, Int(8, False))
                )
        raise self._mismatch(at, operator, a, b)

    @staticmethod
    def _mismatch(at: tree.Span, operator: str, a: Type, b: Type) -> Wrong:
        return Wrong(
            at,
            f"Type mismatch for '{operator}': comparing {a} with {b}"
            if operator in COMPARISONS
            else f"The {operator} operator can not be used on expressions of types {a}, {b}",
        )

    def _integers(self, at: tree.Span, operator: str, left: Typed, right: Typed) -> Typed:
        a, b = (Int(1, False) if isinstance(s.type, Bool) else s.type for s in (left, right))
        assert isinstance(a, Int) and isinstance(b, Int)
        folded = self._fold(at, operator, left, right)
        if folded is not None:
            return folded
        if a.flexible and not b.flexible:
            a = Int(a.bytes, b.signed)
        elif b.flexible and not a.flexible:
            b = Int(b.bytes, a.signed)
        signed = a.signed or b.signed
        if operator in COMPARISONS:
            return Typed("binary", Bool(), at, (operator, left, right, signed))
        kind = Int(8, signed or operator == "-")
        if operator in ("/", "%") and right.constant == 0:
            self.warn(right.at, f"the right side of '{operator}' is 0")
        return Typed("binary", kind, at, (operator, left, right, signed))

    def _fold(self, at: tree.Span, operator: str, left: Typed, right: Typed) -> Optional[Typed]:
        """What two literals make."""
        x, y = left.constant, right.constant
        literal = left.op == right.op == "number" and not left.parts and not right.parts
        if not literal or not isinstance(x, int) or not isinstance(y, int):
            return None
        if operator in COMPARISONS:
            return Typed("number", Bool(), at, (), _COMPARED[operator](x, y))
        plain = all(isinstance(s.type, Int) and not s.type.enum for s in (left, right))
        fits = operator not in ("/", "%") or y != 0
        flexible = all(
            getattr(side.type, "flexible", False) or number < 0
            for side, number in ((left, x), (right, y))
        )
        if not plain or not fits or not flexible or operator in ("<<", ">>") and not 0 <= y < 64:
            return None
        value = _FOLDED[operator](x, y)
        if not -(1 << 63) <= value < 1 << 63:
            return None
        return Typed("number", literal_type(value), at, (), value)

    def named(self, node: Typed) -> Typed:
        """The builtin ``probe`` as a text, if there is only one that it may be."""
        if node.op != "probe" or self.form.many or len(self.form.points) != 1:
            return node
        text = self.first_point().text
        return Typed("text", String(len(text.encode()) + 1), node.at, (), text)

    def _pointers(self, at: tree.Span, operator: str, left: Typed, right: Typed) -> Typed:
        a, b = left.type, right.type
        both = isinstance(a, Pointer) and isinstance(b, Pointer)
        if not both and not all(isinstance(x, (Pointer, Int, Bool)) for x in (a, b)):
            raise self._mismatch(at, operator, a, b)
        if operator in COMPARISONS:
            if isinstance(a, Pointer) and isinstance(b, Pointer):
                if a.to != b.to and VOID not in (a.to, b.to):
                    self.warn(at, f"comparison of distinct pointer types: {a}, {b}")
            return Typed("binary", Bool(), at, (operator, left, right, False))
        if both or operator not in ("+", "-") or operator == "-" and not isinstance(a, Pointer):
            raise self._mismatch(at, operator, a, b)
        pointer, number = (left, right) if isinstance(a, Pointer) else (right, left)
        assert isinstance(pointer.type, Pointer)
        to = pointer.type.to
        if isinstance(to, Struct) and not to.size:
            to = self.layouts.named(to.name, at)
        step = max(to.size, 1)
        return Typed("moved", pointer.type, at, (operator, pointer, number, step))

    def _equality(self, at: tree.Span, operator: str, left: Typed, right: Typed) -> Optional[Typed]:
        a, b = left.type, right.type
        if isinstance(a, String) and isinstance(b, String):
            if left.op == right.op == "text":
                truth = (left.constant == right.constant) == (operator == "==")
                return Typed("number", Bool(), at, (), truth)
            return Typed("same_text", Bool(), at, (operator, left, right))
        if isinstance(a, (Tuple, Array, Buffer)):
            kind = promote(a, b)
            if kind is None:
                return None
            return Typed(
                "same_bytes", Bool(), at, (operator, self.cast(left, kind), self.cast(right, kind))
            )
        if isinstance(a, Special) and a == b:
            if fits_register(a):
                return Typed("binary", Bool(), at, (operator, left, right, False))
            return Typed("same_bytes", Bool(), at, (operator, left, right))
        return None

    # ++ and --.

    def _step(self, node: tree.Step) -> Typed:
        word = node.operator
        target = node.target
        if not isinstance(target, (tree.Variable, tree.Map, tree.Element)):
            raise Wrong(node.at, f"The {word} operator must be applied to a map or variable")
        found = self.expression_of_target(target)
        kind = found.type
        if isinstance(kind, Pointer):
            return Typed("step", kind, node.at, (word, node.before, found))
        if kind != UNKNOWN and not isinstance(kind, Int) or kind == Bool():
            raise Wrong(
                node.at, f"The {word} operator can not be used on expressions of type '{kind}'"
            )
        signed = word == "--" or not isinstance(kind, Int) or kind.signed
        if isinstance(kind, Int) and kind.flexible and word == "++":
            signed = True
        result: Type = Int(8, signed)
        if found.op == "variable" and found.parts:
            variable = found.parts[0]
            if variable.declared is None:
                self.facts.see_variable(variable, result, node.at)
            else:
                result = variable.declared
        elif found.op == "map":
            self.facts.see_value(found.parts[0], result, node.at)
        if self.final:
            found = self.expression_of_target(target)
            result = found.type
        return Typed("step", result, node.at, (word, node.before, found))

    def expression_of_target(self, target: Any) -> Typed:
        """A variable or a map as what is changed: it may have no value yet."""
        final, self.final = self.final, False
        try:
            found = self.expression(target)
        finally:
            self.final = final
        if found.op == "variable" and not found.parts:
            raise Wrong(target.at, f"Undefined or undeclared variable: ${target.name}")
        if found.op == "counted":
            facts = found.parts[0]
            raise Wrong(
                target.at,
                f"Type mismatch for {facts.label}: trying to assign value of type 'int64' "
                f"when map already has a type '{facts.value}'",
            )
        return found
