"""The names of processes, also of those that have ended meanwhile (bpf/ended_names.h)."""
from __future__ import annotations


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
    knows it any more. Those that have ended until now have the names that they ended with; the
    program has ``#include "ended_names.h"``."""
    ended = dict(program.maps["ended_names"].items())
    in_proc = in_first_pid_namespace()

    def name(pid: int) -> str | None:
        if pid in ended:
            return c_text(ended[pid])
        if not in_proc:
            return None
        now = comm(f"/proc/{pid}")
        return None if now is None else text_of(now)

    return name
