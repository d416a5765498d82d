"""What the kernel has counted of interrupts, and how a tool that counts them is held against it."""
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Callable

from support import EMULATED, Tool

Counts = Callable[[], "Counter[Any]"]


def softirq_counts() -> Counter[Any]:
    """/proc/softirqs, by name in lower case and CPU."""
    head, *lines = Path("/proc/softirqs").read_text().splitlines()
    cpus = [int(word[3:]) for word in head.split()]
    found: Counter[Any] = Counter()
    for line in lines:
        name, *counts = line.split()
        for cpu, count in zip(cpus, counts):
            found[name.rstrip(":").lower(), cpu] = int(count)
    return found


def interrupt_lines() -> dict[int, str]:
    """The lines of /proc/interrupts, by the interrupt's number. arm64 has those between processors
    as IPI0, IPI1, ..., which are numbers, too: those whose handler has that name."""
    handlers = Path("/sys/kernel/irq").glob("[0-9]*/actions")
    between = [int(path.parent.name) for path in handlers if path.read_text().strip() == "IPI"]
    numbers = {f"IPI{place}": number for place, number in enumerate(sorted(between))}
    found = {}
    for line in Path("/proc/interrupts").read_text().splitlines()[1:]:
        name = line.split()[0].rstrip(":")
        if name.isdigit() or name in numbers:
            found[numbers.get(name) or int(name)] = line
    return found


def interrupt_counts() -> Counter[Any]:
    """What they count, by number and CPU."""
    head = Path("/proc/interrupts").read_text().splitlines()[0]
    cpus = [int(word[3:]) for word in head.split()]
    found: Counter[Any] = Counter()
    for number, line in interrupt_lines().items():
        for cpu, count in zip(cpus, line.split()[1:]):
            found[number, cpu] = int(count)
    return found


def rows_beside(
    counts: Counts, work: Callable[[], object], tool: str, *arguments: str
) -> tuple[list[dict[str, Any]], Counter[Any], Counter[Any]]:
    """What a tool prints while there is work, and how many there were at least and at most: while
    it was attached for sure, and from before its start to after its end."""
    first = counts()
    with Tool(tool, "--json", *arguments, "1000") as running:
        attached = counts()
        work()
        last = counts()
        rows = [json.loads(line) for line in running.stop().splitlines()]
    end = counts()
    least = Counter({key: last[key] - attached[key] for key in last})
    most = Counter({key: end[key] - first[key] for key in end})
    return rows, least, most


def missed(least: int) -> int:
    """How many of so many events no program may see. On 6.18 as a virtual machine's guest, a few in
    a hundred pass all programs by, those of perf(1), too (see scheduling.about); tracefs sees them.
    """
    return 0 if EMULATED else 3 + least // 50


def is_right(least: int, count: int, most: int) -> bool:
    """Whether a count is between these."""
    return least - missed(least) <= count <= most
