"""The layout of the kernel's types as bpftool reads them: a witness for lib/pytools/btf.py."""
from __future__ import annotations

import json
import subprocess
from typing import Any, Iterator, NamedTuple

POINTER_BYTES = 8


class Place(NamedTuple):
    """Where a member is: in bits; ``width`` is a bit-field's, otherwise 0."""

    name: str
    type_id: int
    offset: int
    width: int


class Witness:
    """The types of a BTF file, out of ``bpftool btf dump``."""

    def __init__(self, path: str) -> None:
        dump = subprocess.run(
            ["bpftool", "btf", "dump", "file", path, "-j"], stdout=subprocess.PIPE, check=True
        )
        self.types: dict[int, dict[str, Any]] = {}
        self.named: dict[str, list[int]] = {}
        for item in json.loads(dump.stdout)["types"]:
            self.types[item["id"]] = item
            if item["kind"] in ("STRUCT", "UNION") and item["name"] != "(anon)":
                self.named.setdefault(item["name"], []).append(item["id"])

    def members(self, type_id: int, base: int = 0) -> Iterator[Place]:
        """The members, those of anonymous members included."""
        for member in self.types[type_id]["members"]:
            offset = base + member["bits_offset"]
            if member["name"] != "(anon)":
                width = member.get("bitfield_size", 0)
                yield Place(member["name"], member["type_id"], offset, width)
            else:
                inner = member["type_id"]
                while "members" not in self.types[inner]:
                    inner = self.types[inner]["type_id"]
                yield from self.members(inner, offset)

    def size(self, type_id: int) -> int:
        """Bytes; 0 for what has no size."""
        item = self.types.get(type_id, {"kind": "VOID"})
        if item["kind"] == "PTR":
            return POINTER_BYTES
        if item["kind"] == "ARRAY":
            return int(item["nr_elems"]) * self.size(item["type_id"])
        if "size" in item:
            return int(item["size"])
        return self.size(item["type_id"]) if "type_id" in item else 0

    def assertions(self, name: str, members: set[str]) -> str:
        """C that compiles only if a struct has its true size, and those members
        their true offsets and sizes."""
        type_id = self.named[name][0]
        word = self.types[type_id]["kind"].lower()
        label = f"{word} {name}"
        lines = [f"sizeof({label}) == {self.size(type_id)}"]
        for place in self.members(type_id):
            if place.name in members and not place.width:
                lines.append(f"__builtin_offsetof({label}, {place.name}) == {place.offset // 8}")
                size = self.size(place.type_id)
                lines.append(f"sizeof((({label} *)0)->{place.name}) == {size}")
        return "".join(f'_Static_assert({line}, "{name}");\n' for line in lines)
