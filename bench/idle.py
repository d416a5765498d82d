"""What the tools use of a CPU while they are attached and nothing happens."""
from __future__ import annotations

import contextlib
import os
import time

import installed
from place import Place, progress
from processes import Tool
from table import Row

SECONDS = 100
MOST_PERCENT = 0.2
# This process opens nothing while it waits: whatever else the machine does, the
# tool has no event.
TOOLS: dict[str, list[str]] = {"runqlen": [], "runqlat": [], "opensnoop": ["-p", str(os.getpid())]}


def measure(place: Place) -> list[Row]:
    """The rows of the table on idling, of all tools at the same time."""
    with contextlib.ExitStack() as stack:
        tools = [
            stack.enter_context(
                Tool(
                    f"our {name}", installed.ours(name, *arguments), place.folder / name, place.env
                )
            )
            for name, arguments in TOOLS.items()
        ]
        before = [tool.cpu_seconds() for tool in tools]
        progress(f"idle for {SECONDS} s")
        time.sleep(SECONDS)
        used = [tool.cpu_seconds() - start for tool, start in zip(tools, before)]
        for tool in tools:
            tool.stop()
    return [
        Row(f"{name}, idle", 100 * seconds / SECONDS, unit="% CPU", most=MOST_PERCENT)
        for name, seconds in zip(TOOLS, used)
    ]
