"""What tools that print stacks share: their options, the wait, and the report at
the end as text, folded lines, JSON lines, CSV, flame graph or speedscope file."""
from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from typing import Iterator, Mapping, NamedTuple, Sequence

from pytools.tool import cli
from pytools.read import stacks
from pytools.base.errors import Failure, Usage
from pytools.show.flame import KERNEL, LABEL, UNNAMED, USER, Frame, folded
from pytools.show.output import Output
from pytools.base.text import escape
from pytools.load.program import Program
from pytools.read.stacks import Counted, Stacks
from pytools.show.stream import Column, EventWriter
from pytools.read.symbols import Answer, Symbol, Symbols, call_site, kernel_symbols

__all__ = ["Report", "add_options"]

# How long a process must live to be looked up when it has ended, at most.
TICK_SECONDS = 0.25
LOST = Frame("[lost]", UNNAMED)
BOUNDARY = Frame("--", LABEL)


def add_options(made: cli.Parser) -> None:
    """Add the options of tools that print stacks, and ``[duration]``."""
    made.add_argument(
        "seconds", metavar="duration", nargs="?", type=cli.positive,
        help="end after so many seconds (Ctrl-C)",
    )  # fmt: skip
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "-U", "--user-stacks-only", action="store_true", help="user stacks, no kernel stacks"
    )
    which.add_argument(
        "-K", "--kernel-stacks-only", action="store_true", help="kernel stacks, no user stacks"
    )
    made.add_argument(
        "-f", "--folded", action="store_true", help="print a line a stack, for flame graphs"
    )
    made.add_argument("--svg", metavar="FILE", help="write a flame graph, and print nothing")
    made.add_argument(
        "--speedscope", metavar="FILE", help="write a file for speedscope, and print nothing"
    )
    made.add_argument(
        "--delimited", action="store_true", help="put -- between kernel and user stacks"
    )
    made.add_argument(
        "-a", "--annotations", action="store_true", help="mark the kernel's functions with _[k]"
    )
    made.add_argument(
        "-s", "--offset", action="store_true", help="print how far into a function each place is"
    )
    made.add_argument("-A", "--address", action="store_true", help="print the addresses, too")
    made.add_argument(
        "--stack-storage-size", metavar="N", type=cli.number_from(1, 1 << 22),
        default=stacks.STACKS, help=f"how many stacks there is room for ({stacks.STACKS})",
    )  # fmt: skip
    made.add_argument(
        "--hash-storage-size", metavar="N", type=cli.number_from(1, 1 << 24),
        default=stacks.COUNTS, help=f"how many counts there is room for ({stacks.COUNTS})",
    )  # fmt: skip


class _Named(NamedTuple):
    """What is counted together: functions are outermost first."""

    pid: int
    tid: int
    comm: str
    state: str | None
    user: tuple[Frame, ...]
    kernel: tuple[Frame, ...]


class Report:
    """The stacks that a program with ``#include "stacks.h"`` counts.

    ``settings`` and ``sizes`` are for ``cli.start``. ``unit`` says what is counted
    and ``divisor`` turns that into it; ``states`` gives the words for a state, if the
    tool tells stacks apart by it; the kernel's functions that ``innermost`` calls
    are left out.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        output: Output,
        unit: str,
        divisor: int = 1,
        states: Mapping[int, str] | None = None,
        innermost: str = "",
    ) -> None:
        if options.seconds is not None:
            if options.duration is not None:
                raise Usage("the duration is given twice")
            options.duration = options.seconds
        if options.folded and options.form != "text":
            raise Usage(f"argument --{options.form}: not allowed with argument -f/--folded")
        self._options = options
        self._output = output
        self._unit = unit
        self._divisor = divisor
        self._states = states
        self._innermost = innermost
        self.settings = {
            "USER_STACKS": int(not options.kernel_stacks_only),
            "KERNEL_STACKS": int(not options.user_stacks_only),
        }
        self.sizes = stacks.sizes(options.stack_storage_size, options.hash_storage_size)
        self._symbols = Symbols()
        if not options.kernel_stacks_only:
            self._symbols.watch(options.pid or [])

    def open(self) -> None:
        """Open the files to be written, and those of the processes that were asked for: a mistake
        shows before anything is traced, and a process that ends has names from the start."""
        self._files = {
            name: _open(getattr(self._options, name))
            for name in ("svg", "speedscope")
            if getattr(self._options, name) is not None
        }
        if self._options.pid and not self._options.kernel_stacks_only:
            self._symbols.settle()

    def wait(self, waiting: cli.Waiting, program: Program) -> None:
        """Wait until the duration is over, or for Ctrl-C; then detach."""
        self._stacks = Stacks(program)
        duration = self._options.duration
        end = None if duration is None else time.monotonic() + duration
        while not waiting.ended:
            tick = None
            if not self._options.kernel_stacks_only:
                tick = time.monotonic() + TICK_SECONDS
            deadline = min((at for at in (tick, end) if at is not None), default=None)
            waiting.until(deadline)
            if end is not None and time.monotonic() >= end:
                break
            if tick is not None:
                self._symbols.watch(self._stacks.new_processes())
        program.detach()

    def write(self) -> None:
        """Write all that was counted."""
        options, output = self._options, self._output
        named = self._named(self._stacks.counted())
        self._symbols.close()
        lost = self._stacks.lost(output)
        moment = output.clock.rfc3339()
        for name, file in self._files.items():
            self._write_file(name, file, named)
        if options.folded:
            output.write("".join(folded(self._lines(named))))
        elif options.form != "text":
            self._write_rows(named, moment)
        elif not self._files:
            output.write("".join(self._text(named)))
        if lost and options.form == "json":
            record = {"ts": moment, "tool": output.tool, "lost": lost}
            output.write(json.dumps(record) + "\n")

    # Names.

    def _named(self, counted: Sequence[Counted]) -> dict[_Named, int]:
        """The names of what was counted, the least first."""
        names: Answer = {}
        if not self._options.kernel_stacks_only:
            wanted: dict[int, set[int]] = {}
            for each in counted:
                if each.user:
                    wanted.setdefault(each.pid, set()).update(call_site(each.user))
            names = self._symbols.resolve(wanted)
            if self._symbols.why_not:
                self._output.message(self._symbols.why_not)
        kernel_names = None
        in_kernel = {address for each in counted for address in call_site(each.kernel or [])}
        if in_kernel:
            kernel_names = kernel_symbols(in_kernel)
            if kernel_names is None:
                self._output.message(
                    "no names of the kernel's functions: it hides their addresses "
                    "(kernel.kptr_restrict), or has none (CONFIG_KALLSYMS)"
                )
        found: Counter[_Named] = Counter()
        no_names: dict[int, Symbol] = {}
        unknown = frames = 0
        for each in counted:
            user = self._frames(each.user, names.get(each.pid, no_names), USER)
            kernel = self._frames(each.kernel, kernel_names or no_names, KERNEL)
            unknown += sum(frame.kind == UNNAMED for frame in (*user, *kernel))
            frames += len(user) + len(kernel)
            state = None if self._states is None else self._states[each.state]
            key = _Named(each.pid, each.tid, each.comm, state, user, kernel)
            found[key] += each.amount
        if self._options.verbose:
            self._output.message(f"{unknown} of {frames} functions have no name")
        whole = {key: amount // self._divisor for key, amount in found.items()}
        return dict(sorted(whole.items(), key=lambda item: item[1]))

    def _frames(
        self, addresses: Sequence[int] | None, names: Mapping[int, Symbol], kind: str
    ) -> tuple[Frame, ...]:
        if addresses is None:
            return (LOST,)
        frames: list[Frame] = []
        for address, site in zip(addresses, call_site(addresses)):
            symbol = names.get(site)
            name = "[unknown]" if symbol is None else symbol.name
            if symbol is not None:
                if kind == KERNEL and name == self._innermost:
                    frames.clear()
                if self._options.offset:
                    name += f"+{symbol.offset + address - site:#x}"
                if kind == KERNEL and symbol.module:
                    name += " " + symbol.module
            if self._options.address:
                name += f" [{address:#x}]"
            frames.append(Frame(name, UNNAMED if symbol is None else kind))
        return tuple(reversed(frames))

    def _shown(self, frame: Frame) -> Frame:
        if frame.kind == KERNEL and self._options.annotations:
            return frame._replace(name=frame.name + "_[k]")
        return frame

    def _stack(self, key: _Named) -> list[Frame]:
        """Of both stacks, the functions, outermost first."""
        boundary = [BOUNDARY] if self._options.delimited and key.user and key.kernel else []
        return [*key.user, *boundary, *map(self._shown, key.kernel)]

    def _lines(self, named: Mapping[_Named, int]) -> Iterator[tuple[list[Frame], int]]:
        for key, amount in named.items():
            start = [Frame(key.comm, LABEL)]
            if key.state is not None:
                start.append(Frame(key.state, LABEL))
            yield start + self._stack(key), amount

    # Forms.

    def _text(self, named: Mapping[_Named, int]) -> Iterator[str]:
        for key, amount in named.items():
            for frame in reversed(self._stack(key)):
                yield f"    {escape(frame.name)}\n"
            state = "" if key.state is None else f", {key.state}"
            yield f"    {'-':<16} {escape(key.comm)} ({key.tid or key.pid}){state}\n"
            yield f"        {amount}\n\n"

    def _write_rows(self, named: Mapping[_Named, int], moment: str) -> None:
        columns = [Column("PID"), Column("COMM")]
        if self._states is not None:
            columns += [Column("TID"), Column("STATE")]
        columns += [Column("USER_STACK"), Column("KERNEL_STACK"), Column(self._unit.upper())]
        writer = EventWriter(self._output, self._options.form, columns)
        for key, amount in named.items():
            state = [] if key.state is None else [key.tid, key.state]
            written = [
                ";".join(frame.name for frame in map(self._shown, frames)) or None
                for frames in (key.user, key.kernel)
            ]
            writer.add([key.pid, key.comm, *state, *written, amount], moment)
        writer.head()
        writer.flush()

    def _write_file(self, name: str, file: int, named: Mapping[_Named, int]) -> None:
        from pytools.show import flame

        lines = list(self._lines(named))
        if name == "svg":
            data = flame.svg(lines, self._output.tool, self._unit)
        else:
            data = flame.speedscope(lines, self._output.tool, self._unit)
        path = getattr(self._options, name)
        try:
            with open(file, "w", encoding="utf-8") as text:
                if text.seekable():
                    text.truncate()
                text.write(data)
        except OSError as error:
            raise Failure(f"cannot write to {path}: {error.strerror}") from None


def _open(path: str) -> int:
    """Open a file to be written later; what is in it stays until then."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Failure(f"cannot write to {path}: {error.strerror}") from None
