"""bcc's probe specifiers, as its tools trace and argdist have them, in bpftrace's language.

    [KIND:[LIBRARY]:]FUNCTION[(PARAMETERS)] [(PREDICATE)] ["FORMAT"[, EXPRESSION]...]

A specifier becomes an attach point, a predicate and the arguments of a printf(): nothing of it is
compiled but by ``bt``, which checks every word. A kernel function that is a system call
(``sys_read``, ``__x64_sys_read``) becomes the tracepoint of that call: its name differs from kernel
to kernel, and what it takes is not what the call takes.
"""
from __future__ import annotations

import os
import re

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Usage, did_you_mean

if TYPE_CHECKING:
    from pytools.facts.kernel import Kernel

__all__ = ["Expressions", "Probe", "Specifier", "closing", "split", "specifier"]

LONGEST = 1 << 16  # characters of a specifier
SHOWN = 120  # of them, in a message
SYSTEM_CALL = re.compile(r"(?:__(?:x64|arm64|se|do)_sys_|sys_|SyS_)([a-z]\w*)", re.ASCII)
TOKEN = re.compile(
    r"""\s+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)'|\$?[A-Za-z_]\w*|[0-9]\w*|->|.""",
    re.ASCII | re.DOTALL,
)
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
ARGUMENT = re.compile(r"arg([1-9][0-9]?)", re.ASCII)
# %[flags][width][.precision][length]letter
CONVERSION = re.compile(r"%(?:%|[-+ #0]*[0-9]*(?:\.[0-9]+)?(?:hh|h|ll|l|z)?([A-Za-z]))")
LETTERS = "diouxXcpsKU"
# The kernel numbers threads where people speak of processes ($pid); a thread group is a process.
VARIABLES = {
    "$pid": "tid", "$tgid": "pid", "$uid": "uid", "$gid": "gid", "$cpu": "cpu", "$task": "curtask",
}  # fmt: skip
ESCAPES = {"n": 10, "t": 9, "r": 13, "0": 0, "\\": 92, "'": 39, '"': 34}
KINDS = {"p": "kprobe", "r": "kretprobe", "t": "tracepoint", "u": "usdt"}
# Parts of the C library since glibc 2.34: what is left under these names is empty.
MERGED = ("pthread", "dl", "rt", "util", "anl")
OPEN, CLOSE = "([{", ")]}"


class Probe(NamedTuple):
    """What stands before the predicate. ``point`` is the attach point in bpftrace's language,
    ``name`` what people call it. ``arguments`` are the expressions that arg1, arg2, ... stand for;
    empty: arg0, arg1, ... of the language. ``returns`` is that of ``retval``, empty if it has
    none. ``parameters`` are the types of named arguments, by name, in their order."""

    kind: str
    point: str
    name: str
    arguments: list[str]
    returns: str
    parameters: dict[str, str]


class Specifier(NamedTuple):
    """A specifier of trace: ``predicate`` is empty without one, ``form`` is a format as it stands
    in the program, without its quotes, and ``values`` are its arguments."""

    text: str
    probe: Probe
    predicate: str
    form: str
    values: list[str]


def specifier(text: str, kernel: Kernel, bytes_of_string: int = 0) -> Specifier:
    """What a specifier of trace says. %s prints at most so many bytes, 0: as many as usual. Raises
    Usage, Failure."""
    probe, rest = _probe(text, kernel)
    expressions = Expressions(text, probe)
    predicate = form = ""
    values: list[str] = []
    if rest.startswith("("):
        end = closing(text, rest, 0)
        predicate = expressions.translated(rest[1:end])
        rest = rest[end + 1 :].strip()
    if rest:
        found = re.match(r'"(?:[^"\\]|\\.)*"', rest, re.DOTALL)
        if not found:
            raise _wrong(text, "a format must follow, in double quotes: 'FUNCTION \"%d\", arg1'")
        behind = rest[found.end() :].strip()
        if behind and not behind.startswith(","):
            raise _wrong(text, "a comma must follow the format")
        given = split(behind[1:], ",") if behind else []
        form, values = _printed(text, expressions, found[0][1:-1], given, bytes_of_string)
    return Specifier(text, probe, predicate, form, values)


def _wrong(text: str, what: str) -> Usage:
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return Usage(f"{shown!r}: {what}")


# The probe.


def _probe(text: str, kernel: Kernel) -> tuple[Probe, str]:
    """The probe of a specifier, and what stands behind it."""
    text = text.strip()
    if not text or len(text) > LONGEST:
        raise Usage("a probe specifier is empty" if not text else "a probe specifier is too long")
    end = re.search(r"[\s(]|$", text).start()  # type: ignore[union-attr]
    place, rest = text[:end], text[end:]
    parameters: dict[str, str] = {}
    if rest.startswith("("):
        last = closing(text, rest, 0)
        parameters = _parameters(text, rest[1:last])
        rest = rest[last + 1 :]
    return _placed(text, place, parameters, kernel), rest.strip()


def _placed(text: str, place: str, parameters: dict[str, str], kernel: Kernel) -> Probe:
    parts = place.split(":")
    if len(parts) == 1:
        parts = ["p", "", *parts]
    elif len(parts) == 2:
        parts = ["p", *parts]
    kind, *where, name = parts
    kind = kind or "p"
    if kind not in KINDS:
        raise _wrong(text, f"the kind of a probe is p, r, t or u, not {kind!r}")
    if not name or len(where) > (2 if kind == "u" else 1):
        raise _wrong(text, "a probe is KIND:LIBRARY:FUNCTION, t:CATEGORY:NAME or u:LIBRARY:NAME")
    for part in (name, *where[kind in "pru" :]):
        if not re.fullmatch(r"[\w.$@+-]*", part, re.ASCII):
            raise _wrong(text, f"{part!r} is no name of a probe")
    if kind == "t":
        return Probe("t", f"tracepoint:{where[0]}:{name}", name, [], "", parameters)
    if kind == "u":
        if not where[0]:
            raise _wrong(text, "a USDT probe needs its program or library: u:LIBRARY:NAME")
        point = ":".join(["usdt", _library(text, where[0]), *where[1:], name])
        return Probe("u", point, name, [], "", parameters)
    returns = "retval" if kind == "r" else ""
    if where[0]:
        if "+" in name:
            raise _wrong(
                text, "an offset in a program's function is not supported: what is no beginning of "
                "an instruction would end the program",
            )  # fmt: skip
        word = "uretprobe" if kind == "r" else "uprobe"
        return Probe(
            kind, f"{word}:{_library(text, where[0])}:{name}", name, [], returns, parameters
        )
    call = SYSTEM_CALL.fullmatch(name)
    if call and kernel.has_tracepoint("syscalls", f"sys_enter_{call[1]}"):
        return _system_call(text, kind, name, call[1], parameters, kernel)
    return Probe(kind, f"{KINDS[kind]}:{name}", name, [], returns, parameters)


def _system_call(
    text: str, kind: str, name: str, call: str, parameters: dict[str, str], kernel: Kernel
) -> Probe:
    if any("pt_regs" in declared for declared in parameters.values()):
        raise _wrong(
            text, "a system call has its own arguments: arg1, arg2, ... or (TYPE NAME, ...)"
        )
    if kind == "r":
        point = f"tracepoint:syscalls:sys_exit_{call}"
        return Probe("r", point, name, ["0"] * 6, "args.ret", parameters)
    event = f"sys_enter_{call}"
    fields = [field.name for field in kernel.tracepoint_fields("syscalls", event)]
    arguments = [f"args.{field}" for field in fields if not field.startswith(("common_", "__sys"))]
    return Probe("p", f"tracepoint:syscalls:{event}", name, arguments, "", parameters)


def _library(text: str, name: str) -> str:
    """A library or a program in an attach point, which finds it: by its path, or by its name as ld
    takes it (``c``)."""
    if re.search(r'["\\\x00-\x20:,{/]', name.replace("/", "")):
        raise _wrong(text, f"{name!r}: paths with blanks, quotes, colons or commas can't be traced")
    if name in MERGED and _libc_version() >= (2, 34):
        return "c"
    return name


def _libc_version() -> tuple[int, ...]:
    """That of glibc; (0,) of another C library."""
    try:
        return tuple(map(int, (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[1].split(".")))
    except (ValueError, OSError, IndexError):
        return (0,)


def _parameters(text: str, inside: str) -> dict[str, str]:
    """The types of a function's parameters, by name, as C declares them."""
    found: dict[str, str] = {}
    for declared in split(inside, ","):
        shape = re.fullmatch(r"(.*?[\s*])([A-Za-z_]\w*)", declared, re.ASCII | re.DOTALL)
        if not shape or re.search(r"[^\w\s*]", shape[1], re.ASCII):
            raise _wrong(text, f"{declared!r} declares no parameter: TYPE NAME")
        words = [word for word in shape[1].replace("*", " * ").split() if word != "const"]
        found[shape[2]] = " ".join(words)
    return found


# Expressions.


def closing(text: str, inside: str, start: int) -> int:
    """Where the parenthesis closes that opens at ``start``. Raises Usage."""
    depth, place = 0, start
    while place < len(inside):
        token = TOKEN.match(inside, place)
        assert token
        depth += (token[0] == "(") - (token[0] == ")")
        if not depth:
            return place
        place = token.end()
    raise _wrong(text, "a parenthesis is not closed")


def split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators that stand in no parentheses and no literal."""
    if not text.strip():
        return []
    parts, depth = [""], 0
    for token in TOKEN.findall(text):
        depth += (token in OPEN) - (token in CLOSE)
        if token == separator and not depth:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts]


class Expressions:
    """Translates the expressions of a specifier, C with the names that bcc gives, for a probe."""

    def __init__(self, text: str, probe: Probe, more: dict[str, str] = {}) -> None:
        self._text = text
        self._probe = probe
        self._more = more
        self._names = list(probe.parameters)

    def translated(self, expression: str) -> str:
        """An expression in bpftrace's language. Raises Usage."""
        tokens = [token for token in TOKEN.findall(expression) if not token.isspace()]
        if not tokens:
            raise _wrong(self._text, "an expression is empty")
        depth = 0
        for place, token in enumerate(tokens):
            depth += (token in OPEN) - (token in CLOSE)
            user = token == "@" and tokens[place + 1 : place + 2] == ["user"]
            if depth < 0 or token in ";{}" or token == "@" and not user:
                raise _wrong(self._text, f"{token!r} has no place in an expression")
        if depth:
            raise _wrong(self._text, "a parenthesis is not closed")
        return self._translated(tokens)

    def text(self, expression: str) -> str:
        """The same of one whose value is the address of a text."""
        return f"str({self.translated(expression)})"

    def _translated(self, tokens: list[str]) -> str:
        made: list[str] = []
        place = 0
        while place < len(tokens):
            token, before = tokens[place], tokens[place - 1] if place else ""
            place += 1
            member = before in (".", "->", "struct", "union", "enum")
            if token == "STRCMP" and tokens[place : place + 1] == ["("]:
                end = self._closing(tokens, place)
                made.append(self._compared(tokens[place + 1 : end]))
                place = end + 1
            elif token.startswith("$"):
                made.append(self._variable(token))
            elif token.startswith("'"):
                made.append(str(self._character(token)))
            elif NAME.fullmatch(token) and not member:
                value = self._value(token)
                if tokens[place : place + 2] == ["@", "user"]:
                    value = f"uptr({value})"
                    place += 2
                made.append(value)
            else:
                made.append(token)
        return _joined(made)

    def _closing(self, tokens: list[str], start: int) -> int:
        depth = 0
        for place in range(start, len(tokens)):
            depth += (tokens[place] == "(") - (tokens[place] == ")")
            if not depth:
                return place
        raise _wrong(self._text, "a parenthesis is not closed")

    def _compared(self, tokens: list[str]) -> str:
        """STRCMP("text", address)"""
        literal = tokens[0] if tokens else ""
        parts = split(" ".join(tokens), ",")
        if len(parts) != 2 or len(tokens) < 3 or not literal.startswith('"') or tokens[1] != ",":
            raise _wrong(self._text, 'STRCMP compares a literal: STRCMP("text", arg1)')
        return f"(str({self._translated(tokens[2:])}) == {literal})"

    def _variable(self, token: str) -> str:
        known = {**VARIABLES, **self._more}
        if token not in known:
            hint = did_you_mean(token, list(known)) or ", ".join(known)
            raise _wrong(self._text, f"there is no {token}: {hint}")
        return known[token]

    def _character(self, token: str) -> int:
        inside = token[1:-1]
        if inside.startswith("\\"):
            if inside[1] not in ESCAPES:
                raise _wrong(self._text, f"{token} is no character")
            return ESCAPES[inside[1]]
        if ord(inside) > 127:
            raise _wrong(self._text, f"{token} is no character of ASCII")
        return ord(inside)

    def _value(self, name: str) -> str:
        probe = self._probe
        if name in self._names:
            argument = self._argument(self._names.index(name))
            return f"(({probe.parameters[name]}){argument})"
        found = ARGUMENT.fullmatch(name)
        if found and probe.kind == "t":
            raise _wrong(self._text, f"a tracepoint has no {name}: write args->FIELD")
        if found:
            return self._argument(int(found[1]) - 1)
        if name == "arg0":
            raise _wrong(self._text, "arguments are arg1, arg2, ...")
        if name == "retval":
            if not probe.returns:
                raise _wrong(self._text, "retval is known at r: probes only")
            return probe.returns
        return "0" if name == "NULL" else name

    def _argument(self, number: int) -> str:
        probe = self._probe
        if probe.kind == "r":
            raise _wrong(self._text, "arguments are not known where a function returns")
        if not probe.arguments:
            return f"arg{number}"
        if number >= len(probe.arguments):
            raise _wrong(self._text, f"{probe.name} has {len(probe.arguments)} arguments")
        return probe.arguments[number]


def _joined(tokens: list[str]) -> str:
    """Tokens as a text: a blank where two words would become one."""
    made = ""
    for token in tokens:
        if made and re.match(r"\w\w", made[-1] + token[:1]):
            made += " "
        made += token
    return made


# Formats.


def _printed(
    text: str, expressions: Expressions, form: str, given: list[str], most: int
) -> tuple[str, list[str]]:
    """The format for the program, and the values. A line has its own end."""
    if form.endswith("\\n"):
        form = form[:-2]
    string = f"str({{}}, {most + 1})" if most else "str({})"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", form):
        raise _wrong(text, "control characters in a format must be written as escapes (\\n, \\x1b)")
    letters = [found[1] for found in CONVERSION.finditer(form) if found[1]]
    strange = [letter for letter in letters if letter not in LETTERS]
    if strange or re.search(r"%", CONVERSION.sub("", form)):
        what = f"%{strange[0]}" if strange else "a % that begins no conversion"
        raise _wrong(text, f"{what} in the format: {', '.join('%' + each for each in LETTERS)}, %%")
    if len(letters) != len(given):
        raise _wrong(text, f"conversions in the format: {len(letters)}; values: {len(given)}")
    values = []
    for letter, expression in zip(letters, given):
        value = expressions.translated(expression)
        wrap = {"s": string, "K": "ksym({})", "U": "usym({})"}.get(letter, "{}")
        values.append(wrap.format(value))
    form = CONVERSION.sub(
        lambda found: found[0][:-1] + "s" if found[1] in ("K", "U") else found[0], form
    )
    return form.replace("\n", "\\n").replace("\t", "\\t"), values
