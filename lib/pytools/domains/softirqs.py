"""The names of the kernel's soft interrupts."""
from __future__ import annotations

__all__ = ["VECTORS", "softirq_name"]

VECTORS = 32  # more than there are: they are bits of a u32

# By number: softirq_to_name in the kernel's kernel/softirq.c, the same since v4.20.
_NAMES = "hi timer net_tx net_rx block irq_poll tasklet sched hrtimer rcu".split()


def softirq_name(vector: int) -> str:
    """The name of a soft interrupt, as /proc/softirqs has it, in lower case; its number where it
    has none.

    >>> softirq_name(3), softirq_name(10)
    ('net_rx', '10')
    """
    return _NAMES[vector] if vector < len(_NAMES) else str(vector)
