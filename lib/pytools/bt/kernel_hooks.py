"""Points in the kernel: tracepoints, functions, perf events."""
from __future__ import annotations

import os

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.bt.attaching import Missing, is_pattern, is_unsafe, matching
from pytools.facts import kernel as kernels
from pytools.load import attach

if TYPE_CHECKING:
    from pytools.bt.attaching import Attaching
    from pytools.bt.plan import Point
    from pytools.facts.kernel import Kernel

__all__ = ["attach_point"]

VMLINUX = "vmlinux"  # the kernel without its modules


def attach_point(attaching: Attaching, point: Point) -> int:
    """Attach a point in the kernel; how many probes it stands for. Raises Failure."""
    if point.kind in ("profile", "software", "hardware"):
        return _sample(attaching, point)
    if point.kind in ("kprobe", "kretprobe"):
        return _function(attaching, point)
    if point.kind == "tracepoint":
        return _tracepoint(attaching, point)
    if point.kind == "rawtracepoint":
        return _raw_tracepoint(attaching, point)
    if point.kind in ("fentry", "fexit"):
        program = attaching.descriptor(point.programs[0])
        attach.with_types(attaching.attachment, attaching.spec(point.programs[0]), program)
        return 1
    raise Failure(f"{point.text}: {point.kind} probes are not supported")


def _sample(attaching: Attaching, point: Point) -> int:
    from pytools.load import perf_events

    program, pid = attaching.descriptor(point.programs[0]), attaching.pid
    if point.kind == "profile":
        perf_events.sample(
            attaching.attachment, program, point.text, perf_events.SOFTWARE["cpu-clock"].number,
            point.period, point.frequency, pid=pid,
        )  # fmt: skip
        return 1
    hardware = point.kind == "hardware"
    events = perf_events.HARDWARE if hardware else perf_events.SOFTWARE
    if point.target not in events:
        raise Missing(f"No matches for {point.kind} {point.target}.")
    event = events[point.target]
    perf_events.sample(
        attaching.attachment, program, point.text, event.number, point.period or event.period,
        hardware=hardware, pid=pid,
    )  # fmt: skip
    return 1


def _tracepoint(attaching: Attaching, point: Point) -> int:
    running = attaching.running
    if attaching.is_for_many(point) or is_pattern(point.target):
        return _tracepoints(attaching, point)
    category, _, name = point.target.partition(":")
    if not running.has_tracepoint(category, name):
        raise Missing(f"No matches for tracepoint {point.target}.")
    number, cpu = running.tracepoint_id(category, name), kernels.online_cpus()[0]
    program = attaching.descriptor(point.programs[0])
    attach.tracepoint(attaching.attachment, point.target, program, number, cpu)
    return 1


def _tracepoints(attaching: Attaching, point: Point) -> int:
    from pytools.domains import probes
    from pytools.load.multi_attach import Target

    found = matching(probes.tracepoints(attaching.running), point.target)
    if not found:
        raise Missing(f"No matches for tracepoint {point.target}.")
    if attaching.is_for_many(point):
        targets = [Target("tracepoint", name, 0) for name in found]
        return attaching.attach_many(point, targets, found)
    attaching.keep_limits(point, len(found), point.programs[0])
    program, cpu = attaching.descriptor(point.programs[0]), kernels.online_cpus()[0]
    for each in found:
        number = attaching.running.tracepoint_id(*each.split(":"))
        attach.tracepoint(attaching.attachment, each, program, number, cpu)
    return len(found)


def _raw_tracepoint(attaching: Attaching, point: Point) -> int:
    module, _, name = point.target.rpartition(":")
    spec = attaching.spec(point.programs[0])
    program = attaching.descriptor(point.programs[0])
    if spec.type_id:
        attach.with_types(attaching.attachment, spec, program)
        return 1
    names = [name]
    if is_pattern(name):
        from pytools.domains import probes

        names = matching(probes.raw_tracepoints(attaching.running), name)
    known = not module or is_pattern(module) or module == "vmlinux"
    if not names or not known and not os.path.isdir(f"/sys/module/{module}"):
        raise Missing(f"No matches for rawtracepoint {point.target}.")
    for each in names:
        try:
            attach.raw_tracepoint(attaching.attachment, each, program)
        except Failure as error:
            raise Missing(f"No matches for rawtracepoint {point.target}: {error}") from None
    return len(names)


def _function(attaching: Attaching, point: Point) -> int:
    module, _, name = point.target.rpartition(":")
    running = attaching.running
    if not running.has_kprobes:
        raise Failure(
            f"cannot attach to function {name}: this kernel has no kprobes (CONFIG_KPROBE_EVENTS)"
        )
    if attaching.is_for_many(point) and (is_pattern(name) or is_pattern(module)):
        return _functions(attaching, point, module, name)
    if name.isdigit():
        return _single(attaching, point, "", int(name))
    if module not in ("", VMLINUX) and module not in _modules():
        raise Missing(f"specified module {module} in probe {point.text} is not loaded.")
    symbol = running.attachable(name) if not point.offset else name
    if symbol is not None and not _fits(running, symbol, module):
        symbol = None
    if symbol is None:
        if point.missing not in ("others", "ignore"):
            attaching.warn(
                point,
                f"{name} is not traceable (either non-existing, inlined, or marked as "
                '"notrace"); attaching to it will likely fail',
            )
        if not attaching.plan.unsafe:
            raise Missing(f"No matches for {point.kind} {point.target}.")
        symbol = name
    if attaching.is_for_many(point):
        from pytools.load.multi_attach import Target

        return attaching.attach_many(point, [Target("function", symbol, 0)], [point.target])
    return _single(attaching, point, symbol, point.offset)


def _single(attaching: Attaching, point: Point, symbol: str, offset: int) -> int:
    """Attach a point's program to a function, at an offset in it, or ("") to an address."""
    program, cpu = attaching.descriptor(point.programs[0]), kernels.online_cpus()[0]
    returns = point.kind == "kretprobe"
    try:
        event = attach.kprobe_event(symbol, program, cpu, returns, offset)
    except OSError:
        raise Missing(f"Unable to attach probe: {point.text}.") from None
    attaching.attachment.descriptors.append(event)
    attaching.attachment.said.append(f"function {symbol or hex(offset)} ({point.kind})")
    return 1


def _fits(running: Kernel, symbol: str, module: str) -> bool:
    """Whether a function may be traced, and is in a module (VMLINUX: the kernel itself)."""
    functions = running.functions()
    if module and symbol in functions and (functions[symbol] or VMLINUX) != module:
        return False
    return not is_unsafe(symbol)


def _modules() -> set[str]:
    """The loaded modules."""
    try:
        with open("/proc/modules") as lines:
            return {line.split()[0] for line in lines}
    except OSError:  # CONFIG_MODULES is off
        return set()


def _functions(attaching: Attaching, point: Point, module: str, name: str) -> int:
    from pytools.load.multi_attach import Target

    functions = attaching.running.functions()
    modules = set(functions.values())
    if module:
        modules = {each for each in modules if matching([each or VMLINUX], module)}
    found = [
        each
        for each in matching(functions, name)
        if functions[each] in modules and not is_unsafe(each)
    ]
    if not found:
        raise Missing(f"No matches for {point.kind} {point.target}.")
    return attaching.attach_many(point, [Target("function", each, 0) for each in found], found)
