"""Totals of values by two numbers: the CPUs' together, since the last time."""
from __future__ import annotations

from typing import Any

import pytest

from pytools.read import totals
from pytools.read.totals import Total, Totals

pytestmark = pytest.mark.rendering


class Generations:
    """Stands for the generations of a program: what is in each, by key, one value a CPU."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.ended = 0

    def end(self) -> None:
        self.ended += 1

    def drain(self, counts: object) -> list[tuple[tuple[int, int], list[tuple[int, int, int]]]]:
        assert counts == "the map" and self.ended
        return list(self.program.generations[self.ended - 1].items())


class Traced:
    maps = {"totals": "the map"}
    generations = [
        {(1, 0): [(2, 30, 20), (0, 0, 0), (1, 5, 5)], (1, 2): [(0, 0, 0), (4, 4, 1), (0, 0, 0)]},
        {},
        {(1, 0): [(0, 0, 0), (0, 0, 0), (7, 70, 30)]},
    ]


def test_totals_since_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "Generations", Generations)
    traced: Any = Traced()
    read = Totals(traced)
    assert read.since_last() == {(1, 0): Total(3, 35, 20), (1, 2): Total(4, 4, 1)}
    assert read.since_last() == {}
    assert read.since_last() == {(1, 0): Total(7, 70, 30)}
