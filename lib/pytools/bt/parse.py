"""A program's text becomes a tree: ``parse``. Both dialects are read, that of today and the old
spellings."""
from __future__ import annotations

import re
import sys

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import kinds, tree
from pytools.bt.syntax.declarations import Declarations
from pytools.bt.syntax.lexer import END, MAP, NAME, NUMBER, STRING, VARIABLE, after_layout, quoted
from pytools.bt.syntax.preprocess import preprocess
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import Any, Optional, Union

    from pytools.bt.tree import AttachPoint, Expression

__all__ = ["check_height", "decode", "parse"]

SIZE = 1 << 20  # characters that a program may have
# The longest way from the top of a tree to its leaves: each stage recurses as deep.
_HEIGHT = 1000
_FRAMES = 6000  # of Python's: enough for the deepest tree in each stage

# struct NAME {, but not struct:probe {
_DEFINITION = re.compile(r"(?:struct|union|enum)\b[^{:/,;]*\{|typedef\b", re.ASCII)


def decode(data: bytes, name: str) -> str:
    """The text of a program's file. Raises Wrong if it is none."""
    zero = data.find(b"\0")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Wrong(None, f"{name} is not a program: line {line} is not UTF-8") from None
    if zero >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise Wrong(None, f"{name} is not a program: line {line} has a NUL byte")
    return text


def parse(text: str, name: str = "stdin", start: int = 0) -> tree.Program:
    """The tree of a text, of which what stands before ``start`` belongs to another file. Raises
    Wrong."""
    if len(text) - start > SIZE:
        raise Wrong(None, f"the program is larger than {SIZE >> 20} MiB")
    zero = text.find("\0", start)
    if zero >= 0:
        raise Wrong((zero, zero + 1), "syntax: a NUL character: this is no program")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a byte that was read with "surrogateescape"
        at = error.start, error.start + 1
        raise Wrong(at, "syntax: a byte that is not UTF-8: this may be no program") from None
    if sys.getrecursionlimit() < _FRAMES:
        sys.setrecursionlimit(_FRAMES)
    rest, defined = preprocess(text[start:])
    parser = _Parser(text, " " * start + rest if start else rest)
    parser.defined = {
        word: (first + start, behind + start) for word, (first, behind) in defined.items()
    }
    parser.seek(start)
    parser.program()
    made = tree.Program(
        text,
        name,
        tuple(parser.config or ()),
        tuple(parser.types),
        tuple(parser.maps),
        tuple(parser.macros),
        tuple(parser.subprograms),
        tuple(parser.probes),
        tuple(parser.imports),
    )
    if parser.deepest * parser.longest > _HEIGHT:
        check_height(made)
    return made


class _Parser(Declarations):
    def __init__(self, source: str, text: str) -> None:
        super().__init__(text)
        self.source = source
        self.config: Optional[list[tuple[tree.Span, str, Union[int, str]]]] = None
        self.maps: list[tree.MapDeclaration] = []
        self.macros: list[tree.Macro] = []
        self.subprograms: list[tree.Subprogram] = []
        self.probes: list[tree.Probe] = []
        self.imports: list[tree.Text] = []

    def program(self) -> None:
        while self.kind != END:
            word = self.word
            if self.take(";"):
                continue
            if word == "config" and self.text.startswith("=", after_layout(self.text, self.end)):
                self._config()
            elif word == "import":
                self._import_file()
            elif word == "macro":
                self._macro()
            elif word == "fn":
                self._subprogram()
            elif word == "let":
                self._map()
            elif _DEFINITION.match(self.text, self.start):
                self.definition()
            else:
                self._probe()

    def _config(self) -> None:
        at = (self.start, self.end)
        self.next()
        if self.config is not None:
            self.fail("duplicate config block", at)
        self.config = []
        self.expect("=")
        self.expect("{")
        while self.word != "}":
            start = self.start
            key = self.name("config key")
            self.expect("=")
            value: Union[int, str]
            if self.kind == STRING:
                value = quoted(self.word, self.start)
                self.next()
            elif self.kind == NUMBER:
                value = self.number()
            else:
                word = self.name("string, int, boolean, or ident")
                value = {"true": True, "false": False}.get(word, word)
            self.config.append(((start, self.last), key, value))
            if self.word != "}":
                self.expect(";")
        self.next()

    def _import_file(self) -> None:
        self.next()
        if self.kind != STRING:
            self.fail("expected string after 'import'")
        start = self.start
        path = quoted(self.word, start)
        self.next()
        self.imports.append(tree.Text((start, self.last), path))
        if not self.take(";"):
            self.fail("expected ';' after import")

    def _macro(self) -> None:
        start = self.start
        self.next()
        name = self.name("macro name")
        at = (start, self.last)
        parameters: list[Expression] = []
        if self.word != "{":  # old macros without parameters have no parentheses
            self.expect("(")
            while self.word != ")":
                parameters.append(self._macro_parameter())
                if not self.take(","):
                    break
            self.expect(")")
        self.parameters = frozenset(p.name for p in parameters if isinstance(p, tree.Name))
        body = self.block(True)
        self.parameters = frozenset()
        self.macros.append(tree.Macro(at, name, tuple(parameters), body))

    def _macro_parameter(self) -> Expression:
        at = (self.start, self.end)
        kind, word = self.kind, self.word
        if kind not in (NAME, VARIABLE, MAP):
            self.fail("expected macro argument ($var, @map, or identifier)")
        self.next()
        if kind == VARIABLE:
            return tree.Variable(at, word[1:])
        if kind == MAP:
            return tree.Map(at, word[1:])
        return tree.Name(at, word)

    def _subprogram(self) -> None:
        start = self.start
        self.next()
        name = self.name("function name")
        at = (start, self.last)
        self.expect("(")
        parameters: list[tuple[str, tree.TypeName]] = []
        while self.word != ")":
            if self.kind != VARIABLE:
                self.fail("expected variable in function argument")
            variable = self.word[1:]
            self.next()
            self.expect(":")
            parameters.append((variable, self.type_name()))
            if not self.take(","):
                break
        self.expect(")")
        result = self.type_name() if self.take(":") else None
        body = self.block(False)
        self.subprograms.append(tree.Subprogram(at, name, tuple(parameters), result, body))

    def _map(self) -> None:
        start = self.start
        self.next()
        if self.kind != MAP:
            self.fail(
                "root-level let statements need to be map declarations, e.g. let @a = hash(2);"
            )
        name = self.word[1:]
        self.next()
        self.expect("=")
        kind = self.name("map type name")
        self.expect("(")
        entries = self.expression()
        self.expect(")")
        self.take(";")
        self.maps.append(tree.MapDeclaration((start, self.last), name, kind, entries))

    def _probe(self) -> None:
        start = self.start
        points = [self._attach_point()]
        while self.take(","):
            if self.word in ("/", "{"):
                break
            points.append(self._attach_point())
        at = (start, points[-1].at[1])
        predicate = None
        if self.word == "/":
            self.next()
            self.predicate = True
            predicate = self.expression()
            self.predicate = False
            if not self.take("/"):
                self.fail("expected '/' to close predicate")
        body = self.block(False)
        self.probes.append(tree.Probe(at, tuple(points), predicate, body))

    def _attach_point(self) -> AttachPoint:
        start = self.start
        comment = self.text.startswith("/*", start)  # that has no end
        end = start if comment else kinds.scan(self.text, start)
        if end == start:
            self.fail("expected attach point")
        self.seek(end)
        self.last = end
        return kinds.attach_point((start, end), self.text[start:end])


def check_height(node: Any) -> None:
    """Raise Wrong if a tree is higher than _HEIGHT (1 + 1 + 1 + ...)."""
    level = [node]
    height = 0
    at: Optional[tree.Span] = None
    while level:
        height += 1
        below = []
        for each in level:
            if isinstance(each, tuple):
                below += [child for child in each if isinstance(child, tuple) and child]
                at = getattr(each, "at", at)
        if height > _HEIGHT:
            raise Wrong(at, f"syntax: an expression of {_HEIGHT} operators, one upon the other")
        level = below
