"""What a probe gives its action: the plan's points, arguments, and the forms that need programs.

Points of one probe share a program if the action can't tell them apart. Where it names the
arguments (``args``), each tracepoint or function has its own.
"""
from __future__ import annotations

import re
from dataclasses import replace

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.bt import ctypes, tree
from pytools.bt.layouts import Field
from pytools.bt.plan import Point
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed
from pytools.bt.types import VOID, Array, Bool, Int, Pointer, String, Struct
from pytools.facts import btf as kinds

if TYPE_CHECKING:
    from typing import Any, Optional

    from pytools.bt.layouts import Layouts
    from pytools.bt.types import Type
    from pytools.facts.kernel import Kernel, TracepointField

__all__ = ["Form", "Probes", "TEST_RUN", "forms_of", "point_of"]

# Those that the tool runs itself.
TEST_RUN = ("begin", "end", "interval", "self")
_USER = ("uprobe", "uretprobe", "usdt")
_UNITS = {"us": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"(\d[\d_]*(?:e\d+)?)(ns|us|ms|s|m|h|d)?")
_SAMPLES = {"software": 1, "hardware": 1_000_000}
_UNSUPPORTED = ("watchpoint", "asyncwatchpoint", "iter", "test", "bench")


class Form(NamedTuple):
    """Points that one program serves: their indexes among those of the probe."""

    kind: str
    target: str
    points: list[int]
    arguments: Optional[Struct] = None
    result: Type = VOID
    many: bool = False


def point_of(point: tree.AttachPoint, checker: Any) -> Point:
    """The plan's point of an attach point. Raises Wrong."""
    kind, fields = point.kind, [str(field) for field in point.fields]
    if kind in _UNSUPPORTED:
        raise Wrong(point.at, f"{kind} probes are not supported")
    text = ":".join([kind, *fields])
    found = Point(kind, ":".join(fields), text, [], missing=checker.options.config["missing_probes"])
    if kind in ("interval", "profile"):
        period, frequency = _timing(point, kind)
        return found._replace(target="", period=period, frequency=frequency)
    if kind in ("software", "hardware"):
        count = _number(fields[1]) if len(fields) > 1 and fields[1] else _SAMPLES[kind]
        if not count:
            raise Wrong(point.at, f"{kind} needs a count above 0")
        return found._replace(target=fields[0], period=count)
    if kind in ("kprobe", "kretprobe", "uprobe", "uretprobe") and fields:
        name, plus, offset = fields[-1].partition("+")
        if plus:
            number = _number(offset)
            if number is None:
                raise Wrong(point.at, f"Invalid offset: {offset}")
            return found._replace(target=":".join([*fields[:-1], name]), offset=number)
    return found


def _number(text: str) -> Optional[int]:
    match = re.fullmatch(r"(\d[\d_]*)e(\d{1,2})", text)
    if match:
        return int(match[1].replace("_", "")) * 10 ** int(match[2])
    try:
        return int(text.replace("_", ""), 0)
    except ValueError:
        return None


def _timing(point: tree.AttachPoint, kind: str) -> tuple[int, int]:
    """(period in nanoseconds, or frequency in Hz) of an interval or profile probe."""
    fields = [str(field) for field in point.fields]
    unit, number = "ns", fields[-1] if fields else ""
    if len(fields) == 2:
        unit = fields[0]
        if unit != "hz" and unit not in _UNITS:
            raise Wrong(point.at, f"{unit} is not an accepted unit: us, ms, s, hz are")
    match = _DURATION.fullmatch(number)
    value = _number(match[1]) if match else _number(number)
    if not value or match and match[2] and len(fields) == 2:
        raise Wrong(point.at, f"Invalid rate of {kind} probe: {number}")
    if unit == "hz" or kind == "profile" and len(fields) == 1 and not (match and match[2]):
        # profile:99 is a frequency in every script that has it; a count of nanoseconds, to HEAD.
        return (0, value) if unit == "hz" or value < 10000 else (value, 0)
    scale = {"ns": 1, "d": 86400 * 10**9, **_UNITS}
    return value * scale[match[2] if match and match[2] else unit], 0


def _names_in(node: Any) -> set[str]:
    """All bare names and calls in a tree."""
    found: set[str] = set()
    pending = [node]
    while pending:
        each = pending.pop()
        if isinstance(each, (tree.Name, tree.Call)):
            found.add(each.name)
        if isinstance(each, (tuple, list)):
            pending += each
    return found


def forms_of(
    probe: tree.Probe, points: list[Point], kernel: Kernel, layouts: Layouts
) -> list[Form]:
    """The programs that a probe needs. Raises Wrong."""
    names = _names_in((probe.predicate, probe.body))
    typed = bool(names & {"args", "retval"})
    told = bool(names & {"probe", "func"})
    groups: dict[tuple[str, str], list[int]] = {}
    for number, point in enumerate(points):
        target = ""
        if point.kind in TEST_RUN and told:
            target = str(number)
        if "args" in names and point.kind in ("tracepoint", "rawtracepoint"):
            target = point.target
        if typed and point.kind in ("fentry", "fexit"):
            target = point.target
        groups.setdefault((point.kind, target), []).append(number)
    found: dict[Any, Form] = {}
    for (kind, target), numbers in groups.items():
        at = probe.points[numbers[0]].at
        arguments: Optional[Struct] = None
        result: Type = VOID
        if target and kind not in TEST_RUN:
            try:
                arguments, result = _arguments(kind, target, kernel, layouts)
            except Failure as error:
                raise Wrong(at, str(error)) from None
        many = len(numbers) > 1 or any(set(points[n].target) & set("*?[") for n in numbers)
        found[kind, target] = Form(kind, target, numbers, arguments, result, many)
    return list(found.values())


def _arguments(
    kind: str, target: str, kernel: Kernel, layouts: Layouts
) -> tuple[Optional[Struct], Type]:
    """What ``args`` is at a point, and what ``retval``. Raises Failure."""
    if set(target) & set("*?["):
        target = _first_match(kind, target, kernel)
    if kind == "tracepoint":
        category, _, name = target.partition(":")
        fields = [
            _record_field(field, category, layouts)
            for field in kernel.tracepoint_fields(category, name)
        ]
        return layouts.tracepoint(f"struct tracepoint:{category}:{name}", fields), VOID
    name = target.rpartition(":")[2]
    btf = kernel.btf
    if kind == "rawtracepoint":
        type_id = btf.raw_tracepoint_id(name)
        if type_id is None:
            raise Failure(f"No matches for rawtracepoint {target}.")
        result, parameters = btf.prototype(type_id)
        # The names are those of the function that calls the programs.
        callers = btf.ids(f"__traceiter_{name}", kinds.FUNC)
        if callers and len(btf.prototype(callers[0])[1]) == len(parameters):
            parameters = btf.prototype(callers[0])[1]
        parameters = parameters[1:]
    else:
        ids = btf.ids(name, kinds.FUNC)
        if not ids:
            raise Failure(f"No matches for {kind} {target}.")
        result, parameters = btf.prototype(ids[0])
    fields = []
    for number, (label, type_id) in enumerate(parameters):
        each = layouts.of_btf(type_id)
        if isinstance(each, Pointer) and not each.space:
            each = replace(each, space="kernel")
        fields.append(Field(label or f"arg{number}", 64 * number, each))
    what = layouts.of_btf(result) if kind == "fexit" else VOID
    if isinstance(what, Pointer) and not what.space:
        what = replace(what, space="kernel")
    return layouts.tracepoint(f"struct {kind}:{name}_args", fields), what


def _first_match(kind: str, pattern: str, kernel: Kernel) -> str:
    """One of the points that a pattern stands for: their arguments have to be alike."""
    import fnmatch
    import os

    if kind == "tracepoint":
        category, _, name = pattern.partition(":")
        root = f"{kernel.tracefs}/events"
        for folder in sorted(fnmatch.filter(os.listdir(root), category)):
            if os.path.isdir(f"{root}/{folder}"):
                for event in sorted(fnmatch.filter(os.listdir(f"{root}/{folder}"), name)):
                    if os.path.isdir(f"{root}/{folder}/{event}"):
                        return f"{folder}:{event}"
    else:
        name = pattern.rpartition(":")[2]
        for function in sorted(fnmatch.filter(kernel.functions(), name)):
            if kernel.btf.ids(function, kinds.FUNC):
                return function
    raise Failure(f"No matches for {kind} {pattern}.")


def _record_field(field: TracepointField, category: str, layouts: Layouts) -> Field:
    """A member of a tracepoint's record."""
    words = re.sub(r"\b(const|volatile|__user)\b", " ", field.type).split()
    text = " ".join(words)
    offset = 8 * field.offset
    space = "user" if category == "syscalls" and not field.name.startswith("common_") else "kernel"
    if "__data_loc" in text or "__rel_loc" in text:
        element = Int(1, True) if "char" in text else Int(1, False)
        where = "data" if "__data_loc" in text else "rel"
        return Field(field.name, offset, Pointer(element, "kernel"), 0, where)
    array = re.fullmatch(r"(.*)\[.*", text)
    if array:
        of = ctypes.integer(array[1].strip())
        if of == Int(1, True):
            return Field(field.name, offset, String(field.size))
        if of is None or not of.size or field.size % of.size:
            of = Int(1, False)
        return Field(field.name, offset, Array(of, field.size // of.size))
    if "*" in text and field.size == 8:
        base = text.replace("*", " ").split()
        stars = text.count("*")
        to: Type = VOID
        try:
            to = layouts.named(" ".join(base), None, complete=False)
        except Wrong:
            pass
        for _ in range(stars - 1):
            to = Pointer(to)
        return Field(field.name, offset, Pointer(to, space))
    # A system call's argument lies in 8 bytes, whatever its type.
    known: Optional[Type] = ctypes.integer(text)
    if known is None and field.size in (1, 2, 4, 8):
        try:
            known = layouts.named(text, None)
        except Wrong:
            known = None
    if isinstance(known, (Int, Bool)) and known.size <= field.size <= 8:
        if known.size == field.size and isinstance(known, Int) and not known.enum:
            known = Int(field.size, field.signed)
        return Field(field.name, offset, known)
    if field.size in (1, 2, 4, 8):
        return Field(field.name, offset, Int(field.size, field.signed))
    if isinstance(known, Struct) and known.size == field.size:
        return Field(field.name, offset, known)
    return Field(field.name, offset, Array(Int(1, False), field.size))


class Probes:
    """The part of the checker that knows where it is."""

    form: Form
    default_space: str
    kernel: Kernel
    points: list[Point]
    first: int

    def enter(self, form: Form) -> None:
        """Go on with a form of a probe."""
        self.form = form
        self.default_space = "user" if form.kind in _USER else ""

    @property
    def kind(self) -> str:
        return self.form.kind

    @staticmethod
    def argument_number(name: str) -> Optional[tuple[str, int]]:
        """("arg" or "sarg", N) of the builtins arg0, arg1, ..., sarg0, ..."""
        match = re.fullmatch(r"(s?arg)(\d{1,3})", name)
        return (match[1], int(match[2])) if match else None

    def argument(self, at: tree.Span, name: str, number: tuple[str, int]) -> Typed:
        """The type of arg0, sarg0, ... here."""
        word, place = number
        allowed = ("kprobe", "uprobe", "usdt", "rawtracepoint", "fentry", "fexit")
        if self.kind not in allowed[: 4 if word == "arg" else 2]:
            raise Wrong(
                at,
                f"The {name} builtin can only be used with "
                + ("'kprobes', 'uprobes', 'rawtracepoints' and 'usdt' probes" if word == "arg" else "'kprobes' and 'uprobes' probes"),
            )
        return Typed(word, Int(8, word != "arg" or self.kind == "usdt", False), at, (place,))

    def first_point(self) -> Point:
        """The first point of the form at hand."""
        return self.points[self.first + self.form.points[0]]

    def register_names(self) -> dict[str, int]:
        """The registers of struct pt_regs by the names that scripts use, and where they are."""
        found: dict[str, int] = {}
        btf = self.kernel.btf
        struct = btf.struct("pt_regs")
        for member in btf.members(struct) if struct is not None else []:
            place = member.bit_offset // 8
            kind = btf.strip(member.type_id)
            if btf.kind(kind) == kinds.ARRAY:
                _, count = btf.array(kind)
                letter = {"regs": "r", "gprs": "r", "gpr": "r"}.get(member.name, member.name)
                for number in range(count):
                    found[f"{letter}{number}"] = place + 8 * number
            else:
                found[member.name] = place
        for other, name in (("pc", "ip"), ("ip", "pc"), ("nip", "ip")):
            if name in found and other not in found:
                found[other] = found[name]
        return found

    @staticmethod
    def symbol_size(path: str, name: str) -> int:
        """Bytes of a variable of a program's, by its file; 8 if nothing tells."""
        from pytools.facts.elf import File  # few scripts ask

        try:
            symbols = File(path).symbols()
        except Exception:
            return 8
        return next((s.size for s in symbols if s.name == name), 8)
