"""Text that came from the kernel, from another process or from a user: decoded without loss, and
escaped before it may reach a terminal, JSON or CSV."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


__all__ = ["csv_field", "escape", "escape_lines", "json_text", "text_of"]

BACKSLASH = "\\"


def text_of(data: bytes) -> str:
    """Bytes from the kernel as text, losslessly: bytes that are not UTF-8 become
    lone surrogates, as in os.fsdecode (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def escape(text: str) -> str:
    r"""Text that does nothing but appear: control and other invisible characters,
    bytes that are not UTF-8, and backslashes written as escapes.

    >>> print(escape("a\x1b[2J\n\udcff"))
    a\x1b[2J\x0a\xff
    """
    if text.isprintable() and BACKSLASH not in text:
        return text
    return "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character == BACKSLASH:
        return BACKSLASH * 2
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        code -= 0xDC00
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


def escape_lines(text: str) -> str:
    """Escaped text that keeps its line ends and backslashes."""
    return "\n".join(
        "".join(c if c.isprintable() or c == "\t" else _escape_character(c) for c in line)
        for line in text.split("\n")
    )


def csv_field(value: Any) -> str:
    """A CSV field (RFC 4180), escaped."""
    text = escape(value) if isinstance(value, str) else "" if value is None else str(value)
    if "," in text or '"' in text:
        return '"' + text.replace('"', '""') + '"'
    return text
