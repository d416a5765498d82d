"""Programs at perf events by name: software and hardware events, and the CPUs' clock."""
from __future__ import annotations

import errno
import os

from pytools.base import system
from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.facts import kernel
from pytools.load import attach
from pytools.load.attach import Attachment
from pytools.load.loader import refusal

if TYPE_CHECKING:
    from typing import Iterator

__all__ = ["HARDWARE", "SOFTWARE", "Event", "sample"]


class Event(NamedTuple):
    """A perf event: its number (config), and after how many of them a program runs if nobody says
    so: as bpftrace has it."""

    number: int
    period: int


# enum perf_sw_ids, enum perf_hw_id; the names that perf(1) and bpftrace(8) give them.
SOFTWARE = {
    "cpu-clock": Event(0, 1_000_000), "cpu": Event(0, 1_000_000),
    "task-clock": Event(1, 1_000_000),
    "page-faults": Event(2, 100), "faults": Event(2, 100),
    "context-switches": Event(3, 1000), "cs": Event(3, 1000),
    "cpu-migrations": Event(4, 1),
    "minor-faults": Event(5, 100), "major-faults": Event(6, 1),
    "alignment-faults": Event(7, 1), "emulation-faults": Event(8, 1),
    "dummy": Event(9, 1), "bpf-output": Event(10, 1), "cgroup-switches": Event(11, 1),
}  # fmt: skip
HARDWARE = {
    "cpu-cycles": Event(0, 1_000_000), "cycles": Event(0, 1_000_000),
    "instructions": Event(1, 1_000_000),
    "cache-references": Event(2, 1_000_000), "cache-misses": Event(3, 1_000_000),
    "branch-instructions": Event(4, 100_000), "branches": Event(4, 100_000),
    "branch-misses": Event(5, 100_000), "bus-cycles": Event(6, 100_000),
    "frontend-stalls": Event(7, 1_000_000), "stalled-cycles-frontend": Event(7, 1_000_000),
    "backend-stalls": Event(8, 1_000_000), "stalled-cycles-backend": Event(8, 1_000_000),
    "ref-cycles": Event(9, 1_000_000),
}  # fmt: skip
UNSUPPORTED = (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL)


def sample(
    attachment: Attachment,
    program: int,
    what: str,
    event: int,
    period: int = 0,
    frequency: int = 0,
    hardware: bool = False,
    pid: int = -1,
) -> None:
    """Run a program each time that ``period`` events have come, or so many times a second, on every
    CPU; or of one process only, in all threads that it has. Raises Failure, in which ``what`` names
    the event."""
    attributes = attach.perf_attributes(
        attach.PERF_TYPE_HARDWARE if hardware else attach.PERF_TYPE_SOFTWARE,
        event, period or frequency, 0 if period else attach.PERF_ATTR_FREQ,
    )  # fmt: skip
    count = 0
    for cpu, thread in _places(pid):
        try:
            descriptor = system.perf_event_open(attributes, cpu, thread)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ESRCH) and (count or pid > 0):
                continue  # it went offline, or ended, meanwhile
            if error.errno == errno.EINVAL and frequency:
                raise attach.too_often(frequency) from None
            if error.errno in UNSUPPORTED:
                raise Failure(f"this machine has no event {what}") from None
            raise refusal(f"open the perf event {what}", error) from None
        attachment.descriptors.append(descriptor)
        attach.set_program(descriptor, program, what)
        count += 1
    if not count:
        raise Failure(f"there is no process {pid}")
    attachment.said.append(f"perf event {what}")


def _places(pid: int) -> Iterator[tuple[int, int]]:
    """(CPU, thread) of the events to open, -1 for all of them."""
    if pid <= 0:
        yield from ((cpu, -1) for cpu in kernel.online_cpus())
        return
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    yield from ((-1, int(thread)) for thread in threads)
