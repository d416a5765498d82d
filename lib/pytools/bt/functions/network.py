"""Addresses of the network, and the order of bytes."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.emit.code import Place
from pytools.bt.emit.values import put_bytes
from pytools.bt.functions.calls import integer, take, text
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks, emits, into
from pytools.bt.types import UNKNOWN, Array, Int, Pointer, Special, String

if TYPE_CHECKING:
    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter

AF_INET, AF_INET6 = 2, 10  # Linux's


@checks("ntop")
def _check_ntop(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    family = integer(checker, call, nodes[0]) if len(nodes) == 2 else None
    address = checker.value(nodes[-1])
    kind = address.type
    if isinstance(kind, Pointer) and isinstance(kind.to, (Array, String)):
        address = checker.dereference(address, call.at)
        kind = address.type
    if isinstance(kind, (Array, String)):
        if kind.size not in (4, 16):
            raise Wrong(address.at, f"ntop() expects an address of 4 or 16 bytes ({kind} provided)")
    elif kind != UNKNOWN and not isinstance(kind, Int):
        raise Wrong(address.at, f"ntop() expects an integer or array argument, got {kind}")
    return Typed("ntop", Special("inet"), call.at, (family, address))


@into("ntop")
def _put_ntop(e: Emitter, node: Typed, to: Place) -> None:
    family, address = node.parts
    size = address.type.size
    number = e.scalar(family) if family is not None else str(AF_INET6 if size == 16 else AF_INET)
    e.zero(to, 20)
    e.line(f"*(u32 *){to.address} = {number};")
    if isinstance(address.type, Int):
        e.store(to.at(4), Int(4, False), e.scalar(address))
    else:
        e.fetch(to.at(4), raw(e.place(address)), Array(Int(1, False), size))


def raw(place: Place) -> Place:
    return Place("(u64)ctx", place.offset, "kernel") if place.space == "context" else place


@checks("pton")
def _check_pton(checker: Checker, call: tree.Call) -> Typed:
    import socket  # few programs need it

    (node,) = take(call, 1)
    address = text(checker, call, node)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        data = socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise Wrong(call.at, f"pton() expects an IPv4 or IPv6 address, got {address}") from None
    return Typed("pton", Array(Int(1, False), len(data)), call.at, (data,))


@into("pton")
def _put_pton(e: Emitter, node: Typed, to: Place) -> None:
    put_bytes(e, node.parts[0], to)


@checks("macaddr")
def _check_macaddr(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    found = checker.value(node)
    kind = found.type
    if isinstance(kind, (Int, Pointer)):
        space = kind.space if isinstance(kind, Pointer) else checker.address_space(found)
        inner = Typed("as_number", Pointer(Array(Int(1, False), 6), space), call.at, (found,))
        found = checker.dereference(inner, call.at)
    elif kind != UNKNOWN and (not isinstance(kind, (Array, String)) or kind.size != 6):
        raise Wrong(found.at, f"macaddr() argument must have a size of 6 bytes ({kind} provided)")
    return Typed("macaddr", Special("mac"), call.at, (found,))


@into("macaddr")
def _put_macaddr(e: Emitter, node: Typed, to: Place) -> None:
    e.fetch(to, raw(e.place(node.parts[0])), Array(Int(1, False), 6))


@checks("bswap")
def _check_bswap(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    number = integer(checker, call, node)
    return Typed("bswap", Int(number.type.size or 8, False), call.at, (number,))


@emits("bswap")
def _bswap(e: Emitter, node: Typed) -> str:
    value, bits = e.scalar(node.parts[0]), 8 * node.type.size
    if bits == 8:
        return e.number(node.type, f"(u8){value}")
    return e.number(node.type, f"__builtin_bswap{bits}((u{bits}){value})")


@checks("socket_cookie")
def _check_cookie(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    if checker.kind not in ("fentry", "fexit", "rawtracepoint"):
        raise Wrong(call.at, f"socket_cookie can not be used with {checker.kind} probes")
    found = checker.value(node)
    return Typed("socket_cookie", Int(8, False), call.at, (found,))


@emits("socket_cookie")
def _cookie(e: Emitter, node: Typed) -> str:
    return e.number(node.type, f"helper_cookie_of_socket({e.scalar(node.parts[0])})")
