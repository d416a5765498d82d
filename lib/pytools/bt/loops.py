"""Types of loops: unroll, while, for over a range, for over a map."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.operators import Operators
from pytools.bt.promotion import promote
from pytools.bt.settings import parameter
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed
from pytools.bt.types import UNKNOWN, VOID, Aggregate, Int, Tuple

__all__ = ["Loops"]

MOST_UNROLLED = 100


class Loops(Operators):
    """The part of the checker that knows loops."""

    loops: int  # around the statement at hand

    if TYPE_CHECKING:

        def block(self, node: tree.Block) -> list[Typed]:
            ...

    def _do_unroll(self, node: tree.Unroll) -> Typed:
        times = self.value(node.times)
        number = times.constant
        if times.op == "parameter":
            number = parameter(times.parts[1], times.parts[2])
        if not isinstance(number, int):
            raise Wrong(node.at, "unroll needs a number that is known when it is compiled")
        if number < 1:
            raise Wrong(node.at, "unroll minimum value is 1")
        if number > MOST_UNROLLED:
            raise Wrong(node.at, "unroll maximum value is 100")
        return Typed("unrolled", VOID, node.at, ([self.block(node.body) for _ in range(number)],))

    def _do_while(self, node: tree.While) -> Typed:
        condition = self.condition(node.condition)
        return Typed("while", VOID, node.at, (condition, self._loop(node.body)))

    def _loop(self, body: tree.Block) -> list[Typed]:
        self.loops += 1
        try:
            return self.block(body)
        finally:
            self.loops -= 1

    def _do_forrange(self, node: tree.ForRange) -> Typed:
        first, behind = self.value(node.first), self.value(node.behind)
        for end in (first, behind):
            if end.type != UNKNOWN and not isinstance(end.type, Int):
                raise Wrong(end.at, f"Loop range requires an integer, found '{end.type}'")
        kind = promote(first.type, behind.type) or Int(8)
        self.scopes.open()
        try:
            variable = self.scopes.declare(node.variable, None, node.at)
            self.facts.see_variable(variable, kind, node.at)
            body = self._loop(node.body)
        finally:
            self.scopes.close()
        return Typed("for_range", VOID, node.at, (variable, first, behind, body))

    def _do_formap(self, node: tree.ForMap) -> Typed:
        facts = self.facts.access(node.map.name, False, node.map.at)
        facts.asked = True
        value = facts.value
        if isinstance(value, Aggregate):
            if not value.castable:
                raise Wrong(node.map.at, f"Loop expression does not support type: {value}")
            value = Int(8, value.signed)
        if self.final and UNKNOWN in (facts.key, value):
            raise Wrong(node.map.at, f"Undefined map: {facts.label}")
        self.scopes.open()
        try:
            variable = self.scopes.declare(node.variable, None, node.at)
            if UNKNOWN not in (facts.key, value):
                self.facts.see_variable(variable, Tuple((facts.key, value)), node.at)
            body = self._loop(node.body)
        finally:
            self.scopes.close()
        return Typed("for_map", VOID, node.at, (variable, facts, body))
