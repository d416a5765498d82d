"""The BPF programs in the kernel: whether a tool has left any."""
from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

from support import PATIENCE


def _programs() -> list[dict[str, Any]]:
    dump = subprocess.run(["bpftool", "prog", "show", "-j"], stdout=subprocess.PIPE, check=True)
    found: list[dict[str, Any]] = json.loads(dump.stdout or b"[]")
    return found


def program_ids() -> set[int]:
    """Those in the kernel now."""
    return {program["id"] for program in _programs()}


def _is_of_others(program: dict[str, Any]) -> bool:
    """Whether live processes hold the program, and none of them is the tests' own."""
    groups = []
    for holder in program.get("pids", []):
        try:
            groups.append(os.getpgid(holder["pid"]))
        except ProcessLookupError:
            pass
    return bool(groups) and os.getpgid(0) not in groups


def wait_until_detached(before: set[int]) -> None:
    """Until nothing is left that was not there ``before``: the kernel frees
    programs some time after the last descriptor is closed. Fails if that does not
    happen. What other processes of the machine load meanwhile is theirs."""
    deadline = time.monotonic() + PATIENCE
    while True:
        left = [p for p in _programs() if p["id"] not in before and not _is_of_others(p)]
        if not left:
            return
        assert time.monotonic() < deadline, f"left in the kernel: {left}"
        os.sched_yield()
