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
    """The totals of a program that has ``#include "totals.h"``. ``named`` says that it has a map
    ``names``, with the same keys."""

    def __init__(self, program: Program, named: bool = False) -> None:
        self._totals = program.maps["totals"]
        self._names = program.maps["names"] if named else None
        self._generations = Generations(program)
        self.names: dict[tuple[int, int], bytes] = {}  # of those that were read last

    def since_last(self) -> dict[tuple[int, int], Total]:
        """Those since the last call, by id and kind, the CPUs' together."""
        self._generations.end()
        found = {}
        for (id_, kind), values in self._generations.drain(self._totals):
            numbers, sums, maxima = zip(*values)
            found[id_, kind] = Total(sum(numbers), sum(sums), max(maxima))
        if self._names is not None:
            self.names = {
                (id_, kind): name.partition(b"\0")[0]
                for (id_, kind), name in self._generations.drain(self._names)
            }
        return found
