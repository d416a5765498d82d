"""Tokens of a program: one at a time, because what a character means depends on where it stands.

An attach point (``uprobe:/bin/bash:readline``) is no sequence of tokens, so the parser reads it
from the text itself and has the lexer go on behind it.
"""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import NoReturn, Optional

    from pytools.bt.tree import Span

__all__ = ["Lexer", "after_layout", "integer", "quoted"]

# Blanks and comments. It never fails, so it never looks for another way to match, of which long
# comments offer exponentially many: nothing may stand behind it in one expression.
_LAYOUT = re.compile(r"\s*(?:(?://[^\n]*|/\*[\s\S]*?\*/)\s*)*", re.ASCII)
_TOKEN = re.compile(
    r"([A-Za-z_]\w*)"
    r"|([0-9]\w*)"
    r'|("[^"\\\n]*(?:\\.[^"\\\n]*)*")'
    r"|(\$[A-Za-z_]\w*)"
    r"|(@(?:[A-Za-z_]\w*)?)"
    r"|(\$(?:[0-9]+|\#))"
    r"|(<<=|>>=|\.\.|->|\+\+|--|<<|>>|&&|\|\||[-+*/%&^|<>=!]=|[-+*/%&|^~!<>=?:;,.(){}\[\]])",
    re.ASCII,
)
NAME, NUMBER, STRING, VARIABLE, MAP, PARAMETER, OPERATOR, END, BAD = range(1, 10)

_INTEGER = re.compile(
    r"(?:0x([0-9a-f]+)|0b([01]+)|0o?([0-7]+)|(0|[1-9][0-9]*)(?:e([0-9]+))?)"
    r"(ns|us|ms|[smhd]|ul?l?|ll?)?",
    re.IGNORECASE,
)
_DURATIONS = {"ns": 1, "us": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_DURATIONS.update(h=3600 * 10**9, d=86400 * 10**9)
_DIGITS = 64  # of the longest u64, binary
_LARGEST = 2**64 - 1

_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}

DEPTH = 100  # nested parentheses, blocks, ... that a program may have


def after_layout(text: str, position: int) -> int:
    """Where the blanks and comments end that begin at a position."""
    found = _LAYOUT.match(text, position)
    assert found
    return found.end()


def integer(word: str) -> tuple[int, str]:
    """The value of an integer literal, and its suffix (``u``, ``ul``, ...). Raises ValueError.

    >>> integer("0x1f"), integer("1_000UL"), integer("5ms"), integer("1e3")
    ((31, ''), (1000, 'ul'), (5000000, ''), (1000, ''))
    """
    if word.endswith("_"):
        raise ValueError("trailing underscore in integer literal")
    found = _INTEGER.fullmatch(word.replace("_", ""))
    if not found:
        suffix = re.fullmatch(r"[0-9][0-9_]*([A-Za-z]\w*)", word, re.ASCII)
        if suffix:
            raise ValueError(f"invalid integer suffix '{_short(suffix[1])}'")
        raise ValueError(f"invalid integer: {_short(word)}")
    base16, base2, base8, base10, exponent, suffix_ = found.groups()
    value = _LARGEST + 1
    if max(map(len, filter(None, (base16, base2, base8, base10, exponent)))) <= _DIGITS:
        if base16:
            value = int(base16, 16)
        elif base2:
            value = int(base2, 2)
        elif base8:
            value = int(base8, 8)
        else:
            value = int(base10)
            if exponent:
                value *= 10 ** min(int(exponent), _DIGITS)
    ending = (suffix_ or "").lower()
    if ending in _DURATIONS:
        value *= _DURATIONS[ending]
        ending = ""
    if value > _LARGEST:
        raise ValueError(f"overflow error, maximum value is {_LARGEST}: {_short(word)}")
    return value, ending


def _short(word: str) -> str:
    """A word of the user's for a message."""
    return word if len(word) <= 40 else word[:37] + "..."


def quoted(word: str, start: int) -> str:
    """The text of a string literal ``word`` that begins at ``start``. A byte above 127 that is
    written as an escape is a surrogate, so that ``encode("utf-8", "surrogateescape")`` gives that
    byte. Raises Wrong.
    """
    if "\\" not in word:
        return word[1:-1]

    def read(found: re.Match[str]) -> str:
        octal, hexadecimal, other = found.groups()
        if other:
            if other in _ESCAPES:
                return _ESCAPES[other]
            what = f"invalid escape character '\\{other}'"
            if other in "xX":
                what = "invalid hex escape sequence"
            raise Wrong((start + found.start(), start + found.end()), f"syntax: {what}")
        value = int(octal, 8) if octal else int(hexadecimal, 16)
        if value > 255:
            what = f"octal escape sequence out of range '\\{octal}'"
            raise Wrong((start + found.start(), start + found.end()), f"syntax: {what}")
        return chr(value) if value < 128 else chr(0xDC00 + value)

    return _ESCAPE.sub(read, word)[1:-1]


class Lexer:
    """The current token: its ``kind``, its ``word`` as it stands, ``start`` and ``end``; ``last``
    is where the one before it ends."""

    def __init__(self, text: str, position: int = 0, end: Optional[int] = None) -> None:
        self.text = text
        self.limit = len(text) if end is None else end
        self.depth = 0
        self.deepest = 0
        self.kind = END
        self.word = ""
        self.start = self.end = self.last = position

    def next(self) -> None:
        """Go to the next token. What is no token is one of the kind BAD, which nothing expects."""
        self.last = self.end
        self.start = start = _LAYOUT.match(self.text, self.end).end()  # type: ignore[union-attr]
        found = _TOKEN.match(self.text, start, self.limit)
        if found:
            self.kind = found.lastindex  # type: ignore[assignment]
            self.word = found[0]
            self.end = found.end()
        elif start >= self.limit:
            self.kind = END
            self.word = ""
            self.start = self.end = self.limit
        else:
            self.kind = BAD
            self.word = ""
            self.end = start + 1

    def seek(self, position: int) -> None:
        """Make what begins at a position the current token. ``last`` is then not known: it is the
        position."""
        self.end = position
        self.next()

    def take(self, word: str) -> bool:
        """Go on if the token is this word."""
        if self.word != word:
            return False
        self.next()
        return True

    def expect(self, word: str) -> None:
        if self.word != word:
            self.fail(f"expected '{word}'")
        self.next()

    def name(self, what: str) -> str:
        """Take a name, which the message calls ``what``."""
        if self.kind != NAME:
            self.fail(f"expected {what}")
        word = self.word
        self.next()
        return word

    def number(self) -> int:
        """Take an integer."""
        if self.kind != NUMBER:
            self.fail("expected integer")
        try:
            value, _ = integer(self.word)
        except ValueError as error:
            self.fail(str(error))
        self.next()
        return value

    def enter(self) -> None:
        """One level deeper; ``self.depth -= 1`` leaves it. Every recursion goes through here."""
        self.depth += 1
        if self.depth > self.deepest:
            self.deepest = self.depth
            if self.depth > DEPTH:
                raise Wrong((self.start, self.end), f"syntax: nested more than {DEPTH} deep")

    def fail(self, message: str, at: Optional[Span] = None, hint: str = "") -> NoReturn:
        """Raise Wrong, at the current token if no place is named."""
        if at is None:
            at = (self.start, self.end)
            if self.kind == BAD:
                message = self._bad() or message
            elif self.text.startswith("/*", self.start):
                message = "unterminated comment"
        raise Wrong(at, f"syntax: {message}", hint)

    def _bad(self) -> str:
        character = self.text[self.start]
        if character == '"':
            return "unterminated string"
        if character == "$":
            return "expected identifier after '$'"
        if character == "#":  # the parser knows directives, and where they may stand
            return ""
        return f"invalid character {character!r}"
