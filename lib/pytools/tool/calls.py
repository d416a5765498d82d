"""Tools that follow each call of a function until it returns (bpf/calls.h): which functions, and
what is missing."""
from __future__ import annotations

import argparse

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure, Usage
from pytools.read.growth import Growth
from pytools.tool import many_probes, present
from pytools.tool.arguments import number_from

if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence

    from pytools.load.multi_attach import Target
    from pytools.load.program import Program


__all__ = ["LostCalls", "MOST_LEVELS", "attach", "find", "level", "space", "under_way"]

MOST_LEVELS = 64  # MOST_NESTED of bpf/calls.h
WORDS = 3  # of struct call
TOO_DEEP, NO_ROOM, NOT_RETURNED = range(3)  # enum call_loss
level = number_from(1, MOST_LEVELS)
# Functions that keep where they return to, for others to jump there. The kernel has put an address
# of its own there, and ends a process that comes to it by such a jump.
KEEP_THEIR_RETURN = {
    "setjmp", "_setjmp", "__setjmp", "sigsetjmp", "__sigsetjmp", "getcontext", "swapcontext",
}  # fmt: skip


def find(
    options: argparse.Namespace, patterns: Sequence[str], regexp: bool, say: Callable[[str], None]
) -> tuple[list[str], list[Target]]:
    """The functions that match any of the patterns: as ``probes.find_all``. Raises Usage for what
    does not return, Failure for what must not be made to."""
    for pattern in patterns:
        if pattern.startswith(("t:", "u:")):
            raise Usage(f"{pattern}: {options.tool} is about functions: others do not return")
    names, targets = many_probes.find(options, patterns, regexp, say)
    for file in {target.file for target in targets if target.file is not None}:
        if file.is_go:
            raise Failure(
                f"{file.path} is a Go program, which the kernel would crash: to see where a "
                "function returns, it changes the stack, which Go moves"
            )
    of_programs = [target.name for target in targets if target.file is not None]
    left_out = sorted(KEEP_THEIR_RETURN.intersection(of_programs))
    if left_out:
        why = f"{', '.join(left_out)}: a process would be ended that jumps to where they return"
        targets = [each for each in targets if each.file is None or each.name not in left_out]
        if not targets:
            raise Failure(why)
        say(f"left out are {why}")
    if any(name.startswith("_Z") for name in of_programs):
        say("an exception of C++ can't pass a function that is traced: the program would end")
    return names, targets


def attach(
    options: argparse.Namespace,
    program: Program,
    names: Sequence[str],
    targets: Sequence[Target],
    what: str,
) -> None:
    """Attach a program's PROBES ``ends`` to where the functions return, and then its PROBES
    ``begins`` to where they are entered. See ``many_probes.attach``."""
    parts = many_probes.Part("ends", targets, True), many_probes.Part("begins", targets)
    many_probes.attach(options, program, names, parts, what)


def space(more: int = 0) -> int:
    """The room, in u64, for the calls of a thread which have so many more members: CALL_SPACE."""
    return MOST_LEVELS * (WORDS + more)


def under_way(options: argparse.Namespace, program: Program) -> str:
    """How many calls have not returned, in words."""
    # Each thread's calls stand behind how many there are.
    depths = (int(value[0]) for _, value in program.maps["threads"].items())
    return present.count(sum(depths), "call has not returned", "calls have not returned")


class LostCalls:
    """The calls that were not followed. ``say`` is told why in words."""

    def __init__(self, program: Program, say: Callable[[str], None]) -> None:
        self._growth = Growth(program.maps["calls_lost"])
        self._say = say

    def since_last(self) -> tuple[int, Mapping[str, int]]:
        """How many calls were lost since the last time, and how many were ``too_deep``, or have
        ``not_returned``."""
        counts = self._growth.since_last()
        for kind, why in (
            (NO_ROOM, "lost: too many threads call the functions"),
            (TOO_DEEP, f"not timed: they were within {MOST_LEVELS} others of their thread"),
            (NOT_RETURNED, "not timed: they were left by a jump, or unseen"),
        ):
            if counts.get(kind):
                self._say(f"{counts[kind]} calls {why}")
        beside = {"too_deep": counts.get(TOO_DEEP), "not_returned": counts.get(NOT_RETURNED)}
        lost = counts.get(NO_ROOM, 0)
        return lost, {reason: number for reason, number in beside.items() if number}
