"""What stands for something else is taken out of a tree: macros, imports, parameters, options.

``$1`` in an attach point is text and put in here; in an expression it stays what it is (Parameter),
because it is a number that the program is given when it is loaded. ``getopt()`` becomes its value.
"""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.expansion import attach_points
from pytools.bt.expansion.imports import Sources
from pytools.bt.expansion.macros import Macros
from pytools.bt.expansion.options import Options
from pytools.bt.parse import check_height
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import Sequence

__all__ = ["expand"]

_IGNORED = ("test", "bench")  # what only bpftrace's own modes run


def expand(
    program: tree.Program, parameters: Sequence[str] = (), named: Sequence[str] = ()
) -> tree.Program:
    """A program without imports and macros. ``named`` are the words --NAME=VALUE and --NAME of the
    command line. Raises Wrong.

    What a macro becomes is a Block that stands where the call is, or a literal; what is in the
    Block stands in the macro (``Program.place`` knows of the files).
    """
    sources = Sources(program)
    try:
        return _expanded(sources, parameters, named)
    except RecursionError:  # each macro is as deep as it may be, and they call each other
        raise Wrong(None, "macros that call each other are too deep") from None
    except Wrong as wrong:
        program = program._replace(text=sources.text, files=tuple(sources.files))
        raise program.locate(wrong) from None


def _expanded(sources: Sources, parameters: Sequence[str], named: Sequence[str]) -> tree.Program:
    options = Options(named)
    macros = Macros(sources, options)
    merged = sources.merged()
    for macro in merged.macros:
        macros.define(macro)
    probes = []
    for probe in merged.probes:
        known = attach_points.expand(probe.points, parameters)
        points = tuple(point for point in known if point.kind not in _IGNORED)
        if not points:
            continue
        predicate = probe.predicate and macros.visit(probe.predicate)
        body = macros.visit(probe.body)
        probes.append(probe._replace(points=points, predicate=predicate, body=body))
    subprograms = tuple(macros.visit(subprogram) for subprogram in merged.subprograms)
    options.check()
    if not probes:
        raise Wrong(None, "No probes to attach")
    made = merged._replace(
        text=sources.text,
        files=tuple(sources.files),
        macros=(),
        imports=(),
        probes=tuple(probes),
        subprograms=subprograms,
    )
    if macros.used:
        check_height(made)
    return made
