"""What was lost: records that found no room in the ring, insertions that found none in a map."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Mapping

    from pytools.bt.plan import Plan
    from pytools.bt.show.lines import Lines
    from pytools.load.maps import Map

__all__ = ["Losses"]

LOSSES = "losses"
FULL = (
    "Map full; can't update element: {name} lacks {count}. Raise max_map_keys, or declare the map "
    "larger, as in `let @a = hash(100000);`"
)
LOST = "{count} {name} were lost: too many are different"


class Losses:
    """The counters that the program has: index 0 are records, then come the maps of the plan, then
    stacks."""

    def __init__(self, plan: Plan, maps: Mapping[str, Map], lines: Lines) -> None:
        self._map = maps.get(LOSSES)
        self._names = [each.name for each in plan.maps]
        self._lines = lines
        self._said: list[int] = []

    def say(self, last: bool = False) -> None:
        """Say what was lost since the last time."""
        if self._map is None:
            return
        counts = [sum(value) for value in self._map.values()]
        self._said = self._said or [0] * len(counts)
        for place, count in enumerate(counts):
            new = count - self._said[place]
            # Of a map that is full, at first and at last.
            if not new or not last and 0 < place and self._said[place]:
                continue
            self._said[place] = count
            if place == 0:
                self._lines.lost_events(new)
            elif place <= len(self._names):
                self._lines.full(self._names[place - 1], new, FULL)
            else:
                self._lines.full("stacks", new, LOST)
