"""What is printed, and what else the reader is told: printf() and its like, print(), exit()."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.emit.code import Place
from pytools.bt.emit.maps import cpu_map
from pytools.bt.emit.records import send
from pytools.bt.formats import check_arguments, pieces_of
from pytools.bt.functions.calls import constant, integer, take, text
from pytools.bt.plan import Record
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks, statement
from pytools.bt.types import UNKNOWN, VOID, Aggregate, Int, Pointer, String

if TYPE_CHECKING:
    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter

MOST_JOINED = 16  # strings: as bpftrace


@checks("printf", "errorf", "warnf", "debugf", "system", "cat", "fail")
def _check_printf(checker: Checker, call: tree.Call) -> Typed:
    name = call.name
    if not call.arguments:
        raise Wrong(call.at, f"{name}() requires a format string")
    if name == "system" and not checker.options.unsafe:
        raise Wrong(
            call.at, "system() is an unsafe function being used in safe mode", "--unsafe allows it"
        )
    form = text(checker, call, call.arguments[0])
    values = [checker.value(each) for each in call.arguments[1:]]
    for value in values:
        if isinstance(value.type, Aggregate) and value.type.castable is False:
            raise Wrong(value.at, f"{name}: '{value.type}' can not be printed by a format")
    pieces = pieces_of(form, call.at, name)
    check_arguments(pieces, values, call.at, name)
    if name == "fail" and checker.final:
        parts = iter(values)
        said = "".join(
            piece if isinstance(piece, str) else str(next(parts).constant) for piece in pieces
        )
        raise Wrong(call.at, said)
    return Typed("printf", VOID, call.at, (name, pieces, values))


@statement("printf")
def _printf(e: Emitter, node: Typed) -> None:
    name, pieces, values = node.parts
    send(e, Record(name, pieces=pieces, at=e.whole.place(node.at)), values)


@checks("print")
def _check_print(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 3)
    numbers = [constant(checker, call, each, "top and div") for each in nodes[1:]]
    if any(number < 0 for number in numbers):
        raise Wrong(call.at, "print(): top and div can not be negative")
    top, divisor = [*numbers, 0, 0][:2]
    node = nodes[0]
    if isinstance(node, tree.Map):
        facts = checker.facts.map(node.name)
        facts.used = True
        facts.at = facts.at or node.at
        return Typed("print_map", VOID, call.at, (facts, top, divisor))
    if numbers:
        what = "map" if isinstance(node, tree.Element) else "value"
        raise Wrong(
            call.at, f"Single-value (i.e. indexed) {what} prints cannot take additional arguments"
        )
    found = checker.expression(node)
    if found.op in ("counted", "map") and isinstance(node, tree.Element):
        return Typed("print_element", VOID, call.at, (found,))
    value = checker.plain(found)
    if value.type == VOID or isinstance(value.type, Aggregate):
        raise Wrong(call.at, f"print(): '{value.type}' can not be printed")
    return Typed("print_value", VOID, call.at, (value,))


@statement("print_map")
def _print_map(e: Emitter, node: Typed) -> None:
    facts, top, divisor = node.parts
    send(e, Record("print_map", map=facts.label, top=top, divisor=divisor), [], control=True)


@statement("print_element")
def _print_element(e: Emitter, node: Typed) -> None:
    (found,) = node.parts
    facts, key = found.parts
    if key.type != facts.key:
        key = Typed("cast", facts.key, key.at, (key,))
    record = Record("print_element", map=facts.label)
    if cpu_map(facts):
        send(e, record, [key], control=True)
        return
    # The key is asked for once: its value is looked up by what was sent.
    send(e, record, [key, found])


@statement("print_value")
def _print_value(e: Emitter, node: Typed) -> None:
    send(e, Record("print"), node.parts)


@checks("exit")
def _check_exit(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 0, 1)
    code = integer(checker, call, nodes[0]) if nodes else Typed("number", Int(1), call.at, (), 0)
    return Typed("exit", VOID, call.at, (checker.cast(code, Int(4, True)),))


@statement("exit")
def _exit(e: Emitter, node: Typed) -> None:
    send(e, Record("exit"), node.parts, control=True)
    e.line(e.leave)


@checks("join")
def _check_join(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    found = checker.value(nodes[0])
    if found.type != UNKNOWN and not isinstance(found.type, (Int, Pointer)):
        raise Wrong(
            found.at, f"join() only supports int or pointer arguments ({found.type} provided)"
        )
    separator = text(checker, call, nodes[1]) if len(nodes) > 1 else " "
    return Typed("join", VOID, call.at, (found, separator, checker.address_space(found)))


@statement("join")
def _join(e: Emitter, node: Typed) -> None:
    pointer, separator, space = node.parts
    kind = pointer.type
    if isinstance(kind, Pointer):
        space = kind.space or space
    size = e.whole.config["max_strlen"]
    array = e.scalar(pointer)
    # Strings of at most so many bytes, as many as there are.
    most = max(1, min(MOST_JOINED, 16384 // size))
    strings = [
        Typed("joined", String(size), node.at, (array, number, space)) for number in range(most)
    ]
    send(e, Record("join", pieces=[separator]), strings)


def _tail_joined(e: Emitter, node: Typed, address: str, most: int) -> str:
    array, number, space = node.parts
    pointer = e.load(Place(array, 8 * number, space), Int(8, False))
    given = e.read_text(Place(address), most + 1, pointer, space)
    return f"text_length({given}, {most})"


def _register() -> None:
    from pytools.bt.typed import TAILS

    TAILS["joined"] = _tail_joined


_register()
