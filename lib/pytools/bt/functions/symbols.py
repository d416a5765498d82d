"""Addresses as names, and names as addresses."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.emit.code import Place
from pytools.bt.functions.calls import integer, take, text
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks, emits, into
from pytools.bt.types import UNKNOWN, Int, Pointer, Special
from pytools.compile.callbacks import VARIABLE
from pytools.facts import btf as kinds

if TYPE_CHECKING:
    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter

U64 = Int(8, False)


@checks("ksym", "usym")
def _check_ksym(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    found = checker.value(node)
    if found.type != UNKNOWN and not isinstance(found.type, (Int, Pointer)):
        raise Wrong(
            found.at,
            f"{call.name}() expects an integer or pointer argument ({found.type} provided)",
        )
    if call.name == "ksym":
        return Typed("as_number", Special("ksym"), call.at, (found,))
    return Typed("usym", Special("usym"), call.at, (found,))


@into("usym")
def _put_usym(e: Emitter, node: Typed, to: Place) -> None:
    e.store(to, U64, e.scalar(node.parts[0]))
    e.line(f"*(u32 *){to.at(8).address} = helper_pid_tgid() >> 32;")
    e.line(f"*(u32 *){to.at(12).address} = 0;")


@checks("kaddr")
def _check_kaddr(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    name = text(checker, call, node)
    if checker.final and not in_kernel(name):
        raise Wrong(call.at, f"Failed to resolve kernel symbol: {name}")
    return Typed("kaddr", U64, call.at, (name,))


def in_kernel(name: str) -> bool:
    """Whether the running kernel has a symbol of that name."""
    try:
        with open("/proc/kallsyms", "rb") as lines:
            return f" {name}\n".encode() in (text := lines.read()) or f" {name}\t".encode() in text
    except OSError:
        return True  # which is said when it is loaded


@emits("kaddr")
def _kaddr(e: Emitter, node: Typed) -> str:
    name = node.parts[0]
    setting = e.whole.setting_name("KADDR", name)
    return e.number(U64, e.whole.setting(setting, ["kaddr", name]))


@checks("uaddr")
def _check_uaddr(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    name = text(checker, call, node)
    if checker.kind not in ("uprobe", "uretprobe", "usdt"):
        raise Wrong(call.at, "uaddr can only be used with uprobes, uretprobes and USDT probes")
    point = checker.first_point()
    path, _, function = point.target.rpartition(":")
    one = checker.kind == "uprobe" and not checker.form.many and len(checker.form.points) == 1
    size = checker.symbol_size(path, name)
    of = Int(size if size in (1, 2, 4, 8) else 8, False)
    # Where the file is mapped is known from where the probe is.
    place = checker.register_names().get("ip") if one else None
    return Typed("uaddr", Pointer(of, "user"), call.at, (path, name, place, function, point.offset))


@emits("uaddr")
def _uaddr(e: Emitter, node: Typed) -> str:
    path, name, place, function, offset = node.parts
    setting = e.whole.setting_name("UADDR", f"{path}:{name}")
    address = e.whole.setting(setting, ["uaddr", path, name])
    if place is None:
        setting = e.whole.setting_name("UNMOVED", path)
        return e.number(U64, f"{address} + {e.whole.setting(setting, ['unmoved', path])}")
    setting = e.whole.setting_name("PROBED", f"{path}:{function}+{offset}")
    probed = e.number(U64, e.whole.setting(setting, ["probed", path, function, offset]))
    moved = f"{probed} ? context_word(u64, {place}) - {probed} : 0"
    return e.number(U64, f"{address} + ({moved})")


@checks("percpu_kaddr")
def _check_percpu(checker: Checker, call: tree.Call) -> Typed:
    """Where a CPU has a variable of the kernel's: that of the CPU at hand, or of the one given."""
    nodes = take(call, 1, 2)
    name = text(checker, call, nodes[0])
    btf = checker.kernel.btf
    known = btf.ids(name, kinds.VAR)
    if not known:
        raise Wrong(call.at, f"the kernel's types have no variable of each CPU named {name}")
    kind = Pointer(checker.layouts.of_btf(btf.target(known[0])), "kernel")
    cpu = integer(checker, call, nodes[1]) if len(nodes) > 1 else None
    return Typed("percpu_kaddr", kind, call.at, (known[0], cpu))


@emits("percpu_kaddr")
def _percpu(e: Emitter, node: Typed) -> str:
    type_id, cpu = node.parts
    variable = e.whole.mark(f"{VARIABLE}{type_id}")
    if cpu is None:
        return e.number(U64, f"helper_variable_of_this_cpu({variable})")
    return e.number(U64, f"helper_variable_of_cpu({variable}, {e.scalar(cpu)})")
