"""Tools that print a table, or a line, every interval: from the declaration of its columns to what
is printed."""
from __future__ import annotations

import argparse
import itertools
import operator

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.beside import PATIENCE_SECONDS
from pytools.load.program import Program
from pytools.read.growth import percent
from pytools.show.output import PLAIN_WIDTH, Output
from pytools.show.stream import Column, EventWriter, plain
from pytools.show.table import TableWriter
from pytools.tool import fields
from pytools.tool.arguments import number_from
from pytools.tool.definition import Tool, Trace
from pytools.tool.fields import Context, Field
from pytools.tool.waiting import Waiting, announce, intervals

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Mapping, Sequence

    Rows = Iterable[Sequence[Any]]


__all__ = ["TableTool", "TableTrace"]

ROWS = 20
_ADDED: dict[str, Callable[[Any, Any], Any]] = {
    "sum": operator.add, "max": max, "last": lambda before, last: last
}  # fmt: skip


class TableTool(Tool):
    """A tool that prints a table. ``table`` are the fields of its rows in the order in which people
    see them; ``keys`` the names that programs get, in their order, where that is another one."""

    def __init__(
        self,
        text: str | None,
        *,
        table: Sequence[Field],
        keys: str = "",
        intervals: bool = True,
        **declared: Any,
    ) -> None:
        super().__init__(text, intervals=intervals, **declared)
        self.fields = list(table)
        self.keys = keys
        self.add_fields(self.fields)

    def add_screen(self, what: str, condition: str = "") -> None:
        """Add the options of tools whose table takes the place of the one before: ``what`` is the
        plural of what the rows are, ``condition`` says when it does."""
        self.add_argument(
            "-C", "--noclear", action="store_true", help=f"{condition}do not clear the screen"
        )
        self.add_argument(
            "-r", "--maxrows", metavar="ROWS", type=number_from(1), default=ROWS,
            help=f"{condition}print at most so many {what} ({ROWS})",
        )  # fmt: skip

    def schema(self) -> dict[str, Any]:
        return {
            **super().schema(),
            "kind": TableTrace.kind,
            "fields": fields.schema(self.fields, self.keys),
        }

    def trace(
        self, options: argparse.Namespace, traced: Program, rows: Callable[[], Rows], **more: Any
    ) -> TableTrace:
        """Attach a program, and trace; see TableTrace."""
        return TableTrace(self, self.fields, self.keys, options, traced, rows, **more)

    def watch(
        self,
        options: argparse.Namespace,
        rows: Callable[[], Rows],
        attach: Callable[[], None],
        detach: Callable[[], None],
        **more: Any,
    ) -> TableTrace:
        """The same of a tool that has no program (``traces=False``): the kernel counts by itself
        between ``attach`` and ``detach``."""
        if "interactive" in vars(options):
            options.waiting = Waiting()
        return TableTrace(
            self, self.fields, self.keys, options, None, rows, attach=attach, detach=detach, **more
        )


class TableTrace(Trace):
    """Rows that are read every interval: ``rows`` gives those since the last time, in the order
    in which they are to be printed, and may make each only when it is taken; ``values`` names what
    is in them, by default what the fields are of, each once. The fields may also be of ``ts``, the
    time, and of ``seconds``, the length of the interval.

    ``lost`` says how much of ``what`` is missing since the last time. ``most`` is how many rows
    people get, ``most_for_programs`` the same of programs; None is all. With ``refresh`` a table
    takes the place of the one before; with ``lines`` it is a line, and all intervals have one
    heading. ``attach`` and ``detach`` attach and detach the program, if those of ``Program`` do
    not; where attaching fails, the trace is closed. With ``whole`` the program is detached before
    its rows are read for the last time; with ``here``, by the thread that attached it, whatever the
    time that it takes. ``after`` is called after each interval but the last."""

    kind = "table"

    def __init__(
        self,
        tool: Tool,
        declared: Sequence[Field],
        keys: str,
        options: argparse.Namespace,
        traced: Program | None,
        rows: Callable[[], Rows],
        *,
        values: Sequence[str] = (),
        lost: Callable[[], int] = int,
        what: str = "events",
        most: int | None = None,
        most_for_programs: int | None = None,
        refresh: bool = False,
        lines: bool = False,
        attach: Callable[[], None] | None = None,
        detach: Callable[[], None] | None = None,
        whole: bool = True,
        here: bool = False,
        after: Callable[[], None] | None = None,
        doing: str = "",
    ) -> None:
        super().__init__(tool, options, traced)
        self._fields, self._keys = declared, keys
        # Fields that these options show neither to people nor to programs have no values.
        known = [f for f in declared if not f.optional or f.shown(options)]
        own = dict.fromkeys(f.value for f in known if f.value not in ("ts", "seconds"))
        self._values = [*(values or own), "ts", "seconds"]
        self._rows_now = rows
        self._lost_now, self._what = lost, what
        self._most = most if options.form == "text" else most_for_programs
        self._refresh, self._as_lines = refresh, lines
        self._detach, self._whole, self._here = detach or super().detach, whole, here
        self._after, self._detached = after, False
        self._doing = doing or tool.doing
        if attach is None:
            assert traced is not None
            attach = traced.attach
        self.attach(attach)
        self._first = self._before = self.clock.monotonic()

    def detach(self) -> None:
        self._detached = True
        self._detach()

    def stop(self, seconds: float | None = PATIENCE_SECONDS) -> bool:
        if self._here:
            self.detach()
            return True
        return super().stop(seconds)

    def _interval(self, most: int | None = None) -> list[tuple[Any, ...]]:
        """The first rows of the interval that ends now, with its time and its length."""
        self.clock.synchronise()
        now = self.clock.monotonic()
        seconds, self._before = _seconds(self._before, now), now
        return [(*row, now, seconds) for row in itertools.islice(self._rows_now(), most)]

    def _columns(self, form: str, width: int = PLAIN_WIDTH) -> list[Column]:
        context = Context(self.options, self.clock, self.began, width)
        return fields.columns(self._fields, self._keys, form, context)

    def read(self) -> tuple[list[Any], Mapping[str, int]]:
        columns = [(c.key, self._values.index(c.of), c.form) for c in self._columns("json")]
        rows = [
            {key: plain(row[place], form) for key, place, form in columns}
            for row in self._interval()
        ]
        lost = self._lost_now()
        if self._after is not None and not self._detached:
            self._after()
        return rows, {"lost": lost} if lost else {}

    def added(self, before: list[Any], rows: list[Any]) -> list[Any]:
        how = {field.name: field.added for field in self._fields if field.value != "seconds"}
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in (*before, *rows):
            apart = tuple(value for name, value in row.items() if how.get(name) == "")
            known = found.get(apart)
            if known is None:
                found[apart] = dict(row)
                continue
            found[apart] = {
                name: _ADDED.get(how.get(name, ""), _either)(known[name], value)
                for name, value in row.items()
            }
        # The sum would lack the intervals in which a row was not there.
        seconds = {
            column.key: plain(_seconds(self._first, self._before), column.form)
            for column in self._columns("json")
            if column.of == "seconds"
        }
        for row in found.values():
            row.update(seconds)
            for name in row:
                total, divided, count = how.get(name, "").partition(" / ")
                if divided:
                    row[name] = row[total] // row[count] if row[count] else 0
                part, share, rest = how.get(name, "").partition(" : ")
                if share:
                    row[name] = percent(row[part], row[rest])
        return list(found.values())

    # Printing.

    def print(self, output: Output, waiting: Waiting) -> None:
        options = self.options
        announce(options, self._doing)
        columns = self._columns(options.form, output.width)
        places = [(self._values.index(column.of), column.rate) for column in columns]
        added = {field.name for field in self._fields if field.added == "sum"}
        counts = [n for n, column in enumerate(columns) if column.key in added]
        lines = EventWriter(output, options.form, columns)
        table = TableWriter(output, options.form, columns, self._refresh)
        if self._as_lines:
            lines.head()
        for last in intervals(options, waiting):
            if last and self._whole:
                self.stop()
            if getattr(options, "timestamp", False) and not self._as_lines:
                output.stamp(options.form)
            rows = [
                [row[place] / row[-1] if rate else row[place] for place, rate in places]
                for row in self._interval(self._most)
            ]
            self.seen = self.seen or any(any(row[n] for n in counts) for row in rows)
            if self._as_lines:
                for row in rows:
                    lines.add(row)
                lines.flush()
            else:
                table.write(rows)
            lines.lost(self._lost_now(), what=self._what)
            if not last and self._after is not None:
                self._after()


def _seconds(start: int, end: int) -> float:
    """The time between two of nanoseconds, but not zero: rates are divided by it."""
    return max((end - start) / 1e9, 1e-6)


def _either(value: Any, same: Any) -> Any:
    return value
