"""Stacks with the memory that is outstanding of each, as text."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.text import escape

if TYPE_CHECKING:
    from typing import Iterator, Sequence

    from pytools.read.named_stacks import NamedStack
    from pytools.read.outstanding import Allocation

__all__ = ["Leak", "text"]

INDENT = " " * 8  # as wide as the tabs of bcc's tool


class Leak(NamedTuple):
    """A stack, and what is outstanding of it; ``allocations`` are there if they are asked for."""

    stack: NamedStack
    bytes: int
    number: int
    allocations: Sequence[Allocation] = ()


def text(leaks: Sequence[Leak], most: int, time: str, whose: bool) -> str:
    """What was found at a time of the day, the largest last. ``most`` is how many stacks there may
    be; ``whose`` says that each has its process."""
    return "".join(_lines(leaks, most, time, whose))


def _lines(leaks: Sequence[Leak], most: int, time: str, whose: bool) -> Iterator[str]:
    yield f"[{time}] Top {most} stacks with outstanding allocations:\n"
    for leak in reversed(leaks):
        for allocation in leak.allocations:
            yield f"{INDENT}addr = {allocation.address:x} size = {allocation.size}\n"
        of = f" of {escape(leak.stack.comm)} ({leak.stack.pid})" if whose else ""
        yield f"{INDENT}{leak.bytes} bytes in {leak.number} allocations from stack{of}\n"
        for frame in reversed((*leak.stack.user, *leak.stack.kernel)):
            yield f"{2 * INDENT}{escape(frame.name)}\n"
    yield "\n"
