"""What BPF programs take of the processors, as the kernel counts it."""
from __future__ import annotations

import os

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.domains.bpf_objects import Objects, count_run_time

if TYPE_CHECKING:
    from pytools.domains.bpf_objects import BpfProgram


__all__ = ["RunTimes", "Used"]


class Used(NamedTuple):
    """What a program has taken: how often it ran, for how long in nanoseconds, and how often it was
    left out; None where the kernel does not count that."""

    id: int
    kind: str
    name: str
    runs: int
    run_time: int
    misses: int | None

    @property
    def average(self) -> int | None:
        """How long it ran on average, in nanoseconds; None if it did not run."""
        return self.run_time // self.runs if self.runs else None


class RunTimes:
    """What programs take between ``begin`` and ``end``."""

    def __init__(self) -> None:
        self._objects = Objects()
        self._counting = -1
        self._before: dict[int, BpfProgram] = {}

    def begin(self) -> None:
        """Have the kernel count. Raises Failure."""
        self._counting = count_run_time()
        self._before = {program.id: program for program in self._objects.programs()}

    def end(self) -> None:
        """Have the kernel count no more, unless somebody else asks for it."""
        if self._counting >= 0:
            os.close(self._counting)
            self._counting = -1

    def since_last(self) -> list[Used]:
        """What each program that is there has taken since the last call. Raises Failure."""
        before, self._before = self._before, {}
        found = []
        for program in self._objects.programs():
            self._before[program.id] = program
            known = before.get(program.id)
            runs, run_time, misses = program.runs, program.run_time, program.misses
            if known is not None:
                runs, run_time = runs - known.runs, run_time - known.run_time
                misses = None if misses is None else misses - (known.misses or 0)
            found.append(Used(program.id, program.kind, program.name, runs, run_time, misses))
        return found
