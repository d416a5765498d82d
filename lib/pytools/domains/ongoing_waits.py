"""The waits of threads that were not over when a trace ended."""
from __future__ import annotations

import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.domains import task_states
from pytools.read.stacks import Counted, Stacks
from pytools.read.symbols import Symbol

if TYPE_CHECKING:
    from typing import Callable, Iterable

    from pytools.load.maps import Map


__all__ = ["ongoing_waits"]


def ongoing_waits(
    waits: Map,
    stacks: Stacks,
    sleepers: Iterable[tuple[int, int, str, str]],
    began: int,
    counted: Callable[[int], bool],
    user: bool,
    kernel: bool,
) -> Callable[[], list[Counted]]:
    """Gives them when the program is detached; called before that. ``waits`` is a map by thread
    whose values are the time since when it waits, 0 where it does not, and a struct stack_key.
    ``sleepers`` are threads that wait now, with pid, tid, name, and letter of the state. One of
    them that is not in the map has waited since before the time ``began``: its stack is read from
    /proc, the kernel's if ``kernel``, and of the process's, if ``user``, the innermost function.
    ``counted`` says which lengths, in nanoseconds, count."""
    now = time.monotonic_ns()
    there = list(sleepers)

    def found() -> list[Counted]:
        entries = waits.items()
        known = {tid for tid, _ in entries}
        counts = [
            stacks.counted(key, now - since, ongoing=True)
            for _, (since, *key) in entries
            if 0 < since < now and counted(now - since)
        ]
        for pid, tid, comm, state in there if counted(now - began) else ():
            if tid not in known:
                folder = f"/proc/{pid}/task/{tid}"
                place = _place(folder) if user else 0
                names = _kernel_stack(folder) if kernel else ()
                # Of one that sleeps, the name of the thread alone is known here.
                whose = pid, tid, task_states.BITS[state], comm, comm
                user_stack = [place][: place > 0]
                counts.append(Counted(*whose, user_stack, [], now - began, names, True))
        return counts

    return found


def _kernel_stack(folder: str) -> tuple[Symbol, ...]:
    """The functions of the kernel that a thread is in, the innermost first; none where nobody may
    know them."""
    found = []
    try:
        with open(f"{folder}/stack") as file:
            for line in file:
                # [<0>] name+0x1f/0x40 [module]
                _, _, rest = line.strip().partition("] ")
                function, _, module = rest.partition(" ")
                name, _, offset = function.partition("/")[0].rpartition("+0x")
                if name:
                    found.append(Symbol(name, module.strip("[]"), int(offset, 16)))
    except (OSError, ValueError):
        return ()
    return tuple(found)


def _place(folder: str) -> int:
    """Where in its process a thread is that is in a system call; 0 where that is not known."""
    try:
        with open(f"{folder}/syscall") as file:
            return int(file.read().split()[-1], 16)
    except (OSError, ValueError, IndexError):
        return 0
