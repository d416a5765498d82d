"""printf's formats: texts and conversions, held against the arguments."""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.tree import Wrong
from pytools.bt.types import UNKNOWN, Bool, Buffer, Int, Pointer, Special, Stack, String, Tuple

if TYPE_CHECKING:
    from typing import Any, Sequence

    from pytools.bt.tree import Span
    from pytools.bt.typed import Typed
    from pytools.bt.types import Type

__all__ = ["check_arguments", "pieces_of"]

_CONVERSION = re.compile(r"%([-+ #0]*)(\d*)(?:\.(\d*))?(hh|h|ll|l|j|z|t)?(rx|rh|gr|[a-zA-Z%])")
_NUMBERS = "diouxX"


def pieces_of(text: str, at: Span, name: str) -> list[Any]:
    """A format as the plan has it (Record.pieces). Raises Wrong.

    >>> pieces_of("%-5d%%\\n", (0, 0), "printf")
    [['-', 5, -1, '', 'd'], '%\\n']
    """
    found: list[Any] = []

    def add(words: str) -> None:
        if found and isinstance(found[-1], str):
            found[-1] += words
        elif words:
            found.append(words)

    place = 0
    while True:
        percent = text.find("%", place)
        if percent < 0:
            add(text[place:])
            return found
        add(text[place:percent])
        match = _CONVERSION.match(text, percent)
        if match is None:
            raise Wrong(at, f"{name}: Unknown format string token: {text[percent : percent + 8]!r}")
        flags, width, precision, length, letter = match.groups()
        if letter == "%":
            add("%")
        elif letter not in ("s", "c", "p", "r", "rx", "rh", "gr") and letter not in _NUMBERS:
            raise Wrong(at, f"{name}: Unknown format string token: {match[0]}")
        elif len(width) > 5 or len(precision or "") > 5:
            raise Wrong(at, f"{name}: {match[0]} is too wide")
        else:
            found.append(
                [
                    flags,
                    int(width) if width else 0,
                    -1 if precision is None else int(precision or 0),
                    length or "",
                    letter,
                ]
            )
        place = match.end()


def check_arguments(pieces: list[Any], values: Sequence[Typed], at: Span, name: str) -> None:
    """Hold arguments against the conversions of a format. Raises Wrong."""
    conversions = [piece for piece in pieces if not isinstance(piece, str)]
    if len(conversions) > len(values):
        raise Wrong(
            at,
            f"{name}: Not enough arguments for format string "
            f"({len(values)} supplied, {len(conversions)} expected)",
        )
    if len(conversions) < len(values):
        raise Wrong(
            at,
            f"{name}: Too many arguments for format string "
            f"({len(values)} supplied, {len(conversions)} expected)",
        )
    for (*_, letter), value in zip(conversions, values):
        if value.type != UNKNOWN and not _fits(letter, value.type):
            raise Wrong(
                value.at,
                f"{name}: %{letter} specifier expects a value of type "
                f"{_expected(letter)} ({value.type} supplied)",
            )


def _expected(letter: str) -> str:
    return {"s": "string", "r": "buffer", "rx": "buffer", "rh": "buffer"}.get(letter, "integer")


def _fits(letter: str, kind: Type) -> bool:
    if letter == "s":
        if isinstance(kind, Int):
            return bool(kind.enum)
        return isinstance(kind, (String, Special, Stack, Bool, Buffer, Tuple))
    if letter in ("r", "rx", "rh"):
        return isinstance(kind, Buffer)
    if letter in _NUMBERS or letter in ("c", "p", "gr"):
        return isinstance(kind, (Int, Bool, Pointer)) or (
            isinstance(kind, Special) and kind.kind not in ("inet", "mac")
        )
    return False
