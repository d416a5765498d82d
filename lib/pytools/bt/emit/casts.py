"""C of casts."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.code import Place, c_type
from pytools.bt.emit.values import Emitter, put_exactly, put_text
from pytools.bt.typed import Typed, emits, into, tail
from pytools.bt.types import Array, Bool, Buffer, Int, Pointer, String, Tuple, fits_register

if TYPE_CHECKING:
    from pytools.bt.types import Type

__all__ = ["narrowed"]


@emits("cast")
def _cast(e: Emitter, node: Typed) -> str:
    (inner,) = node.parts
    kind, source = node.type, inner.type
    if fits_register(source):
        value = e.scalar(inner)
        return e.number(kind, narrowed(kind, source, value))
    # Bytes as a number.
    place = e.own_place(inner)
    if isinstance(source, Buffer):
        place = place.at(4)
    return e.load(place, kind)


def narrowed(kind: Type, source: Type, value: str) -> str:
    """A number as one of another type."""
    if isinstance(kind, Bool):
        return f"!!{value}"
    if isinstance(kind, Pointer) and source.size < 8:
        return f"(u{8 * source.size}){value}"
    if isinstance(kind, Int) and kind.size < 8:
        if isinstance(source, Int) and source.signed == kind.signed and source.size <= kind.size:
            return value
        return f"({c_type(kind)}){value}"
    return value


@into("cast")
def _put_cast(e: Emitter, node: Typed, to: Place) -> None:
    (inner,) = node.parts
    kind, source = node.type, inner.type
    if isinstance(kind, (Array, String)) and fits_register(source):
        value = e.scalar(inner)
        if kind.size > source.size:
            e.zero(to, kind.size)
        size = min(kind.size, source.size)
        e.line(f"*(u{8 * size} *){to.address} = {value};")
        return
    if isinstance(kind, Tuple) and inner.op == "tuple":
        assert isinstance(source, Tuple)
        if e.has_gaps(kind):
            e.zero(to, kind.size)
        values: dict[int, Typed] = dict(enumerate(inner.parts))
        for number, (offset, element) in enumerate(zip(kind.offsets(), kind.elements)):
            other = source.names.index(kind.names[number]) if kind.names else number
            each = values[other]
            if each.type != element:
                each = Typed("cast", element, each.at, (each,), None)
            put_exactly(e, each, to.at(offset))
        return
    if isinstance(kind, String) and isinstance(source, String) and inner.op == "text":
        put = inner._replace(type=kind)
        put_text(e, put, to)
        return
    e.convert(to, kind, e.own_place(inner), source)


@tail("cast")
def _tail_cast(e: Emitter, node: Typed, address: str, most: int) -> str:
    return e.string_tail(node.parts[0], address, most)
