"""Tools that print an event a line: from the declaration of the event to C, to the options that
show its columns, and to what is printed."""
from __future__ import annotations

import argparse
import functools
import time
from collections import namedtuple

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.beside import PATIENCE_SECONDS
from pytools.facts.kernel import possible_cpus
from pytools.load.program import Program
from pytools.read.ringbuf import RingBuffer
from pytools.show.output import PLAIN_WIDTH, Output
from pytools.show.stream import EventWriter, plain
from pytools.tool import fields
from pytools.tool.definition import Tool, Trace
from pytools.tool.fields import Context, Field
from pytools.tool.waiting import LATEST_SECONDS, Waiting, announce

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

    from pytools.tool.tables import Rows, TableTrace
    from pytools.compile.unrendered import Value

    # Makes of records those of which columns are made, or of many fewer or more.
    Whole = Callable[[Iterable[Any]], Iterable[Any]]

__all__ = ["EventTool", "EventTrace"]

RING_BYTES = 8 * 1024 * 1024
TIME = "u64 ts"  # when an event was, which all have as their first member: bpf_ktime_get_ns()
# Larger members first, so that nothing stands between them; strings last.
_SIZES = ("u64", "s64", "struct", "u32", "s32", "u16", "s16", "u8", "s8", "bool", "char")


class EventTool(Tool):
    """A tool that prints events. ``events`` are the fields in the order in which people see them;
    ``keys`` the names that programs get, in their order, where that is another one. ``ring_bytes``
    is the size of the ring buffer. ``table`` are the fields of a table that it prints in place of
    events, once at the end, with the option ``table_option`` (``tabulate``); a field of them that
    has an option shares it with one of the events.

    In the template ``$EVENT`` stands for ``struct event``, whose members the fields declare, after
    ``u64 ts``, the time; for its ring buffer; and for these functions:

    ``reserve_event()``, ``submit_event(event)``
        an event in the ring buffer, NULL where there is no room; and to hand it over (events.h)
    ``draft_of(program)``, ``submit_draft(draft, size)``
        the same for events whose last member is as long as its text (drafts.h)
    ``describe_current_task(event)``
        sets the time, and what is declared of pid, tid, uid, comm, thread and cgroup
    """

    def __init__(
        self,
        text: str | None,
        *,
        events: Sequence[Field],
        keys: str = "",
        ring_bytes: int = RING_BYTES,
        table: Sequence[Field] = (),
        table_option: str = "",
        **declared: Any,
    ) -> None:
        super().__init__(text, **declared)
        self.fields = list(events)
        self.keys = keys
        self.ring_bytes = ring_bytes
        self.table = list(table)
        self.table_option = table_option
        self.add_fields(self.fields)

    @functools.cached_property
    def members(self) -> list[str]:
        """The declarations of the members of ``struct event``, in their order."""
        declared = [field.member for field in self.fields if field.member]
        return [TIME, *sorted(declared, key=lambda member: _SIZES.index(member.split()[0]))]

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            **super().schema(),
            "kind": EventTrace.kind,
            "fields": fields.schema(self.fields, self.keys),
        }
        if self.table:
            rows = fields.schema(self.table, "")
            found["table"] = {"option": self.table_option, "kind": "table", "fields": rows}
        return found

    def load(
        self,
        options: argparse.Namespace,
        template: str,
        code: Mapping[str, str] = {},
        values: Mapping[str, Value] = {},
        settings: Mapping[str, int] = {},
        sizes: Mapping[str, int] = {},
        probes: Mapping[str, Sequence[str]] = {},
        drafts: int = 0,
    ) -> Program:
        """Load a template's program (see Tool.load). ``drafts`` is the number of programs that make
        drafts."""
        if drafts:
            values = {**values, "DRAFTS": drafts}
            # All drafts together hold back a quarter of the ring.
            wake = self.ring_bytes // 4 // drafts // len(possible_cpus())
            settings = {"WAKE_BYTES": wake, **settings}
        code = {"EVENT": self._event(template, bool(drafts)), **code}
        sizes = {"events": self.ring_bytes, **sizes}
        return super().load(options, template, code, values, settings, sizes, probes)

    def start(
        self,
        options: argparse.Namespace,
        template: str,
        code: Mapping[str, str] = {},
        values: Mapping[str, Value] = {},
        settings: Mapping[str, int] = {},
        sizes: Mapping[str, int] = {},
        drafts: int = 0,
        **more: Any,
    ) -> EventTrace:
        """Load a template's program, attach it, and trace; ``more`` is what ``trace`` takes. A tool
        whose functions need the program calls ``load`` and ``trace`` itself."""
        traced = self.load(options, template, code, values, settings, sizes, drafts=drafts)
        return self.trace(options, traced, **more)

    def trace(self, options: argparse.Namespace, traced: Program, **more: Any) -> EventTrace:
        """Attach a program, and trace; see EventTrace."""
        return EventTrace(self, options, traced, **more)

    def tabulate(
        self, options: argparse.Namespace, traced: Program, rows: Callable[[], Rows], **more: Any
    ) -> TableTrace:
        """Attach a program, and make the table in place of events; see TableTrace."""
        from pytools.tool.tables import TableTrace  # not for most tools

        # It is printed once. Its rows have no time, which events may have.
        once = {"interval": None, "count": None, "timestamp": False}
        options = argparse.Namespace(**{**vars(options), **once})
        before = 0

        def lost() -> int:
            nonlocal before
            now = _lost(traced)
            since, before = now - before, now
            return since

        return TableTrace(self, self.table, "", options, traced, rows, lost=lost, **more)

    def _event(self, template: str, drafts: bool) -> str:
        members = "".join(f"\t{member};\n" for member in self.members)
        parts = [
            f"struct event {{\n{members}}};",
            "EVENTS(events, struct event);\nBPF_PERCPU_ARRAY(lost, u64, 1);",
            '#include "events.h"\n' + '#include "drafts.h"\n' * drafts,
        ]
        if "describe_current_task(" in template:
            parts.append(self._description())
        return "\n".join(parts)

    def _description(self) -> str:
        names = {fields.member_name(member) for member in self.members}
        lines = [line for name, line in fields.CURRENT_TASK.items() if name in names]
        thread = "\tu64 thread = bpf_get_current_pid_tgid();\n\n" if names & {"pid", "tid"} else ""
        return (
            '#include "process_name.h"\n' * ("comm" in names)
            + "static inline void describe_current_task(struct event *event)\n{\n"
            + thread
            + "".join(f"\t{line}\n" for line in ("event->ts = bpf_ktime_get_ns();", *lines))
            + "}\n"
        )


class EventTrace(Trace):
    """Events as they come.

    ``whole`` makes of records (named tuples of the members, and of the values that other fields are
    of, which are None) those that are shown. ``attach`` attaches what ``Program.attach`` does not;
    ``beside`` is called now and then, at least once in LATEST_SECONDS. ``pending`` are the events
    that are shown when tracing has ended: of each, what is known of its members, by name.
    ``losses`` are more of them: how many events, and by reason what JSON names apart. ``closed`` is
    called when nothing more is asked of the trace."""

    kind = "events"

    def __init__(
        self,
        tool: EventTool,
        options: argparse.Namespace,
        traced: Program,
        whole: Whole | None = None,
        attach: Callable[[], None] | None = None,
        beside: Callable[[], None] | None = None,
        pending: Callable[[], Iterable[Mapping[str, Any]]] | None = None,
        losses: Callable[[], tuple[int, Mapping[str, int]]] | None = None,
        closed: Callable[[], None] | None = None,
        doing: str = "",
    ) -> None:
        super().__init__(tool, options, traced)
        self._tool = tool
        self._closed = closed
        self._doing = doing or tool.doing
        self._traced = traced
        self._whole = whole
        self._beside = beside
        self._pending = pending
        self._losses = losses
        self._lost_before = 0
        self._ring = RingBuffer(traced.maps["events"])
        # Of a struct in the event, the members count by their own names.
        self.values = [name.rpartition(".")[2] for name in self._ring.members]
        if whole is not None:
            others = [field.value for field in tool.fields if field.value not in self.values]
            self.values += dict.fromkeys(others)
            more = (None,) * (len(self.values) - len(self._ring.members))
            made = namedtuple("Record", self.values)._make  # type: ignore
            self._make = functools.partial(_made, made, more)
        self.attach(traced.attach, *([attach] if attach else []))

    def _shown(self, records: list[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
        return records if self._whole is None else self._whole(map(self._make, records))

    def _count_lost(self) -> tuple[int, Mapping[str, int]]:
        """How many events are missing since the last call; and what was otherwise, by reason."""
        lost = _lost(self._traced)
        more, beside = self._losses() if self._losses else (0, {})
        new, self._lost_before = lost - self._lost_before + more, lost
        return new, beside

    def _columns(self, form: str, width: int = PLAIN_WIDTH) -> list[Any]:
        context = Context(self.options, self.clock, self.began, width)
        return fields.columns(self._tool.fields, self._tool.keys, form, context)

    def read(self) -> tuple[list[Any], Mapping[str, int]]:
        if self._beside is not None:
            self._beside()
        columns = self._columns("json")
        places = [(column.key, self.values.index(column.of), column.form) for column in columns]
        rows = []
        while records := self._ring.read():
            for record in self._shown(records):
                row = {"ts": record[0]}
                row.update((key, plain(record[place], form)) for key, place, form in places)
                rows.append(row)
        lost, beside = self._count_lost()
        return rows, {**({"lost": lost} if lost else {}), **beside}

    def close(self) -> None:
        self.detach()
        self._ring.unmap()
        if self._closed is not None:
            self._closed()
        super().close()

    # Printing.

    def print(self, output: Output, waiting: Waiting) -> None:
        form = self.options.form
        writer = EventWriter(output, form, self._columns(form, output.width), self.values)
        announce(self.options, self._doing)
        writer.head()
        for records in self._batches(waiting):
            writer.records(self._shown(records))
            writer.flush()
        if self._pending is not None:
            members = self.values[: len(self._ring.members)]
            left = [tuple(map(known.get, members)) for known in self._pending()]
            writer.records(self._shown(left))
        writer.lost(*self._count_lost())
        self.seen = writer.any

    def _batches(self, waiting: Waiting) -> Iterator[list[tuple[Any, ...]]]:
        """The records, many at a time, until the duration is over or Ctrl-C; then detach, and
        give what was still on its way."""
        ring, duration = self._ring, self.options.duration
        end = None if duration is None else time.monotonic() + duration
        waiting.watch(ring.fd)
        some = True
        while not waiting.ended:
            now = time.monotonic()
            if end is not None and now >= end:
                break
            if self._beside is not None:
                self._beside()
            records = ring.read()
            if records:
                some = True
                yield records
            else:
                # Programs wake nobody up for a few events. Where none come, be late rather
                # than keep a processor from its sleep.
                most = LATEST_SECONDS * (0.5 if some else 0.9)
                waiting.once(most if end is None else min(most, end - now))
                some = False
        # Detaching takes a while, in which a busy machine would fill the ring; and it may take very
        # long, in which there would be no end of events.
        enough = time.monotonic_ns() + int(PATIENCE_SECONDS * 1e9)
        while True:
            last = self.stop(0) or time.monotonic_ns() >= enough
            records = ring.read()
            if records:
                yield records
                if records[-1][0] > enough:
                    return
            elif last:
                return
            else:
                self.stop(LATEST_SECONDS / 10)


def _lost(traced: Program) -> int:
    """How many events are missing since the start: there was no room for them, or the kernel did
    not run the program."""
    lost = traced.maps["lost"].total() + traced.missed()
    if "drafts" in traced.maps:
        lost += sum(draft[1] for _, cpus in traced.maps["drafts"].items() for draft in cpus)
    return lost


def _made(make: Callable[[Any], Any], more: tuple[None, ...], record: tuple[Any, ...]) -> Any:
    return make(record + more)
