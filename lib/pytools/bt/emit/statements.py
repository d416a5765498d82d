"""C of statements."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit import each
from pytools.bt.emit.code import Place, wide_type
from pytools.bt.emit.each import MOST_CALLS, MOST_ROUNDS, MOST_TURNS, calls_back
from pytools.bt.emit.values import Emitter
from pytools.bt.plan import Record
from pytools.bt.typed import Typed, flow, statement
from pytools.bt.types import fits_register

if TYPE_CHECKING:
    from typing import Any, Sequence


__all__: list[str] = []


@flow("set_variable")
def _set_variable(e: Emitter, node: Typed) -> None:
    variable, value = node.parts
    kind = variable.declared or variable.type
    if fits_register(kind):
        number = e.scalar(value)
        found = e.declare(variable)
        if isinstance(found, Place):
            e.store(found, kind, number)
        else:
            e.line(f"{found} = {number};")
        return
    known = variable.key in e.variables
    found = e.declare(variable)
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


@flow("declare")
def _declare(e: Emitter, node: Typed) -> None:
    (variable,) = node.parts
    kind = variable.declared or variable.type
    found = e.declare(variable)
    if isinstance(found, Place):
        e.zero(found, max(kind.size, 1))
    else:
        e.line(f"{found} = 0;")


@flow("if")
def _if(e: Emitter, node: Typed) -> None:
    condition, then, otherwise = node.parts
    if condition.constant is not None:
        e.open("")
        e.statements(then if condition.constant else otherwise)
        e.close()
        return
    e.open(f"if ({e.truth(condition)})")
    e.statements(then)
    if otherwise:
        e.close("} else {")
        e.indent += 1
        e.statements(otherwise)
    e.close()


@flow("unrolled")
def _unrolled(e: Emitter, node: Typed) -> None:
    for body in node.parts[0]:
        e.open("")
        e.statements(body)
        e.close()


@flow("while")
def _while(e: Emitter, node: Typed) -> None:
    condition, body = node.parts
    called = e.whole.has_helper("loop")
    most = MOST_TURNS if called else MOST_ROUNDS
    text = f"a loop was ended after {most} rounds"
    record = Record("warning", pieces=[text], at=e.whole.place(node.at))
    if called:
        done = each.while_loop(e, node, most)
        e.open(f"if ({done} == {most})")
        e.send_empty(record)
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
    e.send_empty(record)
    e.line("break;")
    e.close()
    _body(e, body)
    e.close()


@flow("for_range")
def _for_range(e: Emitter, node: Typed) -> None:
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
    found = e.declare(variable)
    if isinstance(found, Place):
        e.store(found, kind, index)
    else:
        e.line(f"{found} = {index};")
    _body(e, body)
    e.close()


def _body(e: Emitter, body: Sequence[Typed]) -> None:
    """The statements of a loop of C's own."""
    jumps, e.jumps = e.jumps, {"break": "break;", "continue": "continue;"}
    e.statements(body)
    e.jumps = jumps


@flow("jump")
def _jump(e: Emitter, node: Typed) -> None:
    word, value = node.parts
    if value is not None:
        e.run(value)
    e.line(e.leave if word == "return" else e.jumps[word])


@flow("evaluate")
def _evaluate(e: Emitter, node: Typed) -> None:
    e.run(node.parts[0])


@flow("statements")
def _statements(e: Emitter, node: Typed) -> None:
    e.open("")
    e.statements(node.parts[0])
    e.close()


@flow("set_guard")
def _set_guard(e: Emitter, node: Typed) -> None:
    """What an ``if`` that the end of a step divides found out (``steps.flatten``)."""
    offset, condition = node.parts
    e.line(f"*(u64 *)(frame + {offset}) = !!{e.truth(condition)};")


@flow("guarded")
def _guarded(e: Emitter, node: Typed) -> None:
    guards, inner = node.parts
    tests = " && ".join(
        f"{'' if wanted else '!'}*(u64 *)(frame + {offset})" for offset, wanted in guards
    )
    e.open(f"if ({tests})")
    e.statement(inner)
    e.close()


@statement("block")
def _block(e: Emitter, node: Typed) -> None:
    statements, value = node.parts
    e.open("")
    e.statements(statements)
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
