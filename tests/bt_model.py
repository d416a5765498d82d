"""A model of bpftrace's language: what programs do, which are tuples (``bt_made`` makes them).

The types are those of the language: a literal has the smallest signed type that holds it, and takes
the sign of what it meets if it is not negative; operators compute with 64 bits; a variable or a map
has the type that holds all that is assigned to it.
"""
from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

Node = Tuple[Any, ...]
WIDTHS = [(bits, signed) for bits in (8, 16, 32, 64) for signed in (False, True)]
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
OPERATORS = ("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", *COMPARISONS)
MASK = (1 << 64) - 1


class Kind(NamedTuple):
    """A type: an integer, or a truth (``bits`` is 1). ``flexible``: of a literal that is not
    negative."""

    bits: int
    signed: bool
    flexible: bool = False


TRUTH = Kind(1, False)
WIDE = Kind(64, True)


def wrap(value: int, kind: Kind) -> int:
    """A number as one of a type."""
    if kind == TRUTH:
        return int(value != 0)
    value &= (1 << kind.bits) - 1
    return value - (1 << kind.bits) if kind.signed and value >> (kind.bits - 1) else value


def shown(value: int, kind: Kind) -> str:
    return ("false", "true")[value] if kind == TRUTH else str(value)


def literal_kind(value: int) -> Kind:
    for bits in (8, 16, 32, 64):
        if -(1 << bits - 1) <= value < 1 << bits - 1:
            return Kind(bits, True, value >= 0)
    return Kind(64, False)


def wider(a: Kind, b: Kind) -> Kind:
    """The type that holds values of both."""
    if a == b:
        return a
    bits = max(a.bits, b.bits)
    if a.signed == b.signed:
        return Kind(bits, a.signed, a.flexible and b.flexible)
    if a.flexible or b.flexible:
        return Kind(bits, b.signed if a.flexible else a.signed)
    signed, other = (a, b) if a.signed else (b, a)
    return Kind(signed.bits if signed.bits > other.bits else min(2 * bits, 64), True)


def truncated(x: int, y: int) -> int:
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def computed(operator: str, x: int, y: int) -> int:
    """Exactly, but for shifts, which are those of 64 bits."""
    if operator in ("/", "%"):
        if y == 0:
            return 1  # as bpftrace has it
        quotient = truncated(x, y)
        return quotient if operator == "/" else x - quotient * y
    if operator == "<<":
        return x << (y & 63)
    if operator == ">>":
        return (x & MASK) >> (y & 63)
    found: int = eval(f"x {operator} y", {"x": x, "y": y})
    return found


class Found(NamedTuple):
    """What an expression is: its type, its value, and whether it is made of literals only."""

    kind: Kind
    value: int
    literal: bool = False


class Model:
    """Expressions with the values of names. ``known`` are their types, ``see`` is told each that is
    stepped or assigned to."""

    def __init__(self) -> None:
        self.known: Dict[str, Kind] = {}
        self.changed = False
        self.typing = False  # types are being found: nothing has a value
        self.values: Dict[str, int] = {}

    def see(self, name: str, kind: Kind) -> None:
        """A value of a type is assigned to a name."""
        before = self.known.get(name)
        found = kind if before is None else wider(before, kind)
        if found != before:
            self.known[name], self.changed = found, True

    def get(self, target: Node) -> int:
        return self.values.get(target[1], 0)

    def set(self, target: Node, value: int) -> None:
        self.values[target[1]] = wrap(value, self.known[target[1]])

    def of(self, node: Node) -> Found:
        method: Callable[..., Found] = getattr(self, "_" + node[0])
        return method(*node[1:])

    def _number(self, value: int) -> Found:
        return Found(literal_kind(value), value, True)

    def _variable(self, name: str) -> Found:
        return Found(self.known.get(name, WIDE), self.values.get(name, 0))

    def _cast(self, kind: Kind, inner: Node) -> Found:
        return Found(kind, wrap(self.of(inner).value, kind))

    def _unary(self, operator: str, inner: Node) -> Found:
        kind, value, literal = self.of(inner)
        if operator == "!":
            return Found(TRUTH, int(not value))
        if literal and operator == "~":
            return Found(Kind(64, False), ~value & MASK)
        if literal:
            return Found(literal_kind(-value), -value, True)
        made = Kind(64, kind.signed or operator == "-")
        return Found(made, wrap(-value if operator == "-" else ~value, made))

    def _step(self, word: str, before: bool, target: Node) -> Found:
        name = target[1]
        old_kind = self.known.get(name, WIDE)
        signed = word == "--" or old_kind.signed
        self.see(name, Kind(64, signed))
        old = self.get(target)
        if not self.typing:
            self.set(target, old + (1 if word == "++" else -1))
        return Found(self.known[name], self.get(target) if before else old)

    def _choice(self, condition: Node, then: Node, otherwise: Node) -> Found:
        truth = self.of(condition)
        if self.typing:
            a, b = self.of(then), self.of(otherwise)
            return Found(wider(a.kind, b.kind), 0)
        kind = wider(self.kind(then), self.kind(otherwise))
        chosen = self.of(then if truth.value else otherwise)
        return Found(kind, wrap(chosen.value, kind))

    def kind(self, node: Node) -> Kind:
        """The type of an expression that is not evaluated."""
        typing, self.typing = self.typing, True
        try:
            return self.of(node).kind
        finally:
            self.typing = typing

    def _logical(self, operator: str, left: Node, right: Node) -> Found:
        truth = self.of(left).value != 0
        if self.typing or truth == (operator == "&&"):
            truth = self.of(right).value != 0
        return Found(TRUTH, int(truth))

    def _binary(self, operator: str, left: Node, right: Node) -> Found:
        return self.binary(operator, self.of(left), self.of(right))

    def binary(self, operator: str, left: Found, right: Found) -> Found:
        (a, x, a_literal), (b, y, b_literal) = left, right
        folded = a_literal and b_literal
        if folded and operator in COMPARISONS:
            return Found(TRUTH, int(computed(operator, x, y)))
        if folded and all(kind.flexible or n < 0 for kind, n in ((a, x), (b, y))):
            value = computed(operator, x, y)
            possible = (y != 0 or operator not in ("/", "%")) and (
                0 <= y < 64 or operator not in ("<<", ">>")
            )
            if possible and -(1 << 63) <= value < 1 << 63:
                return Found(literal_kind(value), value, True)
        signed = a.signed or b.signed
        if a.flexible != b.flexible:
            signed = b.signed if a.flexible else a.signed
        wide = Kind(64, signed)
        value = computed(operator, wrap(x, wide), wrap(y, wide))
        if operator in COMPARISONS:
            return Found(TRUTH, int(value))
        made = Kind(64, signed or operator == "-")
        return Found(made, wrap(value, made))


# Statements. A program is a list of them; names with @ are maps, those with a key are elements.


class Program(Model):
    """What a program prints."""

    def __init__(self, statements: List[Node]) -> None:
        super().__init__()
        self.statements = statements
        self.printed: List[str] = []
        self.tables: Dict[str, Dict[Any, int]] = {}
        self.counted: Dict[str, str] = {}  # maps that count: how
        self.totals: Dict[str, Dict[Any, List[int]]] = {}
        self.typing = self.changed = True
        while self.changed:
            self.changed = False
            self.all(statements)
        self.typing = False
        self.values, self.tables, self.printed = {}, {}, []
        self.all(statements)
        for name in sorted(name for name in self.known if re.fullmatch("@[a-z]", name)):
            if name in self.values or self.keys_of(name):
                self._do_print_map(name)

    def all(self, statements: List[Node]) -> str:
        """Do some statements, up to one that leaves: its word."""
        for node in statements:
            word: str = getattr(self, "_do_" + node[0])(*node[1:])
            if word:
                return word
        return ""

    def get(self, target: Node) -> int:
        if target[0] == "element":
            return self.tables.setdefault(target[1], {}).get(self.key(target), 0)
        return super().get(target)

    def set(self, target: Node, value: int) -> None:
        if target[0] == "element":
            value = wrap(value, self.known[target[1]])
            self.tables.setdefault(target[1], {})[self.key(target)] = value
        else:
            super().set(target, value)

    # Keys are numbers, or pairs of them.

    def key(self, target: Node) -> Any:
        parts = target[2][1:] if target[2][0] == "pair" else (target[2],)
        found = []
        for number, part in enumerate(parts):
            name = f"{target[1]}[{number}"
            kind, value, _ = self.of(part)
            self.see(name, kind)
            found.append(wrap(value, self.known[name]))
        return tuple(found)

    def _variable(self, name: str) -> Found:
        if name in self.counted:
            return Found(Kind(64, self.known[name].signed), self.total(name, ()))
        return super()._variable(name)

    def _element(self, name: str, key: Node) -> Found:
        target = ("element", name, key)
        if name in self.counted:
            kind = Kind(64, self.known[name].signed)
            return Found(kind, wrap(self.total(name, self.key(target)), kind))
        return Found(self.known.get(name, WIDE), self.get(target))

    def total(self, name: str, key: Any) -> int:
        """What a map has counted for a key."""
        numbers = self.totals.get(name, {}).get(key, [])
        how = self.counted[name]
        if how == "count" or not numbers:
            return len(numbers)
        if how in ("min", "max"):
            return min(numbers) if how == "min" else max(numbers)
        total = wrap(sum(numbers), Kind(64, self.known[name].signed))
        return total if how == "sum" else truncated(total, len(numbers))

    def keys_of(self, name: str) -> Dict[Any, Any]:
        held: Dict[str, Dict[Any, Any]] = self.tables
        if name in self.counted:
            held = self.totals
        return held.setdefault(name, {})

    def _call(self, name: str, table: str, *keys: Node) -> Found:
        entries = self.keys_of(table)
        if name == "len":
            return Found(WIDE, len(entries))
        key = self.key(("element", table, *keys))
        if name == "delete" and not self.typing:
            return Found(TRUTH, int(entries.pop(key, None) is not None))
        return Found(TRUTH, int(key in entries))

    def _do_set(self, target: Node, value: Node) -> None:
        found = self.of(value)
        self.put(target, found)

    def put(self, target: Node, found: Found) -> None:
        if target[0] == "element":
            self.key(target)
        self.see(target[1], found.kind)
        if not self.typing:
            self.set(target, found.value)

    def _do_change(self, operator: str, target: Node, value: Node) -> None:
        left = self.of(target)
        right = self.of(value)
        self.put(target, self.binary(operator, left, right))

    def _do_step(self, *parts: Any) -> None:
        self.of(("step", *parts))

    def _do_evaluate(self, node: Node) -> None:
        self.of(node)

    def _do_if(self, condition: Node, then: List[Node], otherwise: List[Node]) -> str:
        truth = self.of(condition).value
        if self.typing:
            self.all(then)
            self.all(otherwise)
            return ""
        return self.all(then if truth else otherwise)

    def _do_while(self, name: str, most: int, condition: Node, body: List[Node]) -> str:
        counter = ("variable", name)
        self.put(counter, self.of(("number", 0)))
        while True:
            if self.typing or self.values[name] < most:
                truth = self.of(condition).value
            if not self.typing and (self.values[name] >= most or not truth):
                return ""
            self.of(("step", "++", False, counter))
            word = self.all(body)
            if word == "return":
                return word
            if word == "break" or self.typing:
                return ""

    def _do_for(self, name: str, first: Node, behind: Node, body: List[Node]) -> str:
        a, b = self.of(first), self.of(behind)
        kind = wider(a.kind, b.kind)
        self.see(name, kind)
        for number in [0] if self.typing else range(wrap(a.value, kind), wrap(b.value, kind)):
            self.values[name] = number
            word = self.all(body)
            if word == "return":
                return word
            if word == "break":
                break
        return ""

    def _do_unroll(self, times: int, body: List[Node]) -> str:
        for _ in range(times):
            word = self.all(body)
            if word:
                return word
        return ""

    def _do_leave(self, word: str) -> str:
        return "" if self.typing else word

    def _do_count(self, how: str, target: Node, value: Optional[Node]) -> None:
        name = target[1]
        found = self.of(value) if value is not None else Found(WIDE, 0)
        key = self.key(target) if target[0] == "element" else ()
        signed = found.kind.signed
        # A map that is told signed and unsigned numbers counts signed ones.
        before = self.known.get(name)
        self.known[name] = Kind(64, signed if before is None else signed or before.signed)
        self.changed |= before != self.known[name]
        self.counted[name] = how
        if not self.typing:
            value_of = wrap(found.value, self.known[name])
            self.totals.setdefault(name, {}).setdefault(key, []).append(value_of)

    def _do_clear(self, name: str) -> None:
        self.keys_of(name).clear()
        self.values.pop(name, None)

    def _do_remove(self, name: str) -> None:
        """delete() of a map without keys."""
        self._do_clear(name)

    def _do_print(self, node: Node) -> None:
        found = self.of(node)
        self.printed.append(shown(found.value, found.kind))

    def _do_print_map(self, name: str) -> None:
        if self.typing:
            return
        if f"{name}[0" not in self.known:
            value = self._variable(name)
            self.printed.append(f"{name}: {shown(value.value, value.kind)}")
            return
        for key in self.keys_of(name):
            values = self.total(name, key) if name in self.counted else self.tables[name][key]
            self.printed.append(f"{name}[{', '.join(map(str, key))}]: {values}")
