"""What is counted by the stacks that lead to functions (bpf/call_stacks.h)."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import c_text
from pytools.load.program import Program
from pytools.read.stacks import Counted, Stacks, with_caller

if TYPE_CHECKING:
    from typing import Any


__all__ = ["CallStacks"]


class CallStacks(Stacks):
    """The stacks of a program that has ``#include "call_stacks.h"``, and how often each was
    seen."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._counts = program.maps["counts"]
        self._before: dict[Any, int] = {}

    def since_last(self) -> list[Counted]:
        found = []
        for key, (count, comm, thread) in self._counts.items():
            grown = count - self._before.get(key, 0)
            if not grown:
                continue
            self._before[key] = count
            caller, pid, _, user, kernel = key
            stack = self.stack(user)
            if stack is not None:
                stack = with_caller(stack, caller)
            whose = pid, 0, 0, c_text(comm), c_text(thread)
            found.append(Counted(*whose, stack, self.stack(kernel), grown))
        return found
