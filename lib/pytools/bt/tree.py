"""A program as a tree: what ``parse`` makes of its text, before anything has a type.

Nodes are tuples. ``at`` is where a node stands: (first, behind the last) character of the text.
Numbers are Python's own, strings are text with the escapes read. Names of variables and maps have
no ``$`` and no ``@``.
"""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.bt.wrong import Wrong as Wrong, place

if TYPE_CHECKING:
    from typing import Any, Optional, Sequence, Tuple, Union

    Span = Tuple[int, int]
    Expression = Any  # one of the nodes under "Expressions"
    Statement = Any  # one of those under "Statements"


# Expressions.


class Number(NamedTuple):
    """An integer. A duration (5ms) is one in nanoseconds. ``suffix``: "u", "l", "ul", ... or ""."""

    at: Span
    value: int
    suffix: str = ""


class Text(NamedTuple):
    """A string literal, adjacent ones joined: ``encode("utf-8", "surrogateescape")`` of it."""

    at: Span
    value: str


class Boolean(NamedTuple):
    at: Span
    value: bool


class Name(NamedTuple):
    """A bare word: a builtin without parentheses, an enumerator, a macro's parameter, ..."""

    at: Span
    name: str


class Variable(NamedTuple):
    """$name"""

    at: Span
    name: str


class Map(NamedTuple):
    """@name, without keys: the name is empty for @ alone."""

    at: Span
    name: str


class Element(NamedTuple):
    """@name[key, ...]. Several keys, or one that is a tuple, are the same thing to ``check``."""

    at: Span
    name: str
    keys: Sequence[Expression]


class Parameter(NamedTuple):
    """$1, $2, ...: number 0 is ``$#``, how many there are."""

    at: Span
    number: int


class Unary(NamedTuple):
    """``operator``: - ~ ! * & ; ++x and --x are ``Step``."""

    at: Span
    operator: str
    operand: Expression


class Binary(NamedTuple):
    """``operator``: * / % + - << >> < <= > >= == != & ^ | && ||"""

    at: Span
    operator: str
    left: Expression
    right: Expression


class Ternary(NamedTuple):
    at: Span
    condition: Expression
    then: Expression
    otherwise: Expression


class Step(NamedTuple):
    """++ and --, before or behind a variable or map: the value is the old or the new one."""

    at: Span
    operator: str  # "++" or "--"
    target: Expression
    before: bool  # ++x


class Member(NamedTuple):
    """object.name and object->name, which mean the same; ``name`` is a number for a tuple's."""

    at: Span
    object: Expression
    name: Union[str, int]
    arrow: bool


class Index(NamedTuple):
    """array[index], pointer[index]; an element of a map is ``Element``."""

    at: Span
    object: Expression
    index: Expression


class TypeName(NamedTuple):
    """A type as it is written: ``uint64``, ``struct task_struct *``, ``char[16]``, ``string[64]``,
    a typedef, ``typeof(expression)`` (then ``name`` is empty and ``of`` is the expression, or the
    type in parentheses). ``sizes`` are those in brackets, None for empty ones; ``pointers`` the
    number of stars. Stars come first: ``int32*[4]`` has both; ``int32[4]*``, a pointer to an array,
    is one star on a TypeName ``of`` ``int32[4]``. C's own types are in one spelling: "unsigned
    int", "long long", "signed char"."""

    at: Span
    name: str  # with "struct ", "union " or "enum " before it, if that was written
    pointers: int = 0
    sizes: Sequence[Optional[int]] = ()
    of: Optional[Expression] = None


class Cast(NamedTuple):
    at: Span
    type: TypeName
    operand: Expression


class Tuple_(NamedTuple):
    """(a, b, ...): () is the empty one, (a,) has one element; ``names`` for records (a=1, b=2),
    else empty."""

    at: Span
    elements: Sequence[Expression]
    names: Sequence[str] = ()


class Call(NamedTuple):
    """name(arguments): builtins with parentheses, functions, macros, which once were called by
    name!(...).

    An argument may be a TypeName (typeof(type)). typeinfo(type) and ``comptime x`` are calls, too.
    """

    at: Span
    name: str
    arguments: Sequence[Expression]


class SizeOf(NamedTuple):
    at: Span
    of: Union[TypeName, Expression]


class OffsetOf(NamedTuple):
    at: Span
    of: Union[TypeName, Expression]
    path: Sequence[Union[str, int]]  # offsetof(struct a, b.c) and b[2]


class Block(NamedTuple):
    """{ statements; value }: an expression, if the last one in it has no semicolon."""

    at: Span
    statements: Sequence[Statement]
    value: Optional[Expression] = None


class IfValue(NamedTuple):
    """if condition { ... value } else { ... value } as an expression."""

    at: Span
    condition: Expression
    then: Block
    otherwise: Union[Block, IfValue]


# Statements.


class Evaluate(NamedTuple):
    """An expression for what it does. A call of ``print`` is one."""

    at: Span
    expression: Expression


class Assign(NamedTuple):
    """target = value, and target += value (``operator`` is then "+"). A target is a Variable, a
    Map, an Element, or a Name "_" whose value nobody wants."""

    at: Span
    target: Expression
    operator: str
    value: Expression


class Let(NamedTuple):
    """let $x; let $x = 1; let $x: type = 1;"""

    at: Span
    variable: str
    type: Optional[TypeName]
    value: Optional[Expression]


class If(NamedTuple):
    at: Span
    condition: Expression
    then: Block
    otherwise: Optional[Union[Block, If]]


class Unroll(NamedTuple):
    at: Span
    times: Expression
    body: Block


class While(NamedTuple):
    at: Span
    condition: Expression
    body: Block


class ForRange(NamedTuple):
    """for $i : first..behind { }"""

    at: Span
    variable: str
    first: Expression
    behind: Expression
    body: Block


class ForMap(NamedTuple):
    """for $kv : @map { }"""

    at: Span
    variable: str
    map: Map
    body: Block


class Jump(NamedTuple):
    """``break``, ``continue`` or ``return`` (with a value or without)."""

    at: Span
    word: str
    value: Optional[Expression] = None


# What stands outside of actions.


class AttachPoint(NamedTuple):
    """``text`` as written; ``kind`` in its full, new spelling (``kprobe`` for ``k``, ``begin`` for
    ``BEGIN``, ``fentry`` for ``kfunc``); ``fields`` what follows it between colons, quotes taken
    off; of a kprobe or uprobe whose last field is FUNCTION+OFFSET, the offset is still in that
    field."""

    at: Span
    text: str
    kind: str
    fields: Sequence[str]


class Probe(NamedTuple):
    at: Span
    points: Sequence[AttachPoint]
    predicate: Optional[Expression]
    body: Block


class MapDeclaration(NamedTuple):
    """let @name = lruhash(100);"""

    at: Span
    name: str
    kind: str
    entries: Expression


class Macro(NamedTuple):
    """macro name($a, @b, c) { ... }: parameters as Variable, Map or Name nodes."""

    at: Span
    name: str
    parameters: Sequence[Expression]
    body: Block


class Subprogram(NamedTuple):
    """fn name($a : type, ...) : type { ... }"""

    at: Span
    name: str
    parameters: Sequence[Tuple[str, TypeName]]
    result: Optional[TypeName]
    body: Block


class CMember(NamedTuple):
    """A member of a struct of the script's own. ``bits`` is a bit-field's width; an anonymous
    struct or union in it has the name "" and ``record`` is its definition; ``type`` is None then,
    unless it is named, or has stars or sizes (its ``name`` is "" then).
    """

    at: Span
    type: Optional[TypeName]
    name: str
    bits: int = 0
    record: Optional[CRecord] = None


class CRecord(NamedTuple):
    """struct NAME { ... }; ``word`` is "struct" or "union". ``packed`` by its attribute."""

    at: Span
    word: str
    name: str
    members: Sequence[CMember]
    packed: bool = False


class CEnum(NamedTuple):
    at: Span
    name: str
    values: Sequence[Tuple[str, int]]  # (name, number)


class CTypedef(NamedTuple):
    at: Span
    name: str
    type: Optional[TypeName]
    record: Optional[Union[CRecord, CEnum]] = None


class Program(NamedTuple):
    """A whole text. ``config`` has (at, name, value): a number, a text, a word."""

    text: str
    name: str  # of the file, for errors; "stdin"
    config: Sequence[Tuple[Span, str, Union[int, str]]] = ()
    types: Sequence[Union[CRecord, CEnum, CTypedef]] = ()
    maps: Sequence[MapDeclaration] = ()
    macros: Sequence[Macro] = ()
    subprograms: Sequence[Subprogram] = ()
    probes: Sequence[Probe] = ()
    imports: Sequence[Text] = ()
    # What ``expand`` adds to ``text`` (imports, the standard library): (where it begins, its name).
    files: Sequence[Tuple[int, str]] = ()

    def place(self, at: Span) -> str:
        """Where a node stands: FILE:LINE:FIRST-BEHIND."""
        text, name, start = self._file(at)
        return place((at[0] - start, at[1] - start), text, name)

    def report(self, wrong: Wrong) -> str:
        """What is wrong with this program, for people (``Wrong.report``)."""
        return self.locate(wrong).report(self.text, self.name)

    def locate(self, wrong: Wrong) -> Wrong:
        """The same, in the file that it is about: ``wrong.report`` may then have any text."""
        if wrong.at is not None and wrong.source is None:
            text, name, start = self._file(wrong.at)
            wrong.at = wrong.at[0] - start, wrong.at[1] - start
            wrong.source = text, name
        return wrong

    def _file(self, at: Span) -> Tuple[str, str, int]:
        """The text that a place belongs to, its name, and where it begins in ``text``."""
        first, name, end = 0, self.name, len(self.text)
        for start, other in self.files:
            if start > at[0]:
                end = start
                break
            first, name = start, other
        return self.text[first:end], name, first
