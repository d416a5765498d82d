"""C of records: arguments at their offsets, the strings among them behind."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.code import literal, on_stack
from pytools.bt.emit.values import Emitter, put_exactly
from pytools.bt.types import String, align_up

if TYPE_CHECKING:
    from typing import Any, Sequence

    from pytools.bt.plan import Record
    from pytools.bt.typed import Typed

__all__ = ["send"]

HEAD = 8  # bytes: the id


def send(e: Emitter, record: Record, arguments: Sequence[Typed], control: bool = False) -> None:
    """Send a record with those arguments, whose layout is put into it."""
    layout: list[list[Any]] = []
    size, most = 0, 0
    strings = []
    for each in arguments:
        text = isinstance(each.type, String)
        size = align_up(size, 4 if text else each.type.align)
        layout.append([size, e.whole.plan(each.type)])
        if isinstance(each.type, String):
            # The user's own text is printed as it is.
            own = ["own"] * isinstance(each.constant, str)
            layout[-1][1] = ["string", each.type.bytes + each.type.array, *own]
            strings.append((each, size, each.type.size))
            most += each.type.size
        size += 4 if text else each.type.size
    number = e.whole.record(record._replace(arguments=layout, size=size))
    room = HEAD + size + most + 8
    slot = e.slot(room, stack=not strings)
    if on_stack(slot) and (size % 8 or any(e.has_gaps(a.type) for a in arguments)):
        e.zero(slot, align_up(room, 8))
    e.line(f"*(u64 *){slot.address} = {literal(number)};")
    for each, (offset, _) in zip(arguments, layout):
        if not isinstance(each.type, String):
            put_exactly(e, each, slot.at(HEAD + offset))
    call = "hand_over_control" if control else "hand_over"
    if not strings:
        e.line(f"{call}({slot.address}, {HEAD + size});")
        return
    end = e.name_of("o")
    e.line(f"u64 {end} = {HEAD + size};")
    bound = HEAD + size
    for each, offset, longest in strings:
        length = e.name_of("z")
        address = f"({slot.address} + {end})"
        e.line(f"u64 {length} = {e.string_tail(each, address, longest)};")
        e.line(f"*(u32 *){slot.at(HEAD + offset).address} = {length};")
        bound += longest
        e.line(f"{end} += {length};")
        e.line(f"KEEP({end});")
        e.line(f"AT_MOST({end}, {bound});")
    e.line(f"{call}({slot.address}, {end});")
