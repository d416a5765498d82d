"""What lasts on each CPU and is not over when an interval ends (bpf/stretches.h)."""
from __future__ import annotations

from pytools.base.system import kernel_time
from pytools.load.program import Program

__all__ = ["Stretches"]


class Stretches:
    """The stretches of a program that has ``#include "stretches.h"``."""

    def __init__(self, program: Program) -> None:
        self._stretches, self._cut_at = program.maps["stretches"], program.maps["cut_at"]
        self._before = 0

    def cut(self) -> list[tuple[int, int]]:
        """Cut those that last in two: (id, nanoseconds) of each since it began, or since it was
        last cut. Its program counts the rest when it ends."""
        now = kernel_time()
        self._cut_at.put(0, now)
        ((_, cpus),) = self._stretches.items()
        found = []
        for since, identifier, _, cut, cut_since, cut_identifier in cpus:
            if cut == now:  # it has ended between the two lines above
                since, identifier = cut_since, cut_identifier
            if 0 < since < now:
                found.append((identifier, now - max(since, self._before)))
        self._before = now
        return found
