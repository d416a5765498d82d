"""Calls of functions as events: the function, and who called it, by name; or as lines for flame
graphs."""
from __future__ import annotations

import argparse

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Usage
from pytools.base.text import c_text
from pytools.load.multi_attach import Target
from pytools.load.program import Program
from pytools.read.named_stacks import USER, Frame, StackNames
from pytools.read.stacks import Counted, StackMaps
from pytools.show.output import Output
from pytools.show.stacks import StackForms
from pytools.tool import calls
from pytools.tool.events import EventTool, EventTrace
from pytools.tool.fields import TEXT_ONLY, Field, kept
from pytools.tool.waiting import Waiting, announce

if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator, Sequence


__all__ = ["FUNCTION", "STACKS", "add_stacks", "trace"]


def _with_stacks(options: argparse.Namespace) -> bool:
    return bool(options.user_stack or options.kernel_stack)


def _outermost_first(functions: Sequence[str]) -> str | None:
    return ";".join(reversed(functions)) or None


# Their values are made of the members "probe", "user_stack" and "kernel_stack".
FUNCTION = Field(
    "FUNC", "The function; in a program or library, with the name of the file. One that has "
    "several names which match has the shortest.", 1, of="function", type="string",
)  # fmt: skip
STACKS = [
    kept("u64 probe"),
    Field("", key=TEXT_ONLY, of="folded"),
    Field(
        "", "With -U, the functions of the process that led to the call, the outermost first, with "
        "semicolons between them.", 0, "s64 user_stack", key="user_stack", raw=_outermost_first,
        type="string", optional=True, when=lambda options: options.user_stack,
    ),
    Field(
        "", "With -K, the kernel's functions that led to it.", 0, "s64 kernel_stack",
        key="kernel_stack", raw=_outermost_first, type="string", optional=True,
        when=lambda options: options.kernel_stack,
    ),
    Field(
        "STACKS", "With -K and -U, the functions that led to the call, in lines below it: those of "
        "the kernel, then those of the process, each the innermost first.", 0, key=TEXT_ONLY,
        of="stacks", below=True, when=_with_stacks,
    ),
]  # fmt: skip


def add_stacks(tool: EventTool) -> None:
    """Add the options about stacks."""
    tool.add_argument(
        "-U", "--user-stack", action="store_true",
        help="print the functions of the process that led to the call, below it",
    )  # fmt: skip
    tool.add_argument(
        "-K", "--kernel-stack", action="store_true", help="print those of the kernel, too"
    )
    tool.add_argument(
        "-f", "--folded", action="store_true", help="print a line a stack, for flame graphs"
    )


def trace(
    tool: EventTool,
    options: argparse.Namespace,
    program: Program,
    names: Sequence[str],
    targets: Sequence[Target],
    doing: str,
) -> EventTrace:
    """Attach a program, and trace."""
    if options.folded and (not _with_stacks(options) or options.form != "text"):
        raise Usage("argument -f/--folded: it needs -U or -K, and no other form")
    maps = StackMaps(program)
    stacks = StackNames(options.user_stack, kernel=options.kernel_stack)
    stacks.watch(options.pid or [])
    forms = StackForms(tool.name, "calls", delimited=True)
    of_process = {target.number for target in targets if target.file is not None}

    def whole(records: Iterable[Any]) -> Iterator[Any]:
        if not _with_stacks(options):
            for record in records:
                yield record._replace(function=names[record.probe])
            return
        found = list(records)
        counted = [
            Counted(
                record.pid, 0, 0, c_text(record.comm), "", maps.stack(record.user_stack),
                maps.stack(record.kernel_stack), 1,
            )
            for record in found
        ]  # fmt: skip
        for record, stack in zip(found, stacks.named(counted)):
            name = names[record.probe]
            if record.probe in of_process and options.user_stack:
                # It has returned: its caller is the innermost.
                own = Frame(name.partition(":")[2] or name, USER)
                stack = stack._replace(user=(*stack.user, own))
            user, kernel = (
                tuple(frame.name for frame in reversed(frames))
                for frames in (stack.user, stack.kernel)
            )
            yield record._replace(
                function=name, user_stack=user, kernel_stack=kernel, stacks=kernel + user,
                folded=forms.folded({stack: 1}) if options.folded else None,
            )  # fmt: skip
        for reason in stacks.why_not:
            tool.message(reason)

    def missing() -> None:
        stacks.watch(maps.new_processes())
        for what, count in maps.lost().items():
            tool.message(f"{count} {what}")

    made = FoldedTrace if options.folded else EventTrace
    return made(
        tool, options, program, whole=whole,
        attach=lambda: calls.attach(options, program, names, targets, "time"),
        beside=missing if _with_stacks(options) else None,
        losses=calls.LostCalls(program, tool.message).since_last,
        closed=stacks.close, doing=doing,
    )  # fmt: skip


class FoldedTrace(EventTrace):
    """Calls as lines for flame graphs."""

    def print(self, output: Output, waiting: Waiting) -> None:
        announce(self.options, self._doing)
        for records in self._batches(waiting):
            shown: Iterable[Any] = self._shown(records)
            lines = [record.folded for record in shown]
            output.write("".join(lines))
            self.seen = self.seen or bool(lines)
        lost, _ = self._count_lost()
        if lost:
            output.message(f"{lost} events lost")
