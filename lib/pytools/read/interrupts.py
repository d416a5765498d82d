"""Interrupts in stacks of the kernel: what ran because a device or a timer asked for it, and not
because of the task that it is found in."""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Sequence


__all__ = ["HARD", "SOFT", "interruption"]

HARD, SOFT = "hard interrupt", "soft interrupt"
# Where the CPU enters the kernel for an interrupt: on x86 (arch/x86/include/asm/idtentry.h) and on
# arm64 (arch/arm64/kernel/entry.S).
_ENTRIES = re.compile(
    r"asm_(common_interrupt|spurious_interrupt|sysvec_\w+)|el[01][th]?(_64|_32)?_(irq|fiq)"
)
# What runs the handlers of soft interrupts (kernel/softirq.c): in Linux v5.10 the second one, whose
# address has the third name, too.
_HANDLERS = {"handle_softirqs", "__do_softirq", "__softirqentry_text_start"}


def interruption(functions: Sequence[str]) -> tuple[str | None, int]:
    """The kind of interrupt that functions run in, which are innermost first; None for none. And
    how many of them that interrupt called: none if the task itself runs a soft interrupt, as one
    does that sends a packet to its own machine, or ksoftirqd.

    >>> interruption(["try_to_wake_up", "hrtimer_wakeup", "asm_sysvec_apic_timer_interrupt", "f"])
    ('hard interrupt', 3)
    """
    kind = None
    for number, name in enumerate(functions, 1):
        if _ENTRIES.fullmatch(name):
            return kind or HARD, number
        if name in _HANDLERS:
            kind = SOFT
    return kind, 0
