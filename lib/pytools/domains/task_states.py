"""The states of tasks in words: why one does not run."""
from __future__ import annotations

__all__ = ["BITS", "state_words"]

# Bits of a task's state (the kernel's include/linux/sched.h): the first that is set
# names it. Bits that say more about a sleep stand before those of the sleep itself.
STATES = {
    0x400: "idle",  # TASK_NOLOAD: a kernel thread with nothing to do
    0x8000: "frozen",
    0x1000: "lock wait",  # TASK_RTLOCK_WAIT
    0x4: "stopped",
    0x8: "traced",
    0x40: "parked",
    0x2: "disk wait",  # TASK_UNINTERRUPTIBLE, whatever it waits for
    0x1: "interruptible sleep",
}
# The same bits by the letter that proc(5) has. R has none: the thread may run.
BITS = {"S": 0x1, "D": 0x2, "T": 0x4, "t": 0x8, "P": 0x40, "I": 0x402}


def state_words(state: int) -> str:
    """What a task does that is off its CPU in this state. 0 says that it could run.

    >>> state_words(0x402), state_words(0)
    ('idle', 'preempted')
    """
    for bit, words in STATES.items():
        if state & bit:
            return words
    return "other" if state else "preempted"
