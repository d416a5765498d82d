"""What a probe gives: arguments, the result, registers, the context."""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.bt import tree
from pytools.bt.emit.code import Place, c_type
from pytools.bt.functions.calls import take, text
from pytools.bt.functions.process import register_offset
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks, emits, places
from pytools.bt.types import VOID, Int, Pointer, Special, String, align_up
from pytools.compile import usdt
from pytools.facts import differences

if TYPE_CHECKING:
    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter

U64, S64 = Int(8, False), Int(8, True)
_REGISTERS = (
    "kprobe",
    "kretprobe",
    "uprobe",
    "uretprobe",
    "usdt",
    "profile",
    "software",
    "hardware",
)


@checks("args")
def _check_args(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    arguments = checker.form.arguments
    if arguments is None:
        if checker.kind in ("uprobe", "uretprobe"):
            raise Wrong(
                call.at, "args of user functions need DWARF, which is not read: use arg0, arg1, ..."
            )
        raise Wrong(
            call.at,
            "The args builtin can only be used with tracepoint/rawtracepoint/fentry/fexit/uprobe "
            f"probes ({checker.kind} used here)",
        )
    return Typed("arguments", arguments, call.at, (), None, "context")


@places("arguments")
def _arguments(e: Emitter, node: Typed) -> Place:
    return Place("ctx", 0, "context")


@checks("retval")
def _check_retval(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    if checker.kind not in ("kretprobe", "uretprobe", "fexit"):
        raise Wrong(
            call.at,
            "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fexit' "
            f"probes ({checker.kind} used here)",
        )
    if checker.kind == "fexit" and checker.form.target.startswith("bpf:"):
        # Where it is depends on whether the kernel trusts the program's types.
        raise Wrong(call.at, "retval of BPF programs is not supported")
    if checker.kind == "fexit":
        kind = checker.form.result
        if kind == VOID:
            raise Wrong(call.at, "the function has no result")
        assert checker.form.arguments is not None
        return Typed("retval", kind, call.at, (align_up(checker.form.arguments.size, 8),))
    return Typed("retval", S64, call.at, (None,))


@emits("retval")
def _retval(e: Emitter, node: Typed) -> str:
    (offset,) = node.parts
    if offset is None:
        _, register = differences.call_registers(e.whole.kernel)
        offset = register_offset(e, node, register)
    return e.number(node.type, f"({c_type(node.type)})context_word(u64, {offset})")


@emits("arg")
def _arg(e: Emitter, node: Typed) -> str:
    (number,) = node.parts
    if e.kind in ("rawtracepoint", "fentry", "fexit"):
        return e.number(node.type, f"context_word(u64, {8 * number})")
    if e.kind == "usdt":
        return _usdt_argument(e, node, number)
    registers, _ = differences.call_registers(e.whole.kernel)
    if number < len(registers):
        return e.number(
            node.type, f"context_word(u64, {register_offset(e, node, registers[number])})"
        )
    return _stack_argument(e, node, number - len(registers))


def _usdt_argument(e: Emitter, node: Typed, number: int) -> str:
    """An argument of a USDT probe, in the way in which the program's place has it."""
    try:
        known = usdt.arguments(e.action.way)
    except Failure as error:
        raise Wrong(node.at, str(error)) from None
    if number >= len(known):
        raise Wrong(node.at, f"the probe has only {len(known)} arguments")
    found = known[number]
    if found is None:
        raise Wrong(node.at, f"argument {number} can't be read where they are {e.action.way}")

    def register(match: re.Match[str]) -> str:
        return f"context_word(u64, {register_offset(e, node, match[1])})"

    value = re.sub(r"ctx->(\w+(?:\[\d+\])?)", register, found.value)
    kind = Int(abs(found.size), found.size < 0)
    if not found.memory:
        word = e.number(U64, value)
        return e.number(kind, f"({c_type(kind)}){word}")
    return e.load(Place(e.number(U64, value), 0, "user"), kind)


@emits("sarg")
def _sarg(e: Emitter, node: Typed) -> str:
    return _stack_argument(e, node, node.parts[0])


def _stack_argument(e: Emitter, node: Typed, number: int) -> str:
    """An argument that has no register left."""
    where = differences.stack_argument(number)
    if where is None:
        raise Wrong(node.at, "arguments on the stack are not known on this architecture")
    register, _, offset = where[len("ctx->") :].partition(" + ")
    pointer = e.number(U64, f"context_word(u64, {register_offset(e, node, register)})")
    space = "user" if e.kind in ("uprobe", "uretprobe", "usdt") else "kernel"
    return e.load(Place(pointer, int(offset), space), node.type)


@checks("reg")
def _check_reg(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    if checker.kind not in _REGISTERS:
        raise Wrong(call.at, f"reg can not be used with {checker.kind} probes")
    name = text(checker, call, node)
    names = {"r15": "r15", "ip": "ip", "sp": "sp"}
    members = checker.register_names()
    if name not in members:
        raise Wrong(
            node.at,
            f"'{name}' is not a valid register on this architecture",
            f"registers are {', '.join(members)}",
        )
    assert names
    return Typed("reg", U64, call.at, (members[name],))


@emits("reg")
def _reg(e: Emitter, node: Typed) -> str:
    return e.number(U64, f"context_word(u64, {node.parts[0]})")


@checks("ctx")
def _check_ctx(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return Typed("context", Pointer(VOID, "kernel"), call.at)


@emits("context")
def _context(e: Emitter, node: Typed) -> str:
    return e.number(U64, "(u64)ctx")


# Which probe it is.


@checks("probe")
def _check_probe(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return Typed("probe", Special("probe"), call.at)


@emits("probe")
def _probe(e: Emitter, node: Typed) -> str:
    return probe_number(e)


def probe_number(e: Emitter) -> str:
    """The number of the point that the program runs for."""
    if not e.action.many:
        return str(e.action.points[0])
    e.whole.pieces.add("probe")
    return e.number(Int(4, False), "current_probe(ctx)")


@checks("probetype")
def _check_probetype(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    name = "special" if checker.kind in ("begin", "end", "self") else checker.kind
    return Typed("text", String(len(name) + 1), call.at, (), name)


@checks("func")
def _check_func(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    allowed = ("kprobe", "kretprobe", "fentry", "fexit", "uprobe", "uretprobe")
    if checker.kind not in allowed:
        raise Wrong(
            call.at,
            "The func builtin can not be used with '" + checker.kind + "' probes",
        )
    return Typed("func", Special("func"), call.at)


@emits("func")
def _func(e: Emitter, node: Typed) -> str:
    return probe_number(e)
