"""Filters by the names of processes and threads: shell patterns, as conditions in C.

A name has up to 15 bytes, and the pattern does not reach C: a name alone, or with * at its end,
becomes the two words that are compared and the bits of them that count. Any other pattern becomes
a table of what each byte may stand for, which C walks through by the bytes of the name.
"""
from __future__ import annotations

import os
import sys

from pytools.base.annotations import NamedTuple
from pytools.base.comm import comm
from pytools.base.errors import Usage

__all__ = ["NamePattern", "condition", "matches", "name_pattern", "of_threads_only"]

NAME_BYTES = 15  # that the kernel keeps of a name; then a NUL
BYTES = range(1, 256)


class NamePattern(NamedTuple):
    """A shell pattern: for each byte of a name that is no *, the bytes that it may be; and before
    which of these, or behind the last, any others may stand."""

    parts: tuple[frozenset[int], ...]
    stars: frozenset[int]

    @property
    def plain(self) -> bytes | None:
        """The bytes of the name, if it is a name, or the beginning of one."""
        if self.stars - {len(self.parts)} or any(len(part) > 1 for part in self.parts):
            return None
        return bytes(byte for part in self.parts for byte in part)

    def table(self) -> dict[int, int]:
        """By byte: a bit for each part that it may stand for."""
        found = {}
        for byte in BYTES:
            bits = sum(1 << place for place, part in enumerate(self.parts) if byte in part)
            if bits:
                found[byte] = bits
        return found

    def matches(self, name: bytes) -> bool:
        """What the C does, in Python.

        >>> pattern = name_pattern("nginx-*", "--comm")
        >>> pattern.matches(b"nginx-worker"), pattern.matches(b"nginx")
        (True, False)
        """
        table, stars, matched = self.table(), self.star_bits, 1
        for byte in name[:NAME_BYTES]:
            matched = (matched & table.get(byte, 0)) << 1 | matched & stars
        return bool(matched >> len(self.parts) & 1)

    @property
    def star_bits(self) -> int:
        return sum(1 << place for place in self.stars)


def name_pattern(text: str, option: str, within: bool = False) -> NamePattern:
    """A pattern as in a shell (*, ?, [abc], [!a-z]); ``within`` says that it is a part of the name.
    Raises Usage for one that no name can match; ``option`` is whose it is."""
    data, place = os.fsencode(text), 0
    parts: list[frozenset[int]] = []
    stars = {0} if within else set()
    while place < len(data):
        byte = data[place : place + 1]
        place += 1
        if byte == b"*":
            stars.add(len(parts))
        elif byte == b"?":
            parts.append(frozenset(BYTES))
        elif byte == b"[" and (end := _end_of_set(data, place)) > 0:
            parts.append(_set(data[place : end - 1]))
            place = end
        else:
            parts.append(frozenset(byte))
    if within:
        stars.add(len(parts))
    if len(parts) > NAME_BYTES or not (parts or stars) or not all(parts):
        what = f"the {len(data)} bytes of {text!r}" if len(parts) == len(data) else repr(text)
        limit = f"at most {NAME_BYTES}" if within else f"1 to {NAME_BYTES}"
        raise Usage(
            f"argument {option}: no command's name has {what}: {limit} are kept of it"
            if len(parts) > NAME_BYTES or not data
            else f"argument {option}: nothing matches {text!r}"
        )
    return NamePattern(tuple(parts), frozenset(stars))


def _end_of_set(data: bytes, place: int) -> int:
    """Where the set that begins before ``place`` has ended; 0 where it never does."""
    first = place + (data[place : place + 1] in (b"!", b"^"))
    return data.find(b"]", first + 1) + 1


def _set(inside: bytes) -> frozenset[int]:
    others = inside[:1] in (b"!", b"^")
    left, found = inside[others:], set[int]()
    while left:
        if left[1:2] == b"-" and len(left) > 2:
            found |= set(range(left[0], left[2] + 1))
            left = left[3:]
        else:
            found.add(left[0])
            left = left[1:]
    return frozenset(set(BYTES) - found if others else found)


def matches(text: str, name: str) -> bool:
    """Whether a process's name is what --comm says."""
    return name_pattern(text, "--comm").matches(os.fsencode(name))


def of_threads_only(pattern: NamePattern) -> int:
    """A process of which a thread has such a name, if no process has it; else 0."""
    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if pattern.matches(comm(f"/proc/{pid}") or b""):
            return 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:  # it has ended
            continue
        if any(pattern.matches(comm(f"/proc/{pid}/task/{tid}") or b"") for tid in threads):
            found = int(pid)
            break
    return found


class _Condition(NamedTuple):
    code: str
    settings: dict[str, int]
    numbers: dict[str, dict[int, int]]


def condition(pattern: NamePattern, function: str, read: str) -> _Condition:
    """C of ``function(task)``, whether a name matches; ``read`` is the C that puts it into
    ``name``."""
    head = (
        f"static inline bool {function}(struct task_struct *task)\n{{\n"
        "\tunion { u64 words[2]; unsigned char bytes[16]; } name = {};\n"
    )
    plain, label = pattern.plain, function.upper()
    if plain is not None:
        mask = b"\xff" * (len(plain) + (not pattern.stars))
        settings = {}
        for part, place in (("LOW", slice(0, 8)), ("HIGH", slice(8, 16))):
            for kind, text in (("", plain), ("_MASK", mask)):
                word = text.ljust(16, b"\0")[place]
                settings[f"{label}{kind}_{part}"] = int.from_bytes(word, sys.byteorder)
        code = head + (
            f"\n\t{read}\n"
            f"\treturn (name.words[0] & ${label}_MASK_LOW) == (u64)${label}_LOW &&\n"
            f"\t       (name.words[1] & ${label}_MASK_HIGH) == (u64)${label}_HIGH;\n"
            "}\n"
        )
        return _Condition(code, settings, {})
    table = f"{function}_parts"
    # Bit n of "matched": the bytes so far match the first n parts. Without branches: the verifier
    # would walk both ways of each. Behind the NUL nothing changes: there may be an older name.
    code = (
        '#include "verifier.h"\n'
        f"BPF_ARRAY({table}, u32, 256);\n" + head + "\tu64 matched = 1, in_name = ~0ULL, next;\n"
        "\tu32 i, byte, *parts;\n\n"
        f"\t{read}\n"
        "#pragma unroll\n"
        f"\tfor (i = 0; i < {NAME_BYTES}; i++) {{\n"
        "\t\tbyte = name.bytes[i];\n"
        f"\t\tparts = {table}.lookup(&byte);\n"
        "\t\tif (!parts)\n"
        "\t\t\treturn false;\n"
        "\t\tin_name &= (((u64)byte - 1) >> 63) - 1;\n"
        "\t\tKEEP(in_name);\n"
        f"\t\tnext = (matched & *parts) << 1 | (matched & ${label}_STARS);\n"
        "\t\tmatched = (next & in_name) | (matched & ~in_name);\n"
        "\t\tKEEP(matched);\n"
        "\t}\n"
        f"\treturn matched >> ${label}_LENGTH & 1;\n"
        "}\n"
    )
    settings = {f"{label}_STARS": pattern.star_bits, f"{label}_LENGTH": len(pattern.parts)}
    return _Condition(code, settings, {table: pattern.table()})
