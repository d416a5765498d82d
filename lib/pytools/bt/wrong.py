"""What is wrong with a program, and where: one line, the line of the program, a mark under it."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import escape_line

if TYPE_CHECKING:
    from typing import Optional, Tuple

    Span = Tuple[int, int]

__all__ = ["Wrong", "place"]

_WIDTH = 240  # characters of a line that are shown: a program may be one line of a mebibyte
_LINES = 5
_LONGEST = 400  # characters of a message: it may name a type of many elements


class Wrong(Exception):
    """The program is wrong: at a place, or as a whole (``at`` is None). ``source``, if there is
    one, is (text, name) of another file that is meant."""

    source: Optional[Tuple[str, str]] = None

    def __init__(self, at: Optional[Span], message: str, hint: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.message = message
        self.hint = hint

    def report(self, text: str, name: str) -> str:
        """As bpftrace writes it: NAME:LINE:FIRST-BEHIND: ERROR: ..., the line, a mark, a hint.

        >>> print(Wrong((8, 9), "syntax: expected expression").report("BEGIN { ) }", "stdin"))
        stdin:1:9-10: ERROR: syntax: expected expression
        BEGIN { ) }
                ~
        """
        text, name = self.source or (text, name)
        lines = [f"ERROR: {_one_line(self.message)}"]
        if self.at is not None:
            lines = [f"{place(self.at, text, name)}: {lines[0]}", *_shown(self.at, text)]
        if self.hint:
            lines += map(_one_line, f"HINT: {self.hint}".split("\n"))  # options, one a line
        return "\n".join(lines)


def place(at: Span, text: str, name: str) -> str:
    """Where something stands: NAME:LINE:FIRST-BEHIND, columns from 1; NAME:FIRST-LAST of several
    lines."""
    first, behind = at
    line = text.count("\n", 0, first) + 1
    last = line + text.count("\n", first, behind)
    if line != last:
        return f"{name}:{line}-{last}"
    begin = text.rfind("\n", 0, first) + 1
    return f"{name}:{line}:{first - begin + 1}-{behind - begin + 1}"


def _shown(at: Span, text: str) -> list[str]:
    """The lines of a place, and ~~~ under it if it is in one line."""
    first, behind = at
    begin = text.rfind("\n", 0, first) + 1
    end = text.find("\n", max(first, behind))
    lines = text[begin : end if end >= 0 else len(text)].split("\n")
    if len(lines) > 1:
        return [_printable(line)[:_WIDTH] for line in lines[:_LINES]]
    long = len(lines[0]) > _WIDTH
    cut = max(0, first - begin - _WIDTH // 2) if long else 0
    line = lines[0][cut : cut + _WIDTH]
    marks = [" "] * (first - begin - cut) + ["~"] * max(1, behind - first)
    shown = [_printable(character) for character in line]
    under = [mark * len(above) for mark, above in zip(marks, [*shown, " "])]
    return ["".join(shown), "".join(under)]


def _one_line(message: str) -> str:
    """A message as a line: words of the program stand in it, which may have an end of line."""
    line = escape_line(message)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _printable(line: str) -> str:
    """For a terminal, whatever file it was that somebody took for a program."""
    return "".join(c if c.isprintable() else "    " if c == "\t" else "?" for c in line)
