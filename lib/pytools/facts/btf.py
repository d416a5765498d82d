"""BTF, the kernel's own type information: look types up, and write them as C.

The format is described in the kernel's Documentation/bpf/btf.rst. Kinds 1 to
19 are known, up to BTF_KIND_ENUM64 (Linux commit 6089fb325cf7, v6.0).

A template names a handful of members out of the 120,000 types of a kernel, so
the reader indexes the types in one pass over the words of the type section
and decodes only what is asked for. That pass is most of its work: it is made when
the first type is asked for, and an index can be kept, and given to the reader of
the same image.
"""
from __future__ import annotations

import struct
from array import array
from functools import cached_property

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure

if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator, Optional

    Kept = Callable[[], Optional[bytes]]

__all__ = ["Btf", "Function", "Member"]

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
# Nor does a struct with more anonymous ones inside it (the most in v6.18: 24).
MOST_ANONYMOUS = 200


def not_kept() -> None:
    """Of an image's types no index was kept."""


class Member(NamedTuple):
    """A member of a struct or union, those of anonymous members included."""

    name: str
    type_id: int
    bit_offset: int
    bits: int  # the width of a bit-field; 0 for an ordinary member


class Function(NamedTuple):
    """A kernel function: the id of its type, the C types of what it returns and of
    its parameters (name, type); ``plain``: each parameter is in one register."""

    type_id: int
    result: str
    parameters: list[tuple[str, str]]
    plain: bool


class Wanted(NamedTuple):
    """What is to be written of the kernel's types: the members, the typedefs, and
    the names of structs that are taken by structs of the template's own."""

    members: frozenset[str] = frozenset()
    typedefs: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()


NOTHING = Wanted()
PACKED = " __attribute__((packed))"


class Written(NamedTuple):
    """A struct as C: what is between the braces, its alignment in bytes, and its
    attribute (``PACKED`` or nothing)."""

    body: str
    align: int
    attribute: str


class Btf:
    """The types of one BTF image.

    >>> btf = Btf.read("/sys/kernel/btf/vmlinux")
    >>> btf.member("cfs_rq", "h_nr_runnable").bit_offset // 8
    24
    """

    def __init__(self, data: bytes, source: str = "BTF", kept: Kept = not_kept) -> None:
        self.source = source
        try:
            magic, version, _, header, type_off, type_len, str_off, str_len = struct.unpack_from(
                "=HBBIIIII", data
            )
        except struct.error:
            raise self._damaged("shorter than its header") from None
        if magic != MAGIC or version != 1:
            raise self._damaged("no BTF of this machine's byte order")
        types = memoryview(data)[header + type_off : header + type_off + type_len]
        self._strings = data[header + str_off : header + str_off + str_len]
        if len(types) != type_len or len(self._strings) != str_len or type_len % 4:
            raise self._damaged("cut short")
        if not self._strings.endswith(b"\0"):
            raise self._damaged("its strings do not end")
        self._words = types.cast("I")
        self._kept = kept
        self.made_index = b""  # for the next reader; nothing while no type was asked for
        self._named: dict[int, dict[int, list[int]]] = {}
        self._offsets: dict[str, list[int]] = {}
        self._members: dict[int, list[Member]] = {}
        self._bodies: dict[tuple[int, Wanted], Written] = {}

    @classmethod
    def read(cls, path: str, kept: Kept = not_kept) -> Btf:
        """Read the image in a file; raises Failure when it is damaged, OSError
        when it can't be read. ``kept`` is asked for the index of an earlier reader of the same
        image, when the first type is."""
        with open(path, "rb") as file:
            return cls(file.read(), path, kept)

    def with_module(self, data: bytes, source: str) -> Btf:
        """The same with the types of a module, whose numbers, and whose places in the string
        section, go on behind those of the kernel ("split BTF", Linux commit 951bb64621b8, v5.11).
        Raises Failure when they are damaged."""
        module = Btf(data, source)
        types = self._words.tobytes() + module._words.tobytes()
        strings = self._strings + module._strings
        header = struct.pack("=HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), len(strings))
        return Btf(header + types + strings, source)

    def _damaged(self, why: str) -> Failure:
        return Failure(f"{self.source}: damaged type information: {why}")

    def _make_index(self) -> bytes:
        """How many words, then where each type starts, in words, and the kind of each:
        32 bits each but the kinds, which have 8. Type 0 is void."""
        words = self._words
        end = len(words)
        index = array("I", [end, 0])
        kinds = bytearray(1)
        fixed = {kind: 2 + 1 + FIXED_WORDS.get(kind, 0) for kind in range(1, 20)}
        variable = {kind: WORDS_PER_MEMBER.get(kind, 0) for kind in range(1, 20)}
        position = 0
        add_start, add_kind = index.append, kinds.append
        try:
            while position < end:
                info = words[position + 1]
                kind = info >> 24 & 31
                length = fixed[kind] + variable[kind] * (info & 0xFFFF)
                add_start(position)
                add_kind(kind)
                position += length
        except (IndexError, KeyError):
            raise self._damaged(f"type {len(kinds)} is of no known kind") from None
        if position != end:
            raise self._damaged("its last type is cut short")
        return index.tobytes() + bytes(kinds)

    @cached_property
    def index(self) -> bytes:
        """What this reader knows of the image, for the next one."""
        kept = self._kept() or b""
        count = (len(kept) - 4) // 5  # types
        if count > 0 and len(kept) == 4 + 5 * count:
            if memoryview(kept)[:4].cast("I")[0] == len(self._words):
                return kept
        self.made_index = self._make_index()
        return self.made_index

    @cached_property
    def _starts(self) -> memoryview:
        """Where each type starts, in words."""
        return memoryview(self.index)[4 : 4 + 4 * self._count].cast("I")

    @cached_property
    def _kinds(self) -> bytes:
        """The kind of each type."""
        return self.index[4 + 4 * self._count :]

    @property
    def _count(self) -> int:
        return (len(self.index) - 4) // 5

    def _of_kind(self, kind: int) -> Iterator[int]:
        type_id = 0
        while (type_id := self._kinds.find(kind, type_id + 1)) > 0:
            yield type_id

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
        for offset in self._places(name):
            for kind in kinds:
                if kind not in self._named:
                    table: dict[int, list[int]] = {}
                    for type_id in self._of_kind(kind):
                        key = self._words[self._starts[type_id]]
                        table.setdefault(key, []).append(type_id)
                    self._named[kind] = table
                found += self._named[kind].get(offset, [])
        return sorted(found)

    def _places(self, name: str) -> list[int]:
        """Where a name stands in the string section: it may stand there more than once. To look
        takes a millisecond."""
        if name not in self._offsets:
            offsets, offset = [], -1
            wanted = b"\0" + name.encode() + b"\0"
            while (offset := self._strings.find(wanted, offset + 1)) >= 0:
                offsets.append(offset + 1)
            self._offsets[name] = offsets
        return self._offsets[name]

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
            self._members[type_id] = list(self._flatten(type_id, 0, []))
        return self._members[type_id]

    def own_members(self, type_id: int) -> Iterator[Member]:
        """The members of a struct or union as they are declared: anonymous ones have no name."""
        kind, count, flag, _, extra = self._head(type_id)
        if kind not in (STRUCT, UNION):
            return
        for word in range(extra, extra + 3 * count, 3):
            name, member_type, offset = self._words[word : word + 3]
            bits = 0
            if flag:
                bits, offset = offset >> 24, offset & 0xFFFFFF
            yield Member(self.text(name), member_type, offset, bits)

    def _flatten(self, type_id: int, base: int, seen: list[int]) -> Iterator[Member]:
        seen.append(type_id)
        if len(seen) > MOST_ANONYMOUS:
            raise self._damaged(f"type {type_id} contains itself")
        for member in self.own_members(type_id):
            offset = base + member.bit_offset
            if member.name:
                yield member._replace(bit_offset=offset)
            else:
                yield from self._flatten(self.strip(member.type_id), offset, seen)

    def target(self, type_id: int) -> int:
        """What a pointer, a typedef, a qualifier or a tag refers to."""
        return self._head(type_id)[3]

    def array(self, type_id: int) -> tuple[int, int]:
        """Of an array: the type of its elements, and how many there are."""
        extra = self._head(type_id)[4]
        return self._words[extra], self._words[extra + 2]

    def integer(self, type_id: int) -> tuple[int, bool, bool]:
        """Of an integer: its size in bytes, whether it has a sign, whether it is a bool."""
        _, _, _, size, extra = self._head(type_id)
        encoding = self._words[extra] >> 24
        return size, bool(encoding & 1), bool(encoding & 4)

    def prototype(self, type_id: int) -> tuple[int, list[tuple[str, int]]]:
        """Of a function, or a typedef of a pointer to one: the type of its result, and the name
        and type of each parameter."""
        proto = self.strip(type_id)
        if self.kind(proto) in (PTR, FUNC):
            proto = self.strip(self._head(proto)[3])
        return self._head(proto)[3], self._named_parameters(proto)

    def enumerator_list(self, type_id: int) -> list[tuple[int, str]]:
        """The values of an enum, in their order, and its names."""
        kind, count, signed, _, extra = self._head(type_id)
        step = WORDS_PER_MEMBER[kind]
        return [
            (self._enum_value(word, kind, bool(signed)), self.text(self._words[word]))
            for word in range(extra, extra + step * count, step)
        ]

    def enum_of(self, name: str) -> int | None:
        """The enum that has an enumerator of that name."""
        if b"\0" + name.encode() + b"\0" not in self._strings:
            return None
        for kind in (ENUM, ENUM64):
            for type_id in self._of_kind(kind):
                if any(label == name for _, label in self.enumerator_list(type_id)):
                    return type_id
        return None

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
            for type_id in self._of_kind(kind):
                _, count, signed, _, extra = self._head(type_id)
                step = WORDS_PER_MEMBER[kind]
                for word in range(extra, extra + step * count, step):
                    name = self.text(self._words[word])
                    if name in present and name not in found:
                        found[name] = self._enum_value(word, kind, bool(signed))
        return found

    def enumeration(self, name: str) -> dict[int, str]:
        """The names of an enum's values, the first of several; empty where there is no
        such enum.

        >>> btf.enumeration("bpf_cmd")[5]
        'BPF_PROG_LOAD'
        """
        found: dict[int, str] = {}
        for type_id in self.ids(name, ENUM, ENUM64)[:1]:
            for value, label in self.enumerator_list(type_id):
                found.setdefault(value, label)
        return found

    def _enum_value(self, word: int, kind: int, signed: bool) -> int:
        value = self._words[word + 1]
        bits = 32
        if kind == ENUM64:
            value |= self._words[word + 2] << 32
            bits = 64
        # The flag that tells the sign came with ENUM64, and is clear in older
        # BTF: there, read ENUM as signed, as the kernel did.
        if (signed or ENUM64 not in self._kinds) and value >> (bits - 1):
            value -= 1 << bits
        return value

    def names(self, kind: int) -> dict[str, int]:
        """All types of a kind (FUNC, TYPEDEF) that have a name: name to type id."""
        words, starts = self._words, self._starts
        return {self.text(words[starts[type_id]]): type_id for type_id in self._of_kind(kind)}

    def parameters(self, type_id: int) -> list[tuple[str, str]]:
        """Of a function, or a typedef of a pointer to one: (name, declaration with the
        name) of each parameter, as the kernel's source has it.

        >>> btf.parameters(btf.names(FUNC)["vfs_fsync"])
        [('file', 'struct file *file'), ('datasync', 'int datasync')]
        """
        kind, _, _, target, _ = self._head(self.strip(type_id))
        if kind in (PTR, FUNC):
            kind = self.kind(target)
        if kind != FUNC_PROTO:
            return []
        return [
            (name, self.spelled(member, name) if member else "...")
            for name, member in self._named_parameters(target)
        ]

    def spelled(self, type_id: int, name: str) -> str:
        """A C declaration of ``name`` with that type, as the kernel's source has it:
        typedefs and qualifiers kept."""
        for _ in range(DEEPEST):
            kind, _, flag, target, extra = self._head(type_id)
            if kind == PTR:
                name = "*" + name
                if self.kind(target) in (ARRAY, FUNC_PROTO):
                    name = f"({name})"
            elif kind == ARRAY:
                name += f"[{self._words[extra + 2]}]"
                target = self._words[extra]
            elif kind == FUNC_PROTO:
                inner = ", ".join(
                    self.spelled(member, label) if member else "..."  # printf()'s
                    for label, member in self._named_parameters(type_id)
                )
                name += f"({inner or 'void'})"
            elif kind in (CONST, VOLATILE, RESTRICT):
                word = {CONST: "const", VOLATILE: "volatile", RESTRICT: "restrict"}[kind]
                if self.kind(target) != PTR:
                    return f"{word} {self.spelled(target, name)}"
                name = join_name(word, name)
            elif kind != TYPE_TAG:
                words = {STRUCT: "struct ", UNION: "union ", ENUM: "enum ", ENUM64: "enum "}
                words[FWD] = "union " if flag else "struct "
                label = self.name(type_id) or ("void" if kind == 0 else "{...}")
                return join_name(words.get(kind, "") + label, name)
            type_id = target
        raise self._damaged(f"type {type_id} is nested too deeply")

    def raw_tracepoint_id(self, name: str) -> int | None:
        """The id of a raw tracepoint's ``btf_trace_NAME`` typedef; None where there is none."""
        for type_id in self.ids("btf_trace_" + name, TYPEDEF):
            if self.kind(self.strip(type_id)) == PTR:
                return type_id
        return None

    def with_names(self, raw_tracepoint: int, name: str) -> int:
        """Of a raw tracepoint's type, whose parameters have no names, a function of that type that
        calls its programs, whose parameters have; the type itself where the kernel's types leave
        those functions out."""
        count = len(self.prototype(raw_tracepoint)[1])
        for caller in (f"__traceiter_{name}", f"__bpf_trace_{name}"):
            for type_id in self.ids(caller, FUNC)[:1]:
                parameters = self.prototype(type_id)[1]
                if len(parameters) == count and any(label for label, _ in parameters[1:]):
                    return type_id
        return raw_tracepoint

    def raw_tracepoint(self, name: str) -> list[str] | None:
        """The C types of a raw tracepoint's arguments (the context pointer left
        out), None where there is none."""
        type_id = self.raw_tracepoint_id(name)
        if type_id is None:
            return None
        return self._parameters(self._head(self.strip(type_id))[3])[1:]

    def _parameters(self, proto: int) -> list[str]:
        return [self.declaration(type_id, "") for _, type_id in self._named_parameters(proto)]

    def _named_parameters(self, proto: int) -> list[tuple[str, int]]:
        """(name, type) of each parameter of a prototype."""
        kind, count, _, _, extra = self._head(proto)
        if kind != FUNC_PROTO:
            raise self._damaged(f"type {proto} is no prototype")
        return [
            (self.text(self._words[word]), self._words[word + 1])
            for word in range(extra, extra + 2 * count, 2)
        ]

    def function(self, name: str) -> Function | None:
        """A kernel function; None where there is none of that name, or several
        that are not the same."""
        found: list[Function] = []
        for type_id in self.ids(name, FUNC):
            proto = self._head(type_id)[3]
            parameters = self._named_parameters(proto)
            found.append(
                Function(
                    type_id,
                    self.declaration(self._head(proto)[3], ""),
                    [(label, self.declaration(member, "")) for label, member in parameters],
                    all(self._fits_a_register(member) for _, member in parameters),
                )
            )
        if not found or any(one[1:] != found[0][1:] for one in found):
            return None
        return found[0]

    def _fits_a_register(self, type_id: int) -> bool:
        type_id = self.strip(type_id)
        return self.kind(type_id) not in (STRUCT, UNION)

    # C.

    def declaration(self, type_id: int, name: str, wanted: Wanted = NOTHING) -> str:
        """A C declaration of ``name`` with that type. Typedefs are resolved, but
        for those in ``wanted`` that name an anonymous struct; any other anonymous
        struct is written out with its members in ``wanted``."""
        for _ in range(DEEPEST):
            type_id = self._strip_to_typedef(type_id, wanted)
            kind, _, flag, target, extra = self._head(type_id)
            if kind == PTR:
                name = "*" + name
                type_id = self._strip_to_typedef(target, wanted)
                pointee = self.kind(type_id)
                composite = pointee in (STRUCT, UNION, FWD)
                if pointee in (0, FUNC_PROTO, FUNC) or composite and self._inline(type_id, wanted):
                    return join_name("void", name)
                if pointee == ARRAY:
                    name = f"({name})"
                continue
            if kind == ARRAY:
                name += f"[{self._words[extra + 2]}]"
                type_id = self._words[extra]
                continue
            if kind == TYPEDEF:
                return join_name(self.name(type_id), name)
            if kind in (STRUCT, UNION, FWD):
                word = "union" if kind == UNION or (kind == FWD and flag) else "struct"
                if not self._inline(type_id, wanted):
                    return join_name(f"{word} {self.name(type_id)}", name)
                written = self._written(type_id, wanted)
                return join_name(f"struct {{\n{indent(written.body)}}}{written.attribute}", name)
            if kind in (ENUM, ENUM64):
                # A plain integer of the enum's size: its values come apart.
                integer = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int"}
                return join_name(integer.get(target, "unsigned long"), name)
            if kind == FLOAT:
                return join_name("char", f"{name}[{target}]")
            return join_name(self.name(type_id) or "void", name)
        raise self._damaged(f"type {type_id} is nested too deeply")

    def _strip_to_typedef(self, type_id: int, wanted: Wanted) -> int:
        """The type behind qualifiers, and behind typedefs up to one in ``wanted``
        that names an anonymous struct."""
        target = self.strip(type_id)
        if not wanted.typedefs or self.kind(target) not in (STRUCT, UNION) or self.name(target):
            return target
        while type_id != target:
            if self.kind(type_id) == TYPEDEF and self.name(type_id) in wanted.typedefs:
                return type_id
            type_id = self._head(type_id)[3]
        return target

    def _inline(self, type_id: int, wanted: Wanted) -> bool:
        """Whether a struct has no name to refer to it by: an anonymous one, or one
        whose name stands for another struct (the template's own, or one of the
        several that a kernel has of that name)."""
        label = self.name(type_id)
        if not label or label in wanted.taken:
            return True
        if self.kind(type_id) == FWD:
            return False
        chosen = self.struct(label, wanted.members)
        if chosen is None or chosen == type_id:
            return False
        return self._shape(chosen, wanted) != self._shape(type_id, wanted)

    def _shape(self, type_id: int, wanted: Wanted) -> tuple[int, list[tuple[str, int, int]]]:
        members = [m for m in self.members(type_id) if m.name in wanted.members]
        return self.size(type_id), [(m.name, m.bit_offset, m.bits) for m in members]

    def _written(self, type_id: int, wanted: Wanted) -> Written:
        """A struct or union as a C struct of its size, with the members that are
        wanted at their true offsets: padding between them, unions where they
        overlap."""
        key = type_id, wanted
        if key not in self._bodies:
            self._bodies[key] = Written("", 1, "")  # should it contain itself
            self._bodies[key] = self._write(type_id, wanted)
        return self._bodies[key]

    def _write(self, type_id: int, wanted: Wanted) -> Written:
        fields = [self._field(m, wanted) for m in self.members(type_id) if m.name in wanted.members]
        fields.sort(key=lambda field: (field.first, field.end))
        size = 8 * self.size(type_id)
        lines: list[str] = []
        position, align, packed = 0, 1, False
        for group in together(fields):
            first = group[0].first
            columns = side_by_side(group)
            if len(columns) == 1:
                for field in group:
                    lines += padding(position, field.first)
                    lines.append(f"{field.text};")
                    position = max(position, field.end)
                    align = max(align, field.align)
                    packed = packed or not field.is_aligned(0)
            else:
                first -= first % 8
                lines += padding(position, first)
                union, union_align = write_union(columns, first)
                lines += union
                position = max(field.end for field in group)
                # Bit-fields at the end of a union: it ends with their byte.
                position += -position % 8
                align = max(align, union_align)
        lines += padding(position, size)
        packed = packed or max(size, position) % (8 * align) != 0
        body = "".join(line + "\n" for line in lines)
        return Written(body, 1 if packed else align, PACKED if packed else "")

    def _field(self, member: Member, wanted: Wanted) -> Field:
        text = self.declaration(member.type_id, member.name, wanted)
        size = 8 * self.size(member.type_id)
        first = member.bit_offset
        if member.bits:
            # bits of an int, or what stands for one
            return Field(f"{text} : {member.bits}", first, first + member.bits, size // 8, size)
        return Field(text, first, first + size, self._alignment(member.type_id, wanted), 0)

    def _alignment(self, type_id: int, wanted: Wanted) -> int:
        """The alignment of a type as it is written."""
        for _ in range(DEEPEST):
            type_id = self.strip(type_id)
            kind, _, _, size, extra = self._head(type_id)
            if kind == ARRAY:
                type_id = self._words[extra]
                continue
            if kind == PTR:
                return POINTER_BYTES
            if kind in (STRUCT, UNION):
                return self._written(type_id, wanted).align
            return max(1, min(size, 16)) if kind in (INT, ENUM, ENUM64) else 1
        raise self._damaged(f"type {type_id} is nested too deeply")

    def structs_inside(self, type_id: int, wanted: Wanted) -> Iterator[tuple[int, bool]]:
        """The named structs that the members in ``wanted`` lead to: (struct,
        whether it lies inside this one rather than behind a pointer)."""
        for member in self.members(type_id):
            if member.name not in wanted.members:
                continue
            inside, target = True, self.strip(member.type_id)
            while self.kind(target) in (PTR, ARRAY):
                kind, _, _, pointee, extra = self._head(target)
                inside = inside and kind == ARRAY
                target = self.strip(self._words[extra] if kind == ARRAY else pointee)
            if self.kind(target) in (STRUCT, UNION):
                if not self._inline(target, wanted):
                    yield target, inside
                elif inside and target != type_id:
                    yield from self.structs_inside(target, wanted)

    def declare(
        self,
        names: Iterable[str],
        members: Iterable[str],
        typedefs: Iterable[str] = (),
        taken: Iterable[str] = (),
    ) -> str:
        """C declarations of those typedefs and structs, the latter with those of
        the members that they have, and of every struct that such a member leads
        to. The names in ``taken`` stand for other structs.

        >>> print(btf.declare(["load_weight"], ["weight"]))
        struct load_weight {
                long unsigned int weight;
                char _pad8[8];
        };
        """
        wanted = Wanted(frozenset(members), frozenset(typedefs), frozenset(taken))
        order: list[int] = []
        seen: set[int] = set()
        pending: list[int] = []

        def visit(type_id: int, depth: int) -> None:
            if type_id in seen:
                return
            if depth > DEEPEST:
                raise self._damaged(f"type {type_id} is nested too deeply")
            seen.add(type_id)
            for target, inside in self.structs_inside(self.strip(type_id), wanted):
                if inside:
                    visit(target, depth + 1)
                elif self._leads_on(target, wanted):
                    pending.append(target)
            order.append(type_id)

        for name in sorted(wanted.typedefs):
            pending += self.ids(name, TYPEDEF)[:1]
        for name in sorted(set(names)):
            found = self.struct(name, wanted.members)
            if found is not None:
                pending.append(found)
        while pending:
            visit(pending.pop(0), 0)
        text = []
        written: set[tuple[int, str]] = set()
        for type_id in order:
            kind, label = self.kind(type_id), self.name(type_id)
            if (kind == TYPEDEF, label) in written:  # the same struct, twice in the BTF
                continue
            written.add((kind == TYPEDEF, label))
            if kind == TYPEDEF:
                others = wanted._replace(typedefs=wanted.typedefs - {label})
                text.append(f"typedef {self.declaration(type_id, label, others)};\n")
                continue
            body, _, attribute = self._written(type_id, wanted)
            if kind == UNION:
                inner = f"struct {{\n{indent(body)}}}{attribute};\n"
                text.append(f"union {label} {{\n{indent(inner)}}};\n")
            else:
                text.append(f"struct {label} {{\n{indent(body)}}}{attribute};\n")
        return "\n".join(text)

    def _leads_on(self, type_id: int, wanted: Wanted) -> bool:
        return any(member.name in wanted.members for member in self.members(type_id))


class Field(NamedTuple):
    """A member as it is written: from its first bit to the bit behind its last.
    ``align`` is in bytes; ``unit`` a bit-field's type in bits, otherwise 0."""

    text: str
    first: int
    end: int
    align: int
    unit: int

    def is_aligned(self, base: int) -> bool:
        """Whether the compiler puts the member at its place by itself, in a
        struct that begins at bit ``base``."""
        if self.unit:
            return (self.first - base) % self.unit + self.end - self.first <= self.unit
        return (self.first - base) % (8 * self.align) == 0


def together(fields: list[Field]) -> Iterator[list[Field]]:
    """Fields in order, those that share a byte in one list."""
    group: list[Field] = []
    end = 0
    for field in fields:
        if group and field.first // 8 * 8 >= end:
            yield group
            group = []
        group.append(field)
        end = max(end, field.end)
    if group:
        yield group


def side_by_side(group: list[Field]) -> list[list[Field]]:
    """Fields in as few lists as there must be, so that none overlaps another of
    its own list."""
    columns: list[list[Field]] = []
    for field in group:
        for column in columns:
            if column[-1].end <= field.first:
                column.append(field)
                break
        else:
            columns.append([field])
    return columns


def write_union(columns: list[list[Field]], first: int) -> tuple[list[str], int]:
    """A union that begins at bit ``first``: its lines, and its alignment."""
    fields = [field for column in columns for field in column]
    align = max(field.align for field in fields)
    end = max(field.end for field in fields)
    packed = (first % (8 * align) or (end - first + 7) // 8 % align) or not all(
        field.is_aligned(first) for field in fields
    )
    attribute = PACKED if packed else ""
    lines = ["union {"]
    for number, column in enumerate(columns):
        lines.append("\tstruct {")
        position = first
        for field in column:
            # Members of anonymous structs share their names with the outer one's.
            lines += ["\t\t" + line for line in padding(position, field.first, f"_{number}")]
            lines += ["\t\t" + line for line in f"{field.text};".splitlines()]
            position = field.end
        lines.append(f"\t}}{attribute};")
    lines.append(f"}}{attribute};")
    return lines, 1 if packed else align


def padding(position: int, first: int, suffix: str = "") -> list[str]:
    """What lies between two members, from bit to bit."""
    lines = []
    if position % 8 and position < first:
        bits = min(8 - position % 8, first - position)
        lines.append(f"unsigned char : {bits};")
        position += bits
    if first // 8 > position // 8:
        start = position // 8
        lines.append(f"char _pad{start}{suffix}[{first // 8 - start}];")
        position = first // 8 * 8
    if position < first:
        lines.append(f"unsigned char : {first - position};")
    return lines


def join_name(type_text: str, name: str) -> str:
    return f"{type_text} {name}" if name else type_text


def indent(text: str) -> str:
    return "".join(f"\t{line}\n" for line in text.splitlines())
