"""How often something was, the sum and the maximum of its values, by two numbers (bpf/totals.h)."""
from __future__ import annotations


from pytools.base.annotations import NamedTuple
from pytools.load.program import Program
from pytools.read.generations import Generations

__all__ = ["ENTRIES", "Total", "Totals"]

ENTRIES = 2 * 16384  # of two generations


class Total(NamedTuple):
    """How many values belong together, and their sum and maximum."""

    number: int
    sum: int = 0
    maximum: int = 0


class Totals:
    """The totals of a program that has ``#include "totals.h"``."""

    def __init__(self, program: Program) -> None:
        self._totals = program.maps["totals"]
        self._generations = Generations(program)

    def since_last(self) -> dict[tuple[int, int], Total]:
        """Those since the last call, by id and kind, the CPUs' together."""
        self._generations.end()
        found = {}
        for (id_, kind), values in self._generations.drain(self._totals):
            numbers, sums, maxima = zip(*values)
            found[id_, kind] = Total(sum(numbers), sum(sums), max(maxima))
        return found
