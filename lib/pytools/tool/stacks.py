"""Tools that count something by stack, and print the stacks at their end: the options that they
share, from options to the trace, and to what is printed."""
from __future__ import annotations

import argparse
import functools
import json
from collections import Counter

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Usage
from pytools.load.program import Program
from pytools.read import stacks
from pytools.read.growth import Growth
from pytools.read.named_stacks import NamedStack, StackNames
from pytools.read.stacks import Counted, Stacks
from pytools.show.files import OutputFile
from pytools.show.output import Output
from pytools.show.stacks import StackForms
from pytools.show.stream import Column, EventWriter, plain
from pytools.tool import fields
from pytools.tool.arguments import number_from, positive
from pytools.tool.definition import Tool, Trace
from pytools.tool.fields import COMM, PID, THREAD, TID, Context, Field
from pytools.tool.waiting import Waiting, announce, intervals

if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Sequence


__all__ = ["StackTool", "StackTrace"]

FILES = ("svg", "speedscope")
# The fields that all have, but for what is counted.
WHO = [PID._replace(heading="", key="pid"), COMM._replace(heading="", key="comm")]
NUMBER = TID._replace(heading="", key="tid")
FUNCTIONS = [
    Field(
        "",
        f"The functions of the {of}, the outermost first, with semicolons between them.",
        key=f"{whose}_stack",
        type="string",
    )
    for whose, of in (("user", "process"), ("kernel", "kernel"))
]


class StackTool(Tool):
    """A tool that counts something by stack. ``amount`` is the field of that: its name is the unit.
    What the program counts is divided by ``divisor``. ``state`` is the field of a thread's state,
    if the tool tells stacks apart by thread and state; ``state_words`` gives the words for one.
    ``ongoing`` is the field that says that what is counted was not over, if the tool has such. The
    kernel's functions that ``innermost`` calls are left out. A tool with ``intervals`` may print
    every interval: it has the option for that, and others than stacks for its arguments.

    The template has ``#include "stacks.h"``."""

    def __init__(
        self,
        text: str | None,
        *,
        amount: Field,
        divisor: int = 1,
        state: Field | None = None,
        state_words: Callable[[int], str] | None = None,
        ongoing: Field | None = None,
        innermost: str = "",
        duration: Sequence[str] = ("--duration",),
        intervals: bool = False,
        **declared: Any,
    ) -> None:
        super().__init__(text, duration=duration, **declared)
        self.unit = amount.name
        self.divisor = divisor
        self.state_words = state_words
        self.innermost = innermost
        self.tells_threads = state is not None
        names = THREAD._replace(optional=not self.tells_threads, option=("--thread-names",))
        self.fields = [*WHO, names, *([NUMBER, state] if state else []), *FUNCTIONS]
        self.fields.append(amount._replace(of="amount", added="sum"))
        self.fields += [ongoing] if ongoing else []
        self.keys = ""
        self.set_defaults(seconds=None, interval=None, count=None, timestamp=False)
        if not intervals:
            self.add_argument(
                "seconds", metavar="duration", nargs="?", type=positive,
                help="end after so many seconds (Ctrl-C)",
            )  # fmt: skip
        self._add_options()

    def _add_options(self) -> None:
        add = self.add_argument
        which = self.add_mutually_exclusive_group()
        which.add_argument(
            "-U", "--user-stacks-only", action="store_true", help="user stacks, no kernel stacks"
        )
        which.add_argument(
            "-K", "--kernel-stacks-only", action="store_true", help="kernel stacks, no user stacks"
        )
        add("-f", "--folded", action="store_true", help="print a line a stack, for flame graphs")
        add("--svg", metavar="FILE", help="write a flame graph, and print nothing")
        add("--speedscope", metavar="FILE", help="write a file for speedscope, and print nothing")
        add(
            "-d", "--delimited", action="store_true",
            help="mark where the user stack ends and the kernel stack begins",
        )  # fmt: skip
        if self.state_words:
            add(
                "--states", action="store_true",
                help="put the state into folded lines and flame graphs, behind the command",
            )  # fmt: skip
        add(
            "-a", "--annotations", action="store_true",
            help="mark the kernel's functions with _[k]",
        )  # fmt: skip
        add(
            "-s", "--offset", action="store_true",
            help="print how far into a function each place is",
        )  # fmt: skip
        add(
            "--thread-names", action="store_true",
            help="tell threads apart by name, not only processes",
        )  # fmt: skip
        add("-A", "--address", action="store_true", help="print the addresses, too")
        add(
            "--stack-storage-size", metavar="N", type=number_from(1, 1 << 22),
            default=stacks.STACKS, help=f"how many stacks there is room for ({stacks.STACKS})",
        )  # fmt: skip
        add(
            "--hash-storage-size", metavar="N", type=number_from(1, 1 << 24),
            default=stacks.COUNTS, help=f"how many counts there is room for ({stacks.COUNTS})",
        )  # fmt: skip

    def schema(self) -> dict[str, Any]:
        return {
            **super().schema(),
            "kind": StackTrace.kind,
            "fields": fields.schema(self.fields, self.keys),
        }

    def start(
        self,
        options: argparse.Namespace,
        template: str,
        settings: Mapping[str, int] = {},
        sizes: Mapping[str, int] = {},
        trace: type[StackTrace] | None = None,
        **more: Any,
    ) -> StackTrace:
        """Load a template's program, attach it, and trace. ``trace`` is StackTrace or a class made
        from it, ``more`` what it takes."""
        if options.seconds is not None:
            if options.duration is not None:
                raise Usage("the duration is given twice")
            options.duration = options.seconds
        if options.folded and options.form != "text":
            raise Usage(f"argument --{options.form}: not allowed with argument -f/--folded")
        if options.svg is not None and options.svg == options.speedscope:
            raise Usage("--svg and --speedscope name the same file")
        names = StackNames(
            not options.kernel_stacks_only, options.offset, options.address, self.innermost,
            self.state_words, kernel=not options.user_stacks_only,
        )  # fmt: skip
        try:
            names.watch(options.pid or [])  # its child loads bcc while the program is compiled
            settings = {
                "USER_STACKS": int(not options.kernel_stacks_only),
                "KERNEL_STACKS": int(not options.user_stacks_only),
                "THREADS": int(self.tells_threads or options.thread_names),
                **settings,
            }
            kept = stacks.sizes(options.stack_storage_size, options.hash_storage_size)
            traced = self.load(options, template, settings=settings, sizes={**kept, **sizes})
            return (trace or StackTrace)(self, options, traced, names, **more)
        except BaseException:
            names.close()
            raise


class StackTrace(Trace):
    """Stacks, as a program counts them. ``attach`` and ``detach`` attach and detach it, if those of
    ``Program`` without arguments do not; with ``anew``, what was counted before all was attached is
    left out; with ``whole``, it is detached before it is read for the last time. ``lost_in`` names
    more maps that count what is lost, each with the plural of what that is. ``ongoing`` is called
    at the end, before the program is detached, and what that gives when it is: what was not over is
    in the last rows."""

    kind = "stacks"
    forms = StackForms
    stacks = Stacks  # reads them
    values: tuple[str, ...] = (
        "pid", "tid", "comm", "thread", "state", "user_stack", "kernel_stack", "amount", "ongoing",
    )  # fmt: skip

    def __init__(
        self,
        tool: StackTool,
        options: argparse.Namespace,
        traced: Program,
        names: StackNames,
        attach: Callable[[Program], None] = Program.attach,
        detach: Callable[[Program], None] = Program.detach,
        anew: bool = False,
        whole: bool = True,
        lost_in: Mapping[str, str] = {},
        ongoing: Callable[[Program, Stacks, int], Callable[[], list[Counted]]] | None = None,
        doing: str = "",
    ) -> None:
        super().__init__(tool, options, traced)
        self._tool = tool
        self._doing = doing or tool.doing
        self._names = names
        self._traced = traced
        self._stacks = self.stacks(traced)
        self._more_lost = {
            f"{what} lost": Growth(traced.maps[counter]) for counter, what in lost_in.items()
        }
        self._before: Counter[NamedStack] = Counter()
        self._look, self._ongoing = ongoing, _none
        self._forms = self.forms(
            tool.name, tool.unit, options.delimited, options.annotations, options.thread_names,
            getattr(options, "states", False),
        )  # fmt: skip
        self._files = {
            name: OutputFile(getattr(options, name))
            for name in FILES
            if getattr(options, name) is not None
        }
        if options.pid:  # a process that ends has names from the start
            names.settle()
        self._detach, self._whole = detach, whole
        self._sums: Counter[NamedStack] = Counter()
        self._writer: EventWriter | None = None
        self.attach(functools.partial(attach, traced), *[self._stacks.since_last] * anew)

    def _since_last(self, last: bool = False) -> dict[NamedStack, int]:
        """What was counted since the last call, in the tool's unit, the least first."""
        found = {}
        counted = self._stacks.since_last() + self._ongoing()
        self._ongoing = _none
        for stack, amount in self._names.name(counted, last).items():
            before = self._before[stack]
            self._before[stack] = now = before + amount
            # So that the amounts of many calls add up to that of one.
            found[stack] = now // self._tool.divisor - before // self._tool.divisor
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def _missing(self) -> dict[str, int]:
        """What is missing since the last call: how much, by what to say of it."""
        more = {
            what: sum(counter.since_last().values()) for what, counter in self._more_lost.items()
        }
        return {**self._stacks.lost(), **{what: count for what, count in more.items() if count}}

    def _columns(self) -> list[Column]:
        """Those that programs get."""
        context = Context(self.options, self.clock, self.began)
        return fields.columns(self._tool.fields, self._tool.keys, "json", context)

    def _record(self, stack: NamedStack, amount: int) -> Sequence[Any]:
        user, kernel = map(self._forms.joined, (stack.user, stack.kernel))
        whose = stack[:5] if stack.is_of_process else [None] * 5
        return (*whose, user, kernel, amount, stack.ongoing)

    def read(self) -> tuple[list[Any], Mapping[str, int]]:
        self._names.watch(self._stacks.new_processes())
        columns = [(c.key, self.values.index(c.of), c.form) for c in self._columns()]
        records = [self._record(*pair) for pair in self._since_last().items()]
        rows = [{key: plain(r[place], form) for key, place, form in columns} for r in records]
        lost = sum(self._missing().values())
        return rows, {"lost": lost} if lost else {}

    def added(self, before: list[Any], rows: list[Any]) -> list[Any]:
        unit = self._tool.unit
        sums: Counter[tuple[Any, ...]] = Counter()
        for row in (*before, *rows):
            sums[tuple((name, value) for name, value in row.items() if name != unit)] += row[unit]
        return [{**dict(key), unit: amount} for key, amount in sums.items()]

    def detach(self) -> None:
        if self._look is not None:
            self._ongoing, self._look = self._look(self._traced, self._stacks, self.began), None
        self._detach(self._traced)

    def close(self) -> None:
        super().close()
        self._names.close()
        for file in self._files.values():
            file.close()

    # Printing.

    def print(self, output: Output, waiting: Waiting) -> None:
        options = self.options
        announce(options, self._doing)
        if not options.kernel_stacks_only:
            waiting.meanwhile(lambda: self._names.watch(self._stacks.new_processes()))
        for last in intervals(options, waiting):
            if last and self._whole:
                self.stop()
            if options.timestamp:
                output.stamp(options.form)
            found = self._since_last(last)
            self.seen = self.seen or bool(found)
            if last:
                self._names.close()
            for reason in self._names.why_not:
                output.message(reason)
            if options.verbose:
                of_all = f"{self._names.unnamed} of {self._names.frames} functions"
                output.message(f"{of_all} have no name")
            self._write(output, found, last)

    def _write(self, output: Output, found: Mapping[NamedStack, int], last: bool) -> None:
        """Write what was found in an interval. Files have all of them."""
        options = self.options
        lost = self._missing()
        for what, count in lost.items():
            output.message(f"{count} {what}")
        moment = output.clock.rfc3339()
        if self._files:
            self._sums.update(found)
        for name, file in self._files.items() if last else ():
            sums = dict(sorted(self._sums.items(), key=lambda item: item[1]))
            file.write(self._forms.svg(sums) if name == "svg" else self._forms.speedscope(sums))
        if options.folded:
            output.write(self._forms.folded(found))
        elif options.form != "text":
            self._write_rows(output, found, moment)
        elif not self._files:
            output.write(self._forms.text(found))
        if lost and options.form == "json":
            record = {"ts": moment, "tool": output.tool, "lost": sum(lost.values())}
            output.write(json.dumps(record) + "\n")

    def _write_rows(self, output: Output, found: Mapping[NamedStack, int], moment: str) -> None:
        columns = self._columns()
        places = [self.values.index(column.of) for column in columns]
        if self._writer is None:
            self._writer = EventWriter(output, self.options.form, columns)
        writer = self._writer
        for stack, amount in found.items():
            record = self._record(stack, amount)
            writer.add([record[place] for place in places], moment)
        writer.head()
        writer.flush()


def _none() -> list[Counted]:
    return []
