"""Stacks, of the kernel and of programs."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.emit.code import Place
from pytools.bt.functions.calls import constant, take
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks, emits, into
from pytools.bt.types import Stack

if TYPE_CHECKING:
    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter

MODES = ("bpftrace", "perf", "raw", "build_id")
DEPTH = 127  # PERF_MAX_STACK_DEPTH


@checks("kstack", "ustack")
def _check_stack(checker: Checker, call: tree.Call) -> Typed:
    mode, depth = checker.options.config["stack_mode"], DEPTH
    nodes = take(call, 0, 2)
    if nodes and isinstance(nodes[0], tree.Name) and nodes[0].name in MODES:
        mode = nodes.pop(0).name
    if len(nodes) > 1:
        raise Wrong(call.at, f"{call.name}(): Invalid stack mode", f"modes are {', '.join(MODES)}")
    if nodes:
        if isinstance(nodes[0], tree.Name) and nodes[0].name not in ("$1",):
            raise Wrong(
                call.at, f"{call.name}(): Invalid stack mode", f"modes are {', '.join(MODES)}"
            )
        depth = constant(checker, call, nodes[0], "the limit")
        if not 0 < depth <= 1024:
            raise Wrong(
                call.at, f"{call.name}([int limit]): limit shouldn't exceed 1024, {depth} given"
            )
    if mode == "build_id" and call.name == "kstack":
        raise Wrong(call.at, "'build_id' stack mode can only be used for user stacks")
    return Typed("stack", Stack(call.name, mode, min(depth, DEPTH)), call.at)


@into("stack")
def _put_stack(e: Emitter, node: Typed, to: Place) -> None:
    kind = node.type
    assert isinstance(kind, Stack)
    depth = e.whole.stack(kind.depth)
    flags = "1 << 8" if kind.kind == "ustack" else "0"
    e.line(f"*(s32 *){to.address} = take_stack_{depth}(ctx, {flags});")
    pid = "helper_pid_tgid() >> 32" if kind.kind == "ustack" else "0"
    e.line(f"*(u32 *){to.at(4).address} = {pid};")


@emits("stack_length")
def _stack_length(e: Emitter, node: Typed) -> str:
    """How many frames the stack at hand has: a program can't look into the maps of stacks."""
    (kind,) = node.parts
    size = 8 * kind.depth
    slot = e.slot(size)
    flags = "1 << 8" if kind.kind == "ustack" else "0"
    given = e.name_of("g")
    e.line(f"long {given} = helper_take_frames" f"(ctx, {slot.address}, {size}, {flags});")
    return e.number(node.type, f"{given} > 0 ? (u64){given} / 8 : 0")
