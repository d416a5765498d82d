"""Reports that are asked for by signals, or come every interval: as bcc's biolatpcts has them."""
from __future__ import annotations

import argparse
import signal
import time

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.tool.waiting import Waiting

if TYPE_CHECKING:
    from typing import Iterator


__all__ = ["Report", "reports"]


class Report(NamedTuple):
    """It is time for a report: the ``last`` one, or one behind which a new period begins."""

    last: bool
    anew: bool


def reports(options: argparse.Namespace, waiting: Waiting) -> Iterator[Report]:
    """Yield when it is time for a report. SIGUSR1 asks for one that begins a new period, SIGUSR2
    for one that does not. Where ``options.interval`` is a number of seconds, one that begins a new
    period comes each time that they have passed; where it is None, one comes at once, which says
    that tracing has begun. The last one comes after ``options.duration``, or with Ctrl-C."""
    asked: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: asked.append(number))
    now = time.monotonic()
    end = None if options.duration is None else now + options.duration
    following = None if options.interval is None else now + options.interval
    if following is None and end != now:
        yield Report(last=False, anew=False)
    while True:
        deadline = min((moment for moment in (end, following) if moment is not None), default=None)
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        if not asked and not waiting.ended and left != 0:
            waiting.once(left)
        now = time.monotonic()
        last = waiting.ended or end is not None and now >= end
        if last:
            yield Report(last=True, anew=True)
            return
        if asked:
            yield Report(last=False, anew=asked.pop(0) == signal.SIGUSR1)
        elif following is not None and now >= following:
            yield Report(last=False, anew=True)
            following = max(following + options.interval, now)
