"""Stacks that a BPF program takes: their maps (bpf/stack_maps.h), what is in them, and what is
counted by them (bpf/stacks.h)."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.read.growth import Growth
from pytools.read.symbols import Symbol
from pytools.base.text import c_text
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Any, Sequence


__all__ = [
    "COUNTS", "STACKS", "Counted", "StackMaps", "Stacks", "map_sizes", "sizes", "with_caller",
]  # fmt: skip

# How many stacks, and how many counts, there is room for; as bcc has it.
STACKS, COUNTS = 16384, 40960
# The second stack map has the stacks whose place in the first one was taken: of
# n stacks in m places some n * n / 2m, that is 30 of 1,000, and 488 of 4,000.
SECOND_MAP_SHARE = 2
IN_SECOND_MAP = 1 << 30
NO_STACK = -14  # -EFAULT
KEY_MEMBERS = 7  # those of struct stack_key
NOBODY = 2**32 - 1
# In the order of enum stack_loss.
LOSSES = (
    "stacks lost to hash collisions: a larger --stack-storage-size makes them rare",
    "stacks lost, the stack map is full: --stack-storage-size makes room",
    "counts lost, the map is full: --hash-storage-size makes room",
)


class Counted(NamedTuple):
    """A count, and whose it is: the names of the process, and of the thread, which is empty if
    threads are not told apart by it. Addresses of instructions are innermost first; None
    for a stack that was lost. ``names`` are the kernel's functions where their addresses are not
    known; ``ongoing`` says that what is counted was not over; ``waker`` is the same of who ended
    it, for tools that know that."""

    pid: int
    tid: int
    state: int
    comm: str
    thread: str
    user: list[int] | None
    kernel: list[int] | None
    amount: int
    names: tuple[Symbol, ...] = ()
    ongoing: bool = False
    waker: Counted | None = None


def with_caller(stack: list[int], caller: int) -> list[int]:
    """A stack that was taken where a function is entered, with its caller, if that is known: the
    kernel may have left it out.

    >>> with_caller([1, 3], 2), with_caller([1, 2, 3], 2), with_caller([1], 0)
    ([1, 2, 3], [1, 2, 3], [1])
    """
    return stack if not caller or stack[1:2] == [caller] else [*stack[:1], caller, *stack[1:]]


def map_sizes(stacks: int) -> dict[str, int]:
    """The sizes of the maps of stacks, for ``program.prepare``."""
    return {"stacks": stacks, "more_stacks": max(stacks // SECOND_MAP_SHARE, 1)}


def sizes(stacks: int, counts: int) -> dict[str, int]:
    """The same, with that of the counts."""
    return {**map_sizes(stacks), "counts": counts}


class StackMaps:
    """The stacks of a program that has ``#include "stack_maps.h"``."""

    def __init__(self, program: Program) -> None:
        maps = program.maps
        self._stacks, self._more = maps["stacks"], maps["more_stacks"]
        self._processes = maps["processes"]
        self._lost = Growth(maps["stacks_lost"])
        self._frames: dict[int, list[int] | None] = {}

    def new_processes(self) -> list[int]:
        """The processes that had a new user stack since the last call."""
        return [pid for pid, _ in self._processes.drain()]

    def stack(self, number: int) -> list[int] | None:
        """The addresses of a stack by its number, innermost first; None for one that was lost."""
        if number < 0:
            return [] if number == NO_STACK else None
        if number not in self._frames:
            stacks = self._more if number & IN_SECOND_MAP else self._stacks
            self._frames[number] = stacks.frames(number & ~IN_SECOND_MAP) or None
        return self._frames[number]

    def lost(self) -> dict[str, int]:
        """How many stacks and counts are missing since the last call, by what to do about it."""
        return {LOSSES[kind]: count for kind, count in sorted(self._lost.since_last().items())}


class Stacks(StackMaps):
    """The stacks of a program that has ``#include "stacks.h"``, and what is counted by them."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._growth = Growth(program.maps["counts"])

    def since_last(self) -> list[Counted]:
        """What was counted since the last call."""
        return [self.counted(key, amount) for key, amount in self._growth.since_last().items()]

    def counted(self, key: Sequence[Any], amount: int, ongoing: bool = False) -> Counted:
        """An amount, and whose it is: the members of a struct stack_key (bpf/stack_key.h), or of
        two, as in struct wake_key (bpf/wakes.h)."""
        (pid, tid, user, kernel, state, comm, thread), waker = key[:KEY_MEMBERS], key[KEY_MEMBERS:]
        process, name = (c_text(each) for each in (comm, thread))
        stacks = self.stack(user), self.stack(kernel)
        by = self.counted(waker, amount) if waker and waker[0] != NOBODY and not ongoing else None
        whose = pid, tid, state, process, name
        return Counted(*whose, *stacks, amount, ongoing=ongoing, waker=by)
