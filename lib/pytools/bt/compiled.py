"""A script as what is compiled and loaded: C, and the plan of its reader."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.options import Compiled, Options

if TYPE_CHECKING:
    from pytools.bt.tree import Program
    from pytools.facts.kernel import Kernel

__all__ = ["Compiled", "Options", "compile_program"]


def compile_program(program: Program, kernel: Kernel, options: Options = Options()) -> Compiled:
    """C and a plan of an expanded program, for a kernel. Raises Wrong for what is wrong with the
    program, Failure for what the kernel does not have."""
    from pytools.bt.check import check
    from pytools.bt.config import config_of
    from pytools.bt.emit import emit

    config = config_of(program, options.config, options.file)
    checked = check(program, kernel, options._replace(config=config))
    return emit(program, checked, kernel, options._replace(config=config))
