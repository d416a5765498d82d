"""The tool that prints a line whenever one of bcc's probe specifiers is passed: from specifiers to
a program in bpftrace's language, and from its records to events."""
from __future__ import annotations

import argparse
import os
from collections import Counter

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.bt.show import formats, values
from pytools.bt.show.lines import Lines
from pytools.bt.specifiers import specifier
from pytools.bt.tool import ProgramTool, Session
from pytools.bt.wrong import Wrong
from pytools.facts import kernel
from pytools.show.output import Clock, Output
from pytools.show.stream import EventWriter
from pytools.tool import definition, fields
from pytools.tool.arguments import not_negative
from pytools.tool.fields import Context
from pytools.tool.waiting import announce

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Optional, Sequence

    from pytools.base.held import Held
    from pytools.bt.plan import Record
    from pytools.bt.show.names import Names
    from pytools.bt.specifiers import Specifier
    from pytools.facts.kernel import Kernel
    from pytools.tool.definition import Trace
    from pytools.tool.family import Family
    from pytools.tool.fields import Field

__all__ = ["SpecifierTool"]

# Between the message and what is known of every event.
MARK = "\x1f"
# What the program writes of every event, in the language and as a conversion, in the order of
# MEMBERS. $1 is the tool's own pid.
ALWAYS = (
    ("{number}", "%d"), ("nsecs(monotonic)", "%d"), ("cpu", "%d"), ("pid", "%d"), ("tid", "%d"),
    ("{process}", "%s"), ("comm", "%s"),
)  # fmt: skip
MEMBERS = ["number", "ts", "cpu", "pid", "tid", "comm", "thread"]
STACKS = {"kernel_stack": "kstack", "user_stack": "ustack"}
PROCESS = "curtask->group_leader->comm"
USUAL_BYTES = 1024  # of a string (max_strlen)
# Members of an event beside those: what the fields of the tool are of.
MADE = ["func", "message", "count", "stacks", *STACKS]


class SpecifierTool(ProgramTool):
    """A tool whose arguments are bcc's probe specifiers (``probes``), and whose ``events`` are
    fields of MEMBERS and MADE."""

    def __init__(self, text: str | None, *, events: Sequence[Field], **declared: Any) -> None:
        super().__init__(text, **declared)
        self.add_argument(
            "-d", "--duration", metavar="SECONDS", type=not_negative,
            help="end after so many seconds; 0: attach, and end",
        )  # fmt: skip
        self.add_argument("--ebpf", action="store_true", help="print the C of the program and exit")
        self.add_argument(
            "--no-cache", action="store_true", help="compile anew, and keep nothing on disk"
        )
        self.add_argument(
            "-v", "--verbose", action="store_true",
            help="say on standard error what is attached and cached",
        )  # fmt: skip
        self.fields = list(events)
        self.add_fields(self.fields)
        self.spans: list[tuple[int, Specifier]] = []

    def schema(self) -> dict[str, Any]:
        found = fields.schema(self.fields, "")
        return {**super().schema(), "kind": "events", "fields": found}

    def options(self, given: Sequence[str] | None = None) -> argparse.Namespace:
        """The options of a command line, with what a run of a program needs of them."""
        options = definition.Tool.options(self, given)
        if options.unix_timestamp and not options.timestamp:
            self.parser.error("-u goes with -t")
        running = kernel.running()
        options.specifiers = [
            specifier(text, running, options.string_size or 0) for text in options.probes
        ]
        options.filter, options.wanted = options.wanted, None
        options.pids, options.pid = options.pid, _only(options.pid)
        defaults: dict[str, Any] = {
            "program": "", "source": None, "named": [], "parameters": [str(os.getpid())],
            "list_wanted": False, "info": False, "output": "", "buffering": "", "quiet": False,
            "kernel_errors": 0, "unsafe": False, "probe_filter": None, "dry_run": False,
            "no_warnings": False, "traceable_functions": "",
        }  # fmt: skip
        vars(options).update(defaults)
        return options

    # What a run of a program needs of its tool.

    def program(self, options: argparse.Namespace) -> tuple[str, str]:
        text = "config = { missing_probes = error; print_maps_on_exit = 0"
        if options.string_size and options.string_size > USUAL_BYTES:
            text += f"; max_strlen = {options.string_size}"
        text += " }\n"
        self.spans.clear()
        for number, each in enumerate(options.specifiers):
            self.spans.append((len(text), each))
            text += _clause(number, each, options, kernel.running())
        return text, self.name

    def held(self, options: argparse.Namespace) -> Held | None:
        if not options.command:
            return None
        from pytools.tool.family import Family  # not for most

        options.family = Family(options.command, self.message)
        return _Followed(options.family)  # type: ignore[return-value]

    def lines(self, options: argparse.Namespace) -> Lines:
        return _Events(self, options)

    def report(self, wrong: Wrong) -> str:
        """In words of the specifiers: nobody has seen the program."""
        at = wrong.at[0] if wrong.at is not None else -1
        before = [each for place, each in self.spans if place <= at]
        where = f"{before[-1].text!r}: " if before else ""
        # What stands in parentheses behind it is about the program's config block.
        said = wrong.message.partition(" (If this is expected")[0].rstrip(".")
        hint = "" if wrong.hint.startswith("If this is expected") else wrong.hint
        return f"{self.name}: {where}{said}" + (f": {hint}" if hint else "")

    # Running.

    def start(self, options: argparse.Namespace) -> Trace:
        try:
            return Session(self, options)
        except Wrong as wrong:
            raise Failure(self.report(wrong).partition(": ")[2]) from None

    def run(self, start: definition.Start) -> NoReturn:
        def main() -> None:
            self.person = True
            options = self.options()
            trace = start(options)
            try:
                trace.print(None, None)  # type: ignore[arg-type]
            except Wrong as wrong:
                raise Failure(self.report(wrong).partition(": ")[2]) from None

        definition.run(main, self.parser)


class _Followed:
    """The command of --exec, as a run of a program has a command."""

    pid = 0

    def __init__(self, family: Family) -> None:
        self._family = family
        self.ended = family.descriptor
        self.enter = family.enter
        self.release = family.release

    def end(self) -> None:
        if self._family.descriptor >= 0 and _readable(self._family.descriptor):
            self._family.reap()
        self._family.end()


def _readable(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 0)[0])


def _only(pids: list[int] | None) -> int | None:
    """The process that user-space probes are about, if there is one."""
    return pids[0] if pids is not None and len(pids) == 1 else None


def _clause(number: int, each: Specifier, options: argparse.Namespace, running: Kernel) -> str:
    """A specifier in bpftrace's language."""
    tests = [] if options.include_self else ["pid != $1"]
    tests += [f"({each.predicate})"] * bool(each.predicate)
    predicate = f" /{' && '.join(tests)}/" if tests else ""
    process = PROCESS if running.has_btf else "comm"
    shown = [(code.format(number=number, process=process), form) for code, form in ALWAYS]
    shown += [(code, "%s") for name, code in STACKS.items() if getattr(options, name)]
    form = each.form + MARK + "".join(conversion for _, conversion in shown)
    arguments = ", ".join([*each.values, *(code for code, _ in shown)])
    # The language takes a predicate's end for a division where a slash stands in it.
    body = f'printf("{form}", {arguments});'
    return f"{each.probe.point}{predicate} {{ {body} }}\n"


class _Events(Lines):
    """Events as the tool's fields say, text, JSON or CSV."""

    json = True  # as what is printed is not to be escaped twice

    def __init__(self, tool: SpecifierTool, options: argparse.Namespace) -> None:
        super().__init__()
        self._tool = tool
        self._options = options
        self._left = options.max_events
        self._rows: list[tuple[Any, ...]] = []
        self._counts: Counter[tuple[Any, ...]] = Counter()
        output = Output(tool.name)
        context = Context(options, output.clock, Clock().monotonic(), output.width)
        columns = fields.columns(tool.fields, "", options.form, context)
        self._members = [*MEMBERS, *MADE]
        self._members.insert(0, self._members.pop(self._members.index("ts")))
        self._writer = EventWriter(output, options.form, columns, self._members)

    def action(
        self, record: Record, names: Names, end: Callable[[list[Any]], None]
    ) -> Optional[Callable[[bytes], None]]:
        options = self._options
        get = formats.arguments(record, names)
        message = formats.format_of(_message(record), names, lambda number, text: text)
        stacks = [name for name in STACKS if getattr(options, name)]
        first = len(record.arguments) - len(ALWAYS) - len(stacks)
        wanted = options.msg_filter

        def add(data: bytes) -> None:
            text = message(data)
            if wanted is not None and wanted not in text:
                return
            found = get(data)[first:]
            self._add(dict(zip([*MEMBERS, *stacks], found)), text)
            if self._left is not None:
                self._left -= 1
                if not self._left:
                    end([0])

        return add

    def _add(self, known: dict[str, Any], message: str) -> None:
        known["func"] = self._options.specifiers[known["number"]].probe.name
        known["message"] = message
        below: list[str] = []
        for name in STACKS:
            if name in known:
                known[name] = [
                    line.strip() for line in values.text(known[name]).split("\n") if line.strip()
                ]
                below += [""] * bool(below) + known[name]
                known[name] = ";".join(reversed(known[name])) or None
        known["stacks"] = tuple(below)
        row = tuple(map(known.get, self._members))
        if self._options.aggregate:
            key = {**known, "ts": 0, "cpu": None, "number": 0}
            self._counts[tuple(map(key.get, self._members))] += 1
        else:
            self._rows.append(row)

    def attached(self, count: int) -> None:
        announce(self._options, self._tool.doing)
        self._writer.head()

    def batch_ends(self) -> None:
        self._writer.records(self._rows)
        self._rows.clear()
        self._writer.flush()

    def close(self) -> None:
        place = self._members.index("count")
        now = Clock.monotonic()  # the first member
        for key, count in self._counts.most_common():
            self._rows.append((now, *key[1:place], count, *key[place + 1 :]))
        self.batch_ends()

    def lost_events(self, count: int) -> None:
        self.batch_ends()
        self._writer.lost(count)

    def end(self) -> None:
        pass


def _message(record: Record) -> Record:
    """A record of which only the message is printed."""
    marked = [
        n for n, piece in enumerate(record.pieces) if isinstance(piece, str) and MARK in piece
    ]
    last = marked[-1]
    pieces = [*record.pieces[:last], record.pieces[last].rpartition(MARK)[0]]
    return record._replace(pieces=pieces)
