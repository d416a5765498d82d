"""A script as what is compiled and loaded: C, and the plan of its reader."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

    from pytools.bt.plan import Plan
    from pytools.bt.tree import Program
    from pytools.compile.template import Rendered
    from pytools.facts.kernel import Kernel
    from pytools.tool.filters import Filter

__all__ = ["Compiled", "Options", "compile_program"]


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


def compile_program(program: Program, kernel: Kernel, options: Options = Options()) -> Compiled:
    """C and a plan of an expanded program, for a kernel. Raises Wrong for what is wrong with the
    program, Failure for what the kernel does not have."""
    from pytools.bt.check import check
    from pytools.bt.config import config_of
    from pytools.bt.emit import emit

    config = config_of(program, options.config, options.file)
    checked = check(program, kernel, options._replace(config=config))
    return emit(program, checked, kernel, options._replace(config=config))
