"""Stacks that were counted, as text, as folded lines, as a flame graph and for speedscope."""
from __future__ import annotations


from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import escape
from pytools.read.named_stacks import KERNEL, LABEL, Frame, NamedStack, joined

if TYPE_CHECKING:
    from typing import Iterator, Mapping, Sequence

    Amounts = Mapping[NamedStack, int]


__all__ = ["BOUNDARY", "FOLDED_BOUNDARY", "StackForms", "ongoing_word"]

# Between kernel and user stacks, in text, and in folded lines and what is made of them; as bcc's
# tools have it.
BOUNDARY, FOLDED_BOUNDARY = Frame("--", LABEL), Frame("-", LABEL)


class StackForms:
    """What becomes of stacks with their amounts, in that order. ``title`` and ``unit`` head flame
    graphs; ``delimited`` marks where the user stack ends and the kernel stack begins, ``annotated``
    marks the kernel's functions with _[k], ``threads`` names the threads, too. With ``states``, the
    states of threads, where the tool tells them apart, are frames of folded lines and of what is
    made of them; else they are in text alone."""

    def __init__(
        self,
        title: str,
        unit: str,
        delimited: bool = False,
        annotated: bool = False,
        threads: bool = False,
        states: bool = False,
    ) -> None:
        self._title = title
        self._unit = unit
        self._delimited = delimited
        self._annotated = annotated
        self._threads = threads
        self._states = states

    def text(self, stacks: Amounts) -> str:
        """The functions of each a line, the innermost first; then whose stack it is; then the
        amount."""
        return "".join(self._text(stacks))

    def folded(self, stacks: Amounts) -> str:
        """A line for each stack."""
        from pytools.show import flame

        return "".join(flame.folded(self._lines(stacks)))

    def svg(self, stacks: Amounts) -> str:
        """A flame graph."""
        from pytools.show import flame

        return flame.svg(list(self._lines(stacks)), self._title, self._unit)

    def speedscope(self, stacks: Amounts) -> str:
        """A file for speedscope."""
        from pytools.show import flame

        return flame.speedscope(self._lines(stacks), self._title, self._unit)

    def joined(self, frames: Sequence[Frame]) -> str | None:
        """Functions as they are shown, with semicolons between them, the outermost first."""
        return joined(map(self._shown, frames))

    def _text(self, stacks: Amounts) -> Iterator[str]:
        for stack, amount in stacks.items():
            for frame in reversed(self._frames(stack, BOUNDARY)):
                yield f"    {escape(frame.name)}\n"
            if not stack.is_of_process:
                yield f"        {amount}\n\n"
                continue
            state = "" if stack.state is None else f", {stack.state}{ongoing_word(stack)}"
            yield f"    {'-':<16} {self._named(stack)}{state}\n"
            yield f"        {amount}\n\n"

    def _lines(self, stacks: Amounts) -> Iterator[tuple[list[Frame], int]]:
        for stack, amount in stacks.items():
            start = [Frame(name, LABEL) for name in self._whose(stack)]
            if self._states and stack.state is not None:
                start.append(Frame(stack.state + ongoing_word(stack), LABEL))
            yield start + self._frames(stack, FOLDED_BOUNDARY), amount

    def _named(self, stack: NamedStack) -> str:
        """The names, with the number of the thread, or of the process."""
        return f"{' / '.join(map(escape, self._whose(stack)))} ({stack.tid or stack.pid})"

    def _whose(self, stack: NamedStack) -> list[str]:
        """The names of the process, and of the thread if that is asked for."""
        if not stack.is_of_process:
            return []
        return [stack.comm, *([stack.thread or ""] if self._threads else [])]

    def _frames(self, stack: NamedStack, boundary: Frame) -> list[Frame]:
        """The functions of both stacks, outermost first."""
        between = [boundary] if self._delimited and stack.user and stack.kernel else []
        return [*stack.user, *between, *map(self._shown, stack.kernel)]

    def _shown(self, frame: Frame) -> Frame:
        if frame.kind == KERNEL and self._annotated:
            return frame._replace(name=frame.name + "_[k]")
        return frame


def ongoing_word(stack: NamedStack) -> str:
    """The word behind the state of a wait that is not over."""
    return " ongoing" if stack.ongoing else ""
