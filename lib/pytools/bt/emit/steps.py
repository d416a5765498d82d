"""An action of the tool's own (begin, end, interval) in steps.

Behind print(), clear() and zero() of a map, the reader does its part before the action goes on: the
statements behind are a program of their own. An ``if`` around such a call is taken apart: what it
found out is kept, and asked again in the steps that follow.
"""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.maps import cpu_map
from pytools.bt.typed import Typed
from pytools.bt.types import VOID

if TYPE_CHECKING:
    from typing import Sequence

__all__ = ["Frame", "steps_of"]

_ENDS = ("print_map", "clear")
_LISTS = {"if": (1, 2), "unrolled": (), "statements": (0,)}


class Frame:
    """Memory that lives from one step to the next."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, size: int) -> int:
        place = self.size
        self.size += (size + 7) // 8 * 8 or 8
        return place


def _ends(node: Typed) -> bool:
    """Whether a step ends behind a statement."""
    if node.op != "evaluate":
        return False
    inner = node.parts[0]
    if inner.op in _ENDS:
        return True
    return inner.op == "print_element" and cpu_map(inner.parts[0].parts[0])


def _contains(node: Typed) -> bool:
    if _ends(node):
        return True
    if node.op == "unrolled":
        return any(_contains(each) for body in node.parts[0] for each in body)
    return any(_contains(each) for place in _LISTS.get(node.op, ()) for each in node.parts[place])


def _flatten(
    nodes: Sequence[Typed], guards: tuple[tuple[int, bool], ...], frame: Frame, found: list[Typed]
) -> None:
    for node in nodes:
        if not _contains(node) or _ends(node):
            found.append(_guarded(node, guards))
        elif node.op == "unrolled":
            for body in node.parts[0]:
                _flatten(body, guards, frame, found)
        elif node.op == "statements":
            _flatten(node.parts[0], guards, frame, found)
        else:
            condition, then, otherwise = node.parts
            place = frame.take(8)
            found.append(_guarded(Typed("set_guard", VOID, node.at, (place, condition)), guards))
            _flatten(then, (*guards, (place, True)), frame, found)
            _flatten(otherwise, (*guards, (place, False)), frame, found)


def _guarded(node: Typed, guards: tuple[tuple[int, bool], ...]) -> Typed:
    return Typed("guarded", VOID, node.at, (guards, node)) if guards else node


def steps_of(statements: Sequence[Typed], frame: Frame) -> list[list[Typed]]:
    """The statements of each step, at least one."""
    if not any(_contains(node) for node in statements):
        return [list(statements)]
    flat: list[Typed] = []
    _flatten(statements, (), frame, flat)
    steps: list[list[Typed]] = [[]]
    for number, node in enumerate(flat):
        steps[-1].append(node)
        inner = node.parts[1] if node.op == "guarded" else node
        if _ends(inner) and number + 1 < len(flat):
            steps.append([])
    return steps
