"""What the C preprocessor would do to a program: #if and its like, #define of values.

No header is read: the kernel's types come from BTF. So ``BPFTRACE_HAVE_BTF`` is defined, and
``#include`` does nothing. Places stay what they are: directives, and what they leave out, become
blanks.
"""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.syntax.constants import fold
from pytools.bt.syntax.expressions import Expressions
from pytools.bt.tree import Name
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import NoReturn

    from pytools.bt.tree import Span

__all__ = ["preprocess"]

_ANY = re.compile(r"^[ \t]*#[ \t]*[a-z!]", re.MULTILINE)
_PIECE = re.compile(
    r"//[^\n]*|/\*[\s\S]*?\*/"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
    r"|^[ \t]*#[ \t]*([a-z]+)((?:[^\n\\]|\\[\s\S])*)",
    re.MULTILINE,
)
_DEFINE = re.compile(r"\s+([A-Za-z_]\w*)(\(?)([\s\S]*)", re.ASCII)
_NAME = re.compile(r"\s*([A-Za-z_]\w*)", re.ASCII)
_DEFINED = re.compile(r"\bdefined\b\s*(?:\(\s*([A-Za-z_]\w*)\s*\)|([A-Za-z_]\w*))", re.ASCII)
_COMMENT = re.compile(r"//[^\n]*|/\*[\s\S]*?\*/")
_KNOWN = ("BPFTRACE_HAVE_BTF",)


def preprocess(text: str) -> tuple[str, dict[str, Span]]:
    """The text without directives, as long as it was, and for each value that is defined where it
    stands."""
    if text.startswith("#!"):
        end = (text + "\n").index("\n")
        text = " " * end + text[end:]
    if not _ANY.search(text):
        return text, {}
    return _Preprocessor(text).run()


class _Preprocessor:
    def __init__(self, text: str) -> None:
        self.text = text
        self.defined: dict[str, Span] = dict.fromkeys(_KNOWN, (0, 0))
        self.active = True
        # For each #if around: where it stands, if a branch has been taken, if it stands in what is
        # read.
        self.conditions: list[tuple[Span, bool, bool]] = []

    def run(self) -> tuple[str, dict[str, Span]]:
        kept: list[str] = []
        position = 0
        for piece in _PIECE.finditer(self.text):
            if not piece[1]:
                continue
            kept.append(self._keep(position, piece.start()))
            kept.append(_blank(piece[0]))
            self._directive(piece[1], piece[2], piece.start(2), (piece.start(), piece.end()))
            position = piece.end()
        kept.append(self._keep(position, len(self.text)))
        if self.conditions:
            self._fail(self.conditions[-1][0], "unterminated conditional directive")
        values = {name: at for name, at in self.defined.items() if at[1]}
        return "".join(kept), values

    def _keep(self, first: int, behind: int) -> str:
        text = self.text[first:behind]
        return text if self.active else _blank(text)

    def _directive(self, word: str, rest: str, start: int, at: Span) -> None:
        if word in ("if", "ifdef", "ifndef"):
            outside = self.active
            self.active = outside and self._holds(word, rest, at)
            self.conditions.append((at, self.active, outside))
        elif word in ("elif", "else", "endif"):
            if not self.conditions:
                self._fail(at, f"#{word} without #if")
            first, taken, outside = self.conditions.pop()
            if word == "endif":
                self.active = outside
                return
            self.active = outside and not taken
            if self.active and word == "elif":
                self.active = self._holds("if", rest, at)
            self.conditions.append((first, taken or self.active, outside))
        elif not self.active:
            return
        elif word == "define":
            self._define(rest, start, at)
        elif word == "undef":
            self.defined.pop(rest.strip(), None)
        elif word == "error":
            self._fail(at, f"#error{rest.rstrip()}")
        elif word not in ("include", "pragma", "line", "warning"):
            self._fail(at, f"unknown directive #{word}")

    def _define(self, rest: str, start: int, at: Span) -> None:
        found = _DEFINE.match(rest)
        if not found:
            self._fail(at, "expected a name after #define")
        name, parenthesis, _ = found.groups()
        if parenthesis:
            self.defined.pop(
                name, None
            )  # a macro with arguments: a use of it is an unknown function
            return
        behind = start + len(rest.rstrip())
        first = start + found.start(3)
        self.defined[name] = (first, behind) if first < behind else (0, 0)

    def _holds(self, word: str, rest: str, at: Span) -> bool:
        if word != "if":
            found = _NAME.match(rest)
            if not found:
                self._fail(at, f"expected a name after #{word}")
            return (found[1] in self.defined) == (word == "ifdef")
        text = _DEFINED.sub(lambda found: str(int((found[1] or found[2]) in self.defined)), rest)
        text = _COMMENT.sub(" ", text).replace("\\\n", " ")
        # The names' own values stand elsewhere in the text; C takes a name that it does not know
        # for 0.
        reader = Expressions(text)
        try:
            reader.next()
            value = fold(reader.expression(), self._value)
        except Wrong as wrong:
            self._fail(at, wrong.message.replace("syntax: ", "", 1))
        if value is None or reader.word:
            self._fail(at, "#if needs an expression of integers")
        return bool(value)

    def _value(self, name: Name) -> int:
        first, behind = self.defined.get(name.name, (0, 0))
        if not behind:
            return 0
        reader = Expressions(self.text, first, behind)
        try:
            reader.next()
            return fold(reader.expression()) or 0
        except Wrong:
            return 0

    def _fail(self, at: Span, message: str) -> NoReturn:
        raise Wrong(at, f"syntax: {message}")


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
