"""Stacks of wakers, and of those whom they woke up, as text, as folded lines, as a flame graph and
for speedscope."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import escape
from pytools.read.named_stacks import LABEL, Frame, NamedStack
from pytools.show.stacks import BOUNDARY, FOLDED_BOUNDARY, StackForms, ongoing_word

if TYPE_CHECKING:
    from typing import Iterator, Mapping

    Amounts = Mapping[NamedStack, int]


__all__ = ["OffWakeForms", "WakeForms"]

NOBODY = "-"
# Between who waited and who woke it up.
JOINT = Frame("--", LABEL)


class WakeForms(StackForms):
    """Of who woke up a process: the waker's stacks, and the names of both."""

    def _text(self, stacks: Amounts) -> Iterator[str]:
        for stack, amount in stacks.items():
            waker = stack.waker
            yield f"    {'target:':<16} {self._named(stack)}\n"
            for frame in reversed(self._frames(waker, BOUNDARY) if waker else []):
                yield f"    {escape(frame.name)}\n"
            yield f"    {'waker:':<16} {self._waker(waker)}\n"
            yield f"        {amount}\n\n"

    def _lines(self, stacks: Amounts) -> Iterator[tuple[list[Frame], int]]:
        for stack, amount in stacks.items():
            frames = self._frames(stack.waker, FOLDED_BOUNDARY) if stack.waker else []
            yield [*self._waker_labels(stack.waker), *frames, *self._labels(stack)], amount

    def _waker(self, waker: NamedStack | None) -> str:
        if waker is None:
            return NOBODY
        return " ".join([self._named(waker)] * bool(waker.comm) + _interrupt(waker))

    def _waker_labels(self, waker: NamedStack | None) -> list[Frame]:
        """Whose the frames of a waker are."""
        if waker is None:
            return []
        *others, name = self._whose(waker) if waker.comm else [""]
        words = [name] * bool(name) + _interrupt(waker)
        return [Frame(text, LABEL) for text in (*others, " ".join(words))]

    def _labels(self, stack: NamedStack) -> list[Frame]:
        return [Frame(name, LABEL) for name in self._whose(stack)]


class OffWakeForms(WakeForms):
    """Of who waited, where, and who ended it: the stacks of both, the waker's upside down above
    the other's."""

    def _text(self, stacks: Amounts) -> Iterator[str]:
        for stack, amount in stacks.items():
            yield f"    {'waker:':<16} {self._waker(stack.waker)}\n"
            for frame in self._frames(stack.waker, FOLDED_BOUNDARY) if stack.waker else []:
                yield f"    {escape(frame.name)}\n"
            yield f"    {JOINT.name:<16} {JOINT.name}\n"
            for frame in reversed(self._frames(stack, FOLDED_BOUNDARY)):
                yield f"    {escape(frame.name)}\n"
            yield f"    {'target:':<16} {self._named(stack)}, {stack.state}{ongoing_word(stack)}\n"
            yield f"        {amount}\n\n"

    def _lines(self, stacks: Amounts) -> Iterator[tuple[list[Frame], int]]:
        for stack, amount in stacks.items():
            frames = [*self._labels(stack), *self._frames(stack, FOLDED_BOUNDARY)]
            if stack.waker is not None:
                by = self._frames(stack.waker, FOLDED_BOUNDARY)
                frames += [JOINT, *reversed(by), *self._waker_labels(stack.waker)]
            yield frames, amount

    def _labels(self, stack: NamedStack) -> list[Frame]:
        state = [f"{stack.state}{ongoing_word(stack)}"] * self._states
        return [*super()._labels(stack), *(Frame(text, LABEL) for text in state)]


def _interrupt(waker: NamedStack) -> list[str]:
    """The mark of one that woke another up within an interrupt."""
    return [f"[{waker.state}]"] if waker.state else []
