"""Calls that wait for a futex: which there are, and how they end."""
from __future__ import annotations

import errno

from pytools.base.annotations import TYPE_CHECKING
from pytools.facts.differences import call_function

if TYPE_CHECKING:
    from pytools.facts.kernel import Kernel


__all__ = ["CALLS", "ENDS", "FUNCTIONS", "programs"]

# What futex(2) is asked to do (include/uapi/linux/futex.h), where that is to wait.
_FUTEX = {
    0: "FUTEX_WAIT",
    6: "FUTEX_LOCK_PI",
    9: "FUTEX_WAIT_BITSET",
    11: "FUTEX_WAIT_REQUEUE_PI",
    13: "FUTEX_LOCK_PI2",
}
# futex_waitv: Linux commit bf69bad38cf6, v5.16. futex_wait: cb8c4312afca, v6.7.
_WAITV, _WAIT = 128, 129
CALLS = {**_FUTEX, _WAITV: "futex_waitv", _WAIT: "futex_wait"}
# In the order of enum end.
ENDS = ("woken", "timeout", "signal", "changed", "failed")

# The kernel restarts a call that a signal has interrupted; the tracepoint sees by what it knows
# that (ERESTARTSYS to ERESTART_RESTARTBLOCK of include/linux/errno.h).
_ENDED = f"""
enum end {{ WOKEN, TIMED_OUT, INTERRUPTED, CHANGED, FAILED }};

static inline u32 end_of(s64 result)
{{
	if (result >= 0)
		return WOKEN;
	if (result == -{errno.ETIMEDOUT})
		return TIMED_OUT;
	if (result == -{errno.EAGAIN})
		return CHANGED;
	if (result == -{errno.EINTR} || (result <= -512 && result >= -516))
		return INTERRUPTED;
	return FAILED;
}}
"""
_COMMANDS = " && ".join(f"command != {number}" for number in _FUTEX)
_ENTRIES = {
    "futex": f"""
	u32 command = args->op & 127; /* the rest are flags */

	if ({_COMMANDS})
		return 0;
	return wait_begins((u64)args->uaddr, 0, command);""",
    # Of several futexes, which is known when the call ends: until then, where they are listed.
    "futex_waitv": f"\n\treturn wait_begins(0, (u64)args->waiters, {_WAITV});",
    "futex_wait": f"\n\treturn wait_begins((u64)args->uaddr, 0, {_WAIT});",
}
FUNCTIONS = tuple(_ENTRIES)
_PROGRAMS = """
TRACEPOINT(syscalls, sys_enter_%s)
{%s
}

TRACEPOINT(syscalls, sys_exit_%s)
{
	return wait_ends(%s, args->ret);
}
"""


def programs(kernel: Kernel) -> tuple[str, str]:
    """C of a template: ``end_of(result)``, and programs at these calls of the kernel. They call
    ``wait_begins(futex, futexes, call)``, in which one of the addresses is 0, and
    ``wait_ends(ctx, result)``."""
    calls = kernel.traced_calls(_ENTRIES)
    # A program at the function that makes a call has its arguments in a copy.
    contexts = ["args" if call_function(name, kernel) is None else "ctx" for name in calls]
    return _ENDED, "".join(
        _PROGRAMS % (name, _ENTRIES[name], name, context) for name, context in zip(calls, contexts)
    )
