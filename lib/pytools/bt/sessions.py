"""Two programs that are one: that of a kprobe, and that of the kretprobe of the same functions.

Since Linux commit 535a3692ba72 (v6.10) a program may run both when functions begin and when they
return. One link attaches it, and the kernel does half the work that two links are.
"""
from __future__ import annotations

import struct
from collections import Counter

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.attaching import OFF, SESSION, is_pattern
from pytools.load.multi_attach import INDEX

if TYPE_CHECKING:
    from typing import Optional

    from pytools.bt.plan import Plan, Point
    from pytools.compile.image import Image, ProgramSpec
    from pytools.facts.kernel import Kernel

__all__ = ["joined"]

IS_RETURN = "bpf_session_is_return"  # the kernel's function that tells which of both it is
# What a kernel with sessions has: without CONFIG_FPROBE it takes no such link.
NEEDED = (IS_RETURN, "register_fprobe_ips")


def joined(image: Image, plan: Plan, kernel: Kernel) -> tuple[Image, Plan]:
    """The same with one program for each such pair, if the kernel can do that."""
    pairs = _pairs(image, plan)
    function = _is_return(kernel) if pairs else None
    if function is None:
        return image, plan
    specs = {spec.name: spec for spec in image.programs}
    points = list(plan.points)
    for entry, back in pairs:
        if not _is_there(points[entry], kernel):
            continue
        first, second = (specs.pop(points[place].programs[0]) for place in (entry, back))
        specs[first.name] = _both(first, second, points[entry], function)
        points[back] = points[back]._replace(kind=OFF, programs=[])
    programs = [specs[spec.name] for spec in image.programs if spec.name in specs]
    return image._replace(programs=programs), plan._replace(points=points)


def _pairs(image: Image, plan: Plan) -> list[tuple[int, int]]:
    """The places of a kprobe and a kretprobe of the same functions, if there is one of each, each
    is its action's only point, and their programs do not ask which probe they run for."""
    specs = {spec.name: spec for spec in image.programs}
    actions = Counter(point.action for point in plan.points)
    places: dict[str, dict[str, list[int]]] = {}
    for place, point in enumerate(plan.points):
        if point.kind in ("kprobe", "kretprobe"):
            places.setdefault(point.target, {}).setdefault(point.kind, []).append(place)
    found = []
    for kinds in places.values():
        both = [*kinds.get("kprobe", []), *kinds.get("kretprobe", [])]
        if [plan.points[place].kind for place in both] != ["kprobe", "kretprobe"]:
            continue
        if all(_may_join(plan.points[place], actions, specs) for place in both):
            found.append((both[0], both[1]))
    return found


def _may_join(point: Point, actions: Counter[int], specs: dict[str, ProgramSpec]) -> bool:
    spec = specs[point.programs[0]]
    module, _, name = point.target.rpartition(":")
    return (
        actions[point.action] == len(point.programs) == 1
        and not point.offset
        and not name.isdigit()
        and (not module or is_pattern(name))
        and not spec.functions
        and all(setting != INDEX for _, setting in spec.settings)
    )


def _is_there(point: Point, kernel: Kernel) -> bool:
    """Whether a link can be had for a function: with --unsafe, others may be named."""
    name = point.target.rpartition(":")[2]
    return is_pattern(name) or kernel.attachable(name) is not None


def _is_return(kernel: Kernel) -> Optional[int]:
    """The type of the kernel's function that tells whether one returns; None if it has none, or no
    sessions."""
    from pytools.facts.btf import FUNC

    if not kernel.has_btf or not kernel.has_kprobes:
        return None
    ids = [kernel.btf.ids(name, FUNC) for name in NEEDED]
    if not all(ids) or not kernel.btf.enumerators({"BPF_TRACE_KPROBE_SESSION"}):
        return None
    return ids[0][0]


def _both(first: ProgramSpec, second: ProgramSpec, point: Point, function: int) -> ProgramSpec:
    """A program that is ``second`` where a function returns, and else ``first``. Each of them ends
    by itself, and jumps are relative: one may stand behind the other."""
    length = len(second.instructions) // 8
    start = [
        _instruction(0xBF, 6, 1),  # r6 = r1: the context
        _instruction(0x85, 0, 2, number=function),  # r0 = bpf_session_is_return(), a kfunc
        _instruction(0x57, 0, 0, number=0xFF),  # r0 &= 0xff: a bool
        _instruction(0x15, 0, 0, jump=1 + length),  # if r0 == 0 goto first
        _instruction(0xBF, 1, 6),  # r1 = r6
    ]
    code = b"".join(start) + second.instructions + _instruction(0xBF, 1, 6) + first.instructions
    at_second, at_first = len(start), len(start) + length + 1
    return first._replace(
        kind=SESSION,
        target=point.target,
        instructions=code,
        maps=_moved(second.maps, at_second) + _moved(first.maps, at_first),
        settings=_moved(second.settings, at_second) + _moved(first.settings, at_first),
    )


def _instruction(code: int, to: int, source: int, jump: int = 0, number: int = 0) -> bytes:
    """An instruction (struct bpf_insn)."""
    return struct.pack("=BBhi", code, to | source << 4, jump, number)


def _moved(places: list[tuple[int, str]], by: int) -> list[tuple[int, str]]:
    return [(place + by, name) for place, name in places]
