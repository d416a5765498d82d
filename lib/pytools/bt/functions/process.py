"""What runs: processes, users, CPUs, control groups."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.emit.code import Place, literal
from pytools.bt.functions.calls import integer, modes, take, text
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks, emits, into
from pytools.bt.types import Bool, Int, Pointer, Special, String

if TYPE_CHECKING:
    from typing import Any

    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter

U32, U64 = Int(4, False), Int(8, False)
COMM = String(16)


def simple(name: str, kind: Any, code: str) -> None:
    """A builtin without arguments whose value is one expression."""

    def check(checker: Checker, call: tree.Call) -> Typed:
        take(call, 0)
        return Typed(name, kind, call.at)

    def emit(e: Emitter, node: Typed) -> str:
        return e.number(kind, code)

    checks(name)(check)
    emits(name)(emit)


simple("uid", U32, "(u32)helper_uid_gid()")
simple("gid", U32, "helper_uid_gid() >> 32")
simple("cpu", U32, "(u32)helper_current_cpu()")
simple("rand", U32, "(u32)helper_random_number()")
simple("numaid", U32, "(u32)helper_numa_node()")
simple("cgroup", U64, "helper_cgroup_id()")
simple("jiffies", U64, "helper_jiffies_64()")
simple("username", Special("username"), "(u32)helper_uid_gid()")


# Tasks.


@checks("pid", "tid")
def _check_pid(checker: Checker, call: tree.Call) -> Typed:
    """The process (or thread) that runs, by its number in bt's own pid namespace."""
    where = "curr_ns"
    if call.arguments:
        (node,) = take(call, 1)
        where = modes(call, node, {"curr_ns": "curr_ns", "init": "init"})
    return Typed(call.name, U32, call.at, (where,))


@emits("pid", "tid")
def _pid(e: Emitter, node: Typed) -> str:
    shift = " >> 32" if node.op == "pid" else ""
    if node.parts[0] == "init":
        return e.number(U32, f"(u32)(helper_pid_tgid(){shift})")
    e.whole.pieces.add("own_pids")
    device = e.whole.setting("PID_DEVICE", ["pid_namespace", "device"])
    number = e.whole.setting("PID_NAMESPACE_ID", ["pid_namespace", "number"])
    return e.number(U32, f"(u32)(own_pids({device}, {number}){shift})")


def task_struct(checker: Checker, at: tree.Span) -> Any:
    return checker.layouts.named("struct task_struct", at)


@checks("curtask")
def _check_curtask(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return Typed("curtask", Pointer(task_struct(checker, call.at), "kernel"), call.at)


@emits("curtask")
def _curtask(e: Emitter, node: Typed) -> str:
    return e.number(U64, "helper_current_task()")


@checks("ppid", "pcomm", "leader_comm", "leader_tid")
def _check_relative(checker: Checker, call: tree.Call) -> Typed:
    """A member of the parent of a task, or of the first thread of its process."""
    if len(call.arguments) > 1:
        take(call, 0, 1)
    task = call.arguments[0] if call.arguments else tree.Name(call.at, "curtask")
    relative = "real_parent" if call.name in ("ppid", "pcomm") else "group_leader"
    member = {"ppid": "tgid", "leader_tid": "pid"}.get(call.name, "comm")
    owner = tree.Member(call.at, task, relative, False)
    found = checker.expression(tree.Member(call.at, owner, member, False))
    if isinstance(found.type, Int):
        return checker.cast(found, U32)
    return found


@checks("comm")
def _check_comm(checker: Checker, call: tree.Call) -> Typed:
    if call.arguments:
        raise Wrong(call.at, "comm(PID) is not supported: comm is that of the current task")
    return Typed("comm", COMM, call.at)


@into("comm")
def _put_comm(e: Emitter, node: Typed, to: Place) -> None:
    e.line(f"helper_current_comm({to.address}, 16);")


# What is known when the programs are loaded.


@checks("ncpus")
def _check_ncpus(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return Typed("ncpus", U64, call.at)


@emits("ncpus")
def _ncpus(e: Emitter, node: Typed) -> str:
    return e.number(U64, e.whole.setting("CPUS", ["cpus"]))


@checks("cpid")
def _check_cpid(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return Typed("cpid", U32, call.at)


@checks("has_cpid")
def _check_has_cpid(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return Typed("has_cpid", Bool(), call.at)


@emits("cpid", "has_cpid")
def _cpid(e: Emitter, node: Typed) -> str:
    number = e.number(U32, e.whole.setting("CPID", ["cpid"]))
    return number if node.op == "cpid" else e.number(Bool(), f"!!{number}")


@checks("cgroupid")
def _check_cgroupid(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    return Typed("cgroupid", U64, call.at, (text(checker, call, node),))


@emits("cgroupid")
def _cgroupid(e: Emitter, node: Typed) -> str:
    path = node.parts[0]
    return e.number(U64, e.whole.setting(e.whole.setting_name("CGROUP", path), ["cgroupid", path]))


@checks("cgroup_path")
def _check_cgroup_path(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    pattern = text(checker, call, nodes[1]) if len(nodes) > 1 else ""
    kind = Special("cgroup_path", (pattern,) if pattern else ())
    return Typed("as_number", kind, call.at, (integer(checker, call, nodes[0]),))


@checks("strerror", "signal_name", "syscall_name")
def _check_named(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    return Typed("as_number", Special(call.name), call.at, (integer(checker, call, node),))


@emits("as_number")
def _as_number(e: Emitter, node: Typed) -> str:
    return e.number(node.type, e.scalar(node.parts[0]))


@checks("usermode")
def _check_usermode(checker: Checker, call: tree.Call) -> Typed:
    import os

    take(call, 0)
    if os.uname().machine != "x86_64":
        raise Wrong(call.at, "'usermode' builtin is only supported on x86_64")
    return Typed("usermode", Int(1, False), call.at)


@emits("usermode")
def _usermode(e: Emitter, node: Typed) -> str:
    if e.kind in ("profile", "software", "hardware", "kprobe", "kretprobe"):
        offset = register_offset(e, node, "cs")
        return e.number(node.type, f"(context_word(u64, {offset}) & 3) == 3")
    # The tool is a process, too: what it runs itself, it runs from user space.
    kernel = ("tracepoint", "rawtracepoint", "fentry", "fexit")
    return literal(int(e.kind not in kernel))


def register_offset(e: Emitter, node: Typed, member: str) -> int:
    """Where a register is in struct pt_regs; member is as C writes it (regs[0])."""
    if not e.whole.kernel.has_btf:
        raise Wrong(node.at, "where the registers are is known from type information (BTF) only")
    name, _, index = member.partition("[")
    found = e.whole.kernel.btf.member("pt_regs", name)
    if found is None:
        raise Wrong(node.at, f"struct pt_regs has no member {name} on this kernel")
    return found.bit_offset // 8 + (8 * int(index[:-1]) if index else 0)


# What is done to a process.

_SIGNALS = ("signal", "signal_thread")


@checks(*_SIGNALS)
def _check_signal(checker: Checker, call: tree.Call) -> Typed:
    import signal

    (node,) = take(call, 1)
    if not checker.options.unsafe:
        raise Wrong(
            call.at,
            f"{call.name}() is an unsafe function being used in safe mode",
            "--unsafe allows it",
        )
    found = checker.value(node)
    if isinstance(found.type, String):
        name = text(checker, call, node)
        name = name if name.startswith("SIG") else f"SIG{name}"
        number = getattr(signal, name, None)
        if number is None:
            raise Wrong(found.at, f"{name} is not a valid signal")
        found = Typed("number", Int(4, True), found.at, (), int(number))
    elif isinstance(found.constant, int) and not 0 < found.constant < 65:
        raise Wrong(found.at, f"{found.constant} is not a valid signal, allowed range: [1,64]")
    return Typed("signal", Int(8, True), call.at, (call.name, found))


@emits("signal")
def _signal(e: Emitter, node: Typed) -> str:
    name, number = node.parts
    helper = f"helper_send_{name}"
    return e.number(node.type, f"{helper}({e.scalar(number)})")
