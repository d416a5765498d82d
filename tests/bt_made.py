"""Programs of bt that hypothesis makes: tuples, which ``bt_model`` does, and their text."""
from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bt_model import COMPARISONS, OPERATORS, TRUTH, WIDE, WIDTHS, Kind, Model, Node


# Their text.


def text_of(node: Node) -> str:
    what, *parts = node
    if what == "number":
        return str(parts[0])
    if what == "variable":
        return str(parts[0])
    if what == "element":
        return f"{parts[0]}[{text_of(parts[1])}]"
    if what == "pair":
        return ", ".join(map(text_of, parts))
    if what == "cast":
        kind, inner = parts
        return f"({word_of(kind)}){text_of(inner)}"
    if what == "unary":
        return f"({parts[0]}{text_of(parts[1])})"
    if what == "step":
        word, before, target = parts
        return f"({word}{text_of(target)})" if before else f"({text_of(target)}{word})"
    if what == "choice":
        condition, then, otherwise = map(text_of, parts)
        return f"({condition} ? {then} : {otherwise})"
    if what == "call":
        name, table, *keys = parts
        pairs = [f"({text_of(key)})" if key[0] == "pair" else text_of(key) for key in keys]
        return f"{name}({', '.join([table, *pairs])})"
    operator, left, right = parts
    return f"({text_of(left)} {operator} {text_of(right)})"


def word_of(kind: Kind) -> str:
    return "bool" if kind == TRUTH else f"{'' if kind.signed else 'u'}int{kind.bits}"


def is_literal(node: Node) -> bool:
    """Whether an expression is made of literals only."""
    what, *parts = node
    return what == "number" or what in ("unary", "binary") and all(map(is_literal, parts[1:]))


def text_of_all(statements: List[Node]) -> str:
    return " ".join(map(text_of_statement, statements))


def text_of_statement(node: Node) -> str:
    """The text of a statement."""
    what, *parts = node
    if what == "set":
        return f"{text_of(parts[0])} = {text_of(parts[1])};"
    if what == "change":
        return f"{text_of(parts[1])} {parts[0]}= {text_of(parts[2])};"
    if what == "step":
        return f"{text_of(node)[1:-1]};"
    if what == "evaluate":
        return f"{text_of(parts[0])};"
    if what == "if":
        condition, then, otherwise = parts
        text = f"if ({text_of(condition)}) {{ {text_of_all(then)} }}"
        return f"{text} else {{ {text_of_all(otherwise)} }}" if otherwise else text
    if what == "while":
        name, most, condition, body = parts
        return (
            f"{name} = 0; while ({name} < {most} && {text_of(condition)}) "
            f"{{ {name}++; {text_of_all(body)} }}"
        )
    if what == "for":
        name, first, behind, body = parts
        return f"for ({name} : {text_of(first)}..{text_of(behind)}) {{ {text_of_all(body)} }}"
    if what == "unroll":
        return f"unroll({parts[0]}) {{ {text_of_all(parts[1])} }}"
    if what == "leave":
        return f"{parts[0]};"
    if what == "count":
        how, target, value = parts
        return f"{text_of(target)} = {how}({text_of(value) if value is not None else ''});"
    if what in ("clear", "remove", "print_map"):
        words = {"remove": "delete", "print_map": "print"}
        return f"{words.get(what, what)}({parts[0]});"
    return f"print({text_of(parts[0])});"


# Expressions.


def numbers(kind: Kind) -> st.SearchStrategy[int]:
    """Numbers of a type, and often those at its edges."""
    low = -(1 << kind.bits - 1) if kind.signed else 0
    high = low + (1 << kind.bits) - 1
    edges = [low, low + 1, high, high - 1, 0, 1, 2, 7, *([-1, -2] if kind.signed else [])]
    return st.one_of(st.sampled_from(edges), st.integers(low, high), st.integers(0, 70))


LITERALS = numbers(Kind(64, False))


class Scope(NamedTuple):
    """The names that an expression may have. Those that ``steps`` has may be stepped."""

    variables: List[Node]
    steps: List[Node]


def expression(draw: Any, depth: int, scope: Scope, truth: Optional[bool] = None) -> Node:
    """An expression; ``truth``: whether it has to be one (None: either)."""
    if truth:
        what = draw(st.integers(0, 4))
        if depth <= 0 or what == 0:
            return ("cast", TRUTH, expression(draw, depth - 1, scope, None))
        if what == 1:
            return ("unary", "!", expression(draw, depth - 1, scope))
        if what == 2:
            operator = draw(st.sampled_from(("&&", "||")))
            left = expression(draw, depth - 1, scope)
            return ("logical", operator, left, expression(draw, depth - 1, scope))
        operator = draw(st.sampled_from(COMPARISONS))
        left = expression(draw, depth - 1, scope)
        return ("binary", operator, left, expression(draw, depth - 1, scope))
    if truth is None and depth > 0 and draw(st.integers(0, 4)) == 0:
        return expression(draw, depth, scope, True)
    what = draw(st.integers(0, 13)) if depth > 0 else draw(st.sampled_from((0, 1, 1, 2)))
    if what == 0:
        return ("number", draw(LITERALS))
    if what == 1 or what == 2 and not scope.steps:
        leaf: Node = draw(st.sampled_from(scope.variables)) if scope.variables else ("number", 3)
        return leaf
    if what == 2:
        word = draw(st.sampled_from(("++", "--")))
        return ("step", word, draw(st.booleans()), draw(st.sampled_from(scope.steps)))
    if what == 3:
        kind = Kind(*draw(st.sampled_from(WIDTHS)))
        return ("cast", kind, expression(draw, depth - 1, scope))
    if what == 4:
        operator = draw(st.sampled_from("-~"))
        operand = expression(draw, depth - 1, scope, False)
        if is_literal(operand) and Model().kind(operand) == Kind(64, False):
            # No literal above 63 bits can be negated.
            operand = ("cast", Kind(64, False), operand)
        return ("unary", operator, operand)
    if what == 5:
        both = draw(st.booleans()) if truth is None else truth
        condition = expression(draw, depth - 1, scope)
        then = expression(draw, depth - 1, scope, both)
        return ("choice", condition, then, expression(draw, depth - 1, scope, both))
    operator = draw(st.sampled_from(OPERATORS[:-6]))
    left = expression(draw, depth - 1, scope)
    return ("binary", operator, left, expression(draw, depth - 1, scope))


@st.composite
def expressions(draw: Any) -> Tuple[List[Tuple[str, Kind, int]], Node]:
    """Variables with their types and values, and an expression of them."""
    leaves = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        kind = Kind(*draw(st.sampled_from(WIDTHS)))
        leaves.append((f"${name}", kind, draw(numbers(kind))))
    variables: List[Node] = [("variable", name) for name, _, _ in leaves]
    return leaves, expression(draw, draw(st.integers(1, 4)), Scope(variables, variables))


# Programs.


class Place(NamedTuple):
    """Where a statement stands."""

    loop: bool = False
    unrolled: bool = False
    number: int = 0  # how deep


VARIABLES = ("$a", "$b", "$c")
SCALARS = ("@a", "@b")
COUNTS = ("count", "sum", "min", "max", "avg")


class Maker:
    """Makes statements. ``counts``: the maps that count, how, and numbers of which type."""

    def __init__(self, draw: Any, counts: Dict[str, Tuple[str, Optional[Kind]]]) -> None:
        self.draw = draw
        self.counts = counts
        self.names = 0

    def one(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def key(self) -> Node:
        variable = ("variable", self.one(*VARIABLES))
        found: Node = self.one(
            ("number", 0), ("number", 1), ("number", 2),
            ("binary", "&", variable, ("number", 3)), ("binary", "%", variable, ("number", 2)),
            variable, ("cast", Kind(8, False), variable),
        )  # fmt: skip
        return found

    def element(self, counts: bool = False) -> Node:
        if counts:
            return ("element", "@k", self.key())
        if self.draw(st.booleans()):
            return ("element", "@t", self.key())
        return ("element", "@p", ("pair", self.key(), self.key()))

    def target(self) -> Node:
        what = self.draw(st.integers(0, 3))
        if what == 0:
            return self.element()
        return ("variable", self.one(*(SCALARS if what == 1 else VARIABLES)))

    def value(self, depth: int = 2, truth: Optional[bool] = False, steps: bool = True) -> Node:
        """An expression of the program's names."""
        variables: List[Node] = [("variable", name) for name in (*VARIABLES, *SCALARS, "@c", "@d")]
        variables += [self.element(), self.element(True)]
        for table in ("@t", "@k"):
            variables.append(("cast", Kind(8, False), ("call", "has_key", table, self.key())))
            variables.append(("call", "len", table))
        pair = ("pair", self.key(), self.key())
        variables.append(("cast", Kind(8, False), ("call", "has_key", "@p", pair)))
        targets = [self.target(), self.target()] if steps else []
        return expression(self.draw, depth, Scope(variables, targets), truth)

    def block(self, place: Place, most: int = 4) -> List[Node]:
        inner = place._replace(number=place.number + 1)
        return [self.statement(inner) for _ in range(self.draw(st.integers(1, most)))]

    def count(self, target: Node, value: Node) -> Node:
        """What is counted: numbers of one type, if the map has one."""
        how, kind = self.counts[target[1]]
        if how == "count":
            return ("count", how, target, None)
        return ("count", how, target, ("cast", kind, value) if kind else value)

    def condition(self) -> Node:
        return self.value(1, True)

    def statement(self, place: Place) -> Node:
        what = self.draw(st.integers(0, 15))
        if place.number > 3 and what > 11:
            what = 0
        if what < 3:
            return ("set", self.target(), self.value())
        if what < 5:
            target = self.target()
            operator = self.one("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>")
            return ("change", operator, target, self.value(steps=target[1] in VARIABLES))
        if what == 5:
            return ("step", self.one("++", "--"), self.draw(st.booleans()), self.target())
        if what < 8:
            name = self.one("@c", "@d", "@k")
            target = self.element(True) if name == "@k" else ("variable", name)
            return self.count(target, self.value())
        if what == 8:
            table = self.one("@t", "@k", "@p")
            key = ("pair", self.key(), self.key()) if table == "@p" else self.key()
            return ("evaluate", ("call", "delete", table, key))
        if what == 9:
            if place.loop:
                return ("print", ("cast", WIDE, self.value(1)))
            name = self.one(*SCALARS, "@c", "@d", "@t", "@p", "@k")
            words = ("print_map", "print_map", "clear")
            return (self.one(*words, *(["remove"] if name in SCALARS else [])), name)
        if what == 10:
            return ("print", ("unary", "~", self.value(1)) if place.loop else self.element())
        if what == 11:
            if place.loop:
                then: List[Node] = [("leave", self.one("break", "continue", "return"))]
            elif self.draw(st.integers(0, 3)):
                then = self.block(place, 1)
            else:
                then = [("leave", "return")]
            return ("if", self.condition(), then, [])
        if what < 14 or place.loop and what == 14:
            otherwise = self.block(place, 2) if self.draw(st.booleans()) else []
            return ("if", self.condition(), self.block(place, 3), otherwise)
        self.names += 1
        name = f"$n{self.names}"
        inner = place._replace(loop=True)
        if what == 14 and not place.unrolled:
            body = self.block(place._replace(unrolled=True), 3)
            return ("unroll", self.draw(st.integers(1, 3)), body)
        if self.draw(st.booleans()):
            return (
                "while",
                name,
                self.draw(st.integers(0, 5)),
                self.condition(),
                self.block(inner),
            )
        first = self.one(("number", 0), ("number", 3), ("unary", "-", ("number", 2)))
        behind = self.one(
            ("number", 3), ("number", 5), ("binary", "&", ("variable", "$a"), ("number", 7)),
            ("unary", "-", ("number", 1)),
        )  # fmt: skip
        return ("for", name, first, behind, self.block(inner))


@st.composite
def programs(draw: Any) -> List[Node]:
    """A program: its names have values first, and variables are printed last."""
    kinds = st.one_of(st.none(), st.just(Kind(64, False)), st.just(WIDE))
    counts = {name: (draw(st.sampled_from(COUNTS)), draw(kinds)) for name in ("@c", "@d", "@k")}
    maker = Maker(draw, counts)
    made: List[Node] = []
    for name in (*VARIABLES, *SCALARS):
        kind = Kind(*draw(st.sampled_from(WIDTHS)))
        made.append(("set", ("variable", name), ("cast", kind, ("number", draw(LITERALS)))))
    kind = Kind(*draw(st.sampled_from(WIDTHS)))
    made.append(("set", ("element", "@t", ("number", 1)), ("cast", kind, ("number", 5))))
    pair = ("pair", ("number", 1), ("number", 2))
    made.append(("set", ("element", "@p", pair), ("cast", kind, ("number", 6))))
    for name in counts:
        target = maker.element(True) if name == "@k" else ("variable", name)
        for _ in range(draw(st.integers(1, 2))):
            value = draw(st.sampled_from([("variable", "$a"), ("number", draw(LITERALS))]))
            made.append(maker.count(target, value))
    made += maker.block(Place(), 8)
    return made + [("print", ("variable", name)) for name in VARIABLES]


def examples(strategy: st.SearchStrategy[Any], number: int, derandomize: bool) -> List[Any]:
    """So many examples, all at once: a program that runs has many of them."""
    found: List[Any] = []

    @settings(
        max_examples=number, phases=[Phase.generate], derandomize=derandomize, database=None,
        deadline=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def keep(example: Any) -> None:
        found.append(example)

    keep()
    return found
