"""Tools that count the waits of threads, by the stack that waits (bpf/off_cpu.h), by that of who
ends the wait (bpf/wakes.h), or by both."""
from __future__ import annotations

import argparse

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Usage
from pytools.domains.ongoing_waits import ongoing_waits
from pytools.domains.task_states import BITS, state_words
from pytools.read.named_stacks import NamedStack
from pytools.show.wakes import OffWakeForms, WakeForms
from pytools.tool import present
from pytools.tool.arguments import number_from
from pytools.tool.fields import COMM, PID, THREAD, TID, Field
from pytools.tool.stacks import FUNCTIONS, StackTool, StackTrace

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Mapping, Sequence

    from pytools.load.program import Program
    from pytools.read.stacks import Counted, Stacks


__all__ = ["WaitTool"]

MOST_USECS = 2**53
USECS = Field("", "The microseconds of all waits with the stack.", key="usecs", unit="us")
STATE = Field(
    "", "The state in which the thread waited: see below.", key="state", type="string"
)  # fmt: skip
ONGOING = Field(
    "", "Whether the waits were not over at the end: they have lasted so long until then. In text, "
    "the word ongoing stands behind the state.", key="ongoing", type="boolean",
)  # fmt: skip
INTERRUPT = Field(
    "", "Whether the wait was ended in an interrupt: hard interrupt or soft interrupt, else "
    "nothing.", key="interrupt", type="string",
)  # fmt: skip


def _of_waker(field: Field, about: str) -> Field:
    name = f"waker_{field.name}"
    return field._replace(heading="", key=name, of=name, about=about)


def _wakers(threads: bool) -> list[Field]:
    """What is known of who ends waits."""
    nobody = "Nothing if it was an interrupt alone."
    thread = THREAD._replace(optional=not threads, option=("--thread-names",))
    return [
        _of_waker(PID, f"The process that ended the wait. {nobody}"),
        *([_of_waker(TID, "Its thread that did so.")] if threads else []),
        _of_waker(COMM, "The name of that process."),
        _of_waker(thread, "The name of that thread."),
        INTERRUPT,
        *(_of_waker(each, f"The same of who ended the wait: {each.about}") for each in FUNCTIONS),
    ]


class WaitTool(StackTool):
    """A tool that counts waits by stack. With ``off_cpu`` it has ``#include "off_cpu.h"``: waits
    end when a thread runs again, and are told apart by where it waits, by thread and by state.
    With ``wakers``, who ends them is known, as in ``#include "wakes.h"``."""

    def __init__(
        self, text: str | None, *, off_cpu: bool = False, wakers: bool = False, **declared: Any
    ) -> None:
        if off_cpu:
            declared.update(
                state=STATE, state_words=state_words, ongoing=ONGOING, innermost="__schedule"
            )
        super().__init__(text, amount=USECS, divisor=1000, **declared)
        self._off_cpu = off_cpu
        self._trace: type[StackTrace] | None = None
        if wakers:
            self._trace = OffWakeTrace if off_cpu else WakeTrace
            place = self.fields.index(FUNCTIONS[0])
            behind = place + len(FUNCTIONS)
            self.fields[place:behind] = [*FUNCTIONS * off_cpu, *_wakers(threads=off_cpu)]
        self._add_waits()
        self.add_filters(tid="-t", kinds=True)

    def _add_waits(self) -> None:
        self.add_argument(
            "-m", "--min-block-time", metavar="USECS", type=number_from(0, MOST_USECS), default=0,
            help="only waits of so many microseconds or more",
        )  # fmt: skip
        self.add_argument(
            "-M", "--max-block-time", metavar="USECS", type=number_from(1, MOST_USECS),
            default=MOST_USECS, help="only waits of so many microseconds or less",
        )  # fmt: skip
        if self._off_cpu:
            self.add_argument(
                "--state", metavar="BITS", type=number_from(0, 2**16 - 1), default=-1,
                help="only threads in one of these states (0: preempted, 1: interruptible sleep, "
                "2: uninterruptible sleep; 3: either sleep)",
            )  # fmt: skip

    def start(
        self,
        options: argparse.Namespace,
        template: str,
        settings: Mapping[str, int] = {},
        sizes: Mapping[str, int] = {},
        trace: type[StackTrace] | None = None,
        **more: Any,
    ) -> StackTrace:
        if options.min_block_time > options.max_block_time:
            raise Usage("argument -m/--min-block-time: it is more than that of -M/--max-block-time")
        shortest, longest = 1000 * options.min_block_time, 1000 * options.max_block_time + 999
        settings = {"SHORTEST": shortest, "LONGEST": longest, **settings}
        if self._off_cpu:
            settings = {"STATE": options.state, **settings}

            def ongoing(
                program: Program, stacks: Stacks, began: int
            ) -> Callable[[], list[Counted]]:
                return ongoing_waits(
                    program.maps["waits"],
                    stacks,
                    _throughout(options),
                    began,
                    lambda length: bool(shortest <= length <= longest),
                    not options.kernel_stacks_only,
                    not options.user_stacks_only,
                )

            more["ongoing"] = ongoing
        more["lost_in"] = {"waits_lost": "waits"}
        return super().start(options, template, settings, sizes, trace or self._trace, **more)


def _throughout(options: argparse.Namespace) -> Iterator[tuple[int, int, str, str]]:
    """The threads that wait now, in a state that counts, if the user asks for some threads or a
    state; of all threads on the machine only those that no signal wakes up."""
    some = options.state >= 0 or options.wanted.of_tasks
    for pid, tid, comm, state, *_ in present.threads(options):
        bits = BITS.get(state, 0)
        if bits & options.state if options.state >= 0 else bits if some else state == "D":
            yield pid, tid, comm, state


class WakeTrace(StackTrace):
    """Waits by who ended them."""

    forms = WakeForms
    values = (
        *StackTrace.values,
        "waker_pid", "waker_tid", "waker_comm", "waker_thread", "interrupt",
        "waker_user_stack", "waker_kernel_stack",
    )  # fmt: skip

    def _record(self, stack: NamedStack, amount: int) -> Sequence[Any]:
        waker = stack.waker
        if waker is None:
            return (*super()._record(stack, amount), *[None] * 7)
        whose = waker[:4] if waker.comm else [None] * 4
        stacks = map(self._forms.joined, (waker.user, waker.kernel))
        return (*super()._record(stack, amount), *whose, waker.state, *stacks)


class OffWakeTrace(WakeTrace):
    """The same, with where they were spent."""

    forms = OffWakeForms
