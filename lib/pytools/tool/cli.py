"""What every tool does alike: options, signals, intervals, errors to exit codes.

A tool builds its parser with ``parser``, starts its program with ``start``, and
is run by ``run``. Exit status: 0 done or interrupted, 1 failed, 2 bad usage.
"""
from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, NoReturn, Sequence

from pytools import __version__
from pytools.tool import filters
from pytools.load import program
from pytools.base.errors import Failure, Usage
from pytools.show.output import Output, complain
from pytools.compile.unrendered import Unrendered, Value

if TYPE_CHECKING:
    from pytools.read.ringbuf import RingBuffer
    from pytools.show.stream import EventWriter

__all__ = [
    "Progress", "Waiting", "add_container", "add_filters", "add_sockets", "add_summary", "announce",
    "batches", "checked", "follow", "intervals", "number_from", "parser", "pid", "pids",
    "positive", "run", "start", "user", "wait",
]  # fmt: skip

# An event is on standard output at most so long after it happened.
LATEST_SECONDS = 0.1


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        complain(f"{self.prog}: {message} (see {self.prog} --help)")
        raise SystemExit(2)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of 80 columns. To ask the terminal for its width, argparse imports
    five modules, and it does so for every option that is added."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)


def parser(description: str, intervals: bool = False, traces: bool = True) -> Parser:
    """A parser with the options that all tools share. ``description`` is the
    tool's docstring: a line that says what it does, then text and examples.
    ``intervals`` adds ``[interval [count]]``; a tool that ``traces`` nothing has none
    of the options about programs."""
    first, _, rest = description.strip().partition("\n")
    made = Parser(
        description=first,
        epilog=rest.strip("\n"),
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    if intervals:
        made.add_argument(
            "interval", nargs="?", type=positive, help="seconds between summaries (one at the end)"
        )
        made.add_argument(
            "count", nargs="?", type=number_from(1), help="number of summaries (no limit)"
        )
    shared = made.add_argument_group("options of all tools")
    if traces:
        shared.add_argument(
            "-d", "--duration", metavar="SECONDS", type=not_negative,
            help="end after so many seconds; 0: attach, read once, end",
        )  # fmt: skip
    form = shared.add_mutually_exclusive_group()
    form.add_argument(
        "--json", dest="form", action="store_const", const="json", default="text",
        help="print JSON lines",
    )  # fmt: skip
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print CSV")
    if traces:
        shared.add_argument(
            "--ebpf", action="store_true", help="print the rendered BPF program and exit"
        )
        shared.add_argument(
            "--no-cache", action="store_true", help="compile anew, and keep nothing on disk"
        )
        shared.add_argument(
            "-v", "--verbose", action="store_true",
            help="say on standard error what is rewritten, attached and cached",
        )  # fmt: skip
    shared.add_argument("--version", action="version", version=f"pytools {__version__}")
    return made


def add_filters(made: Parser, tid: str = "", mntns: bool = False) -> None:
    """Add the options that say which tasks a tool is about (``filters.tasks``):
    several given, a task must pass them all. ``tid`` is the letter of the option
    for threads, where the tool has one."""
    group = made.add_argument_group("filters, in the kernel")
    group.add_argument("-p", "--pid", metavar="PID[,PID]", type=pids, help="only these processes")
    if tid:
        group.add_argument(tid, "--tid", metavar="TID[,TID]", type=pids, help="only these threads")
    group.add_argument("--comm", metavar="NAME", help="only commands of this name")
    group.add_argument("--cgroup", metavar="PATH", help="only tasks in this cgroup or below it")
    group.add_argument(
        "--pidns", metavar="PID", type=pid,
        help="only the PID namespace (the container) of this process",
    )  # fmt: skip
    if mntns:
        group.add_argument(
            "--mntns", metavar="PID", type=pid, help="only the mount namespace of this process"
        )
    made.set_defaults(wanted=filters.NO_FILTER)


def add_sockets(
    made: Parser, lports: str = "", rports: str = "", ports: str = "", sockets: bool = True
) -> None:
    """Add the options that say which sockets or packets a tool is about
    (``filters.sockets``). The others are the letters of the options for local, remote
    and any ports, where the tool has them. Without ``sockets`` (of packets), the
    namespace is no filter, but for the tool to go to (``options.namespace``)."""
    group = made.add_argument_group("filters of sockets, in the kernel")
    for letter, name, text in (
        (lports, "lport", "these local ports"),
        (rports, "rport", "these remote ports"),
        (ports, "port", "these ports"),
    ):
        if letter:
            group.add_argument(
                letter, f"--only-{name}", dest=f"{name}s", metavar="PORT[,PORT]",
                type=port_list, help=f"only {text}",
            )  # fmt: skip
    family = group.add_mutually_exclusive_group()
    for version in (4, 6):
        family.add_argument(
            f"-{version}", f"--ipv{version}", dest="ip", action="store_const", const=version,
            help=f"only IPv{version}",
        )  # fmt: skip
    group.add_argument(
        "--netns", dest="netns" if sockets else "namespace", metavar="NAME|PID",
        help="only this network namespace, by name or by one of its processes",
    )  # fmt: skip
    made.set_defaults(wanted=filters.NO_FILTER)


def add_container(made: Parser) -> None:
    """Add the option of tools whose events have a cgroup (see ``containers``)."""
    made.add_argument(
        "--container", action="store_true", help="print the container, or else the cgroup"
    )


def add_summary(made: Parser, *aliases: str) -> None:
    """Add the option of tools that print histograms. ``aliases`` are what bcc's
    tool of that name calls it."""
    made.add_argument(
        *aliases, "--summary", dest="summary", action="store_true",
        help="add total, average, maximum and percentiles to each histogram",
    )  # fmt: skip


# Argument types.


def number_from(least: int, most: int = 2**63 - 1) -> Callable[[str], int]:
    """An argument that is a whole number from ``least`` to ``most``."""

    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.lstrip("+-").isdigit() else None
        if value is None or not least <= value <= most:
            limit = f"from {least} on" if most == 2**63 - 1 else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limit}")
        return value

    return number


pid = number_from(1, 2**22)


def pids(text: str) -> list[int]:
    """An argument that is a list of pids, with commas between them."""
    return [pid(part) for part in text.split(",")]


def port_list(text: str) -> list[int]:
    """An argument that is a list of ports, with commas between them."""
    return [number_from(1, 65535)(part) for part in text.split(",")]


def user(text: str) -> int:
    """An argument that is a user, by number or by name."""
    if text.isascii() and text.isdigit():
        return number_from(0, 2**32 - 2)(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"there is no user {text!r}") from None


def positive(text: str) -> float:
    """An argument that is a number greater than zero."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is too small")
    return value


def not_negative(text: str) -> float:
    """An argument that is a number, zero or more; at most some 30 years."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return value


# Starting.


def start(
    options: argparse.Namespace,
    template: str,
    code: Mapping[str, str] = {},
    values: Mapping[str, Value] = {},
    settings: Mapping[str, int] = {},
    sizes: Mapping[str, int] = {},
    probes: Mapping[str, Sequence[str]] = {},
) -> program.Program:
    """Prepare a template's program as the shared options say (see unrendered.Unrendered and
    program.prepare); with --ebpf, print it and end the tool. A tool that has the
    filters of ``add_filters`` writes ``$WANTED`` into its template, for the function
    ``wanted(task)``."""
    wanted: filters.Filter | None = getattr(options, "wanted", None)
    if wanted is not None:
        code = {**code, "WANTED": wanted.code}
        settings = {**settings, **wanted.settings}
        sizes = {**sizes, **{name: len(keys) for name, keys in wanted.entries.items()}}
    source = Unrendered(template, code, values, settings, probes)
    if "examine" in vars(options):  # for others than the tool: catalogue.examine
        options.examine(source)
    if options.ebpf:
        from pytools.facts.kernel import running
        from pytools.load.loader import takes_types
        from pytools.compile.template import render

        text = render(source, running(), typed=takes_types).text
        given = ", ".join(f"{name.lower()} = {int(settings[name])}" for name in sorted(settings))
        Output(options.tool).write((f"/* Settings: {given}. */\n" if given else "") + text)
        raise SystemExit(0)

    def say(line: str) -> None:
        if options.verbose:
            complain(f"{options.tool}: {line}")

    prepared = program.prepare(source, sizes, not options.no_cache, say)
    for name, keys in wanted.entries.items() if wanted else ():
        for key in keys:
            prepared.maps[name].add(key)
    return prepared


def announce(options: argparse.Namespace, text: str) -> None:
    """Say to a person that the tool is at work, once it is attached."""
    if options.verbose or sys.stderr is not None and sys.stderr.isatty():
        complain(f"{text}... Hit Ctrl-C to end.")


class Progress:
    """Says on standard error how far something is that takes more than a second: to
    a person on one line that is written over, else every ten seconds. Raises
    KeyboardInterrupt when the user has enough of it, if there is somebody to ask."""

    def __init__(self, tool: str, text: str, waiting: Waiting | None = None) -> None:
        self._text = f"{tool}: {text}"
        self._waiting = waiting
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + 1
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        if self._waiting is not None and self._waiting.ended:
            raise KeyboardInterrupt
        if done == total:
            if self._shown and self._terminal:
                self._write("")
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._shown = True
        self._next = now + (0.2 if self._terminal else 10)
        line = f"{self._text} {done} of {total}"
        if self._terminal:
            self._write(line)
        else:
            complain(line)

    @staticmethod
    def _write(line: str) -> None:
        """Write over the line, in which everything is the tool's own."""
        try:
            sys.stderr.write(f"\r{line}\x1b[K")
            sys.stderr.flush()
        except OSError:
            pass


# Waiting.


class Waiting:
    """Waits for time to pass, a file descriptor to be readable, Ctrl-C, or the
    reader of standard output to go away. ``ended`` says that one of the latter
    two has happened."""

    def __init__(self) -> None:
        self.ended = False
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)
        signal.set_wakeup_fd(wake)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._poll.register(1, 0)  # errors only

    def _interrupt(self, number: int, frame: object) -> None:
        self.ended = True

    def until(self, deadline: float | None) -> bool:
        """Wait until that time.monotonic(); whether it came (False: ended)."""
        while not self.ended:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return True
            self.once(left)
        return False

    def watch(self, fd: int) -> None:
        """Let ``once`` return when the file descriptor is readable."""
        self._poll.register(fd, select.POLLIN)

    def once(self, seconds: float | None) -> None:
        """Wait once, for at most so long."""
        # Rounded up: a wait that is too short would spin to the deadline.
        timeout = None if seconds is None else int(seconds * 1000) + 1
        for fd, event in self._poll.poll(timeout):
            if fd == 1 and event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                raise BrokenPipeError
            if fd == self._woken:
                os.read(self._woken, 64)


def intervals(options: argparse.Namespace, waiting: Waiting) -> Iterator[bool]:
    """Yield at the end of each interval, and at the end of all: True the last
    time. Ends by count, by duration, or by Ctrl-C."""
    now = time.monotonic()
    end = None if options.duration is None else now + options.duration
    interval, count = options.interval, options.count
    while True:
        deadline = end
        if interval is not None:
            now += interval
            deadline = now if end is None else min(now, end)
        waiting.until(deadline)
        if count is not None:
            count -= 1
        last = waiting.ended or deadline is None or deadline == end or count == 0
        yield last
        if last:
            return
        # A machine that was asleep, or a terminal that was stopped: go on from here.
        now = max(now, time.monotonic() - interval)


def wait(options: argparse.Namespace, waiting: Waiting) -> None:
    """Wait until the duration is over or Ctrl-C."""
    waiting.until(None if options.duration is None else time.monotonic() + options.duration)


def batches(
    options: argparse.Namespace,
    waiting: Waiting,
    traced: program.Program,
    ring: RingBuffer,
    beside: Callable[[], None] | None = None,
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the records of a ring buffer, many at a time, until the duration is
    over or Ctrl-C; then detach, and yield what was still on its way. ``beside`` is
    called now and then, at least once in LATEST_SECONDS."""
    end = None if options.duration is None else time.monotonic() + options.duration
    waiting.watch(ring.fd)
    some = True
    while not waiting.ended:
        now = time.monotonic()
        if end is not None and now >= end:
            break
        if beside is not None:
            beside()
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
    # Detaching takes a while, in which a busy machine would fill the ring.
    from threading import Thread  # not for tools that print no events

    detaching = Thread(target=traced.detach)
    detaching.start()
    while True:
        last = not detaching.is_alive()
        records = ring.read()
        if records:
            yield records
        elif last:
            return
        else:
            detaching.join(LATEST_SECONDS / 10)


def follow(
    options: argparse.Namespace,
    waiting: Waiting,
    traced: program.Program,
    ring: RingBuffer,
    writer: EventWriter,
    text: str,
    form: Callable[[list[tuple[Any, ...]]], Iterable[tuple[Any, ...]]] | None = None,
    attach: Callable[[], None] | None = None,
    beside: Callable[[], None] | None = None,
) -> None:
    """Attach, say so (``announce``), and write events as they come until the end:
    the records of a ring buffer, or what ``form`` makes of many of them. ``attach``
    attaches what ``Program.attach`` does not; ``beside`` is as ``batches`` has it."""
    traced.attach()
    if attach is not None:
        attach()
    writer.head()
    announce(options, text)
    for records in batches(options, waiting, traced, ring, beside):
        writer.records(form(records) if form else records)
        writer.flush()


# Running.


def checked(made: Parser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line (of the process's own), with the tool's name
    (``tool``) and the filters (``wanted``). Raises Usage or Failure."""
    options = made.parse_args(arguments)
    options.tool = made.prog
    if "wanted" in vars(options):
        options.wanted = filters.wanted(options)
    return options


def run(main: Callable[[argparse.Namespace], None], made: Parser) -> NoReturn:
    """Parse the command line, run the tool, and end the process."""
    tool = made.prog
    for descriptor in (0, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: no map or event must take its number
            os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), descriptor)
    try:
        main(checked(made))
        status = 0
    except Usage as error:
        complain(f"{tool}: {error}")
        status = 2
    except Failure as error:
        if error.detail:
            complain(error.detail)
        complain(f"{tool}: {error}")
        status = 1
    except (BrokenPipeError, KeyboardInterrupt):
        status = 0
    except MemoryError:
        complain(f"{tool}: out of memory")
        status = 1
    # Nothing is buffered (Output writes through), and taking Python apart would
    # take an eighth of a short run's time.
    os._exit(status)
