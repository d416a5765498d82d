"""From the tree to the typed tree."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.checker import Checked, Checker
from pytools.bt.functions import LOADED
from pytools.bt.tree import Wrong

if TYPE_CHECKING:
    from pytools.bt import tree
    from pytools.bt.options import Options
    from pytools.facts.kernel import Kernel

__all__ = ["check"]

MOST_PASSES = 32
assert LOADED


def check(program: tree.Program, kernel: Kernel, options: Options) -> Checked:
    """The types of a script, for a kernel. Raises Wrong."""
    if program.subprograms:
        raise Wrong(program.subprograms[0].at, "functions of the script's own are not supported")
    checker = Checker(program, kernel, options)
    for declaration in program.maps:
        checker.declare_map(declaration)
    for _ in range(MOST_PASSES):
        checker.facts.changed = False
        checker.walk()
        if not checker.facts.changed:
            break
    checker.final = True
    checker.walk()
    return Checked(checker.actions, checker.points, checker.facts, checker.layouts, checker.said)
