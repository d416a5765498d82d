"""BTF, the kernel's own type information: look types up, and write them as C.

The format is described in the kernel's Documentation/bpf/btf.rst. Kinds 1 to
19 are known, up to BTF_KIND_ENUM64 (Linux commit 6089fb325cf7, v6.0).

A template names a handful of members out of the 120,000 types of a kernel, so
the reader indexes the types in one pass over the words of the type section
and decodes only what is asked for.
"""
from __future__ import annotations

import struct
from array import array
from typing import Iterable, Iterator, NamedTuple

from pytools.errors import Failure

__all__ = ["Btf", "Member"]

(
    INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST,
    RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64,
) = range(1, 20)  # fmt: skip

MAGIC = 0xEB9F
# Words (of 32 bits) behind the three that every type has: fixed, and a member.
FIXED_WORDS = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
WORDS_PER_MEMBER = {STRUCT: 3, UNION: 3, ENUM: 2, ENUM64: 3, FUNC_PROTO: 2, DATASEC: 3}
# Kinds that only qualify the type they refer to.
TRANSPARENT = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
# Every kernel that pytools supports is a 64-bit one.
POINTER_BYTES = 8
# A chain of types that is longer than this does not come from a compiler.
DEEPEST = 64


class Member(NamedTuple):
    """A member of a struct or union, those of anonymous members included."""

    name: str
    type_id: int
    bit_offset: int
    bits: int  # the width of a bit-field; 0 for an ordinary member


class Btf:
    """The types of one BTF image.

    >>> btf = Btf.read("/sys/kernel/btf/vmlinux")
    >>> btf.member("cfs_rq", "h_nr_runnable").bit_offset // 8
    24
    """

    def __init__(self, data: bytes, source: str = "BTF") -> None:
        self.source = source
        try:
            magic, version, _, header, type_off, type_len, str_off, str_len = (
                struct.unpack_from("=HBBIIIII", data)
            )
        except struct.error:
            raise self._damaged("shorter than its header") from None
        if magic != MAGIC or version != 1:
            raise self._damaged("no BTF of this machine's byte order")
        types = data[header + type_off : header + type_off + type_len]
        self._strings = data[header + str_off : header + str_off + str_len]
        if len(types) != type_len or len(self._strings) != str_len or type_len % 4:
            raise self._damaged("cut short")
        if not self._strings.endswith(b"\0"):
            raise self._damaged("its strings do not end")
        self._words = memoryview(types).cast("I")
        self._starts, self._by_kind = self._index()
        self._named: dict[int, dict[int, list[int]]] = {}
        self._members: dict[int, list[Member]] = {}

    @classmethod
    def read(cls, path: str) -> Btf:
        """Read the image in a file; raises Failure when it is damaged, OSError
        when it can't be read."""
        with open(path, "rb") as file:
            return cls(file.read(), path)

    def _damaged(self, why: str) -> Failure:
        return Failure(f"{self.source}: damaged type information: {why}")

    def _index(self) -> tuple[array[int], dict[int, array[int]]]:
        """Where each type starts, in words, and the type ids of each kind."""
        words = self._words
        end = len(words)
        starts = array("I", [0])  # type id 0 is void
        by_kind = {kind: array("I") for kind in range(1, 20)}
        fixed = [2 + 1 + FIXED_WORDS.get(kind, 0) for kind in range(20)]
        variable = [WORDS_PER_MEMBER.get(kind, 0) for kind in range(20)]
        position, type_id = 0, 1
        try:
            while position < end:
                info = words[position + 1]
                kind = info >> 24 & 31
                starts.append(position)
                by_kind[kind].append(type_id)
                position += fixed[kind] + variable[kind] * (info & 0xFFFF)
                type_id += 1
        except (IndexError, KeyError):
            raise self._damaged(f"type {type_id} is of no known kind") from None
        if position != end:
            raise self._damaged("its last type is cut short")
        return starts, by_kind

    # Types, one at a time.

    def _head(self, type_id: int) -> tuple[int, int, int, int, int]:
        """(kind, vlen, kind flag, size or type, first word behind the head)"""
        try:
            start = self._starts[type_id]
        except IndexError:
            raise self._damaged(f"there is no type {type_id}") from None
        if type_id == 0:
            return 0, 0, 0, 0, 0
        info = self._words[start + 1]
        return info >> 24 & 31, info & 0xFFFF, info >> 31, self._words[start + 2], start + 3

    def text(self, offset: int) -> str:
        """The string at an offset of the string section."""
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise self._damaged(f"there is no string {offset}")
        return self._strings[offset:end].decode("utf-8", "replace")

    def name(self, type_id: int) -> str:
        """The name of a type; empty for an anonymous one."""
        return self.text(self._words[self._starts[type_id]]) if type_id else ""

    def ids(self, name: str, *kinds: int) -> list[int]:
        """The types of that name and of one of those kinds, in file order."""
        found: list[int] = []
        offset = -1
        wanted = b"\0" + name.encode() + b"\0"
        # The same text may stand in the string section more than once.
        while (offset := self._strings.find(wanted, offset + 1)) >= 0:
            for kind in kinds:
                if kind not in self._named:
                    table: dict[int, list[int]] = {}
                    for type_id in self._by_kind[kind]:
                        key = self._words[self._starts[type_id]]
                        table.setdefault(key, []).append(type_id)
                    self._named[kind] = table
                found += self._named[kind].get(offset + 1, [])
        return sorted(found)

    def strip(self, type_id: int) -> int:
        """The type behind typedefs and qualifiers."""
        for _ in range(DEEPEST):
            kind, _, _, target, _ = self._head(type_id)
            if kind not in TRANSPARENT:
                return type_id
            type_id = target
        raise self._damaged(f"type {type_id} refers to itself")

    def kind(self, type_id: int) -> int:
        """The BTF_KIND_* of a type; 0 for void."""
        return self._head(type_id)[0]

    def size(self, type_id: int) -> int:
        """Bytes that a value of the type takes; 0 for void and functions."""
        count = 1
        for _ in range(DEEPEST):
            type_id = self.strip(type_id)
            kind, _, _, size, extra = self._head(type_id)
            if kind == PTR:
                return count * POINTER_BYTES
            if kind != ARRAY:
                return count * size if kind in (INT, STRUCT, UNION, ENUM, ENUM64, FLOAT) else 0
            count *= self._words[extra + 2]
            type_id = self._words[extra]
        raise self._damaged(f"type {type_id} is nested too deeply")

    def members(self, type_id: int) -> list[Member]:
        """The members of a struct or union; those of anonymous structs and
        unions stand at their offset in the outer one."""
        if type_id not in self._members:
            self._members[type_id] = list(self._flatten(type_id, 0, 0))
        return self._members[type_id]

    def _flatten(self, type_id: int, base: int, depth: int) -> Iterator[Member]:
        if depth > DEEPEST:
            raise self._damaged(f"type {type_id} contains itself")
        kind, count, flag, _, extra = self._head(type_id)
        if kind not in (STRUCT, UNION):
            return
        for word in range(extra, extra + 3 * count, 3):
            name_offset, member_type, offset = self._words[word : word + 3]
            bits = 0
            if flag:
                bits, offset = offset >> 24, offset & 0xFFFFFF
            name = self.text(name_offset)
            if name:
                yield Member(name, member_type, base + offset, bits)
            else:
                yield from self._flatten(self.strip(member_type), base + offset, depth + 1)

    # Questions by name.

    def struct(self, name: str, members: Iterable[str] = ()) -> int | None:
        """The struct or union of that name. Names are not unique in a kernel:
        of several, the one that has most of the members asked for."""
        candidates = self.ids(name, STRUCT, UNION)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        wanted = set(members)
        return max(
            candidates,
            key=lambda candidate: len(wanted & {m.name for m in self.members(candidate)}),
        )

    def member(self, struct_name: str, member_name: str) -> Member | None:
        """The member of a struct, or None where either does not exist."""
        type_id = self.struct(struct_name, [member_name])
        if type_id is None:
            return None
        return next((m for m in self.members(type_id) if m.name == member_name), None)

    def enumerators(self, names: set[str]) -> dict[str, int]:
        """The values of those enumerators that exist."""
        present = {name for name in names if b"\0" + name.encode() + b"\0" in self._strings}
        found: dict[str, int] = {}
        for kind in (ENUM, ENUM64) if present else ():
            for type_id in self._by_kind[kind]:
                _, count, signed, _, extra = self._head(type_id)
                step = WORDS_PER_MEMBER[kind]
                for word in range(extra, extra + step * count, step):
                    name = self.text(self._words[word])
                    if name in present and name not in found:
                        found[name] = self._enum_value(word, kind, bool(signed))
        return found

    def _enum_value(self, word: int, kind: int, signed: bool) -> int:
        value = self._words[word + 1]
        bits = 32
        if kind == ENUM64:
            value |= self._words[word + 2] << 32
            bits = 64
        # Before v6.0 no flag told the sign, and compilers made all enums that
        # have a negative value signed: read ENUM as signed, as the kernel did.
        if (signed or kind == ENUM) and value >> (bits - 1):
            value -= 1 << bits
        return value

    def parameters(self, function: str) -> list[str] | None:
        """The C types of a function's parameters, None where BTF has it not."""
        for type_id in self.ids(function, FUNC):
            return self._parameters(self._head(type_id)[3])
        return None

    def raw_tracepoint(self, name: str) -> list[str] | None:
        """The C types of a raw tracepoint's arguments (the context pointer left
        out), from its ``btf_trace_NAME`` typedef; None where there is none."""
        for type_id in self.ids("btf_trace_" + name, TYPEDEF):
            pointer = self.strip(type_id)
            if self.kind(pointer) == PTR:
                return self._parameters(self._head(pointer)[3])[1:]
        return None

    def _parameters(self, proto: int) -> list[str]:
        kind, count, _, _, extra = self._head(proto)
        if kind != FUNC_PROTO:
            raise self._damaged(f"type {proto} is no prototype")
        return [
            self.declaration(self._words[word + 1], "")
            for word in range(extra, extra + 2 * count, 2)
        ]

    # C.

    def declaration(self, type_id: int, name: str, inline: Iterable[str] = ()) -> str:
        """A C declaration of ``name`` with that type. Typedefs are resolved.
        An anonymous struct is written out with the members in ``inline``."""
        for _ in range(DEEPEST):
            type_id = self.strip(type_id)
            kind, _, flag, target, extra = self._head(type_id)
            if kind == PTR:
                name = "*" + name
                type_id = self.strip(target)
                pointee = self.kind(type_id)
                anonymous = pointee in (STRUCT, UNION, FWD) and not self.name(type_id)
                if pointee in (0, FUNC_PROTO, FUNC) or anonymous:
                    return join_name("void", name)
                if pointee == ARRAY:
                    name = f"({name})"
                continue
            if kind == ARRAY:
                name += f"[{self._words[extra + 2]}]"
                type_id = self._words[extra]
                continue
            if kind in (STRUCT, UNION, FWD):
                word = "union" if kind == UNION or (kind == FWD and flag) else "struct"
                label = self.name(type_id)
                if label:
                    return join_name(f"{word} {label}", name)
                body = self.body(type_id, set(inline))
                return join_name(f"{word} {{\n{indent(body)}}}", name)
            if kind in (ENUM, ENUM64):
                # A plain integer of the enum's size: its values come apart.
                integer = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int"}
                return join_name(integer.get(target, "unsigned long"), name)
            if kind == FLOAT:
                return join_name("char", f"{name}[{target}]")
            return join_name(self.name(type_id) or "void", name)
        raise self._damaged(f"type {type_id} is nested too deeply")

    def body(self, type_id: int, wanted: set[str]) -> str:
        """The members in ``wanted`` of a struct or union, as C, each at its true
        offset: padding between, and unions where they overlap."""
        fields = [self._field(m, wanted) for m in self.members(type_id) if m.name in wanted]
        fields.sort(key=lambda field: (field.start, field.bit))
        size = self.size(type_id)
        groups: list[list[Field]] = []
        end = 0
        for field in fields:
            if groups and field.start < end:
                groups[-1].append(field)
            else:
                groups.append([field])
            end = max(end, field.start + field.bytes)
        lines: list[str] = []
        position = 0
        for group in groups:
            start = group[0].start
            if len(group) > 1:
                columns = Field.side_by_side(group)
                if len(columns) == 1:
                    lines += padding(position, start) + columns[0]
                else:
                    lines += padding(position, start) + ["union {"]
                    for column in columns:
                        lines += ["\tstruct {"] + ["\t\t" + line for line in column] + ["\t};"]
                    lines += ["};"]
            else:
                lines += padding(position, start) + group[0].lines(start)
            position = max(field.start + field.bytes for field in group)
        lines += padding(position, size)
        return "".join(line + "\n" for line in lines)

    def _field(self, member: Member, wanted: set[str]) -> Field:
        text = self.declaration(member.type_id, member.name, wanted)
        size = self.size(member.type_id)
        if not member.bits:
            return Field(text, member.bit_offset // 8, size, 0, 0, "")
        unit = member.bit_offset // (8 * size) * size
        bare = self.declaration(member.type_id, "")
        return Field(text, unit, size, member.bit_offset - 8 * unit, member.bits, bare)

    def structs_inside(self, type_id: int, wanted: set[str]) -> Iterator[tuple[int, bool]]:
        """The named structs that the members in ``wanted`` lead to: (struct,
        whether it lies inside this one rather than behind a pointer)."""
        for member in self.members(type_id):
            if member.name not in wanted:
                continue
            inside, target = True, self.strip(member.type_id)
            while self.kind(target) in (PTR, ARRAY):
                kind, _, _, pointee, extra = self._head(target)
                inside = inside and kind == ARRAY
                target = self.strip(self._words[extra] if kind == ARRAY else pointee)
            if self.kind(target) in (STRUCT, UNION):
                if self.name(target):
                    yield target, inside
                else:
                    yield from self.structs_inside(target, wanted)

    def declare(self, names: Iterable[str], members: Iterable[str]) -> str:
        """C declarations of those structs, with those of the members that they
        have, and of every struct that such a member leads to.

        >>> print(btf.declare(["load_weight"], ["weight"]))
        struct load_weight {
                long unsigned int weight;
                char _pad8[8];
        };
        """
        wanted = set(members)
        order: list[int] = []
        state: dict[int, bool] = {}  # False while its insides are being written

        def visit(type_id: int, depth: int) -> None:
            if type_id in state:
                return
            if depth > DEEPEST:
                raise self._damaged(f"type {type_id} is nested too deeply")
            state[type_id] = False
            behind: list[int] = []
            for target, inside in self.structs_inside(type_id, wanted):
                if inside:
                    visit(target, depth + 1)
                else:
                    behind.append(target)
            state[type_id] = True
            order.append(type_id)
            for target in behind:
                if self._leads_on(target, wanted):
                    pending.append(target)

        pending: list[int] = []
        for name in sorted(set(names)):
            found = self.struct(name, wanted)
            if found is not None:
                pending.append(found)
        while pending:
            visit(pending.pop(0), 0)
        text = []
        written: set[str] = set()
        for type_id in order:
            label = self.name(type_id)
            if label in written:  # two kernel structs of one name: the first
                continue
            written.add(label)
            word = "union" if self.kind(type_id) == UNION else "struct"
            body = self.body(type_id, wanted)
            text.append(f"{word} {label} {{\n{indent(body)}}}{self._packed(type_id, wanted)};\n")
        return "\n".join(text)

    def _leads_on(self, type_id: int, wanted: set[str]) -> bool:
        return any(member.name in wanted for member in self.members(type_id))

    def _packed(self, type_id: int, wanted: set[str]) -> str:
        for member in self.members(type_id):
            if member.name in wanted and not member.bits:
                if member.bit_offset // 8 % self._alignment(member.type_id):
                    return " __attribute__((packed))"
        return ""

    def _alignment(self, type_id: int) -> int:
        type_id = self.strip(type_id)
        kind, _, _, size, extra = self._head(type_id)
        if kind == ARRAY:
            return self._alignment(self._words[extra])
        if kind == PTR:
            return POINTER_BYTES
        # A struct is written with its own padding: the members decide.
        return max(1, min(size, 16)) if kind in (INT, ENUM, ENUM64) else 1

    def typedefs(self, names: Iterable[str]) -> str:
        """C declarations of those typedefs that exist."""
        text = []
        for name in sorted(set(names)):
            for type_id in self.ids(name, TYPEDEF):
                target = self.strip(type_id)
                inner = {member.name for member in self.members(target)}
                text.append(f"typedef {self.declaration(target, name, inner)};\n")
                break
        return "".join(text)


class Field(NamedTuple):
    """A member as it is written: bytes ``start`` to ``start + bytes``; a
    bit-field with its storage unit, first bit, width and the unit's type."""

    text: str
    start: int
    bytes: int
    bit: int
    bits: int
    unit: str

    def lines(self, position: int) -> list[str]:
        """The declaration, with the padding from byte ``position`` on."""
        lines = padding(position, self.start)
        if self.bits:
            if self.bit:
                lines.append(f"{self.unit} : {self.bit};")
            return lines + [f"{self.text} : {self.bits};"]
        return lines + [f"{self.text};"]

    @staticmethod
    def side_by_side(group: list[Field]) -> list[list[str]]:
        """Overlapping fields in as few structs as there must be: bit-fields of
        one storage unit follow each other, everything else lies beside."""
        start = group[0].start
        columns: list[list[str]] = []
        ends: list[tuple[int, int]] = []  # (byte of the open unit, next free bit)
        for field in group:
            for number, (unit, bit) in enumerate(ends):
                if field.bits and unit == field.start and bit <= field.bit:
                    if field.bit > bit:
                        columns[number].append(f"{field.unit} : {field.bit - bit};")
                    columns[number].append(f"{field.text} : {field.bits};")
                    ends[number] = (unit, field.bit + field.bits)
                    break
            else:
                columns.append(field.lines(start))
                ends.append((field.start if field.bits else -1, field.bit + field.bits))
        return columns


def padding(position: int, start: int) -> list[str]:
    """The bytes between two members."""
    return [f"char _pad{position}[{start - position}];"] if start > position else []


def join_name(type_text: str, name: str) -> str:
    return f"{type_text} {name}" if name else type_text


def indent(text: str) -> str:
    return "".join(f"\t{line}\n" for line in text.splitlines())
