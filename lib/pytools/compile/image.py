"""A compiled program with everything needed to load it: maps, programs, layouts.

An image refers to its maps by name; no file descriptor, address or other
property of the process that compiled it is left in it.
"""
from __future__ import annotations

import binascii
import json

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


__all__ = ["Image", "MapSpec", "ProgramSpec"]


class MapSpec(NamedTuple):
    """A map to create. ``key`` and ``value`` describe the C types as bcc does:
    nested ``[name, [[member, type], ...], "struct"]`` lists. For a ring buffer
    ``value`` describes its records."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key: Any
    value: Any


class ProgramSpec(NamedTuple):
    """A program to load, for a hook (see template.Hook): eBPF instructions of 8
    bytes; (instruction, map name)
    wherever a map's file descriptor must be put in; (instruction, setting's name)
    wherever a number must (in two instructions' room)."""

    name: str
    kind: str
    target: str
    instructions: bytes
    maps: list[tuple[int, str]]
    settings: list[tuple[int, str]] = []
    type_id: int = 0
    functions: list[int] = []  # where callbacks start, in instructions (callbacks.py)


class Image(NamedTuple):
    """What the compiler made of one rendered template."""

    maps: list[MapSpec]
    programs: list[ProgramSpec]

    def dump(self) -> bytes:
        """The image as bytes, for ``parse``."""
        programs = [
            [
                *program[:3],
                binascii.b2a_base64(program.instructions, newline=False).decode(),
                *program[4:],
            ]
            for program in self.programs
        ]
        return json.dumps([self.maps, programs]).encode()

    @classmethod
    def parse(cls, data: bytes) -> Image:
        """The image that ``dump`` wrote; raises ValueError when it is damaged."""
        try:
            maps, programs = json.loads(data)
            image = cls(
                [MapSpec(*spec) for spec in maps],
                [
                    ProgramSpec(
                        name,
                        kind,
                        target,
                        binascii.a2b_base64(code),
                        [(i, m) for i, m in uses],
                        [(i, s) for i, s in settings],
                        type_id,
                        functions,
                    )  # fmt: skip
                    for name, kind, target, code, uses, settings, type_id, functions in programs
                ],
            )
            sound = image._is_sound()
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"damaged image: {error}") from None
        if not sound:
            raise ValueError("damaged image")
        return image

    def _is_sound(self) -> bool:
        names = {spec.name for spec in self.maps}
        for spec in self.maps:
            numbers = spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags
            if not isinstance(spec.name, str) or not all(
                isinstance(number, int) and 0 <= number < 1 << 32 for number in numbers
            ):
                return False
        for program in self.programs:
            words = program.name, program.kind, program.target
            if not isinstance(program.type_id, int) or not 0 <= program.type_id < 1 << 32:
                return False
            if not all(isinstance(start, int) for start in program.functions):
                return False
            count, rest = divmod(len(program.instructions), 8)
            if not all(isinstance(word, str) for word in words) or not count or rest:
                return False
            if not all(name in names and 0 <= number < count for number, name in program.maps):
                return False
            if not all(
                isinstance(name, str) and 0 <= number < count - 1
                for number, name in program.settings
            ):
                return False
        return bool(self.programs)
