"""The names of processes, also of those that have ended meanwhile (bpf/ended_names.h)."""
from __future__ import annotations

import struct

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.comm import comm
from pytools.base.text import c_text, text_of
from pytools.facts.kernel import in_first_pid_namespace
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Callable


__all__ = ["names_now"]


def names_now(program: Program) -> Callable[[int], str | None]:
    """What gives the name of a process by its pid in the first PID namespace; None where nobody
    knows it any more. Those that have ended have the names that they ended with; the program has
    ``#include "ended_names.h"``, a map of which only what is asked for is read."""
    ended = program.maps["ended_names"]
    in_proc = in_first_pid_namespace()

    def name(pid: int) -> str | None:
        known = ended.get(struct.pack("=I", pid))
        if known is not None:
            return c_text(known)
        if not in_proc:
            return None
        now = comm(f"/proc/{pid}")
        return None if now is None else text_of(now)

    return name
