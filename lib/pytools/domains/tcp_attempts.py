"""Attempts to open a TCP connection (``bpf/tcp_attempts.h``) that have no outcome yet."""
from __future__ import annotations

from errno import EINPROGRESS
from operator import itemgetter

from pytools.base.annotations import TYPE_CHECKING
from pytools.show.output import Clock

if TYPE_CHECKING:
    from typing import Any, Iterator

    from pytools.load.program import Program

__all__ = ["pending"]


def pending(program: Program, least_ns: int = 0) -> Iterator[dict[str, Any]]:
    """What is known of the attempts that have no answer yet, after at least so long, oldest
    first: values of the members of an event."""
    now = Clock.monotonic()
    attempts = [each for each in program.maps["attempts"].named_values() if not each["unsent"]]
    for attempt in sorted(attempts, key=itemgetter("began")):
        latency = now - attempt["began"]
        if latency >= least_ns:
            yield {**attempt, "ts": now, "latency": latency, "error": EINPROGRESS}
