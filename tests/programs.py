"""The BPF programs in the kernel: whether a tool has left any."""
from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

from support import PATIENCE


def _programs() -> list[dict[str, Any]]:
    dump = subprocess.run(["bpftool", "prog", "show", "-j"], stdout=subprocess.PIPE, check=True)
    found: list[dict[str, Any]] = json.loads(dump.stdout or b"[]")
    return found


def program_ids() -> set[int]:
    """Those in the kernel now."""
    return {program["id"] for program in _programs()}


def _holders(program: int) -> Iterator[int]:
    """The processes that hold a program."""
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == "anon_inode:bpf-prog":
                info = Path(link.replace("/fd/", "/fdinfo/")).read_text()
                if re.search(rf"^prog_id:\s*{program}$", info, re.M):
                    yield int(link.split("/")[2])


def _is_of_others(program: int) -> bool:
    """Whether live processes hold the program, and none of them is the tests' own."""
    groups = set()
    for pid in _holders(program):
        with contextlib.suppress(ProcessLookupError):
            groups.add(os.getpgid(pid))
    return bool(groups) and os.getpgid(0) not in groups


def wait_until_detached(before: set[int]) -> None:
    """Until nothing is left that was not there ``before``: the kernel frees
    programs some time after the last descriptor is closed. Fails if that does not
    happen. What other processes of the machine load meanwhile is theirs."""
    deadline = time.monotonic() + PATIENCE
    while True:
        new = [program for program in _programs() if program["id"] not in before]
        left = [program for program in new if not _is_of_others(program["id"])]
        if not left:
            return
        assert time.monotonic() < deadline, f"left in the kernel: {left}"
        os.sched_yield()
