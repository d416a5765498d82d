"""C of expressions: what is read from where, what is put where."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.code import Code, Place, c_type, literal, wide_type, width
from pytools.bt.plan import Record
from pytools.bt.tree import Wrong
from pytools.bt.typed import (
    FLOW,
    INTO,
    PLACES,
    SCALARS,
    STATEMENTS,
    TAILS,
    Typed,
    emits,
    into,
    places,
    tail,
)

from pytools.bt.types import (
    VOID, Int, Pointer, String, Tuple, fits_register,
)  # fmt: skip

if TYPE_CHECKING:
    from typing import Any, Optional, Sequence

    from pytools.bt.emit.whole import Whole

__all__ = ["Emitter", "put_bytes", "put_exactly", "put_text"]

# Kinds whose arguments the verifier lets be read as words of 8 bytes only.
_WORDS = ("rawtracepoint", "fentry", "fexit")


class Emitter(Code):
    """Writes one program of an action."""

    def __init__(
        self, whole: Whole, name: str, action: Any, leave: str, root: Optional[Emitter] = None
    ) -> None:
        super().__init__(whole, name, leave, root)
        self.action = action
        self.kind = action.kind
        # Variables: key to a name, or to a Place; and the offsets of those that live across steps.
        self.variables: dict[tuple[int, str, int], Any] = root.variables if root else {}
        self.frame: dict[tuple[int, str, int], int] = root.frame if root else {}
        self.frame_table = root.frame_table if root else ""

    # The three forms of a value.

    def scalar(self, node: Typed) -> str:
        """C of a number: a name or a literal."""
        if (
            node.op == "number"
            or node.constant is not None
            and isinstance(node.constant, (int, bool))
        ):
            if node.op in ("number", "cast"):
                return literal(int(node.constant))  # type: ignore[arg-type]
        handler = SCALARS.get(node.op)
        if handler is not None:
            return handler(self, node)
        if node.op in PLACES:
            return self.load(self.place(node), node.type)
        raise Wrong(node.at, f"this is not supported here ({node.op}, {node.type})")

    def place(self, node: Typed) -> Place:
        """Where a value is; it is made somewhere if it is nowhere yet."""
        handler = PLACES.get(node.op)
        if handler is not None:
            found: Place = handler(self, node)
            return found
        slot = self.slot(node.type.size + (8 if isinstance(node.type, String) else 0))
        self.put(node, slot)
        return slot

    def own_place(self, node: Typed) -> Place:
        """The same in the program's own memory."""
        found = self.place(node)
        if found.space == "own":
            return found
        slot = self.slot(node.type.size + (8 if isinstance(node.type, String) else 0))
        self.fetch(slot, found, node.type)
        return slot

    def put(self, node: Typed, to: Place) -> None:
        """Put a value into the program's own memory. Behind a string there is room for a NUL."""
        if fits_register(node.type):
            self.store(to, node.type, self.scalar(node))
        elif node.op in INTO:
            INTO[node.op](self, node, to)
        elif node.type != VOID:
            self.fetch(to, self.place(node), node.type)

    def string_tail(self, node: Typed, address: str, most: int) -> str:
        """Put a string's bytes at an address, which has room for one more; how many there are."""
        if node.op in TAILS:
            return TAILS[node.op](self, node, address, most)
        place = self.place(node)
        base = f"(u64)ctx + {place.offset}" if place.space == "context" else place.address
        given = self.read_text(Place(address), most + 1, base, place.space)
        return f"text_length({given}, {most})"

    def run(self, node: Typed) -> None:
        """An expression for what it does."""
        if node.op in STATEMENTS:
            STATEMENTS[node.op](self, node)
        elif fits_register(node.type):
            if node.constant is None or node.op not in ("number", "cast"):
                self.scalar(node)
        elif node.op in ("counted", "none"):
            return
        elif node.type == VOID:
            raise Wrong(node.at, f"this is not supported here ({node.op})")
        elif node.op in INTO or node.op in PLACES:
            self.place(node)

    def declare(self, variable: Any) -> Any:
        """A variable's name, or its place."""
        if variable.key in self.variables:
            return self.variables[variable.key]
        kind = variable.declared or variable.type
        if variable.key in self.frame:
            found: Any = Place("frame", self.frame[variable.key])
        elif (
            fits_register(kind)
            and not self.root.captured
            and variable.key not in self.whole.pointed
        ):
            found = self.name_of("v")
            self.heads.append(f"{wide_type(kind)} {found} = 0;")
        else:
            found = self.slot(kind.size + (8 if isinstance(kind, String) else 0), keep=True)
        self.variables[variable.key] = found
        return found

    def statement(self, node: Typed) -> None:
        """A statement; the memory that it took is free again behind it."""
        mark = self.mark()
        handler = FLOW.get(node.op)
        if handler is None:
            raise Wrong(node.at, f"this is not supported here ({node.op})")
        handler(self, node)
        self.release(mark)

    def statements(self, nodes: Sequence[Typed]) -> None:
        for node in nodes:
            self.statement(node)

    def send_empty(self, record: Record) -> None:
        """Send a record without arguments."""
        name = self.name_of("e")
        self.line(f"u64 {name} = {self.whole.record(record)};")
        self.line(f"hand_over((char *)&{name}, 8);")

    def truth(self, node: Typed) -> str:
        """C of a condition."""
        return self.scalar(node)


# Literals, variables.


@into("text")
def put_text(e: Emitter, node: Typed, to: Place) -> None:
    data = str(node.constant).encode("utf-8", "surrogateescape")
    size = node.type.size
    data = data[:size]
    put_bytes(e, data.ljust(size, b"\0"), to)


def put_bytes(e: Code, data: bytes, to: Place) -> None:
    """Bytes that are known, as numbers of 8 bytes each."""
    import sys

    place = 0
    size = len(data)
    if size > 64 and not data.strip(b"\0"):
        e.zero(to, size)
        return
    while place < size:
        step = width(size - place, to.at(place))
        number = int.from_bytes(data[place : place + step], sys.byteorder)
        e.line(f"*(u{8 * step} *){to.at(place).address} = {literal(number)};")
        place += step


@tail("text")
def _tail_text(e: Emitter, node: Typed, address: str, most: int) -> str:
    data = str(node.constant).encode("utf-8", "surrogateescape")[:most]
    put_bytes(e, data + b"\0", Place(address))
    return str(len(data))


@emits("parameter")
def _parameter(e: Emitter, node: Typed) -> str:
    number = node.parts[2]
    return e.number(node.type, e.whole.setting(f"PARAMETER_{number}", ["parameter", number]))


@emits("variable")
def _variable(e: Emitter, node: Typed) -> str:
    found = e.declare(node.parts[0])
    if isinstance(found, Place):
        return e.load(found, node.type)
    return e.number(node.type, found)


@places("variable")
def _variable_place(e: Emitter, node: Typed) -> Place:
    found = e.declare(node.parts[0])
    if isinstance(found, Place):
        return found
    raise Wrong(node.at, f"${node.parts[0].name} is in no memory")


@emits("none")
def _none(e: Emitter, node: Typed) -> str:
    return "0"


# Members and elements.


@places("member")
def _member_place(e: Emitter, node: Typed) -> Place:
    owner, field = node.parts
    return e.place(owner).at(field.offset // 8)


@emits("member")
def _member(e: Emitter, node: Typed) -> str:
    owner, field = node.parts
    place = e.place(owner).at(field.offset // 8)
    if field.loc:
        word = e.number(Int(4, False), f"context_word(u32, {place.offset})")
        behind = f" + {place.offset + 4}" if field.loc == "rel" else ""
        return e.number(node.type, f"(u64)ctx + ({word} & 0xffff){behind}")
    if field.bits:
        return e.load_bits(place, field)
    if place.space == "context" and e.kind in _WORDS:
        word = e.number(Int(8, False), f"context_word(u64, {place.offset})")
        if node.type.size == 8:
            return word
        return e.number(node.type, f"({c_type(node.type)}){word}")
    return e.load(place, node.type)


@places("element")
def _element_place(e: Emitter, node: Typed) -> Place:
    owner, number = node.parts
    return e.place(owner).at(owner.type.offsets()[number])


@places("index")
def _index_place(e: Emitter, node: Typed) -> Place:
    owner, index = node.parts
    size = node.type.size
    pointer = isinstance(owner.type, Pointer)
    if pointer:
        place = pointee_place(e, owner, node.space)
    else:
        place = e.place(owner)
    if isinstance(index.constant, int) and place.space != "own" or index.constant == 0:
        return place.at(int(index.constant or 0) * size)
    if isinstance(index.constant, int):
        return place.at(index.constant * size)
    number = e.scalar(index)
    count = 0
    if not pointer:
        count = getattr(owner.type, "count", 0) or owner.type.size // size
        _warn_outside(e, node, number, count)
    if place.space == "own":
        # The verifier has to see that it stays inside.
        wide = e.name_of("i")
        e.line(f"u64 {wide} = {number};")
        e.line(f"KEEP({wide});")
        e.line(f"AT_MOST({wide}, {max(count - 1, 0)});")
        return Place(f"({place.address} + {wide} * {size})")
    if place.space == "context":
        place = Place("(u64)ctx", place.offset, "kernel")
    address = f"{place.address} + (u64){number} * {size}"
    if count:  # nothing is at 0: it reads as 0
        address = f"(u64){number} < {count} ? {address} : 0"
    return Place(e.number(Int(8, False), address), 0, place.space)


def _warn_outside(e: Emitter, node: Typed, number: str, count: int) -> None:
    text = "Array access out of bounds. This can lead to unexpected results."
    e.open(f"if ((u64){number} >= {count})")
    e.send_empty(Record("warning", pieces=[text], at=e.whole.place(node.at)))
    e.close()


@places("pointee")
def _pointee_place(e: Emitter, node: Typed) -> Place:
    return pointee_place(e, node.parts[0], node.space)


def pointee_place(e: Emitter, pointer: Typed, space: str) -> Place:
    """Where a pointer points to."""
    if pointer.op == "address" and pointer.parts:
        return e.place(pointer.parts[0])
    if space == "own":
        # A number that was an address of the program's own memory: read as the kernel's.
        return Place(e.scalar(pointer), 0, "kernel")
    return Place(e.scalar(pointer), 0, space)


@emits("address")
def _address(e: Emitter, node: Typed) -> str:
    inner = node.parts[0]
    place = e.place(inner)
    if place.space == "own":
        return e.number(node.type, f"(u64){place.address}")
    if place.space == "context":
        return e.number(node.type, f"(u64)ctx + {place.offset}")
    return e.number(node.type, place.address)


# Tuples, blocks, choices.


@into("tuple")
def _put_tuple(e: Emitter, node: Typed, to: Place) -> None:
    kind = node.type
    assert isinstance(kind, Tuple)
    if e.has_gaps(kind):
        e.zero(to, kind.size)
    for offset, element in zip(kind.offsets(), node.parts):
        put_exactly(e, element, to.at(offset))


def put_exactly(e: Emitter, node: Typed, to: Place) -> None:
    """Put a value where there is no room behind a string."""
    if isinstance(node.type, String) and node.op not in ("text", "map"):
        slot = e.own_place(node)
        e.copy_own(to, slot, node.type.size)
    else:
        e.put(node, to)


def _enter(e: Emitter, node: Typed) -> Optional[Typed]:
    statements, value = node.parts
    e.statements(statements)
    return value  # type: ignore[no-any-return]


@emits("block")
def _block(e: Emitter, node: Typed) -> str:
    value = _enter(e, node)
    assert value is not None
    return e.scalar(value)


@places("block")
def _block_place(e: Emitter, node: Typed) -> Place:
    value = _enter(e, node)
    assert value is not None
    return e.place(value)


@emits("choice")
def _choice(e: Emitter, node: Typed) -> str:
    condition, then, otherwise = node.parts
    name = e.name_of("c")
    e.line(f"{'s64' if isinstance(node.type, Int) and node.type.signed else 'u64'} {name} = 0;")
    e.open(f"if ({e.truth(condition)})")
    e.line(f"{name} = {e.scalar(then)};")
    e.close("} else {")
    e.indent += 1
    e.line(f"{name} = {e.scalar(otherwise)};")
    e.close()
    return name


@into("choice")
def _put_choice(e: Emitter, node: Typed, to: Place) -> None:
    condition, then, otherwise = node.parts
    e.open(f"if ({e.truth(condition)})")
    e.put(then, to)
    e.close("} else {")
    e.indent += 1
    e.put(otherwise, to)
    e.close()
