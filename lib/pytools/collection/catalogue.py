"""The tools of the collection: which there are, what each is for, what each attaches to."""
from __future__ import annotations

import argparse
import ast
import os
import re
import types
from typing import NamedTuple

from pytools.compile.unrendered import Unrendered

__all__ = ["AREAS", "Tool", "arguments", "load", "shortened", "source", "tools"]

# Where a tool belongs; in this order they are shown. One that stands nowhere is shown
# at the end.
AREAS = {
    "CPUs and scheduling": [
        "runqlen", "runqlat", "runqslower", "cpudist", "profile", "offcputime",
    ],
    "processes and system calls": ["execsnoop", "syscount"],
    "files and disks": ["opensnoop", "filelife", "vfsstat", "biolatency", "biosnoop"],
    "network": ["tcpconnect", "tcplife", "flowtop", "gethostlatency"],
    "functions and BPF": ["bashreadline", "funccount", "tplist", "bpfsnoop"],
}  # fmt: skip
OTHERS = "others"


class Tool(NamedTuple):
    """A tool: its name, its area, and what it does, in a sentence."""

    name: str
    area: str
    description: str


def tools(folder: str) -> list[Tool]:
    """The tools in a folder, area by area. What they are is read and not run."""
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            with open(path, encoding="utf-8") as file:
                text = ast.get_docstring(ast.parse(file.read())) or ""
            found[name] = text.partition("\n")[0]
    areas = {name: area for area, names in AREAS.items() for name in names}
    ordered = [name for name in areas if name in found]
    ordered += [name for name in found if name not in areas]
    return [Tool(name, areas.get(name, OTHERS), found[name]) for name in ordered]


def shortened(sentence: str, width: int) -> str:
    """A sentence of at most that many characters: its last clauses left out, if need be.

    >>> shortened("Show each wait, by CPU: how long it is.", 30)
    'Show each wait, by CPU'
    """
    while len(sentence) > width:
        head = max(sentence.rfind(mark) for mark in (", ", ": ", "; "))
        if head < 0:
            return sentence[: width - 3] + "..."
        sentence = sentence[:head]
    return sentence.rstrip(".")


def load(path: str) -> types.ModuleType:
    """A tool as a module that runs nothing yet; ``parser`` and ``main`` are in it."""
    module = types.ModuleType(os.path.basename(path))
    module.__file__ = path
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec"), module.__dict__)
    module.tool = module.__dict__.get("tool")
    module.parser = module.tool.parser if module.tool else module.parser
    module.parser.prog = module.__name__
    return module


def arguments(module: types.ModuleType) -> list[str]:
    """The shortest command line of a tool: no argument, or those of its first example."""
    parser: argparse.ArgumentParser = module.parser
    if not any(
        action.required or not action.option_strings and action.nargs not in ("?", "*", "...")
        for action in parser._actions
    ):
        return []
    examples = (module.__doc__ or "").partition("examples:\n")[2]
    return re.split(r"\s{2,}| \| ", examples.strip())[0].split()[1:]


class _Examined(BaseException):
    def __init__(self, source: Unrendered) -> None:
        super().__init__()
        self.source = source


def source(module: types.ModuleType) -> Unrendered | None:
    """What a tool would compile for its shortest command line; None for one that has
    no BPF program. Raises Failure where the tool does."""
    if not module.tool.traces:
        return None

    def examine(source: Unrendered) -> None:
        raise _Examined(source)

    options = module.tool.options(arguments(module))
    options.examine = examine
    try:
        module.start(options)
    except _Examined as examined:
        return examined.source
    return None
