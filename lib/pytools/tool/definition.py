"""A tool as its file declares it, and the three steps that every tool consists of.

Start: options to an attached program (``start`` of the tool's own file, which returns a ``Trace``).
Collect: what the trace has seen (``Trace.collect``). Print: ``Trace.print``, as text, JSON or CSV.
Who uses a tool without printing takes the first two.
"""
from __future__ import annotations

import argparse
import json
import os
from collections import Counter

from pytools import limit_of
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.beside import PATIENCE_SECONDS, Beside
from pytools.base.errors import Failure, Usage
from pytools.compile.unrendered import Unrendered
from pytools.load import program
from pytools.load.program import Program
from pytools.show.output import Clock, Output, complain
from pytools.tool import arguments, filters
from pytools.tool.waiting import Waiting

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Mapping, NoReturn, Sequence

    from pytools.tool.collected import Collected
    from pytools.tool.family import Family
    from pytools.tool.fields import Field
    from pytools.compile.unrendered import Value

    Start = Callable[[argparse.Namespace], "Trace"]

__all__ = ["Lines", "Start", "Tool", "Trace"]


# Detaching from many functions takes a second or two by itself on a slow machine.
SAID_AFTER_SECONDS = 5.0


class Trace:
    """A tool at work: its program is attached. A kind of tools has a class of its own, whose
    ``print`` says in ``seen`` whether there was anything to print."""

    kind = ""
    seen = False

    def __init__(self, tool: Tool, options: argparse.Namespace, traced: Program | None) -> None:
        self.tool = tool
        self.options = options
        self.program = traced
        self.clock = Clock()
        self.began = self._asked = self.clock.monotonic()
        self._rows: list[Any] = []
        self._lost: Counter[str] = Counter()
        self._detaching: Beside | None = None
        self._family: Family | None = options.family

    def attach(self, *steps: Callable[[], object]) -> None:
        """Attach, a step after the other, and let the command of --exec run; if one fails, nothing
        of the program is left."""
        try:
            for step in steps:
                step()
            if self._family is not None:
                self._family.release()
        except BaseException:
            self.close()
            raise

    def collect(self, cumulative: bool = False) -> Collected:
        """What it has seen since the last time, or with ``cumulative`` since its start: whoever
        wants that asks for it each time. Events are always those since the last time."""
        from pytools.tool.collected import Collected  # not for tools that print

        since = self.began if cumulative else self._asked
        rows, lost = self.read()
        self._asked = self.clock.monotonic()
        if cumulative:
            self._rows = rows = self.added(self._rows, rows)
            self._lost.update(lost)
            lost = self._lost
        return Collected(self.kind, since, self._asked, rows, dict(lost), cumulative)

    def read(self) -> tuple[list[Any], Mapping[str, int]]:
        """The rows and the losses since the last time, for ``collect``."""
        raise NotImplementedError

    def added(self, before: list[Any], rows: list[Any]) -> list[Any]:
        """The rows of two times following each other, as those of both together."""
        return rows

    def print(self, output: Output, waiting: Waiting) -> None:
        """Write what it sees as the options say, until they or Ctrl-C say that it is enough."""
        raise NotImplementedError

    def detach(self) -> None:
        """End tracing. What was seen until then can still be collected."""
        if self.program is not None:
            self.program.detach()

    def stop(self, seconds: float | None = PATIENCE_SECONDS) -> bool:
        """End tracing, before what was counted is read for the last time. The kernel may take long
        over it, and what was counted does not wait for that: whether it has ended after so many
        seconds. None: wait for as long as it takes."""
        if self._detaching is None:
            self._detaching = Beside(self.detach)
        return self._detaching.wait(seconds)

    def end(self) -> None:
        """End tracing, and wait until the kernel has detached everything; say so if that takes
        long."""
        if not self.stop() and not self.stop(SAID_AFTER_SECONDS):
            self.tool.message(
                "waiting for the kernel to detach the programs: a task keeps a CPU from it, such "
                "as a real-time task that spins"
            )
            self.stop(None)
        if self._family is not None:
            self._family.end()

    def close(self) -> None:
        """End tracing, and give back all that the kernel keeps for it."""
        if self._family is not None:
            self._family.end()
        if self._detaching is not None:
            self._detaching.wait(None)
        self.detach()
        if self.program is not None:
            self.program.close()


class Lines(Trace):
    """No trace at all, but lines that are to be printed."""

    kind = "lines"

    def __init__(self, tool: Tool, options: argparse.Namespace, lines: Sequence[str]) -> None:
        super().__init__(tool, options, None)
        self._lines = lines

    def read(self) -> tuple[list[Any], Mapping[str, int]]:
        return list(self._lines), {}

    def print(self, output: Output, waiting: Waiting) -> None:
        output.write("".join(f"{line}\n" for line in self._lines))
        self.seen = True


class _Schema(argparse.Action):
    """Prints what programs get of a tool, and ends it."""

    def __call__(self, parser: Any, *rest: Any) -> NoReturn:
        Output(parser.prog).write(json.dumps(parser.tool.schema(), indent=2) + "\n")
        raise SystemExit(0)


class Tool:
    """What a tool's file says of it once.

    ``text`` is the file's docstring: a sentence, then what else ``--help`` says, then examples.
    ``area`` is where the collection lists it, ``about`` what it shows, in at most 60 characters
    and without a verb; ``needs`` what it needs of the machine beside CAP_BPF and CAP_PERFMON, in
    the words of docs/privileges.md; ``doing`` what it says to a person when it has attached.
    ``links`` are other names by which it is called and does something else, with what it shows
    then. ``try_with`` are arguments without which it does not start, for whoever tries it.
    ``duration`` are the names of that option: bcc's tool may have its letter for something else.
    ``csv`` says whether what it prints are rows.
    ``under_way`` is asked where nothing was seen. It says in words what has begun and not ended, of
    a tool that shows what has ended; or what is missing of what its own options ask for."""

    def __init__(
        self,
        text: str | None,
        *,
        area: str,
        about: str,
        needs: str = "",
        doing: str = "",
        try_with: Sequence[str] = (),
        intervals: bool = False,
        traces: bool = True,
        duration: Sequence[str] = arguments.DURATION,
        csv: bool = True,
        under_way: Callable[[argparse.Namespace, Program], str] | None = None,
        links: Mapping[str, str] = {},
    ) -> None:
        self.area = area
        self._about = about
        self._links = links
        self.needs = needs
        self.doing = doing
        self.try_with = list(try_with)
        self.traces = traces
        self.under_way = under_way
        self.person = False  # whether it runs for one, at a prompt or in a script
        self.parser = arguments.parser(
            text or "", intervals, traces, schema=_Schema, duration=duration, csv=csv
        )
        self.parser.tool = self
        self.add_argument = self.parser.add_argument
        self.add_mutually_exclusive_group = self.parser.add_mutually_exclusive_group
        self.set_defaults = self.parser.set_defaults

    @property
    def name(self) -> str:
        """The name by which it was called."""
        return self.parser.prog

    @property
    def about(self) -> str:
        """What it shows, by the name by which it was called."""
        return self._links.get(self.name, self._about)

    # The options that many tools have.

    def add_fields(self, declared: Iterable[Field]) -> None:
        """Add the options that show fields to people."""
        for field in declared:
            if field.option:
                self.add_argument(*field.option, action="store_true", help=field.help)

    def add_filters(self, **which: Any) -> None:
        """See ``arguments.add_filters``."""
        arguments.add_filters(self.parser, **which)

    def add_sockets(self, **which: Any) -> None:
        """See ``arguments.add_sockets``."""
        arguments.add_sockets(self.parser, **which)

    def add_failed(self, what: str) -> None:
        """See ``arguments.add_failed``."""
        arguments.add_failed(self.parser, what)

    def schema(self) -> dict[str, Any]:
        """What programs get of it, as values of JSON."""
        return {"tool": self.name, "about": self.about}

    def message(self, text: str) -> None:
        """Say something to a person, if one is there: who only collects is told by what is
        collected."""
        if self.person:
            complain(f"{self.name}: {text}")

    # Starting.

    @staticmethod
    def interrupted(options: argparse.Namespace) -> bool:
        """Whether Ctrl-C came while the tool was being started: what takes long may end then."""
        return options.waiting is not None and bool(options.waiting.ended)

    def options(self, given: Sequence[str] | None = None) -> argparse.Namespace:
        """The options of a command line (of the process's own), with the filters (``wanted``).
        Raises Usage or Failure."""
        options: argparse.Namespace = self.parser.parse_args(given)
        options.tool = self.name
        options.waiting = options.family = None
        if "wanted" in vars(options):
            options.wanted = filters.wanted(options, self.message)
        return options

    def load(
        self,
        options: argparse.Namespace,
        template: str,
        code: Mapping[str, str] = {},
        values: Mapping[str, Value] = {},
        settings: Mapping[str, int] = {},
        sizes: Mapping[str, int] = {},
        probes: Mapping[str, Sequence[str]] = {},
    ) -> Program:
        """Load a template's program as the shared options say (see ``unrendered.Unrendered`` and
        ``program.prepare``); with --ebpf, print it and end the tool. A tool that has the filters of
        ``add_filters`` writes ``$WANTED`` into its template, for the function ``wanted(task)``; one
        with ``add_failed``, ``$FAILED_ONLY``."""
        wanted: filters.Filter | None = getattr(options, "wanted", None)
        if wanted is not None:
            code = {**code, "WANTED": wanted.code}
            values = {**values, **wanted.values}
            settings = {**settings, **wanted.settings}
            sizes = {**sizes, **wanted.sizes}
        if "failed" in vars(options):
            settings = {**settings, "FAILED_ONLY": options.failed}
        source = Unrendered(template, code, values, settings, probes)
        if "examine" in vars(options):  # for others than the tool: catalogue.source
            options.examine(source)
        if options.ebpf:
            _print_program(options, source)
        command = getattr(options, "command", None)
        if command:
            from pytools.tool.family import Family  # not for most

            # Before anything is changed that it would inherit.
            options.family = Family(command, self.message)
        pinned = wanted.pinned if wanted is not None else {}
        say = self.message if options.verbose else _unsaid
        try:
            prepared = program.prepare(source, sizes, not options.no_cache, say, pinned)
        except BaseException:
            if options.family is not None:
                options.family.end()
            raise
        if wanted is not None:
            wanted.fill(prepared.maps)
        if options.family is not None:
            options.family.enter(prepared.maps)
        if "interactive" in vars(options):  # before anything is attached
            options.waiting = Waiting(options.family)
        return prepared

    # Running.

    def run(self, start: Start) -> NoReturn:
        """Run the tool by its command line to its end, and end the process. Exit status: 0 done or
        interrupted, 1 failed, 2 bad usage."""

        def main() -> None:
            self.person = True
            options = self.options()
            options.interactive = True
            output = Output(self.name)
            trace = start(options)
            try:
                trace.print(output, options.waiting)
                if not trace.seen:
                    self._say_why(options, trace.program)
            finally:
                trace.end()

        run(main, self.parser)

    def _say_why(self, options: argparse.Namespace, traced: Program | None) -> None:
        """Nothing was seen: say why, if that is known. Zero is never silent where it could be a
        mistake."""
        why = []
        if "wanted" in vars(options):
            from pytools.tool import present  # not where something was seen

            why = present.reasons(options)
        if self.under_way is not None and traced is not None and not why:
            why += filter(None, [self.under_way(options, traced)])
        if why:
            self.message(f"nothing was seen: {', and '.join(why)}")


def run(main: Callable[[], None], parser: arguments.Parser) -> NoReturn:
    """Run a command to its end, with what goes wrong as a line and an exit status."""
    name = parser.prog
    for descriptor in (0, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: no map or event must take its number
            opened = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            if opened != descriptor:  # that of standard output, if it is closed, too
                os.dup2(opened, descriptor)
                os.close(opened)
    try:
        main()
        status = 0
    except Usage as error:
        complain(f"{name}: {error}")
        status = 2
    except Failure as error:
        for line in error.detail.splitlines():
            complain(line)
        complain(f"{name}: {error}")
        status = 1
    except (BrokenPipeError, KeyboardInterrupt):
        status = 0
    except (MemoryError, OSError) as error:
        why = limit_of(error)
        if not why:
            raise
        complain(f"{name}: {why}")
        status = 1
    # Nothing is buffered (Output writes through), and taking Python apart would
    # take an eighth of a short run's time.
    os._exit(status)


def _unsaid(line: str) -> None:
    """Where nobody asked what was done."""


def _print_program(options: argparse.Namespace, source: Unrendered) -> NoReturn:
    """Print the program as it is rendered for this kernel, and end the tool."""
    from pytools.compile.template import render
    from pytools.facts.kernel import running
    from pytools.load.loader import takes_types

    settings = source.settings
    text = render(source, running(), typed=takes_types).text
    given = ", ".join(f"{name.lower()} = {int(settings[name])}" for name in sorted(settings))
    Output(options.tool).write((f"/* Settings: {given}. */\n" if given else "") + text)
    raise SystemExit(0)
