"""The names of the functions in stacks that were counted, and what is counted by these names."""
from __future__ import annotations

import os
from collections import Counter

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.read.interrupts import interruption
from pytools.read.stacks import Counted
from pytools.read.symbols import Symbol, Symbols, call_site, kernel_symbols

if TYPE_CHECKING:
    from typing import Callable, Iterable, Mapping, Sequence

    Names = Mapping[int, Symbol]  # of functions, by addresses in them


__all__ = ["Frame", "KERNEL", "LABEL", "NamedStack", "StackNames", "UNNAMED", "USER", "joined"]

# What the kernel's stack of a waker begins with, above the tracepoint and the program on it.
WAKES_UP = "try_to_wake_up"
# What a tracepoint calls its programs by: on arm64, a stack that is taken there begins with it.
TRACEPOINT = "__traceiter_"
# Kinds of frames: functions of processes, of the kernel, without a name; and what
# is no function: a command, a state.
USER, KERNEL, UNNAMED, LABEL = "user", "kernel", "unknown", "label"


class Frame(NamedTuple):
    """A function in a stack, or what stands in its place."""

    name: str
    kind: str


LOST = Frame("[lost]", UNNAMED)


def joined(frames: Iterable[Frame]) -> str | None:
    """Functions with semicolons between them, the outermost first; None if there is none."""
    return ";".join(frame.name for frame in frames) or None


class NamedStack(NamedTuple):
    """Whose stack it is, and its functions, outermost first. ``state`` is None if the tool does not
    tell states apart, ``thread`` if it does not tell the names of threads apart; ``ongoing`` says
    that what is counted was not over. ``waker`` is the same of the task that woke this one up: its
    state says in which kind of interrupt it did, and ``comm`` is empty if the interrupt alone did.
    """

    pid: int
    tid: int
    comm: str
    thread: str | None
    state: str | None
    user: tuple[Frame, ...]
    kernel: tuple[Frame, ...]
    ongoing: bool = False
    waker: NamedStack | None = None

    @property
    def is_of_process(self) -> bool:
        """Whether it is one process's: a tool may not tell them apart."""
        return bool(self.pid or self.comm)


class StackNames:
    """Names stacks. ``offsets`` and ``addresses`` say that each function has how far into it the
    place is, and its address; ``files`` that each has the file or the part of the kernel that it is
    in; the kernel's functions that ``innermost`` calls are left out, and so is itself if * is its
    end, which stands for all that begin so;
    ``state_words`` gives the words for a state. Without ``user`` there are no processes' stacks,
    and no child process that looks names up; without ``kernel``, the kernel's are not shown.

    After ``name``, ``unnamed`` of ``frames`` functions had no name, and ``why_not`` are the reasons
    for that, in words."""

    def __init__(
        self,
        user: bool = True,
        offsets: bool = False,
        addresses: bool = False,
        innermost: str = "",
        state_words: Callable[[int], str] | None = None,
        files: bool = False,
        kernel: bool = True,
    ) -> None:
        self._user = user
        self._shows_kernel = kernel
        self._offsets = offsets
        self._addresses = addresses
        self._files = files
        self._innermost = innermost
        self._state_words = state_words
        self._symbols = Symbols()
        self._kernel: dict[int, Symbol] = {}
        self._kernel_asked: set[int] = set()
        self.why_not: list[str] = []
        self.unnamed = self.frames = 0

    def watch(self, pids: Sequence[int]) -> None:
        """Have the files of these processes opened, soon: then they have names when they have
        ended, too."""
        if self._user:
            self._symbols.watch(pids)

    def settle(self) -> None:
        """Wait until the files of all watched processes are open."""
        if self._user:
            self._symbols.settle()

    def close(self) -> None:
        """End the child that looks names up."""
        self._symbols.close()

    def name(self, counted: Sequence[Counted], last: bool = False) -> Counter[NamedStack]:
        """What was counted, by names. ``last`` says that no more stacks will be named: the files of
        processes can be closed."""
        found: Counter[NamedStack] = Counter()
        for stack, each in zip(self.named(counted, last), counted):
            found[stack] += each.amount
        return found

    def named(self, counted: Sequence[Counted], last: bool = False) -> list[NamedStack]:
        """The same, each by itself, in their order."""
        self.why_not = []
        everyone = [*counted, *(each.waker for each in counted if each.waker is not None)]
        user_names = self._user_names(everyone, last)
        kernel_names = self._kernel_names(everyone)
        found = []
        self.unnamed = self.frames = 0
        for each in counted:
            stack = self._stack(each, user_names, kernel_names, self._innermost)
            if each.waker is not None:
                waker = self._waker(each.waker, user_names, kernel_names)
                stack = stack._replace(waker=waker)
            found.append(stack)
        return found

    def _stack(
        self, each: Counted, user_names: Mapping[int, Names], kernel_names: Names, innermost: str
    ) -> NamedStack:
        kernel: tuple[Frame, ...] = ()
        user = self._named(each.user, user_names.get(each.pid, {}), USER)
        if self._shows_kernel:
            kernel = self._named(each.kernel, kernel_names, KERNEL, innermost)
        if each.names:
            texts = [self._text(symbol, symbol.offset) for symbol in reversed(each.names)]
            kernel = tuple(Frame(text, KERNEL) for text in texts)
        self.unnamed += sum(frame.kind == UNNAMED for frame in (*user, *kernel))
        self.frames += len(user) + len(kernel)
        state = self._state_words(each.state) if self._state_words else None
        whose = each.pid, each.tid, each.comm, each.thread or None, state
        return NamedStack(*whose, user, kernel, each.ongoing)

    def _waker(
        self, each: Counted, user_names: Mapping[int, Names], kernel_names: Names
    ) -> NamedStack:
        """A waker. If an interrupt woke the other up, the task that it interrupted has nothing to
        do with it: neither its name nor its stack below the interrupt is given."""
        places = each.kernel or []
        symbols = [kernel_names.get(site) for site in call_site(places)]
        kind, depth = interruption([symbol.name if symbol else "" for symbol in symbols])
        if depth:
            each = Counted(0, 0, 0, "", "", [], places[:depth], each.amount)
        return self._stack(each, user_names, kernel_names, WAKES_UP)._replace(state=kind)

    def _user_names(self, counted: Sequence[Counted], last: bool) -> Mapping[int, Names]:
        wanted: dict[int, set[int]] = {}
        for each in counted if self._user else ():
            if each.user:
                wanted.setdefault(each.pid, set()).update(call_site(each.user))
        names = self._symbols.resolve(wanted, last)
        if wanted and self._symbols.why_not:
            self.why_not.append(self._symbols.why_not)
        return names

    def _kernel_names(self, counted: Sequence[Counted]) -> Names:
        wanted = {address for each in counted for address in call_site(each.kernel or [])}
        new = wanted - self._kernel_asked
        found = kernel_symbols(new) if new else {}
        if found is None:
            self.why_not.append(
                "no names of the kernel's functions: it hides their addresses "
                "(kernel.kptr_restrict), or has none (CONFIG_KALLSYMS)"
            )
        else:
            self._kernel.update(found)
            self._kernel_asked |= new
        return self._kernel

    def _named(
        self, addresses: Sequence[int] | None, names: Names, kind: str, innermost: str = ""
    ) -> tuple[Frame, ...]:
        if addresses is None:
            return (LOST,)
        frames: list[Frame] = []
        for address, site in zip(addresses, call_site(addresses)):
            symbol = names.get(site)
            name = "[unknown]"
            if symbol is not None:
                if kind == KERNEL and symbol.name.startswith(TRACEPOINT):
                    frames.clear()
                    continue
                if innermost and symbol.name == innermost:
                    frames.clear()
                elif innermost[-1:] == "*" and symbol.name.startswith(innermost[:-1]):
                    frames.clear()
                    continue
                name = self._text(symbol, symbol.offset + address - site, kind == KERNEL)
            if self._addresses:
                name += f" [{address:#x}]"
            frames.append(Frame(name, UNNAMED if symbol is None else kind))
        return tuple(reversed(frames))

    def _text(self, symbol: Symbol, offset: int, of_kernel: bool = True) -> str:
        """A function, with what was asked for: ``offset`` is how far into it the place is."""
        name = symbol.name
        if self._offsets:
            name += f"+{offset:#x}"
        if of_kernel:
            part = symbol.module or "[kernel]" * self._files
        else:
            part = f"[{os.path.basename(symbol.module)}]" * self._files
        return f"{name} {part}" if part else name
