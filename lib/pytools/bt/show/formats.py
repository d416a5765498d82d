"""printf: the data of a record as text, by the pieces of its format.

C converts a number to the type that the conversion and its length say, and prints that: of -1, %u
prints 4294967295 and %lx ffffffffffffffff. Python's % does neither, so numbers are read from the
record in the type that is printed.
"""
from __future__ import annotations

import struct
import sys

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.text import escape, text_of
from pytools.bt.show import values
from pytools.bt.show.shapes import Named, Shown

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from pytools.bt.plan import Record, Type
    from pytools.bt.show.names import Names

    Format = Callable[[bytes], str]
    Quote = Callable[[int, str], str]

__all__ = ["arguments", "format_of"]

# Bytes of the type that a length stands for.
LENGTHS = {"hh": 1, "h": 2, "": 4, "l": 8, "ll": 8, "j": 8, "z": 8, "t": 8, "L": 8, "q": 8}
MOST_REMEMBERED = 4096
SIGNED, UNSIGNED = "di", "uoxX"
BUFFERS = {"r": (True, True), "rx": (False, True), "rh": (False, False)}
# Types that are a number as they lie there, beside integers and enums: whether it is signed.
NUMBERS = {
    "bool": False, "pointer": False, "ksym": False, "usym": False, "func": False, "probe": False,
    "username": False, "cgroup_path": False, "timestamp": False, "strerror": True,
    "signal_name": True, "syscall_name": True,
}  # fmt: skip


def arguments(record: Record, names: Names) -> Callable[[bytes], list[Any]]:
    """A function that gives the values of a record's arguments (see ``values``)."""
    steps = [
        (offset, kind, None if kind[0] == "string" else values.decoder(kind, names))
        for offset, kind in record.arguments
    ]

    def get(data: bytes) -> list[Any]:
        found: list[Any] = []
        behind = record.size
        for offset, kind, decode in steps:
            if decode is None:
                length = int.from_bytes(data[offset : offset + 4], sys.byteorder)
                found.append(_string(data[behind : behind + length], kind, names.trailer(kind)))
                behind += length
            else:
                found.append(decode(data, offset))
        return found

    return get


def _string(data: bytes, kind: Type, trailer: str) -> Any:
    """A string; one that fills its type, with no room for a NUL, was cut."""
    text = text_of(data) + trailer if len(data) >= kind[1] > 0 else text_of(data)
    return Shown(text) if _is_own(kind) else text


def _is_own(kind: Type) -> bool:
    """Whether a string is a literal of the script's: the user's own text, as the format is."""
    return len(kind) > 2


class _Step(NamedTuple):
    """How a conversion gets what it prints. ``form`` is Python's conversion; ``code`` how struct
    reads the argument, empty if it does not; ``number`` is applied to what it has read; ``value``
    gives a text from the data and the argument's offset. ``length`` says that struct has read
    the length of a string."""

    form: str
    code: str = ""
    number: Callable[[int], Any] | None = None
    value: Callable[[bytes, int], str] | None = None
    length: bool = False


def format_of(record: Record, names: Names, quote: Quote | None = None) -> Format:
    """A function that formats the data of a record. Texts that are not the format's own are
    escaped, or become what ``quote`` makes of them, which is told the number of the argument."""
    template, codes, place = "", "=", 0
    steps: list[_Step] = []
    for piece in record.pieces:
        if isinstance(piece, str):
            template += piece.replace("%", "%%")
            continue
        offset, kind = record.arguments[len(steps)]
        step = _step(piece, kind, names, quote is None)
        steps.append(step)
        template += step.form
        if step.code:
            size = struct.calcsize(step.code)
            if sys.byteorder == "big" and not step.length:
                offset += min(values.size_of(kind), 8) - size  # the low bytes stand last
            codes += f"{offset - place}x{step.code}"
            place = offset + size
    unpack = struct.Struct(codes).unpack_from
    if not steps:
        fixed = template % ()
        return lambda data: fixed
    if all(step.code and not step.number and not step.length for step in steps):
        return lambda data: template % unpack(data)
    return _by_steps(record, names, template, unpack, steps, quote)


def _by_steps(
    record: Record,
    names: Names,
    template: str,
    unpack: Callable[[bytes], tuple[Any, ...]],
    steps: list[_Step],
    quote: Quote | None,
) -> Format:
    """A function for a record with texts, written out and compiled: half a million of them a
    second want one line that does all. What is in it are names of this function's own."""
    given: dict[str, Any] = {"unpack": unpack, "template": template}
    lines, parts, read = ["values = unpack(data)"], [], 0
    behind = str(record.size)
    for number, step in enumerate(steps):
        offset, kind = record.arguments[number]
        if step.length:
            lines.append(f"end{number} = {behind} + values[{read}]")
            part = f"data[{behind}:end{number}]"
            behind = f"end{number}"
            given[f"text{number}"] = _Texts(kind, names, quote, number)
            parts.append(f"text{number}[{part}]")
        elif step.value is not None:
            given[f"value{number}"] = _values(step.value, offset, quote, number)
            parts.append(f"value{number}(data)")
        elif step.number is not None:
            given[f"number{number}"] = step.number
            parts.append(f"number{number}(values[{read}])")
        else:
            parts.append(f"values[{read}]")
        read += bool(step.code)
    lines.append(f"return template % ({', '.join(parts)},)")
    exec("def form(data):\n    " + "\n    ".join(lines), given)
    return given["form"]  # type: ignore[no-any-return]


class _Texts(dict):  # type: ignore[type-arg]
    """What is printed of an argument's bytes: most come again and again."""

    def __init__(self, kind: Type, names: Names, quote: Quote | None, number: int) -> None:
        super().__init__()
        self._kind, self._trailer = kind, names.trailer(kind)
        self._quote, self._number = quote, number

    def __missing__(self, data: bytes) -> str:
        text = str(_raw(_string(data, self._kind, self._trailer)))
        if not _is_own(self._kind):
            text = escape(text) if self._quote is None else self._quote(self._number, text)
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        self[data] = text
        return text


def _values(
    value: Callable[[bytes, int], str], offset: int, quote: Quote | None, number: int
) -> Callable[[bytes], str]:
    def shown(data: bytes) -> str:
        text = value(data, offset)
        return text if quote is None else quote(number, text)

    return shown


def _step(piece: Sequence[Any], kind: Type, names: Names, for_people: bool) -> _Step:
    flags, width, precision, length, letter = piece
    width = str(width) if isinstance(width, int) and width > 0 else width or ""
    precision = "" if precision in (None, "", -1) else f".{precision}"
    plain = f"%{'-' * ('-' in flags)}{width}{precision}s"
    if letter in SIGNED or letter in UNSIGNED:
        size, signed = LENGTHS.get(length, 4), letter in SIGNED
        if letter == "o" and "#" in flags:  # Python writes 0o17, C 017
            return _number(
                kind, names, size, signed, f"%{width}s", lambda n: f"{'0' * (n > 0)}{n:o}"
            )
        python = "d" if letter in "iu" else letter
        return _number(kind, names, size, signed, f"%{flags}{width}{precision}{python}")
    if letter == "c":
        return _number(kind, names, 1, False, plain, lambda n: _character(n, for_people))
    if letter == "p":
        return _number(kind, names, 8, False, plain, lambda n: f"{n:#x}")
    if letter == "gr":
        from pytools.bt.show import flags as kernel_flags  # few programs print them

        return _number(kind, names, 8, False, plain, kernel_flags.gfp_text)
    if kind[0] == "string":
        return _Step(plain, "I", length=True)
    decode = values.decoder(kind, names)
    if letter in BUFFERS:
        how = BUFFERS[letter]
        return _Step(plain, value=lambda data, offset: _buffer(decode(data, offset), how))
    if for_people:
        return _Step(plain, value=lambda data, offset: values.text(decode(data, offset)))
    return _Step(plain, value=lambda data, offset: _raw(decode(data, offset)))


def _character(number: int, for_people: bool) -> str:
    text = text_of(bytes([number]))
    return escape(text) if for_people else text


def _number(
    kind: Type,
    names: Names,
    size: int,
    signed: bool,
    form: str,
    made: Callable[[int], Any] | None = None,
) -> _Step:
    """An argument as an integer of so many bytes, of which ``made`` makes what is printed."""
    word = kind[0]
    if word in ("int", "enum"):
        has, has_sign = kind[1], bool(kind[2])
    elif word in NUMBERS:
        has, has_sign = min(values.size_of(kind), 8), NUMBERS[word]
    else:
        return _Step(form, value=_converted(kind, names, size, signed, made))
    if size <= has:
        return _Step(form, values.int_code(size, signed), made)
    if signed or not has_sign:
        return _Step(form, values.int_code(has, has_sign), made)
    mask = (1 << 8 * size) - 1

    def unsigned(number: int) -> Any:
        return number & mask if made is None else made(number & mask)

    return _Step(form, values.int_code(has, True), unsigned)


def _converted(
    kind: Type, names: Names, size: int, signed: bool, made: Callable[[int], Any] | None
) -> Callable[[bytes, int], Any]:
    """A function that gives the number of what is none as it lies there."""
    decode = values.decoder(kind, names)

    def number(data: bytes, offset: int) -> Any:
        value = decode(data, offset)
        found = value.number if isinstance(value, Named) else value
        found = (found if isinstance(found, int) else 0) & (1 << 8 * size) - 1
        if signed and found >> 8 * size - 1:
            found -= 1 << 8 * size
        return found if made is None else made(found)

    return number


def _buffer(value: Any, how: tuple[bool, bool]) -> str:
    return values.buffer_text(value, *how) if isinstance(value, bytes) else values.text(value)


def _raw(value: Any) -> str:
    """The text of a value, not escaped: for what is no terminal."""
    if isinstance(value, str):
        return value
    return str(value.text) if isinstance(value, Shown) else values.text(value)
