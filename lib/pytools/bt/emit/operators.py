"""C of operators."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.casts import narrowed
from pytools.bt.emit.code import Place, literal, width
from pytools.bt.emit.values import Emitter
from pytools.bt.plan import Record
from pytools.bt.typed import Typed, emits
from pytools.bt.types import Bool, Int, Pointer

if TYPE_CHECKING:
    from pytools.bt.types import Type

__all__: list[str] = []

SHORT = 64  # bytes: what is compared without a loop


@emits("unary")
def _unary(e: Emitter, node: Typed) -> str:
    operator, operand = node.parts
    value = e.scalar(operand)
    if operator == "!":
        return e.number(node.type, f"!{value}")
    return e.number(node.type, f"{operator}(u64){value}")


@emits("logical")
def _logical(e: Emitter, node: Typed) -> str:
    operator, left, right = node.parts
    name = e.name_of("l")
    value = e.truth(left)
    e.line(f"u64 {name} = !!{value};")
    e.open(f"if ({name})" if operator == "&&" else f"if (!{name})")
    e.line(f"{name} = !!{e.truth(right)};")
    e.close()
    return name


@emits("binary")
def _binary(e: Emitter, node: Typed) -> str:
    operator, left, right, signed = node.parts
    a, b = e.scalar(left), e.scalar(right)
    if isinstance(node.type, Bool):
        kind = "s64" if signed else "u64"
        return e.number(node.type, f"({kind}){a} {operator} ({kind}){b}")
    if operator in ("/", "%"):
        return _divided(e, node, a, b, signed)
    if operator in ("<<", ">>"):
        # More than 63 is what the machine makes of it.
        return e.number(node.type, f"(u64){a} {operator} ({b} & 63)")
    return e.number(node.type, f"(u64){a} {operator} (u64){b}")


def _divided(e: Emitter, node: Typed, a: str, b: str, signed: bool) -> str:
    operator, _, right, _ = node.parts
    name = e.name_of("d")
    e.line(f"{'s64' if signed else 'u64'} {name} = 1;")
    zero = right.constant == 0
    known = isinstance(right.constant, int) and not zero
    if not known:
        # As bpftrace has it: the result is 1, and a line says so.
        record = Record(
            "warning",
            pieces=[
                "Divide or modulo by 0 detected. This can lead to unexpected results. "
                "1 is being used as the result."
            ],
            at=e.whole.place(node.at),
        )
        e.open(f"if ({b} == 0)")
        e.send_empty(record)
        e.close("} else {")
        e.indent += 1
    if signed:
        e.line(f"{name} = {'divide' if operator == '/' else 'remainder'}({a}, {b});")
    else:
        e.line(f"{name} = (u64){a} {operator} (u64){b};")
    if not known:
        e.close()
    return name


@emits("moved")
def _moved(e: Emitter, node: Typed) -> str:
    operator, pointer, number, step = node.parts
    a, b = e.scalar(pointer), e.scalar(number)
    return e.number(node.type, f"{a} {operator} (u64){b} * {step}")


# Comparisons of bytes.


@emits("same_text")
def _same_text(e: Emitter, node: Typed) -> str:
    operator, left, right = node.parts
    if left.op == "text":
        left, right = right, left
    equal = texts_equal(e, left, right)
    return e.number(node.type, equal if operator == "==" else f"!{equal}")


def texts_equal(e: Emitter, left: Typed, right: Typed) -> str:
    """Whether two strings are the same, as a number."""
    a = e.own_place(left)
    size = left.type.size
    if right.op == "text":
        data = str(right.constant).encode("utf-8", "surrogateescape") + b"\0"
        if len(data) - 1 > size:
            return literal(0)
        # A text that fills all bytes has no NUL.
        return _equal_known(e, a, data[:size] if len(data) > size else data)
    b = e.own_place(right)
    sizes = sorted((size, right.type.size))
    equal = bytes_equal(e, a, b, sizes[0])
    if sizes[0] != sizes[1]:
        longer = a if size == sizes[1] else b
        rest = e.load(longer.at(sizes[0]), Int(1, False))
        return e.number(Bool(), f"{equal} & !{rest}")
    return equal


def _equal_known(e: Emitter, place: Place, data: bytes) -> str:
    import sys

    name = e.name_of("q")
    e.line(f"u64 {name} = 0;")
    position = 0
    while position < len(data):
        step = width(len(data) - position, place.at(position))
        number = int.from_bytes(data[position : position + step], sys.byteorder)
        e.line(f"{name} |= *(u{8 * step} *){place.at(position).address} ^ {literal(number)};")
        position += step
    return e.number(Bool(), f"!{name}")


def bytes_equal(e: Emitter, a: Place, b: Place, size: int) -> str:
    """Whether so many bytes of the program's own memory are the same, as a number."""
    name = e.name_of("q")
    e.line(f"u64 {name} = 0;")
    position = 0
    if size > SHORT:
        position = size // 8 * 8
        index = e.name_of("i")
        e.line(f"u32 {index};")
        e.line("#pragma clang loop unroll(disable)")
        e.open(f"for ({index} = 0; {index} < {position}; {index} += 8)")
        e.line(
            f"if (*(u64 *)({a.address} + {index}) != *(u64 *)({b.address} + {index})) "
            f"{{ {name} = 1; break; }}"
        )
        e.close()
    while position < size:
        step = width(size - position, a.at(position), b.at(position))
        c = f"u{8 * step}"
        e.line(f"{name} |= *({c} *){a.at(position).address} ^ *({c} *){b.at(position).address};")
        position += step
    return e.number(Bool(), f"!{name}")


@emits("same_bytes")
def _same_bytes(e: Emitter, node: Typed) -> str:
    operator, left, right = node.parts
    equal = bytes_equal(e, e.own_place(left), e.own_place(right), left.type.size)
    return e.number(node.type, equal if operator == "==" else f"!{equal}")


# ++ and --.


@emits("step")
def _step(e: Emitter, node: Typed) -> str:
    word, before, target = node.parts
    kind: Type = node.type
    amount = 1
    if isinstance(kind, Pointer):
        amount = max(kind.to.size, 1)
    sign = word[0]
    if target.op == "map":
        from pytools.bt.emit.maps import add_to_map

        facts, key = target.parts
        return add_to_map(e, facts, key, f"{sign}{amount}LL", "new" if before else "old")
    found = e.declare(target.parts[0])
    old = e.scalar(target)
    new = e.number(kind, narrowed(kind, Int(8), f"({old} {sign} {amount})"))
    if isinstance(found, Place):
        e.store(found, kind, new)
    else:
        e.line(f"{found} = {new};")
    return new if before else old
