"""Counts that are read and removed while a program makes more (bpf/generation.h).

A program looks a count up, and adds to it a moment later: what it adds to an entry that
has been removed meanwhile is lost, or goes to the next one in its place. So each count
belongs to a generation, and one is read and removed only when another has begun and
the programs that still had the number of the old one have ended.
"""
from __future__ import annotations


from pytools.base.annotations import TYPE_CHECKING
from pytools.base.beside import Beside
from pytools.load import loader, maps
from pytools.compile.image import MapSpec
from pytools.load.maps import Map

if TYPE_CHECKING:
    from typing import Any, Mapping, Protocol

    class WithMaps(Protocol):
        """A program, or what the loader makes of an image."""

        @property
        def maps(self) -> Mapping[str, Map]:
            ...


__all__ = ["Generations"]


class Generations:
    """The generations of a program that has ``#include "generation.h"``."""

    def __init__(self, program: WithMaps) -> None:
        self._numbers = program.maps["generations"]
        self.number = 0  # of the generation that is counted
        self._waiting: Beside | None = None
        inner = MapSpec("inner", maps.ARRAY, 4, 4, 1, 0, None, None)
        outer = MapSpec("outer", maps.ARRAY_OF_MAPS, 4, 4, 1, 0, None, None)
        try:
            self._inner = maps.create(inner)
            self._outer = maps.create(outer, self._inner.fd)
        except OSError as error:
            raise loader.refusal("create a BPF map", error) from None

    def end(self) -> None:
        """End the generation that is counted, and begin another."""
        self.number ^= 1
        self._numbers.put(0, self.number)
        # The kernel waits for the programs that run when a map in a map is replaced
        # (Linux commit 1ae80cf31938, before v5.0). A person does not wait as long as it may take:
        # a program that was preempted just then may still add one count to the old generation.
        if self._waiting is None:
            self._waiting = Beside(lambda: self._outer.put(0, self._inner.fd))
        if self._waiting.wait():
            self._waiting = None

    def drain(self, counts: Map) -> list[tuple[tuple[Any, ...], Any]]:
        """The counts of the generation that was ended, which are removed: pairs as
        ``Map.items`` has them, the keys without the generation, in no order."""
        return [(key[:-1], value) for key, value in counts.take(lambda key: key[-1] != self.number)]
