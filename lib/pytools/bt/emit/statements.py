"""C of statements."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.code import Place, wide_type
from pytools.bt.emit.values import Emitter
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, statement
from pytools.bt.types import String, fits_register

if TYPE_CHECKING:
    from typing import Any, Sequence

    from pytools.bt.emit.whole import Whole
    from pytools.bt.scope import Variable

__all__ = ["calls_back", "declare", "emit_statement", "emit_statements"]

# Rounds of a loop whose end the verifier can't see: where it has to go through each of them, and
# where it has not (BPF_MAX_LOOPS). Those of a range that is written out as a loop.
MOST_ROUNDS = 512
MOST_CALLS = 1 << 23
MOST_TURNS = 1 << 20  # of a while: one that never ends takes a hundredth of a second
MOST_PLAIN = 64


def emit_statements(e: Emitter, nodes: Sequence[Typed]) -> None:
    for node in nodes:
        emit_statement(e, node)


def emit_statement(e: Emitter, node: Typed) -> None:
    """A statement; the memory that it took is free again behind it."""
    mark = e.mark()
    handler = _HANDLERS.get(node.op)
    if handler is None:
        raise Wrong(node.at, f"this is not supported here ({node.op})")
    handler(e, node)
    e.release(mark)


def declare(e: Emitter, variable: Variable) -> Any:
    """A variable's name, or its place."""
    if variable.key in e.variables:
        return e.variables[variable.key]
    kind = variable.declared or variable.type
    if variable.key in e.frame:
        found: Any = Place("frame", e.frame[variable.key])
    elif fits_register(kind) and not e.root.captured and variable.key not in e.whole.pointed:
        found = e.name_of("v")
        e.heads.append(f"{wide_type(kind)} {found} = 0;")
    else:
        found = e.slot(kind.size + (8 if isinstance(kind, String) else 0), keep=True)
    e.variables[variable.key] = found
    return found


def _set_variable(e: Emitter, node: Typed) -> None:
    variable, value = node.parts
    kind = variable.declared or variable.type
    if fits_register(kind):
        number = e.scalar(value)
        found = declare(e, variable)
        if isinstance(found, Place):
            e.store(found, kind, number)
        else:
            e.line(f"{found} = {number};")
        return
    known = variable.key in e.variables
    found = declare(e, variable)
    if known and _mentions(value, variable):
        slot = e.slot(kind.size + 8)
        e.put(value, slot)
        e.copy_own(found, slot, kind.size)
        return
    e.put(value, found)


def _mentions(node: Any, variable: Any) -> bool:
    if isinstance(node, Typed):
        return any(_mentions(part, variable) for part in node.parts)
    if isinstance(node, (list, tuple)):
        return any(_mentions(part, variable) for part in node)
    return node is variable or getattr(node, "key", None) == variable.key


def _declare(e: Emitter, node: Typed) -> None:
    (variable,) = node.parts
    kind = variable.declared or variable.type
    found = declare(e, variable)
    if isinstance(found, Place):
        e.zero(found, max(kind.size, 1))
    else:
        e.line(f"{found} = 0;")


def _if(e: Emitter, node: Typed) -> None:
    condition, then, otherwise = node.parts
    if condition.constant is not None:
        e.open("")
        emit_statements(e, then if condition.constant else otherwise)
        e.close()
        return
    e.open(f"if ({e.truth(condition)})")
    emit_statements(e, then)
    if otherwise:
        e.close("} else {")
        e.indent += 1
        emit_statements(e, otherwise)
    e.close()


def _unrolled(e: Emitter, node: Typed) -> None:
    for body in node.parts[0]:
        e.open("")
        emit_statements(e, body)
        e.close()


def _while(e: Emitter, node: Typed) -> None:
    from pytools.bt.emit import each
    from pytools.bt.emit.operators import hand_over_empty
    from pytools.bt.plan import Record

    condition, body = node.parts
    called = e.whole.has_helper("loop")
    most = MOST_TURNS if called else MOST_ROUNDS
    text = f"a loop was ended after {most} rounds"
    record = Record("warning", pieces=[text], at=e.whole.place(node.at))
    if called:
        done = each.while_loop(e, node, most)
        e.open(f"if ({done} == {most})")
        hand_over_empty(e, record)
        e.close()
        return
    rounds = e.name_of("w")
    e.line(f"u32 {rounds};")
    e.line("#pragma clang loop unroll(disable)")
    e.open(f"for ({rounds} = 0; {rounds} <= {most}; {rounds}++)")
    mark = e.mark()
    e.line(f"if (!{e.truth(condition)})\n{'	' * min(e.indent + 1, 12)}break;")
    e.release(mark)
    e.open(f"if ({rounds} == {most})")
    hand_over_empty(e, record)
    e.line("break;")
    e.close()
    _body(e, body)
    e.close()


def calls_back(whole: Whole, node: Any) -> bool:
    """Whether something in a statement becomes a function that the kernel calls."""
    if isinstance(node, Typed):
        if node.op in ("for_map", "map_length"):
            return True
        if node.op in ("while", "for_range") and whole.has_helper("loop"):
            ends = [each.constant for each in node.parts[1:3] if isinstance(each, Typed)]
            known = len(ends) == 2 and all(isinstance(end, int) for end in ends)
            if not known or ends[1] - ends[0] > MOST_PLAIN:  # type: ignore[operator]
                return True
        return any(calls_back(whole, part) for part in node.parts)
    return isinstance(node, (list, tuple)) and any(calls_back(whole, each) for each in node)


def _for_range(e: Emitter, node: Typed) -> None:
    from pytools.bt.emit import each

    if calls_back(e.whole, node._replace(parts=node.parts[:3])):
        each.for_range(e, node, MOST_CALLS)
        return
    variable, first, behind, body = node.parts
    kind = variable.declared or variable.type
    wide = wide_type(kind)
    start, end = e.scalar(first), e.scalar(behind)
    index, limit = e.name_of("w"), e.name_of("w")
    e.line(f"{wide} {index} = {start}, {limit} = {end};")
    rounds = e.name_of("w")
    e.line(f"u32 {rounds};")
    e.line("#pragma clang loop unroll(disable)")
    e.open(
        f"for ({rounds} = 0; {rounds} < {MOST_ROUNDS} && {index} < {limit}; {rounds}++, {index}++)"
    )
    found = declare(e, variable)
    if isinstance(found, Place):
        e.store(found, kind, index)
    else:
        e.line(f"{found} = {index};")
    _body(e, body)
    e.close()


def _body(e: Emitter, body: Sequence[Typed]) -> None:
    """The statements of a loop of C's own."""
    jumps, e.jumps = e.jumps, {"break": "break;", "continue": "continue;"}
    emit_statements(e, body)
    e.jumps = jumps


def _jump(e: Emitter, node: Typed) -> None:
    word, value = node.parts
    if value is not None:
        e.run(value)
    e.line(e.leave if word == "return" else e.jumps[word])


def _evaluate(e: Emitter, node: Typed) -> None:
    e.run(node.parts[0])


def _statements(e: Emitter, node: Typed) -> None:
    e.open("")
    emit_statements(e, node.parts[0])
    e.close()


def _set_guard(e: Emitter, node: Typed) -> None:
    """What an ``if`` that the end of a step divides found out (``steps.flatten``)."""
    offset, condition = node.parts
    e.line(f"*(u64 *)(frame + {offset}) = !!{e.truth(condition)};")


def _guarded(e: Emitter, node: Typed) -> None:
    guards, inner = node.parts
    tests = " && ".join(
        f"{'' if wanted else '!'}*(u64 *)(frame + {offset})" for offset, wanted in guards
    )
    e.open(f"if ({tests})")
    emit_statement(e, inner)
    e.close()


@statement("block")
def _block(e: Emitter, node: Typed) -> None:
    statements, value = node.parts
    e.open("")
    emit_statements(e, statements)
    if value is not None:
        e.run(value)
    e.close()


@statement("choice")
def _choice(e: Emitter, node: Typed) -> None:
    condition, then, otherwise = node.parts
    e.open(f"if ({e.truth(condition)})")
    e.run(then)
    e.close("} else {")
    e.indent += 1
    e.run(otherwise)
    e.close()


def _map_statement(e: Emitter, node: Typed) -> None:
    from pytools.bt.emit import each, maps

    getattr(each if node.op == "for_map" else maps, node.op)(e, node)


_HANDLERS = {
    "set_variable": _set_variable,
    "declare": _declare,
    "if": _if,
    "unrolled": _unrolled,
    "while": _while,
    "for_range": _for_range,
    "jump": _jump,
    "evaluate": _evaluate,
    "statements": _statements,
    "set_guard": _set_guard,
    "guarded": _guarded,
    "set_map": _map_statement,
    "add_map": _map_statement,
    "count": _map_statement,
    "for_map": _map_statement,
}
