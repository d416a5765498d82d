"""Tools that show memory that was allocated and not freed: a table every interval of the stacks
that allocated it, or each call as it comes."""
from __future__ import annotations

import argparse
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.read.named_stacks import StackNames, joined
from pytools.read.outstanding import Outstanding, Site, Sum
from pytools.show import outstanding as shown
from pytools.show.output import Output
from pytools.show.outstanding import Leak
from pytools.tool import fields
from pytools.tool.definition import Tool
from pytools.tool.events import EventTool
from pytools.tool.fields import Field
from pytools.tool.tables import TableTrace
from pytools.tool.waiting import Waiting, announce, intervals

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Mapping, Sequence

    from pytools.load.program import Program

__all__ = ["OutstandingTool", "OutstandingTrace"]

SORTS: Mapping[str, Callable[[Sum], tuple[int, int]]] = {
    "size": lambda both: (both.bytes, both.number),
    "count": lambda both: (both.number, both.bytes),
}
VALUES = (
    "pid", "comm", "bytes", "count", "address", "age", "user_stack", "kernel_stack",
)  # fmt: skip


class OutstandingTool(EventTool):
    """A tool that prints ``table`` every interval, and events with the option
    ``events_option``."""

    def __init__(
        self, text: str | None, *, table: Sequence[Field], events_option: str, **declared: Any
    ) -> None:
        super().__init__(text, table=table, intervals=True, **declared)
        self.events_option = events_option

    def schema(self) -> dict[str, Any]:
        events = {
            "option": self.events_option,
            "kind": "events",
            "fields": fields.schema(self.fields, self.keys),
        }
        return {
            **Tool.schema(self),
            "kind": OutstandingTrace.kind,
            "fields": fields.schema(self.table, ""),
            "events": events,
        }


class OutstandingTrace(TableTrace):
    """What is outstanding, by stack. ``beside`` is called often."""

    def __init__(
        self,
        tool: OutstandingTool,
        options: argparse.Namespace,
        traced: Program,
        outstanding: Outstanding,
        names: StackNames,
        beside: Callable[[], None],
        attach: Callable[[], None],
        doing: str,
    ) -> None:
        self._outstanding, self._names, self._beside = outstanding, names, beside
        self._complained: set[str] = set()
        super().__init__(
            tool, tool.table, "", options, traced, self._records, values=VALUES, attach=attach,
            lost=lambda: sum(self._outstanding.lost().values()),
            doing=doing,
        )  # fmt: skip

    def _leaks(self) -> list[Leak]:
        """The stacks of which most is outstanding, the first of all first."""
        options = self.options
        self._tick()
        before = self.clock.monotonic() - int(options.older * 1e6)
        read = self._outstanding
        sums = read.combined() if options.combined_only else read.sums(before)
        rank = SORTS[options.sort_by]
        top = sorted(sums.items(), key=lambda item: rank(item[1]), reverse=True)[: options.top]
        pieces: dict[Site, list[Any]] = {site: [] for site, _ in top}
        if options.show_allocs:
            for piece in read.each(before):
                if piece.site in pieces:
                    pieces[piece.site].append(piece)
        # What they have mapped meanwhile has names, too.
        self._names.watch([*{site.pid for site, _ in top if site.pid}])
        comms = read.names()
        counted = [read.counted(site, comms.get((site.pid, site.program), "")) for site, _ in top]
        stacks = self._names.named(counted)
        for reason in set(self._names.why_not) - self._complained:
            self._complained.add(reason)
            self.tool.message(reason)
        self.seen = self.seen or bool(top)
        return [
            Leak(stack, *both, sorted(pieces[site], key=lambda piece: piece.size))
            for stack, (site, both) in zip(stacks, top)
        ]

    def _records(self) -> Iterator[Sequence[Any]]:
        now = self.clock.monotonic()
        for stack, size, number, pieces in self._leaks():
            whose = stack.pid or None, stack.comm or None
            stacks = joined(stack.user), joined(stack.kernel)
            if not self.options.show_allocs:
                yield (*whose, size, number, None, None, *stacks)
            for piece in pieces:
                yield (*whose, piece.size, 1, piece.address, now - piece.since, *stacks)

    def added(self, before: list[Any], rows: list[Any]) -> list[Any]:
        return rows  # what is outstanding now

    def _tick(self) -> None:
        self._names.watch(self._outstanding.stacks.new_processes())
        self._beside()

    def close(self) -> None:
        super().close()
        self._names.close()

    def print(self, output: Output, waiting: Waiting) -> None:
        waiting.meanwhile(self._tick)
        if self.options.form != "text":
            return super().print(output, waiting)
        announce(self.options, self._doing)
        several = self.options.family is not None or len(self.options.pid or [0]) > 1
        for last in intervals(self.options, waiting):
            if last:
                self.stop()
            moment = time.strftime("%H:%M:%S")
            whose = several or getattr(self.options, "user", False)
            output.write(shown.text(self._leaks(), self.options.top, moment, whose))
            for what, count in self._outstanding.lost().items():
                output.message(f"{count} {what}")
