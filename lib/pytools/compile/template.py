"""From a tool's C template to the C that is compiled for one kernel.

A template is C with these additions:

``$NAME``
    a placeholder: a piece of C chosen by the tool (``code``), a checked literal
    made of the user's input (``values``), a number that is put in when the
    program is loaded, so that one image serves every value (``settings``), or a
    difference between kernels (``differences``). One that is unknown, missing or
    unused is an error.
``TRACEPOINT(category, name)``, ``RAW_TRACEPOINT(name, type argument, ...)``,
``PERF_EVENT(name)``
    in place of a function's head: a program and what it attaches to. A
    tracepoint's record is ``args``; a raw tracepoint's arguments are variables
    of the names given, their types checked against the kernel's. Where a kernel
    leaves programs out at the tracepoints of single system calls, they are at the
    call's function instead (differences.call_function), with the same record.
``FUNCTION(name, type argument, ...)``, ``FUNCTION_RETURN(name, type result, type argument, ...)``
    the same for a kernel function, when it is called and when it has returned.
    Arguments are found by the names that the kernel gives them, wherever they
    stand. It becomes fentry and fexit where the kernel has them, else kprobe and
    kretprobe; or links of these (kprobe.multi) where only they run each time
    (differences.links_functions).
``OPTIONAL FUNCTION(...)``, ``OPTIONAL FUNCTION_RETURN(...)``
    the same, but left out where the kernel has no such function that can be traced.
``CLASSIFIER(name)``
    the same for a packet, ``struct __sk_buff *skb``, at what ``traffic.py`` attaches it to.
``UPROBE(label, type argument, ...)``, ``URETPROBE(label, type result)``
    the same for a function of programs and libraries, when it is called and when it
    has returned. Its arguments are the first ones that it has, integers and pointers,
    in their order. The label is only the template's own: where the function is, is
    said when it is attached (program.Program.attach_uprobe).
``USDT(label, type argument, ...)``
    the same for a USDT probe, with its first arguments. Where they are differs from
    place to place: it becomes a program for each way in which they are written, which
    the source names (``probes``).
``PROBES(label)``
    a program for any number of probes, of any kinds, which are said when it is
    attached (program.Program.attach_many). ``probe_of(ctx, $INDEX)`` of probe.h, with
    that setting, is the number of the probe that it runs for.
``EVENTS(name, struct type)``
    a ring buffer of such records.
``READ(struct, pointer, member)``
    ``pointer->member``, a number, of a pointer that a raw tracepoint was given. Where
    the kernel takes programs that know their arguments' types (tp_btf), the raw
    tracepoints of a template that has this become such, and it is read at once, not by
    a call; ``TYPED`` is 1 then, else 0.
``#include "name.h"``
    C that several tools share, from ``bpf/`` beside this file.
``#include <linux/...>``
    what the template needs of a kernel *without* BTF. With BTF the lines are
    left out, and each kernel struct that the template names is declared with
    just the members it names, at their true offsets.

Where C follows a pointer into the kernel, bcc puts a bpf_probe_read. It does so
wrongly for an element of an array in a kernel struct (``pid->numbers[level]``,
all versions up to 0.37): write ``(struct upid *)&pid->numbers + level``.
"""
from __future__ import annotations

import os
import re
from collections import Counter
from string import Template

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.facts import differences
from pytools.compile import usdt
from pytools.compile.agreed import LAYOUT, SETTING
from pytools.base.errors import Failure
from pytools.facts.kernel import Kernel, TracepointField
from pytools.compile.unrendered import Unrendered

if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence

    from pytools.facts.btf import Function
    from pytools.compile.unrendered import Value

__all__ = ["Hook", "Rendered", "literal", "render"]

SHARED = os.path.join(os.path.dirname(os.path.realpath(__file__)), "bpf")


_SETTING_MACRO = """\
/* A number that is put in when the program is loaded. */
#define setting(name, mark) \\
	({ s64 value; asm("%0 = " #mark " ll" : "=r"(value)); value; })

"""


class Hook(NamedTuple):
    """A program and its attach point: kind is ``tracepoint`` (target
    ``category:name``), ``raw_tracepoint`` or ``tp_btf`` (target: name), ``perf_event``,
    ``classifier`` (attached by ``traffic.Traffic``), or for a kernel function (target: its
    symbol) ``fentry``, ``fexit``, ``kprobe`` or ``kretprobe``; for a user function or probe
    (target: the template's label for it) ``uprobe``, ``uretprobe`` or ``usdt``; with
    ``.multi`` at its end where a link attaches it that can hold many places; for any probes
    ``probes`` (target: the label). ``type_id`` is the BTF id of what has types."""

    program: str
    kind: str
    target: str
    type_id: int = 0


class Rendered(NamedTuple):
    """C for one kernel. ``headers`` is the folder of the kernel's own headers
    where it is compiled with those, empty where it needs none."""

    text: str
    hooks: list[Hook]
    headers: str
    settings: list[str]


class TemplateError(Failure):
    """The template itself is wrong: a mistake in the tool, not in its use."""


def literal(value: Value) -> str:
    """A C literal: the only form in which what a user typed reaches C.

    >>> literal(-1), literal(2**63), literal(b"sh")
    ('-1', '9223372036854775808ULL', "{ 115, 104 }")
    """
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        if -(1 << 31) < value < 1 << 31:
            return str(value)
        if -(1 << 63) < value < 0:
            return f"{value}LL"
        if 0 < value < 1 << 64:
            return f"{value}ULL"
        raise Failure(f"{value} does not fit into 64 bits")
    if isinstance(value, bytes) and value:
        return "{ " + ", ".join(str(byte) for byte in value) + " }"
    raise TypeError(f"no C literal for {value!r}")


def render(
    source: Unrendered,
    kernel: Kernel,
    fentry: bool = True,
    typed: Callable[[int], bool] | None = None,
) -> Rendered:
    """Write a template out for a kernel. Code may hold placeholders, values become
    literals; without ``fentry`` functions are reached by kprobes, and raw tracepoints
    have no types. ``typed`` is asked whether the kernel takes them, given one's id (it
    does, if nothing is to be asked). Raises TemplateError for a mistake in the template,
    Failure for what the kernel does not have."""
    code = {name: _include_shared(text) for name, text in source.code.items()}
    fixed = {name: literal(value) for name, value in source.values.items()}
    settings = sorted(source.settings)
    marks = {
        name: f"setting({name.lower()}, {SETTING + number:#x})"
        for number, name in enumerate(settings)
    }
    text = _substitute(_include_shared(source.template), kernel, code, fixed, marks)
    has_types = fentry and _is_typed(text, kernel, typed)
    fentry = fentry and differences.has_fentry(kernel)
    text = _leave_out_missing(text, kernel)
    text = _expand_reads(text, kernel, has_types)
    text, hooks = _expand_hooks(text, kernel, fentry, has_types, source.probes)
    text = _expand_events(text)
    bare = _without_comments(text)
    declared = _tracepoint_structs(hooks, kernel)
    if kernel.has_btf:
        text = re.sub(r"^[ \t]*#[ \t]*include\b.*\n", "", text, flags=re.M)
        declared = _kernel_types(_without_comments(text), kernel) + declared
        text = (_SETTING_MACRO if settings else "") + declared + text.lstrip("\n")
        return Rendered(text, hooks, "", settings)
    includes = re.findall(r"^[ \t]*#[ \t]*include\b.*\n", bare, flags=re.M)
    text = re.sub(r"^[ \t]*#[ \t]*include\b.*\n", "", text, flags=re.M)
    text = "".join(includes) + (_SETTING_MACRO if settings else "") + declared + text
    return Rendered(text, hooks, kernel.headers, settings)


def _include_shared(template: str) -> str:
    """Put the files of ``bpf/`` in the place of their #include lines."""

    def read(match: re.Match[str]) -> str:
        try:
            with open(os.path.join(SHARED, match.group(1))) as file:
                return _include_shared(file.read())
        except OSError:
            raise TemplateError(f"there is no bpf/{match.group(1)} to include") from None

    return re.sub(r'^[ \t]*#[ \t]*include[ \t]+"([\w.]+)"[ \t]*\n', read, template, flags=re.M)


# Placeholders.


class _Placeholders(Template):
    idpattern = r"[A-Z][A-Z0-9_]*"
    flags = re.ASCII


def _names(text: str) -> list[str]:
    names = []
    for match in _Placeholders.pattern.finditer(text):
        name = match.group("named") or match.group("braced")
        if match.group("invalid") is not None:
            line = text.count("\n", 0, match.start()) + 1
            raise TemplateError(f"template line {line}: a '$' that begins no placeholder")
        if name:
            names.append(name)
    return names


def _substitute(
    template: str,
    kernel: Kernel,
    code: Mapping[str, str],
    values: Mapping[str, str],
    settings: Mapping[str, str],
) -> str:
    names = Counter([*code, *values, *settings])
    for name, times in names.items():
        if times > 1:
            raise TemplateError(f"${name} is given twice: as code, as a value or as a setting")
    used: set[str] = set()
    mapping = {**values, **settings}

    def expand(text: str, outer: tuple[str, ...]) -> str:
        for name in _names(text):
            used.add(name)
            if name in outer:
                raise TemplateError(f"${name} contains itself")
            if name in code:
                mapping[name] = expand(code[name], outer + (name,))
            elif name not in mapping:
                difference = differences.resolve(name, kernel)
                if difference is None:
                    raise TemplateError(f"placeholder ${name} is not replaced")
                mapping[name] = difference
        return _Placeholders(text).substitute(mapping)

    text = expand(template, ())
    unused = names.keys() - used
    if unused:
        raise TemplateError(f"the template has no placeholder ${min(unused)}")
    return text


# Programs and what they attach to.

_HOOK = re.compile(
    r"^(TRACEPOINT|RAW_TRACEPOINT|PERF_EVENT|CLASSIFIER|FUNCTION|FUNCTION_RETURN|UPROBE|URETPROBE"
    r"|USDT|PROBES)"
    r"[ \t]*\(([^()]*)\)[ \t]*\n?\{",
    re.M,
)


def _tracepoint_head(arguments: list[str], kernel: Kernel) -> tuple[Hook, str]:
    category, name = arguments
    if category == "syscalls":
        side, _, call = name.partition("_")[2].partition("_")
        function = differences.call_function(call, kernel)
        if function is not None:
            return _call_head(function, side, name, kernel)
    program = f"tracepoint__{category}__{name}"
    # bcc would look up a struct whose name begins with "tracepoint__" itself.
    head = f"int {program}(struct {category}__{name} *args)\n{{"
    return Hook(program, "tracepoint", f"{category}:{name}"), head


def _call_head(function: str, side: str, name: str, kernel: Kernel) -> tuple[Hook, str]:
    """The head of a program at the function that makes a system call, with a record as the
    call's tracepoint has it."""
    registers, result = differences.call_registers(kernel)
    fields = [
        field
        for field in kernel.tracepoint_fields("syscalls", name)
        # Behind the arguments, there may be copies of what they point to (__data_loc).
        if not field.name.startswith(("common_", "__syscall_nr")) and "__data_loc" not in field.type
    ]
    if side == "exit":
        kind, lines, values = "kretprobe.multi", [], [f"ctx->{result}"]
    else:
        kind = "kprobe.multi"
        lines = [f"\tstruct pt_regs *registers = (struct pt_regs *)ctx->{registers[0]};"]
        values = [f"registers->{member}" for member in differences.call_arguments(kernel)]
    program = f"tracepoint__syscalls__{name}"
    members = "".join(f"\t{_field_declaration(field)};\n" for field in fields)
    lines = [
        f"struct syscalls__{name} {{\n{members}}};\n",
        f"int {program}(struct pt_regs *ctx)",
        "{",
        *lines,
        f"\tstruct syscalls__{name} record = {{}}, *args = &record;\n",
        *(
            f"\trecord.{field.name} = (typeof(record.{field.name})){value};"
            for field, value in zip(fields, values)
        ),
    ]
    if differences.calls_share_functions():
        lines.append(f"\tif ({differences.COMPAT_CALL(kernel)})\n\t\treturn 0;")
    return Hook(program, kind, function), "\n".join(lines)


def _raw_tracepoint_head(arguments: list[str], kernel: Kernel, typed: bool) -> tuple[Hook, str]:
    name, parameters = arguments[0], arguments[1:]
    program = f"raw_tracepoint__{name}"
    lines = [f"int {program}(struct bpf_raw_tracepoint_args *ctx)", "{"]
    types = kernel.btf.raw_tracepoint(name) if kernel.has_btf else None
    if kernel.has_btf and types is None:
        raise Failure(f"this kernel has no raw tracepoint {name}")
    for number, parameter in enumerate(parameters):
        wanted = _Parameter.parse(parameter)
        if types is not None:
            there = types[number] if number < len(types) else "nothing"
            if _type_words(wanted.type) != _type_words(there):
                raise Failure(
                    f"raw tracepoint {name}: argument {number + 1} is {there} in this "
                    f"kernel, not {wanted.type}"
                )
        lines.append(wanted.declared(f"ctx->args[{number}]"))
    hook = Hook(program, "raw_tracepoint", name)
    if typed:
        hook = hook._replace(kind="tp_btf", type_id=kernel.btf.raw_tracepoint_id(name) or 0)
    return hook, "\n".join(lines)


def _perf_event_head(arguments: list[str], kernel: Kernel) -> tuple[Hook, str]:
    program = f"perf_event__{arguments[0]}"
    return Hook(program, "perf_event", ""), f"int {program}(struct bpf_perf_event_data *ctx)\n{{"


class _Parameter(NamedTuple):
    type: str
    name: str

    @classmethod
    def parse(cls, text: str) -> _Parameter:
        type_text, name = re.fullmatch(r"(.*?)(\w+)", text, re.S).groups()  # type: ignore
        return cls(type_text.strip(), name)

    def declared(self, value: str) -> str:
        space = "" if self.type.endswith("*") else " "
        return f"\t{self.type}{space}{self.name} = ({self.type}){value};"


def _places(symbol: str, name: str, wanted: list[_Parameter], kernel: Kernel) -> list[int]:
    """Where the arguments of those names stand among a function's parameters."""
    if not wanted:
        return []
    if "." in symbol:
        raise Failure(f"{symbol}: the compiler may have changed its arguments")
    function = kernel.btf.function(symbol) if kernel.has_btf else None
    if function is None:
        names = differences.parameter_names(name, kernel)
    else:
        names = [label for label, _ in function.parameters]
    places = []
    for parameter in wanted:
        if parameter.name not in names:
            raise Failure(f"function {name} has no argument {parameter.name} in this kernel")
        place = names.index(parameter.name)
        there = function.parameters[place][1] if function else parameter.type
        if _type_words(parameter.type) != _type_words(there):
            raise Failure(
                f"function {name}: argument {parameter.name} is {there} in this kernel, "
                f"not {parameter.type}"
            )
        places.append(place)
    return places


def _function_head(
    arguments: list[str], kernel: Kernel, fentry: bool, returns: bool
) -> tuple[list[Hook], str]:
    name, parameters = arguments[0], [_Parameter.parse(text) for text in arguments[1:]]
    result = parameters.pop(0) if returns else None
    symbol = kernel.attachable(name)
    if symbol is None:
        raise Failure(f"this kernel has no function {name} that can be traced")
    places = _places(symbol, name, parameters, kernel)
    if differences.links_functions(kernel):
        return _kprobe_head(symbol, parameters, places, result, kernel, ".multi")
    function = kernel.btf.function(symbol) if fentry else None
    if function is not None and function.plain:
        return _fentry_head(symbol, function, parameters, places, result)
    return _kprobe_head(symbol, parameters, places, result, kernel)


def _fentry_head(
    symbol: str,
    function: Function,
    parameters: list[_Parameter],
    places: list[int],
    result: _Parameter | None,
) -> tuple[list[Hook], str]:
    kind = "fexit" if result else "fentry"
    program = f"{kind}__{symbol}"
    lines = [f"int {program}(struct bpf_raw_tracepoint_args *ctx)", "{"]
    if result:
        lines.append(result.declared(f"ctx->args[{len(function.parameters)}]"))
    for parameter, place in zip(parameters, places):
        lines.append(parameter.declared(f"ctx->args[{place}]"))
    return [Hook(program, kind, symbol, function.type_id)], "\n".join(lines)


# Calls of a function that a thread is in at once, of which the arguments are kept: a file
# system on top of another calls for that the function that it was called by.
NESTED_CALLS = 4


def _kprobe_head(
    symbol: str,
    parameters: list[_Parameter],
    places: list[int],
    result: _Parameter | None,
    kernel: Kernel,
    link: str = "",
) -> tuple[list[Hook], str]:
    registers, result_register = differences.call_registers(kernel)
    if any(place >= len(registers) for place in places):
        raise Failure(f"function {symbol} has too many arguments for a kprobe")
    label = re.sub(r"\W", "_", symbol)
    kind = "kretprobe" if result else "kprobe"
    program = f"{kind}__{label}"
    hooks = [Hook(program, kind + link, symbol)]
    lines = [f"int {program}(struct pt_regs *ctx)", "{"]
    values = [f"ctx->{registers[place]}" for place in places]
    kept = bool(result and parameters)
    if kept:
        # What the registers held at the call is kept until the return, by thread.
        entry, calls, count = f"kprobe_for_return__{label}", f"calls_{label}", len(places)
        hooks.insert(0, Hook(entry, "kprobe" + link, symbol))
        lines = [
            f"struct {calls} {{\n\tu64 depth;\n\tu64 arguments[{NESTED_CALLS * count}];\n}};",
            f"BPF_HASH({calls}, u64, struct {calls}, 16384);\n",
            f"int {entry}(struct pt_regs *ctx)",
            "{",
            "\tu64 thread = bpf_get_current_pid_tgid(), depth;",
            f"\tstruct {calls} none = {{}}, *entered = {calls}.lookup_or_try_init(&thread, &none);",
            "\n\tif (!entered)\n\t\treturn 0;",
            f"\tdepth = entered->depth++;\n\tif (depth >= {NESTED_CALLS})\n\t\treturn 0;",
            *(
                f"\tentered->arguments[{count} * depth + {number}] = {value};"
                for number, value in enumerate(values)
            ),
            "\treturn 0;",
            "}\n",
            *lines,
            "\tu64 _thread = bpf_get_current_pid_tgid(), _depth;",
            f"\tstruct {calls} *_entered = {calls}.lookup(&_thread);",
        ]
    if result:
        lines.append(result.declared(f"ctx->{result_register}"))
    # That they come from ctx first tells bcc that they point into the kernel.
    lines += [parameter.declared(value) for parameter, value in zip(parameters, values)]
    if kept:
        lines += [
            "\n\tif (!_entered || !_entered->depth)\n\t\treturn 0;",
            "\t_depth = --_entered->depth;",
            f"\tif (_depth >= {NESTED_CALLS})\n\t\treturn 0;",
            *(
                f"\t{parameter.name} = "
                f"({parameter.type})_entered->arguments[{count} * _depth + {number}];"
                for number, parameter in enumerate(parameters)
            ),
            f"\tif (!_depth)\n\t\t{calls}.delete(&_thread);",
        ]
    return hooks, "\n".join(lines)


def _classifier_head(arguments: list[str], kernel: Kernel) -> tuple[Hook, str]:
    program = f"classifier__{arguments[0]}"
    return Hook(program, "classifier", ""), f"int {program}(struct __sk_buff *skb)\n{{"


def _user_kind(kind: str, kernel: Kernel) -> str:
    return kind + ".multi" if differences.has_uprobe_multi(kernel) else kind


def _uprobe_head(arguments: list[str], kernel: Kernel) -> tuple[Hook, str]:
    label, parameters = arguments[0], [_Parameter.parse(text) for text in arguments[1:]]
    registers, _ = differences.call_registers(kernel)
    program = f"uprobe__{label}"
    lines = [f"int {program}(struct pt_regs *ctx)", "{"]
    for place, parameter in enumerate(parameters):
        if place < len(registers):
            lines.append(parameter.declared(f"ctx->{registers[place]}"))
            continue
        address = differences.stack_argument(place - len(registers))
        if address is None:
            raise Failure(f"function {label}: only {len(registers)} arguments are in registers")
        argument = usdt.Argument(8, address, memory=True)
        lines.append(argument.declare(f"argument{place}"))
        lines.append(parameter.declared(f"argument{place}"))
    return Hook(program, _user_kind("uprobe", kernel), label), "\n".join(lines)


def _uretprobe_head(arguments: list[str], kernel: Kernel) -> tuple[Hook, str]:
    label, *parameters = arguments
    _, register = differences.call_registers(kernel)
    program = f"uretprobe__{label}"
    lines = [f"int {program}(struct pt_regs *ctx)", "{"]
    if parameters:
        (result,) = parameters
        lines.append(_Parameter.parse(result).declared(f"ctx->{register}"))
    return Hook(program, _user_kind("uretprobe", kernel), label), "\n".join(lines)


def _probes_head(arguments: list[str], kernel: Kernel) -> tuple[Hook, str]:
    (label,) = arguments
    program = f"probes__{label}"
    return Hook(program, "probes", label), f"int {program}(void *ctx)\n{{"


def _usdt_head(
    arguments: list[str], kernel: Kernel, probes: Mapping[str, Sequence[str]]
) -> tuple[list[Hook], str]:
    """The body becomes a function, which a program for each way calls."""
    label, parameters = arguments[0], [_Parameter.parse(text) for text in arguments[1:]]
    if label not in probes:
        raise TemplateError(f"USDT({label}): the source names no way to read its arguments")
    head = ["struct pt_regs *ctx"]
    head += [f"{p.type}{'' if p.type.endswith('*') else ' '}{p.name}" for p in parameters]
    body = f"static inline int probe__{label}({', '.join(head)})"
    hooks, lines = [], [f"{body};\n"]
    for number, description in enumerate(probes[label]):
        program = f"usdt__{label}__{number}"
        hooks.append(Hook(program, _user_kind("usdt", kernel), label))
        lines += [f"int {program}(struct pt_regs *ctx)", "{"]
        known = usdt.arguments(description) if parameters else []
        values = ["ctx"]
        for place, parameter in enumerate(parameters):
            argument = known[place] if place < len(known) else None
            if argument is None:
                raise Failure(
                    f"probe {label}: argument {place + 1} can't be read where the arguments "
                    f"are {description or 'none'}"
                )
            lines.append(argument.declare(f"argument{place}"))
            wide = "(u64)" if parameter.type.endswith("*") else ""
            values.append(f"({parameter.type}){wide}argument{place}")
        lines += [f"\n\treturn probe__{label}({', '.join(values)});", "}\n"]
    return hooks, "\n".join([*lines, body, "{"])


_HEADS: dict[str, Callable[[list[str], Kernel], tuple[Hook, str]]] = {
    "TRACEPOINT": _tracepoint_head,
    "PERF_EVENT": _perf_event_head,
    "CLASSIFIER": _classifier_head,
    "UPROBE": _uprobe_head,
    "URETPROBE": _uretprobe_head,
    "PROBES": _probes_head,
}


def _type_words(type_text: str) -> list[str]:
    words = re.findall(r"\w+|\*", type_text)
    return ["_Bool" if word == "bool" else word for word in words if word != "const"]


def _expand_hooks(
    text: str, kernel: Kernel, fentry: bool, typed: bool, probes: Mapping[str, Sequence[str]]
) -> tuple[str, list[Hook]]:
    hooks: list[Hook] = []

    def expand(match: re.Match[str]) -> str:
        word = match.group(1)
        arguments = [argument.strip() for argument in match.group(2).split(",")]
        try:
            if word.startswith("FUNCTION"):
                found, head = _function_head(arguments, kernel, fentry, word != "FUNCTION")
                hooks.extend(found)
                return head
            if word == "USDT":
                found, head = _usdt_head(arguments, kernel, probes)
                hooks.extend(found)
                return head
            if word == "RAW_TRACEPOINT":
                hook, head = _raw_tracepoint_head(arguments, kernel, typed)
            else:
                hook, head = _HEADS[word](arguments, kernel)
        except (ValueError, AttributeError, IndexError):
            raise TemplateError(f"cannot read {match.group(0).splitlines()[0]}") from None
        before = sum(hook.target == known.target for known in hooks if known.kind == hook.kind)
        if before and word == "RAW_TRACEPOINT":  # of another part of the template
            program = f"{hook.program}__{before + 1}"
            head = head.replace(hook.program, program, 1)
            hook = hook._replace(program=program)
        hooks.append(hook)
        return head

    return _HOOK.sub(expand, text), hooks


_OPTIONAL = re.compile(
    r"^OPTIONAL[ \t]+(FUNCTION(?:_RETURN)?[ \t]*\([ \t]*(\w+)\b[^()]*\)\s*\{.*?^\}\n)", re.M | re.S
)


def _leave_out_missing(text: str, kernel: Kernel) -> str:
    return _OPTIONAL.sub(
        lambda match: match.group(1) if kernel.attachable(match.group(2)) else "", text
    )


_READ = re.compile(r"\bREAD\s*\(\s*(\w+)\s*,\s*(\w+)\s*,\s*(\w+)\s*\)")


def _is_typed(text: str, kernel: Kernel, typed: Callable[[int], bool] | None) -> bool:
    """Whether the raw tracepoints of a text become programs that know types."""
    hooks = (match.groups() for match in _HOOK.finditer(text))
    names = [given.split(",")[0].strip() for word, given in hooks if word == "RAW_TRACEPOINT"]
    if not names or not _READ.search(text) or not differences.has_tp_btf(kernel):
        return False
    type_id = kernel.btf.raw_tracepoint_id(names[0])
    return type_id is not None and (typed is None or typed(type_id))


def _expand_reads(text: str, kernel: Kernel, typed: bool) -> str:
    def read(match: re.Match[str]) -> str:
        struct, pointer, name = match.groups()
        if not typed:
            return f"{pointer}->{name}"
        member = kernel.btf.member(struct, name)
        if member is None:
            raise Failure(f"struct {struct} has no member {name} in this kernel")
        bits = 8 * kernel.btf.size(member.type_id)
        # Whatever follows a pointer in C, bcc makes a call.
        return (
            f'({{ u64 _value; asm("%0 = *(u{bits} *)(%1 + %2)" : "=r"(_value) : "r"({pointer}), '
            f'"i"(offsetof(struct {struct}, {name}))); (u{bits})_value; }})'
        )

    return re.sub(r"\bTYPED\b", str(int(typed)), _READ.sub(read, text))


def _expand_events(text: str) -> str:
    # bcc describes the values of a map, but not the records of a ring buffer:
    # an array of one such record stands beside it, for its description only.
    # The loader sets the buffer's true size.
    return re.sub(
        r"^EVENTS[ \t]*\([ \t]*(\w+)[ \t]*,[ \t]*(struct \w+)[ \t]*\)[ \t]*;",
        rf"BPF_RINGBUF_OUTPUT(\1, 1);\nBPF_ARRAY(\1{LAYOUT}, \2, 1);",
        text,
        flags=re.M,
    )


def _tracepoint_structs(hooks: list[Hook], kernel: Kernel) -> str:
    text = ""
    for hook in hooks:
        if hook.kind == "tracepoint":
            category, name = hook.target.split(":")
            text += record_struct(f"{category}__{name}", kernel.tracepoint_fields(category, name))
            text += "\n"
    return text


def record_struct(name: str, fields: list[TracepointField]) -> str:
    """A tracepoint's record as C. A ``__data_loc`` field (a string or array
    further down in the record) is a u32 of the name ``__data_loc_FIELD``:
    length << 16 | offset."""
    lines = [f"struct {name} {{"]
    position = 0
    for field in sorted(fields, key=lambda field: field.offset):
        if field.name.startswith("common_") or field.offset < position:
            continue
        if field.offset > position:
            lines.append(f"\tchar _pad{position}[{field.offset - position}];")
        lines.append(f"\t{_field_declaration(field)};")
        position = field.offset + field.size
    return "\n".join(lines) + "\n};\n"


def _field_declaration(field: TracepointField) -> str:
    if "__data_loc" in field.type or "__rel_loc" in field.type:
        return f"u32 __data_loc_{field.name}"
    if "*" in field.type and field.size == 8:
        return f"void *{field.name}"
    if "[" not in field.type and field.size in (1, 2, 4, 8):
        return f"{'s' if field.signed else 'u'}{8 * field.size} {field.name}"
    return f"char {field.name}[{field.size}]"


# The kernel's types.

# What bcc's own bpf.h declares; the kernel's BTF has it too.
_BCC_STRUCTS = re.compile(r"bpf_(?!perf_event_data$)\w+|__sk_buff|xdp_md|sk_reuseport_md|sk_msg_md")
# Declared by include/linux/types.h of our own.
_OWN_TYPEDEFS = re.compile(
    r"(__)?[su](8|16|32|64)|__(le|be)(16|32|64)|__sum16|__wsum|bool|s?size_t|uintptr_t"
    r"|(pid|uid|gid|dev|umode|loff|sector)_t"
)


def _without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", " ", text, flags=re.S)


def _kernel_types(text: str, kernel: Kernel) -> str:
    """Declarations of what a program names of the kernel: structs with the
    members it names, typedefs, enumerators."""
    words = set(re.findall(r"[A-Za-z_]\w*", text))
    own = set(re.findall(r"\b(?:struct|union|enum)\s+(\w+)\s*\{", text))
    defined = set(re.findall(r"#[ \t]*define[ \t]+(\w+)", text))
    for body in re.findall(r"\benum\b[^{;]*\{([^}]*)\}", text):
        defined |= set(re.findall(r"[A-Za-z_]\w*", body))
    structs = set(re.findall(r"\b(?:struct|union)\s+(\w+)", text))
    structs = {name for name in structs - own if not _BCC_STRUCTS.fullmatch(name)}
    members = set(re.findall(r"(?:->|\.)\s*([A-Za-z_]\w*)", text))
    members |= set(re.findall(r"\b(?:container_of|offsetof)\s*\(.*?,\s*(\w+)\s*\)", text))
    constants = {w for w in words if w.isupper() or w.endswith("_cgrp_id")}
    constants = {w for w in constants if not w.startswith("BPF_") and w != "__VA_ARGS__"}
    typedefs = {word for word in words if word.endswith("_t") and not _OWN_TYPEDEFS.fullmatch(word)}
    if not (constants - defined or structs or typedefs - defined):
        return ""  # and nothing is read for it
    values = kernel.btf.enumerators(constants - defined)
    declared = ""
    small = {name: value for name, value in values.items() if -(1 << 31) <= value < 1 << 31}
    if small:
        lines = "".join(f"\t{name} = {value},\n" for name, value in sorted(small.items()))
        declared = f"enum {{\n{lines}}};\n\n"
    # One that is wider would make all the others of its enum as wide.
    for name in sorted(values.keys() - small.keys()):
        declared += f"enum {{ {name} = {literal(values[name])} }};\n"
    declared += kernel.btf.declare(structs, members, typedefs - defined, own)
    return declared + "\n" if declared else ""
