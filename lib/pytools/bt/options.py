"""What a script is compiled with, and what comes out."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

    from pytools.bt.plan import Plan
    from pytools.compile.template import Rendered
    from pytools.tool.filters import Filter

__all__ = ["Compiled", "Options"]


class Options(NamedTuple):
    """What a script is compiled with. ``parameters`` are $1, $2, ...; ``config`` are the values of
    the environment (BPFTRACE_*, by the names of the config block), which win over the script's own;
    ``filter`` is tool.filters.tasks(...), which is asked before each action but those that the
    tool runs itself; ``pid`` is that of -p or of the child of -c (0: none). ``file`` says
    that it is a file's, and no line that was typed."""

    parameters: Sequence[str] = ()
    config: Mapping[str, Any] = {}
    filter: Filter | None = None
    pid: int = 0
    unsafe: bool = False
    file: bool = False


class Compiled(NamedTuple):
    """``rendered`` is for compile.compiler; programs are named p0, p1, ..., as in the plan."""

    rendered: Rendered
    plan: Plan
