"""Text that came from the kernel, from another process or from a user: decoded without loss, and
escaped before it may reach a terminal, JSON or CSV."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


__all__ = ["csv_field", "escape", "escape_line", "json_text", "text_of"]

BACKSLASH = "\\"
# What Python takes for printable, and nobody sees (Unicode's Default_Ignorable_Code_Point), or
# sees as a blank that is no space: Hangul fillers, variation selectors, the empty Braille pattern.
_UNSEEN = (
    (0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800),
    (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
)  # fmt: skip
# Marks above and below a character: languages need no more of them on one. Those of a longer
# pile would be drawn over the lines around it.
MOST_MARKS = 4
# A spreadsheet takes text that begins with one of these for a formula, and runs it; those that
# are as wide as they are high, in Chinese and Japanese.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def text_of(data: bytes) -> str:
    """Bytes from the kernel as text, losslessly: bytes that are not UTF-8 become
    lone surrogates, as in os.fsdecode (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def c_text(data: bytes) -> str:
    """The same of a C string: up to its NUL.

    >>> c_text(b"cat\\0\\0")
    'cat'
    """
    return text_of(data.partition(b"\0")[0])


def escape(text: str) -> str:
    r"""Text that does nothing but appear, in the place that it is given: control and other
    invisible characters, marks without a character that they are on, bytes that are not UTF-8, and
    backslashes written as escapes.

    >>> print(escape("a\x1b[2J\n\udcff"))
    a\x1b[2J\x0a\xff
    """
    if text.isascii():
        if text.isprintable() and BACKSLASH not in text:
            return text
        return "".join(map(_escape_character, text))
    from unicodedata import category  # few texts need it

    parts, marks = [], MOST_MARKS
    for character in text:
        marks = marks + 1 if category(character) in ("Mn", "Me") else 0
        written = _escape_character(character)
        code = ord(character)
        if marks > MOST_MARKS or any(first <= code <= last for first, last in _UNSEEN):
            written = _escape_code(code)
        parts.append(written)
    return "".join(parts)


def _escape_character(character: str) -> str:
    if character == BACKSLASH:
        return BACKSLASH * 2
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        code -= 0xDC00
    return _escape_code(code)


def _escape_code(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def json_text(text: str) -> str:
    """A JSON string, of printable ASCII only. Bytes that are not UTF-8 stand as
    \\udc80 to \\udcff; ``.encode("utf-8", "surrogateescape")`` gives them back."""
    if text.isascii() and text.isprintable() and '"' not in text and BACKSLASH not in text:
        return f'"{text}"'
    import json

    return json.dumps(text)


def escape_line(text: str) -> str:
    """A line of text for people, escaped, that keeps its tabs and backslashes. An end of line in
    it is escaped, too: what comes from elsewhere must not look like a line of the tool's own."""
    if text.isascii() and text.isprintable():
        return text
    cells = (BACKSLASH.join(map(escape, cell.split(BACKSLASH))) for cell in text.split("\t"))
    return "\t".join(cells)


def csv_field(value: Any) -> str:
    r"""A CSV field (RFC 4180), escaped. Text is never a formula: a character that would make it one
    is written as an escape.

    >>> print(csv_field("=1+1"), csv_field(-1))
    \x3d1+1 -1
    """
    text = escape(value) if isinstance(value, str) else "" if value is None else str(value)
    if isinstance(value, str) and text.startswith(_FORMULA):
        text = _escape_code(ord(text[0])) + text[1:]
    if "," in text or '"' in text:
        return '"' + text.replace('"', '""') + '"'
    return text
