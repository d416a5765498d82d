"""The tool that runs bpftrace's programs: its options, and what it does with them."""
from __future__ import annotations

import argparse
import os
import re
import sys

from pytools import __version__
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure, Usage
from pytools.bt import kept
from pytools.bt.attaching import OFF, Stale
from pytools.bt.show.lines import complain, lines
from pytools.facts import kernel
from pytools.tool import definition, filters
from pytools.tool.definition import Tool, Trace

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Sequence

    from pytools.base.held import Held
    from pytools.bt.plan import Plan
    from pytools.bt.run import Run
    from pytools.bt.show.lines import Lines
    from pytools.bt.wrong import Wrong
    from pytools.show.output import Output
    from pytools.tool.waiting import Waiting

__all__ = ["ProgramTool", "process"]

STDIN = "-"
MOST_BYTES = 1 << 21  # of a program that is read
MOST_PID = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h
ALWAYS = ("begin", "end", "self")  # whatever probes are asked for
VARIABLES = "BPFTRACE_"  # the config block's names, in the environment


def process(text: str) -> int:
    """The argument of -p. Raises Usage, in bpftrace's words."""
    digits = re.match("[0-9]*", text)[0]  # type: ignore[index]
    if digits != text or not text:
        what = "trailing bytes" if digits else "integer"
        raise Usage(f"Failed to parse pid: invalid {what}: {text}")
    if not 0 < int(text[:20]) <= MOST_PID:
        raise Usage(f"Pid out of range: {text}")
    return int(text)


class ProgramTool(Tool):
    """A tool whose programs are the user's, with bpftrace's options."""

    def __init__(self, text: str | None, **declared: Any) -> None:
        super().__init__(text, **declared)
        self.parser.intermixed = True
        self.status = 0
        self.verbose = False
        self.source = ("", "stdin")  # the text of the program, and its name

    def options(self, given: Sequence[str] | None = None) -> argparse.Namespace:
        """The options of a command line. What stands behind -- is for the program."""
        words = list(sys.argv[1:] if given is None else given)
        behind: list[str] = []
        if "--" in words:
            place = words.index("--")
            words, behind = words[:place], words[place + 1 :]
        options: argparse.Namespace = self.parser.parse_args(words)
        options.tool = self.name
        options.waiting = options.family = None
        self._check(options, behind)
        return options

    def _check(self, options: argparse.Namespace, behind: list[str]) -> None:
        if options.version_wanted:
            sys.stdout.write(f"pytools {__version__}\n")
            sys.stdout.flush()
            raise SystemExit(0)
        named = [word for word in behind if word.startswith("--")]
        words = options.words
        options.source = None
        if options.list_wanted:
            options.pattern = " ".join(words)
        elif options.program is None and not options.info:
            if not words:
                raise Usage(f"give a program: {self.name} -e PROGRAM, or {self.name} FILE")
            options.source, words = words[0], words[1:]
        options.named = named
        options.parameters = words + [word for word in behind if not word.startswith("--")]
        if options.form not in ("text", "json"):
            raise Failure(f'Invalid output format "{options.form}"')
        options.wanted = _probe_filter(options.probe_filter)
        options.filter = None
        if options.comm or options.cgroup or options.pidns:
            given = argparse.Namespace(
                pid=None, comm=options.comm, cgroup=options.cgroup, pidns=options.pidns
            )
            options.filter = filters.tasks(given, self.message)

    # What a run of a program needs of its tool.

    def program(self, options: argparse.Namespace) -> tuple[str, str]:
        """The text of the program, and its name in messages. Raises Failure."""
        return _text(options)

    def held(self, options: argparse.Namespace) -> Held | None:
        """The command that is to be run, held."""
        if not options.command:
            return None
        from pytools.bt import command as commands

        return commands.held(options.command)

    def lines(self, options: argparse.Namespace) -> Lines:
        """Where the output goes."""
        return lines(options.form, options.output, options.buffering)

    def run(self, start: definition.Start) -> NoReturn:
        """Run the tool to its end. Exit status: that of the program's exit(), else 0; 1 if it is
        wrong or failed; 2 bad usage."""

        def main() -> None:
            self.person = True
            try:
                options = self.options()
                self.verbose = options.verbose
                trace = start(options)
                trace.print(None, None)  # type: ignore[arg-type]
            except Exception as error:
                if not self._explain(error):
                    raise
                self.status = 2 if isinstance(error, Usage) else 1
            sys.stdout.flush()
            os._exit(self.status)

        definition.run(main, self.parser)

    def _explain(self, error: Exception) -> bool:
        """Say why it failed, as bpftrace does, if that is what an exception says."""
        if isinstance(error, Failure):
            if self.verbose:
                for line in error.detail.splitlines():
                    complain(line)
            complain(f"ERROR: {error}")
            return True
        from pytools.bt.wrong import Wrong  # few starts need it

        if not isinstance(error, Wrong):
            return False
        complain(self.report(error))
        return True

    def report(self, wrong: Wrong) -> str:
        """What is said of what is wrong with the program."""
        return wrong.report(*self.source)

    def start(self, options: argparse.Namespace) -> Trace:
        """What the options ask for: a program that is loaded, or a list."""
        if options.info:
            return _Texts(self, options, _information())
        if options.list_wanted:
            return _Texts(self, options, _listed(self, options))
        return Session(self, options)


class _Texts(Trace):
    """Lines, which are printed."""

    def __init__(self, tool: Tool, options: argparse.Namespace, texts: Any) -> None:
        super().__init__(tool, options, None)
        self._texts = texts

    def print(self, output: Output, waiting: Waiting) -> None:
        out = lines("text", self.options.output, "full")
        for text in self._texts:
            out.write(text + "\n")
        out.close()


class Session(Trace):
    """A program: what it became, and its run."""

    kind = "program"

    def __init__(self, tool: ProgramTool, options: argparse.Namespace) -> None:
        super().__init__(tool, options, None)
        self._bt = tool
        self._say: Callable[[str], None] = tool.message if options.verbose else lambda line: None
        text, name = tool.source = tool.program(options)
        running = _running(options)
        if options.ebpf:
            from pytools.bt.make import print_program

            print_program(text, name, options, running)
        source = kept.Source(text, name, options.parameters, _key(options, text))

        def make() -> kept.Made:
            from pytools.bt.make import made  # not on a warm start

            return made(text, name, options, running, self._say)

        def keep(anew: bool = False) -> kept.Made:
            return kept.kept(source, running, make, not options.no_cache, self._say, anew)

        self._running = running
        self._keep = keep
        self._made = keep()

    def print(self, output: Output, waiting: Waiting) -> None:
        options = self.options
        if all(point.kind == OFF for point in _filtered(self._made.plan, options.wanted).points):
            complain("No probes to attach")
            self._bt.status = 1
            return
        try:
            status = self._start().main(options.duration, options.quiet, options.dry_run)
        except Stale as stale:
            self._say(f"made anew: {stale}")
            self._made = self._keep(anew=True)
            status = self._start().main(options.duration, options.quiet, options.dry_run)
        self._bt.status = status

    def _start(self) -> Run:
        from pytools.bt import run, settings

        options = self.options
        plan = _filtered(self._made.plan, options.wanted)
        if not options.no_warnings:
            for line in plan.warnings:
                complain(line)
        command = self._bt.held(options)
        child = command.pid if command is not None else 0
        pid = options.pid or 0
        wanted: filters.Filter = options.filter or filters.NO_FILTER
        numbers = settings.numbers(plan, options.parameters, pid or child, child, wanted.settings)
        started = run.Run(
            plan, self._made.image, numbers, self._running,
            self._bt.lines(options),
            pid or child or -1, command,
            wanted.sizes,
            self._warn, self._say, not options.no_warnings,
        )  # fmt: skip
        wanted.fill(started.loaded.maps)
        if options.family is not None:
            options.family.enter(started.loaded.maps)
        return started

    def _warn(self, wrong: Wrong) -> None:
        if not self.options.no_warnings:
            complain(self._bt.report(wrong).replace("ERROR:", "WARNING:", 1))


def _probe_filter(pattern: str | None) -> Callable[[str], object] | None:
    """Whether a probe's text matches the pattern of --probe-filter. Raises Usage."""
    try:
        return None if pattern is None else re.compile(pattern).search
    except re.error as error:
        raise Usage(f"Invalid --probe-filter regex {pattern!r}: {error}") from None


def _filtered(plan: Plan, wanted: Callable[[str], object] | None) -> Plan:
    """A plan whose points that are not wanted are nothing."""
    if wanted is None:
        return plan
    return plan._replace(
        points=[
            point if point.kind in ALWAYS or wanted(point.text) else point._replace(kind=OFF)
            for point in plan.points
        ]
    )


def _running(options: argparse.Namespace) -> kernel.Kernel:
    """The kernel, with the functions of --traceable-functions."""
    running = kernel.running()
    running.functions_path = options.traceable_functions
    if options.traceable_functions:
        running.functions()
    return running


def _text(options: argparse.Namespace) -> tuple[str, str]:
    """The text of the program, and its name in messages. Raises Failure."""
    if options.program is not None:
        return options.program, "stdin"
    path = options.source
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(MOST_BYTES)
        else:
            with open(path, "rb") as file:
                data = file.read(MOST_BYTES)
    except OSError as error:
        raise Failure(f"failed to open file '{path}': {error.strerror}") from None
    # Whether it is one is told when it is read; bytes that are no text stay what they are.
    return data.decode("utf-8", "surrogateescape"), "stdin" if path == STDIN else path


def _functions_of_programs(text: str) -> list[object]:
    """What the BPF programs of this moment have, if a program may ask for it."""
    if not re.search(r":bpf:", text):
        return []
    from pytools.load.programs import functions

    return list(functions())


def _key(options: argparse.Namespace, text: str) -> str:
    """The options that a program is compiled by."""
    wanted: filters.Filter = options.filter or filters.NO_FILTER
    variables = {name: text for name, text in os.environ.items() if name.startswith(VARIABLES)}
    parts = (
        options.unsafe, options.program is None, options.pid is not None,
        options.command is not None, options.named, options.kernel_errors,
        _state_of(options.traceable_functions), options.probe_filter is None,
        _functions_of_programs(text),
        wanted.code, sorted(wanted.values.items()), sorted(wanted.settings),
        sorted(variables.items()),
    )  # fmt: skip
    # A program that is attached to files by relative paths, too, is looked up when it starts.
    return repr(parts)


def _state_of(path: str) -> list[object]:
    """What changes if a file does; empty without one. Raises Failure."""
    if not path:
        return []
    try:
        found = os.stat(path)
    except OSError as error:
        raise Failure(f"cannot read functions from {path}: {error.strerror}") from None
    return [path, found.st_size, found.st_mtime_ns]


def _listed(tool: Tool, options: argparse.Namespace) -> Any:
    from pytools.bt.listing import listed

    return listed(
        options.pattern, options.verbose, options.pid, options.program, options.parameters,
        complain, _running(options),
    )  # fmt: skip


def _information() -> Any:
    from pytools.bt.information import information

    return information()
