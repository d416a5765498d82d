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
from pytools.bt.fields import Field
from pytools.bt.plan import Point
from pytools.bt.attaching import is_pattern, is_unsafe, matching
from pytools.bt.points import BPF, point
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed
from pytools.bt.types import VOID, Array, Bool, Int, Pointer, String, Struct
from pytools.facts import btf as kinds

if TYPE_CHECKING:
    from typing import Any, Optional

    from pytools.bt.layouts import Layouts
    from pytools.bt.types import Type
    from pytools.facts.kernel import Kernel, TracepointField
    from pytools.load.programs import Function

__all__ = ["Form", "Probes", "TEST_RUN", "forms_of", "point_of"]

# Those that the tool runs itself.
TEST_RUN = ("begin", "end", "interval", "self")
_USER = ("uprobe", "uretprobe", "usdt")
OF_PROGRAM = f"{BPF}:"
VMLINUX = "vmlinux"  # the kernel without its modules
# Those of which one program serves all that a pattern stands for (multi_attach.py).
_MANY = ("tracepoint", "kprobe", "kretprobe", "uprobe", "uretprobe", "usdt")


class Form(NamedTuple):
    """Points that one program serves: their indexes among those of the probe."""

    kind: str
    target: str
    points: list[int]
    arguments: Optional[Struct] = None
    result: Type = VOID
    many: bool = False
    type_id: int = 0
    way: str = ""  # in which the arguments of a USDT probe are written


def point_of(at: tree.AttachPoint, checker: Any) -> Point:
    """The plan's point of an attach point. Raises Wrong."""
    options = checker.options
    found = point(at, options.pid, options.unsafe, options.config["missing_probes"])
    return found._replace(at=list(at.at))


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


def _needs_arguments(kind: str, names: set[str]) -> bool:
    """Whether the types of a point's arguments have to be known."""
    return (
        kind in ("fentry", "fexit") or "args" in names and kind in ("tracepoint", "rawtracepoint")
    )


def missing(probe: tree.Probe, each: Point, kernel: Kernel, layouts: Layouts) -> str:
    """What to say of a point that is not there; empty if it is, or if that is seen later."""
    module, _, name = each.target.rpartition(":")
    of_program = each.target.startswith(OF_PROGRAM)
    if each.kind in ("fentry", "fexit") and (
        is_pattern(each.target) or of_program and each.target.count(":") < 2
    ):
        return f"No matches for {each.kind} {each.target}."
    if each.kind == "rawtracepoint":
        # Those of modules are in types of their own, which are not read.
        elsewhere = module and not matching([VMLINUX], module)
        if elsewhere or kernel.has_btf and kernel.btf.raw_tracepoint_id(name) is None:
            # bpftrace takes a name without a module for a pattern.
            words = "" if module or is_pattern(name) else "Probe has no valid attach points. "
            return f"{words}No matches for rawtracepoint {each.target}."
    if not _needs_arguments(each.kind, _names_in((probe.predicate, probe.body))):
        return ""
    try:
        _arguments(each.kind, each.target, kernel, layouts)
    except Failure as error:
        return str(error)
    return ""


def forms_of(
    probe: tree.Probe, points: list[Point], kernel: Kernel, layouts: Layouts, pid: int = 0
) -> list[Form]:
    """The programs that a probe needs, whose points are there. ``pid`` is that of -p."""
    names = _names_in((probe.predicate, probe.body))
    told = bool(names & {"probe", "func"})
    groups: dict[tuple[str, str], list[int]] = {}
    for number, each in enumerate(points):
        target = ""
        if told and not (is_pattern(each.target) and each.kind in _MANY):
            target = str(number)
        elif "args" in names and each.kind in ("tracepoint", "rawtracepoint"):
            target = each.target
        elif each.kind in ("fentry", "fexit", "usdt"):
            target = each.target
        elif each.offset or each.kind in ("kprobe", "kretprobe") and each.target.isdigit():
            target = f"{each.target}+{each.offset}"  # no link of many has such places
        groups.setdefault((each.kind, target), []).append(number)
    found = []
    for (kind, _), numbers in groups.items():
        target = points[numbers[0]].target
        arguments: Optional[Struct] = None
        result: Type = VOID
        type_id = 0
        if _needs_arguments(kind, names):
            arguments, result = _arguments(kind, target, kernel, layouts)
        if target.startswith(OF_PROGRAM) and kind in ("fentry", "fexit"):
            type_id = _program_function(target).type_id
        elif kind in ("fentry", "fexit"):
            type_id = kernel.btf.ids(target.rpartition(":")[2], kinds.FUNC)[0]
        pattern = any(is_pattern(points[n].target) for n in numbers)
        many = pattern and kind in _MANY and (told or kind not in ("tracepoint", "usdt"))
        for way in ways_of(kind, target, names, pid):
            found.append(Form(kind, target, numbers, arguments, result, many, type_id, way))
    return found


def ways_of(kind: str, target: str, names: set[str], pid: int) -> list[str]:
    """The ways in which the arguments of a USDT probe are written, each for a program of its own;
    one empty way of all other probes, and if no argument is asked for."""
    if kind != "usdt" or not any(re.fullmatch(r"arg\d+", name) for name in names):
        return [""]
    from pytools.bt.user_hooks import files_of

    path, _, rest = target.partition(":")
    provider, _, name = rest.rpartition(":")
    ways = []
    for file in files_of(path, pid or -1):
        with file:
            for each in file.probes():
                fits = not provider or matching([each.provider], provider)
                if fits and matching([each.name], name or "*") and each.arguments not in ways:
                    ways.append(each.arguments)
    return ways or [""]


def expanded(each: Point, kernel: Kernel) -> list[Point]:
    """A pattern of what is attached one by one, by types: functions and raw tracepoints; functions
    of BPF programs by their ids."""
    if each.kind in ("fentry", "fexit") and each.target.startswith(OF_PROGRAM):
        return _of_programs(each)
    if each.kind not in ("fentry", "fexit", "rawtracepoint") or not is_pattern(each.target):
        return [each]
    module, _, name = each.target.rpartition(":")
    if each.kind == "rawtracepoint":
        prefix = "btf_trace_"
        known = {t[len(prefix) :]: "" for t in kernel.btf.names(kinds.TYPEDEF) if prefix in t[:10]}
    else:
        types = kernel.btf.names(kinds.FUNC)
        known = {
            name: its
            for name, its in kernel.functions().items()
            if name in types and not is_unsafe(name)
        }
    found = [
        function
        for function in matching(known, name)
        if not module or matching([known[function] or VMLINUX], module)
    ]
    return [
        each._replace(target=function, text=f"{each.kind}:{function}", programs=[])
        for function in found
    ] or [each]


def _of_programs(each: Point) -> list[Point]:
    from pytools.load.programs import functions

    *numbers, name = each.target[len(OF_PROGRAM) :].split(":")
    targets = {
        f"{OF_PROGRAM}{function.program}:{function.name}"
        for function in functions()
        if matching([function.name], name) and numbers in ([], ["*"], [str(function.program)])
    }
    return [
        each._replace(target=target, text=f"{each.kind}:{target}", programs=[])
        for target in sorted(targets)
    ] or [each]


def _program_function(target: str) -> Function:
    """The function of a BPF program that a point names. Raises Failure."""
    from pytools.load.programs import functions

    _, number, name = target.split(":")
    for function in functions():
        if (str(function.program), function.name) == (number, name):
            return function
    raise Failure(f"No matches for fentry {target}.")


def _program_arguments(kind: str, target: str, layouts: Layouts) -> tuple[Struct, Type]:
    """What ``args`` is at a function of a BPF program: numbers, and pointers to what the kernel's
    types have a name for. Raises Failure."""
    from pytools.load.programs import types

    function = _program_function(target)
    try:
        btf = types(function.types)
    except OSError as error:
        raise Failure(f"cannot read the types of {target}: {error.strerror}") from None
    _, parameters = btf.prototype(function.type_id)
    fields = []
    for number, (label, type_id) in enumerate(parameters):
        words = re.sub(r"\b(const|volatile)\b", " ", btf.spelled(type_id, "")).split()
        text = " ".join(words)
        each: Type = Int(8, False)
        if text.endswith("*"):
            to = layouts.named(text.rstrip("* ") or "void", None, complete=False)
            each = Pointer(to if text.count("*") == 1 else VOID, "kernel")
        fields.append(Field(label or f"arg{number}", 64 * number, each))
    return layouts.tracepoint(f"struct {kind}:{target}_args", fields), VOID


def _arguments(
    kind: str, target: str, kernel: Kernel, layouts: Layouts
) -> tuple[Optional[Struct], Type]:
    """What ``args`` is at a point, and what ``retval``. Raises Failure."""
    if target.startswith(OF_PROGRAM) and kind in ("fentry", "fexit"):
        return _program_arguments(kind, target, layouts)
    if set(target) & set("*?["):
        target = _first_match(kind, target, kernel)
    if kind == "tracepoint":
        category, _, name = target.partition(":")
        if not kernel.has_tracepoint(category, name):
            raise Failure(f"No matches for tracepoint {target}.")
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
        result, parameters = btf.prototype(btf.with_names(type_id, name))
        parameters = parameters[1:]
    else:
        ids = btf.ids(name, kinds.FUNC)
        if not ids:
            raise Failure(f"No matches for {kind} {target}.")
        result, parameters = btf.prototype(ids[0])
    fields = []
    slot = 0
    for number, (label, type_id) in enumerate(parameters):
        each = layouts.of_btf(type_id)
        if isinstance(each, Pointer) and not each.space:
            each = replace(each, space="kernel")
        fields.append(Field(label or f"arg{number}", 64 * slot, each))
        slot += max(1, (each.size + 7) // 8)  # a struct of 16 bytes takes two registers
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
            return Field(field.name, offset, String(field.size, True))
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
                + (
                    "'kprobes', 'uprobes', 'rawtracepoints' and 'usdt' probes"
                    if word == "arg"
                    else "'kprobes' and 'uprobes' probes"
                ),
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
        from pytools.bt.user_hooks import path_of  # few scripts ask
        from pytools.facts.elf import File

        try:
            with File(path_of(path)) as file:
                return file.symbol_size(name) or 8
        except Failure:
            return 8
