"""What is known of an event, or of a row of a table, declared once: the member in C, the column
for people, the value for programs, the option that shows it, and the sentence about it."""
from __future__ import annotations

import argparse
import errno

from pytools.base.annotations import TYPE_CHECKING
from pytools.show.output import PLAIN_WIDTH, Clock
from pytools.show.stream import Column

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    Form = Callable[[Any], Any]


__all__ = [
    "COMM", "CONTAINER", "CURRENT_TASK", "Context", "Field", "Form", "PID", "PPID",
    "PROCESS_OR_THREAD", "SECONDS", "TEXT_ONLY", "THREAD", "THREAD_IF_ASKED", "TID", "TIME",
    "TIME_OF_DAY",
    "UID",
    "by_context", "bytes_or_error",
    "columns", "error_name", "in_words", "kept", "known", "milliseconds", "schema", "since_start",
]  # fmt: skip

# As ``key``: programs do not get it, for ``ts`` or another field says the same.
TEXT_ONLY = "-"


class Context:
    """What a form may depend on beside the value; ``start`` is when tracing began, in
    nanoseconds of the kernel's monotonic clock, ``width`` the number of columns that people see
    (``Output``)."""

    def __init__(
        self, options: argparse.Namespace, clock: Clock, start: int, width: int = PLAIN_WIDTH
    ) -> None:
        self.options = options
        self.clock = clock
        self.start = start
        self.width = width


class by_context:  # noqa: N801  (reads as a decorator)
    """A form that depends on the options or on the clock: ``make(context)`` is the form, or None
    where the value is shown as it is."""

    def __init__(self, make: Callable[[Context], Form | None]) -> None:
        self.make = make


class Field:
    """One thing that is known of an event or of a row.

    ``heading`` heads its column for people (empty: only programs get it), ``about`` is the text
    about it in the manual page: whole sentences. ``width`` is that of ``Column``. ``member``
    declares it in C's ``struct event`` (``"u32 pid"``); without one, Python makes it. ``key`` is
    what JSON and CSV call it, if not the heading in lower case. ``of`` names the member or value
    that it shows, if another declares it.

    ``people`` and ``raw`` make of the value what people and what programs get, None for what is
    not known; ``rate`` says that people get it by second. ``type`` and ``unit`` are those of what
    programs get. ``option`` are the names of the option that shows it to people, with the text
    ``help``; ``when`` says instead by which options it is shown. One that is ``optional`` is for
    programs, too, only there where people get it. One with ``from_width`` is shown on terminals of
    so many columns, whatever the options.

    What is ``below`` has lines of its own below that of the event; its values are lines.

    ``added`` says what becomes of the values of two intervals in a table: ``"sum"``, ``"max"``,
    ``"last"``, ``"NAME / NAME"``, the quotient of two others, or ``"NAME : NAME"``, the share of
    the first in both, in percent; one without is part of what tells rows apart."""

    def __init__(
        self,
        heading: str,
        about: str = "",
        width: int = 0,
        member: str = "",
        key: str = "",
        of: str = "",
        people: Form | by_context | None = None,
        raw: Form | by_context | None = None,
        type: str = "integer",
        unit: str = "",
        option: tuple[str, ...] = (),
        help: str = "",
        when: Callable[[argparse.Namespace], Any] | None = None,
        optional: bool = False,
        from_width: int = 0,
        rate: bool = False,
        added: str = "",
        below: bool = False,
    ) -> None:
        self.heading = heading
        self.about = about
        self.width = width
        self.member = member
        self.key = key
        self.of = of
        self.people = people
        self.raw = raw
        self.type = type
        self.unit = unit
        self.option = option
        self.help = help
        self.when = when
        self.optional = optional
        self.from_width = from_width
        self.rate = rate
        self.added = added
        self.below = below

    def _replace(self, **changes: Any) -> Field:
        """The same but for some of what it says."""
        return Field(**{**vars(self), **changes})

    @property
    def name(self) -> str:
        """What programs call it."""
        return self.key or self.heading.lower()

    @property
    def value(self) -> str:
        """The name of what it shows."""
        return self.of or member_name(self.member) or self.name

    @property
    def dest(self) -> str:
        """The option that shows it, as a member of the parsed options."""
        return max(self.option, key=len).lstrip("-").replace("-", "_")

    def by(self, *option: str, help: str = "") -> Field:  # noqa: A002
        """The same, shown to people by an option."""
        return self._replace(option=option, help=help or self.help)

    def shown(self, options: argparse.Namespace) -> bool:
        """Whether these options show it to people."""
        if self.when is not None:
            return bool(self.when(options))
        return not self.option or bool(getattr(options, self.dest))


def member_name(declaration: str) -> str:
    """The name that a member's declaration in C gives it.

    >>> member_name("char comm[16]")
    'comm'
    """
    return declaration.partition("[")[0].split()[-1].lstrip("*") if declaration else ""


def _bound(form: Form | by_context | None, context: Context) -> Form | None:
    return form.make(context) if isinstance(form, by_context) else form


def columns(fields: Sequence[Field], keys: str, form: str, context: Context) -> list[Column]:
    """The columns of a form: for people those that the options show, in the order of the fields;
    for programs all that have a key, in the order of ``keys`` (names with spaces between; empty:
    that of the fields)."""
    shown = [field for field in fields if field.shown(context.options)]
    if form == "text":
        found = [
            Column(
                field.heading,
                field.width,
                field.name,
                0 if field.option and getattr(context.options, field.dest) else field.from_width,
                field.value,
                _bound(field.people, context),
                field.rate,
                field.below,
            )
            for field in fields
            if field.heading and (field in shown or field.from_width)
        ]
        return sorted(found, key=lambda column: column.below)
    named = {
        field.name: field
        for field in fields
        if field.key != TEXT_ONLY and (not field.optional or field in shown)
    }
    order = [name for name in keys.split() if name in named] if keys else list(named)
    return [
        Column(name.upper(), 0, name, 0, named[name].value, _bound(named[name].raw, context))
        for name in order
    ]


def schema(fields: Sequence[Field], keys: str) -> list[dict[str, Any]]:
    """What programs get, as values of JSON: for each field its name, type, unit, the heading and
    the option that people have for it, and what it is about."""
    named = {field.name: field for field in fields if field.key != TEXT_ONLY}
    return [
        {
            "name": name,
            "type": field.type,
            "unit": field.unit or None,
            "heading": field.heading or None,
            "option": max(field.option, key=len) if field.option else None,
            "only_with_option": field.optional,
            "about": " ".join(field.about.split()),
        }
        for name, field in ((name, named[name]) for name in (keys.split() or named))
    ]


def error_name(number: int) -> str | None:
    """The name of an errno; None for zero.

    >>> error_name(2)
    'ENOENT'
    """
    return errno.errorcode.get(number, str(number)) if number else None


# What many tools have.

# Of a table: how long its interval was.
SECONDS = Field(
    "", "The length of the interval.", key="seconds", type="number", unit="s",
    raw=lambda seconds: round(seconds, 6),
)  # fmt: skip
TIME = Field(
    "TIME", "The time of day, where the machine is.", 8,
    key=TEXT_ONLY, of="ts", people=by_context(lambda context: context.clock.local), type="string",
)  # fmt: skip

TIME_OF_DAY = TIME._replace(
    about="The time of day, where the machine is, with microseconds.", width=15,
    people=by_context(lambda context: context.clock.time_of_day),
    help="print the time of day, not the time since the start",
)  # fmt: skip


def since_start(digits: int = 9, width: int = 14) -> Field:
    """TIME(s): the time since tracing began, with so many digits behind the point."""

    def form(context: Context) -> Form:
        return lambda ts: f"{(ts - context.start) / 1e9:.{digits}f}"

    return Field(
        "TIME(s)", "The time in seconds since the tool started.", width,
        key=TEXT_ONLY, of="ts", people=by_context(form), type="number", unit="s",
        help="print the time since the start",
    )  # fmt: skip


PID = Field("PID", "The process, as the first PID namespace numbers it.", 7, "u32 pid")
TID = Field("TID", "The thread, as the first PID namespace numbers it.", 7, "u32 tid")
# The column of threads takes the place of that of processes when the user asks for threads.
PROCESS_OR_THREAD = PID._replace(when=lambda options: not options.tid)
THREAD_IF_ASKED = TID._replace(
    when=lambda options: options.tid,
    about="The thread, as the first PID namespace numbers it. It takes PID's place with --tid.",
)
PPID = Field(
    "PPID", "The parent process, as the first PID namespace numbers it.", 7, "u32 ppid"
)  # fmt: skip
UID = Field(
    "UID", "The number of the user, as the first user namespace has it.", 6, "u32 uid",
    help="print the user's number",
)  # fmt: skip
COMM = Field(
    "COMM", "The name of the process: what ps -o comm= shows, up to 15 bytes.", 16,
    "char comm[16]", type="string",
)  # fmt: skip
THREAD = Field(
    "", "The name of the thread, up to 15 bytes. Most threads have the name of their process.", 0,
    "char thread[16]", key="thread", type="string",
)  # fmt: skip


def _container(context: Context) -> Form:
    from pytools.domains.containers import Containers

    return Containers().name


CONTAINER = Field(
    "CONTAINER",
    "The container, or else the path of the cgroup of version 2; not known where that is gone.",
    12, "u64 cgroup", people=by_context(_container), raw=by_context(_container), type="string",
    option=("--container",), help="print the container, or else the cgroup", optional=True,
)  # fmt: skip


def known(value: Any) -> Any:
    """A number or the bytes of a name, if it is known: -1 and an empty name say that it is not.

    >>> known(3), known(-1), known(b"sh"), known(b"\\0")
    (3, None, b'sh', None)
    """
    if value is None or (value[:1] in (b"", b"\0") if isinstance(value, bytes) else value < 0):
        return None
    return value


def milliseconds(
    about: str, of: str = "", width: int = -9, heading: str = "LAT(ms)", member: str = "",
    **more: Any,
) -> Field:  # fmt: skip
    """A time in nanoseconds that is shown in milliseconds; None and -1 are not known. Its value is
    ``latency``, if neither ``of`` nor ``member`` says another."""

    def raw(ns: int | None) -> float | None:
        return None if ns is None or ns < 0 else ns / 1e6

    def people(ns: int | None) -> str | None:
        return None if ns is None or ns < 0 else f"{ns / 1e6:.3f}"

    return Field(
        heading, about, width, member, heading.lower().replace("(", "_").rstrip(")"),
        of or ("" if member else "latency"), people, raw, "number", "ms", **more,
    )  # fmt: skip


def in_words(heading: str, about: str, width: int, member: str, form: Form, **more: Any) -> Field:
    """A field of which people and programs get the same words, which ``form`` makes of a value."""
    return Field(heading, about, width, member, people=form, raw=form, type="string", **more)


def bytes_or_error(about: str) -> tuple[Field, Field]:
    """The result of a read or a write, a number of bytes or an error below zero: the bytes, in
    whose place people see the error, and for programs the error."""

    def size(result: int) -> int | None:
        return result if result >= 0 else None

    def error(result: int) -> str | None:
        return error_name(-result) if result < 0 else None

    return (
        Field(
            "BYTES", f"{about} If it failed, people see the error in its place.", -7, "s64 result",
            key="bytes", unit="bytes", people=lambda result: error(result) or result, raw=size,
        ),
        in_words(
            "", "Why it failed, as errno(3) calls it.", 0, "", error, key="error", of="result"
        ),
    )  # fmt: skip


def kept(member: str) -> Field:
    """A member of the event that nobody is shown: Python makes other values of it."""
    return Field("", member=member, key=TEXT_ONLY)


# What the current task is known by, as C for each member (bpf_get_current_* of the kernel).
CURRENT_TASK = {
    "cgroup": "event->cgroup = bpf_get_current_cgroup_id();",
    "pid": "event->pid = thread >> 32;",
    "tid": "event->tid = thread;",
    "uid": "event->uid = bpf_get_current_uid_gid();",
    "comm": "current_process_name(event->comm);",
    "thread": "bpf_get_current_comm(event->thread, sizeof(event->thread));",
}
