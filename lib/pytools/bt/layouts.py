"""Structs: the kernel's by its BTF, the script's own by C's rules; and types by their names.

``Layouts`` finds a type by what is written in a script, and the members of a struct. The kernel's
structs are looked up when they are asked for. Nothing of a script's definitions reaches C: only the
offsets and sizes that follow from them.
"""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import did_you_mean
from pytools.bt import ctypes, tree
from pytools.bt.fields import Field
from pytools.bt.promotion import literal_type
from pytools.bt.renames import renamed

from pytools.bt.types import (
    VOID, Array, Bool, Buffer, Float, Int, Pointer, Special, String, Struct, Tuple,
)  # fmt: skip
from pytools.facts import btf as kinds

if TYPE_CHECKING:
    from typing import Any, Optional, Sequence

    from pytools.bt.types import Type
    from pytools.facts.btf import Btf
    from pytools.facts.kernel import Kernel

__all__ = ["Field", "Layout", "Layouts"]


class Layout(NamedTuple):
    """A struct's members, by name, in their order."""

    type: Struct
    fields: dict[str, Field]


class Layouts:
    """The types that a script may name, on one kernel."""

    def __init__(self, kernel: Kernel, program: tree.Program) -> None:
        self._kernel = kernel if kernel.has_btf else None
        self._known: dict[Any, Layout] = {}
        self._own: dict[str, Any] = {}  # C definitions of the script, by name with its word
        self._busy: set[str] = set()
        self._constants: dict[str, tuple[int, Int]] = {}
        self._unnamed = 0
        for definition in program.types:
            self._declare(definition)

    @property
    def _btf(self) -> Optional[Btf]:
        """The kernel's types, read when they are first asked for: many programs name none."""
        return self._kernel.btf if self._kernel else None

    # Names.

    def _declare(self, definition: Any) -> None:
        if isinstance(definition, tree.CRecord):
            self._own[f"{definition.word} {definition.name}"] = definition
        elif isinstance(definition, tree.CEnum):
            self._declare_enum(definition)
        else:
            if definition.record is not None:
                if isinstance(definition.record, tree.CEnum):
                    self._declare_enum(definition.record)
                elif definition.record.name:
                    self._declare(definition.record)
            self._own[definition.name] = definition

    def _declare_enum(self, definition: tree.CEnum) -> None:
        values = tuple((number, name) for name, number in definition.values)
        low, high = min(values, default=(0, ""))[0], max(values, default=(0, ""))[0]
        size = 4 if -(1 << 31) <= low and high < 1 << 32 else 8
        kind = Int(size, low < 0, False, values, f"enum {definition.name}".strip())
        if definition.name:
            self._own[f"enum {definition.name}"] = kind
        for name, number in definition.values:
            self._constants[name] = number, kind

    def constant(self, name: str) -> Optional[tuple[int, Int]]:
        """The value and the type of an enumerator, the script's or the kernel's."""
        if name not in self._constants and self._btf is not None:
            type_id = self._btf.enum_of(name)
            if type_id is not None:
                kind = self._enum(type_id)
                for number, label in kind.enum:
                    self._constants.setdefault(label, (number, kind))
        if name not in self._constants and (value := ctypes.constant(name)) is not None:
            self._constants[name] = value, literal_type(value)
        return self._constants.get(name)

    def find(self, name: tree.TypeName, at: Optional[tree.Span] = None) -> Type:
        """The type of that name, with its stars and brackets. Raises Wrong."""
        if isinstance(name.of, tree.TypeName):
            return self.modified(self.find(name.of), name)
        sizes = list(name.sizes)
        if name.name in ("string", "buffer", "inet") and not name.pointers:
            size = (sizes.pop() if sizes else 0) or 0
            base: Type = Buffer(size) if name.name == "buffer" else String(size)
            if name.name == "inet":
                base = Special("inet")
        else:
            base = self.named(name.name, at or name.at, complete=not name.pointers)
        return self.modified(base, name._replace(sizes=tuple(sizes)))

    def modified(self, base: Type, name: tree.TypeName) -> Type:
        """A type with the stars and brackets of a name."""
        for _ in range(name.pointers):
            base = Pointer(base)
        for size in reversed(list(name.sizes)):
            base = self.array(base, size or 0)
        return base

    @staticmethod
    def array(of: Type, count: int) -> Type:
        """An array; of characters it is a string."""
        if of == Int(1, True) and count:
            return String(count, True)
        return Array(of, count)

    def named(self, name: str, at: Optional[tree.Span], complete: bool = True) -> Type:
        """The type of a name without stars and brackets. Raises Wrong; what is only pointed to
        need not be known."""
        found = self._own_named(name, at) or ctypes.integer(name)
        if found is None and name in ("void", "sym_t"):
            found = VOID
        if found is None and name in ("float", "double"):
            found = Float(4 if name == "float" else 8)
        if found is None and name in ("mac_address_t", "mac_address"):
            found = Special("mac")
        if found is None and name in ("username", "timestamp"):
            raise tree.Wrong(at, f'Cannot cast to "{name}"')
        if found is None and self._btf is not None:
            found = self._kernel_named(name)
        if found is not None:
            return found
        if not complete:
            return Struct(name, name)
        what = "Unknown struct/union" if name.startswith(("struct ", "union ")) else "unknown type"
        if what == "unknown type":
            raise tree.Wrong(at, f'Cannot resolve unknown type "{name}"', self._near(name))
        raise tree.Wrong(at, f"{what}: '{name}'", self._near(name))

    def _near(self, name: str) -> str:
        return did_you_mean(name, map(str, self._own))

    def _own_named(self, name: str, at: Optional[tree.Span]) -> Optional[Type]:
        if name not in self._own:
            # A script may leave the word away.
            with_word = [f"{w} {name}" for w in ("struct", "union") if f"{w} {name}" in self._own]
            if not with_word:
                return None
            name = with_word[0]
        definition = self._own[name]
        if isinstance(definition, Int):
            return definition
        if isinstance(definition, tree.CTypedef):
            if name in self._busy:
                raise tree.Wrong(definition.at, f"{name} is defined by itself")
            self._busy.add(name)
            try:
                if definition.type is not None:
                    return self.find(definition.type)
                if isinstance(definition.record, tree.CEnum):
                    return self._constants[definition.record.values[0][0]][1]
                assert definition.record is not None
                return self._record(definition.record, definition.record.name or name)
            finally:
                self._busy.discard(name)
        return self._record(definition, name)

    def _record(self, definition: tree.CRecord, name: str) -> Struct:
        """The type of a struct of the script's."""
        if name in self._known:
            return self._known[name].type
        if name in self._busy and name not in self._own or name in self._laying():
            raise tree.Wrong(definition.at, f"{name} contains itself")
        self._busy.add("laying " + name)
        try:
            fields: dict[str, Field] = {}
            size, align = ctypes.lay_out(self, definition, 0, fields)
            kind = Struct(name, name, size, align)
            self._known[name] = Layout(kind, fields)
            return kind
        finally:
            self._busy.discard("laying " + name)

    def _laying(self) -> set[str]:
        return {name[len("laying ") :] for name in self._busy if name.startswith("laying ")}

    def define(self, definition: tree.CRecord) -> None:
        """Make known a struct that is defined inside another."""
        self._own.setdefault(f"{definition.word} {definition.name}", definition)

    def unnamed(self, definition: tree.CRecord) -> Struct:
        """The type of a struct without a name, inside of another."""
        self._unnamed += 1
        return self._record(definition, f"{definition.word} (unnamed {self._unnamed})")

    def tracepoint(self, name: str, fields: Sequence[Field]) -> Struct:
        """A struct of that name with those members: a record, or a function's arguments."""
        end = max((field.offset // 8 + field.type.size for field in fields), default=0)
        kind = Struct(name, name, end, 8)
        self._known[name] = Layout(kind, {field.name: field for field in fields})
        return kind

    # The kernel's.

    def _kernel_named(self, name: str) -> Optional[Type]:
        assert self._btf is not None
        word, _, label = name.partition(" ")
        if word in ("struct", "union"):
            type_id = self._btf.struct(label)
            return self.of_btf(type_id) if type_id is not None else None
        if word == "enum":
            ids = self._btf.ids(label, kinds.ENUM, kinds.ENUM64)
            return self.of_btf(ids[0]) if ids else None
        ids = self._btf.ids(name, kinds.TYPEDEF, kinds.INT)
        if ids:
            return self.of_btf(ids[0])
        ids = self._btf.ids(name, kinds.STRUCT, kinds.UNION)
        return self.of_btf(ids[0]) if ids else None

    def _enum(self, type_id: int) -> Int:
        btf = self._btf
        assert btf is not None
        values = tuple(btf.enumerator_list(type_id))
        signed = any(number < 0 for number, _ in values)
        return Int(btf.size(type_id), signed, False, values, f"enum {btf.name(type_id)}")

    def of_btf(self, type_id: int, depth: int = 0) -> Type:
        """A type of the kernel's."""
        btf = self._btf
        assert btf is not None
        space = ""
        while btf.kind(type_id) in kinds.TRANSPARENT:
            if btf.kind(type_id) == kinds.TYPE_TAG and btf.name(type_id) == "user":
                space = "user"
            type_id = btf.target(type_id)
        kind = btf.kind(type_id)
        if kind == kinds.INT:
            size, signed, truth = btf.integer(type_id)
            # Since Linux commit 3bc753c06dd0 (v6.2) it has no sign: it is a character still.
            signed = signed or btf.name(type_id) == "char"
            return Bool() if truth else Int(min(size, 8), signed)
        if kind == kinds.PTR:
            target = btf.target(type_id)
            tag = target
            while btf.kind(tag) in kinds.TRANSPARENT:
                if btf.kind(tag) == kinds.TYPE_TAG and btf.name(tag) == "user":
                    space = "user"
                tag = btf.target(tag)
            if depth > 8 or btf.kind(tag) in (kinds.FUNC_PROTO, kinds.FUNC):
                return Pointer(VOID, space)
            return Pointer(self.of_btf(target, depth + 1), space)
        if kind == kinds.ARRAY:
            element, count = btf.array(type_id)
            return self.array(self.of_btf(element, depth + 1), count)
        if kind in (kinds.ENUM, kinds.ENUM64):
            return self._enum(type_id)
        if kind in (kinds.STRUCT, kinds.UNION):
            word = "union" if kind == kinds.UNION else "struct"
            name = f"{word} {btf.name(type_id)}".strip()
            if name in self._own:  # the script has its own
                return self._own_named(name, None) or VOID
            return Struct(type_id, name, btf.size(type_id), 8 if btf.size(type_id) % 8 == 0 else 1)
        if kind == kinds.FWD:
            name = f"struct {btf.name(type_id)}"
            return Struct(name, name)
        return VOID

    def layout(self, kind: Struct) -> Layout:
        """The members of a struct; none of one that is only named."""
        if kind.key not in self._known:
            fields: dict[str, Field] = {}
            if isinstance(kind.key, int) and self._btf is not None:
                for member in self._btf.members(kind.key):
                    each = self.of_btf(member.type_id)
                    fields.setdefault(
                        member.name, Field(member.name, member.bit_offset, each, member.bits)
                    )
            self._known[kind.key] = Layout(kind, fields)
        return self._known[kind.key]

    def member(self, kind: Struct, name: str, at: tree.Span) -> tuple[Field, str]:
        """A member of a struct, and a warning if it is read by another name. Raises Wrong."""
        if not kind.bytes and isinstance(kind.key, str) and kind.key not in self._known:
            # It was not known when it was pointed to: a later definition, or none.
            kind = self.named(kind.name, at)  # type: ignore[assignment]
        fields = self.layout(kind).fields
        if name in fields:
            return fields[name], ""
        new = renamed(kind.name, name, fields)
        if new is not None:
            return fields[new.name], (
                f"{kind.name} has no member {name} on this kernel: {new.name} is read, "
                f"which it is called since Linux {new.version} ({new.commit})"
            )
        near = did_you_mean(name, fields, 0.5)
        where = " on this kernel" if isinstance(kind.key, int) else ""
        hint = f"; {near}" if near else ""
        raise tree.Wrong(at, f"{kind.name} has no member {name}{where}{hint}")

    def plan(self, kind: Type) -> list[Any]:
        """A type as plan.py writes it."""
        if isinstance(kind, Struct):
            members: list[Any] = []
            for field in self.layout(kind).fields.values():
                member = [field.name, field.offset // 8, self.plan(field.type)]
                members.append(member + [field.offset % 8, field.bits] if field.bits else member)
            return ["record", kind.size, members]
        if isinstance(kind, Array):
            return ["array", kind.count, kind.of.size, self.plan(kind.of)]
        if isinstance(kind, Tuple):
            parts = [[o, self.plan(e)] for o, e in zip(kind.offsets(), kind.elements)]
            if kind.names:
                return ["record", kind.size, [[n, *part] for n, part in zip(kind.names, parts)]]
            return ["tuple", kind.size, parts]
        return kind.plan()
