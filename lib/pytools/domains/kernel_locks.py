"""Locks of the kernel: where waits for them begin and end, their kinds, their names, and who asks
for them."""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.facts.differences import sees_spinlocks
from pytools.read.symbols import DATA, FUNCTIONS, Symbol, call_site, kernel_symbols

if TYPE_CHECKING:
    from typing import Callable, Iterable, Sequence

    from pytools.facts.kernel import Kernel

__all__ = ["KernelNames", "kind_of_lock", "wait_programs"]

_TRACEPOINTS = """
RAW_TRACEPOINT(contention_begin, void *lock, unsigned int flags)
{
	return wait_begins(ctx, (u64)lock, flags);
}

RAW_TRACEPOINT(contention_end, void *lock, int result)
{
	return wait_ends((u64)lock);
}
"""
_FUNCTION = """
FUNCTION(%s, struct %s)
{
	return wait_begins(ctx, (u64)%s);
}

FUNCTION_RETURN(%s, u64 result)
{
	return wait_ends(0);
}
"""
# The functions that sleep until they have a lock. Those that spin can't be traced without the
# tracepoints: what a program does may end up in them, and wait for itself.
_SLEEPERS = {
    "__mutex_lock_slowpath": ("mutex *lock", "lock, MUTEX"),
    "__mutex_lock_interruptible_slowpath": ("mutex *lock", "lock, MUTEX"),
    "__mutex_lock_killable_slowpath": ("mutex *lock", "lock, MUTEX"),
    "rwsem_down_read_slowpath": ("rw_semaphore *sem", "sem, READING"),
    "rwsem_down_write_slowpath": ("rw_semaphore *sem", "sem, WRITING"),
}

# LCB_F_* of the kernel's include/trace/events/lock.h.
_SPIN, _READ, _WRITE, _RT, _PERCPU, _MUTEX = (1 << bit for bit in range(6))
# What the program finds out of a lock, as in its enum (tools/klockstat).
_FOUND = {1: "mmap_lock", 2: "siglock", 3: "rq_lock"}
# A lock in the kernel's data is in a struct that has a name; what is further away is elsewhere.
_FURTHEST = 4096
# The innermost functions of a stack that waits: the kernel's tracing, and its locks.
_OF_LOCKS = re.compile(
    r"(__)?(traceiter_|bpf_|trace_|mutex_|ww_mutex_|down_|up_|rwsem_|percpu_|queued_|pv_queued_"
    r"|raw_|rt_|rwbase_|osq_)|native_queued_|_raw_|do_raw_|down$|up$|__down|__up|kprobe|kretprobe"
    r"|ftrace_|fprobe_|perf_trace_|__perf_|arch_|return_to_handler|rtlock_"
)


def wait_programs(kernel: Kernel) -> str:
    """The C of the programs that call wait_begins() and wait_ends() (bpf/lock_waits.h)."""
    if sees_spinlocks(kernel):
        return _TRACEPOINTS
    return "".join(
        _FUNCTION % (name, lock, flags, name) for name, (lock, flags) in _SLEEPERS.items()
    )


def kind_of_lock(flags: int) -> str:
    """The kind of a lock, and for what it was wanted, in the words of perf lock.

    >>> [kind_of_lock(flags) for flags in (32, 33, 1, 4, 3, 18, 0)]
    ['mutex', 'mutex', 'spinlock', 'rwsem:W', 'rwlock:R', 'pcpu-sem:R', 'semaphore']
    """
    if flags & _MUTEX:
        return "mutex"
    how = ":R" if flags & _READ else ":W" if flags & _WRITE else ""
    if flags & _RT:
        return f"rt-mutex{how}"
    if flags & _PERCPU:
        return f"pcpu-sem{how}"
    if flags & _SPIN:
        return f"rwlock{how}" if how else "spinlock"
    return f"rwsem{how}" if how else "semaphore"


class KernelNames:
    """Names of functions and of locks. Those of addresses that were asked for before are not looked
    up again; ``tell`` is told why there are none."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._functions: dict[int, Symbol | None] = {}
        self._locks: dict[int, Symbol | None] = {}

    def learn(self, stacks: Iterable[Sequence[int]], locks: Iterable[int]) -> None:
        """Look up what ``callers`` and ``lock`` will be asked for."""
        places = {address for stack in stacks for address in call_site(stack)}
        for known, wanted, kinds in (
            (self._functions, places, FUNCTIONS),
            (self._locks, set(locks), DATA),
        ):
            new = wanted - known.keys()
            if not new:
                continue
            found = kernel_symbols(new, kinds=kinds)
            if found is None:
                self._tell(
                    "no names of the kernel's functions and locks: it hides their addresses "
                    "(kernel.kptr_restrict), or has none (CONFIG_KALLSYMS)"
                )
                self._tell = _told
            known.update((address, (found or {}).get(address)) for address in new)

    def callers(self, stack: Sequence[int]) -> list[str]:
        """The functions that led to a wait, the innermost first, with how far into each that was;
        without those of the locks themselves."""
        names: list[str] = []
        for address, site in zip(stack, call_site(stack)):
            symbol = self._functions.get(site)
            if not names and (symbol is None or _OF_LOCKS.match(symbol.name)):
                continue
            name = "[unknown]"
            if symbol is not None:
                name = f"{symbol.name}+{symbol.offset + address - site:#x} {symbol.module}"
            names.append(name.rstrip())
        return names

    def lock(self, address: int, found: int = 0) -> str:
        """A lock's name: that of the variable that it is in, or of what the program has found it to
        be; else its address."""
        symbol = self._locks.get(address)
        if found in _FOUND:
            return _FOUND[found]
        if symbol is None or symbol.offset > _FURTHEST:
            return f"{address:#x}"
        offset = f"+{symbol.offset:#x}" if symbol.offset else ""
        return f"{symbol.name}{offset} {symbol.module}".rstrip()


def _told(why: str) -> None:
    """It has been said."""
