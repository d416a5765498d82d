"""The tools of the collection: which there are, what each declares, what each attaches to."""
from __future__ import annotations

import ast
import os
import types

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.compile.unrendered import Unrendered

if TYPE_CHECKING:
    from typing import Any


__all__ = ["AREAS", "Declared", "load", "source", "tools"]

# In this order they are shown.
AREAS = (
    "CPUs and scheduling",
    "processes and system calls",
    "files and disks",
    "memory",
    "locks",
    "network",
    "functions and BPF",
)
# What is read of a declaration, and what it is where the tool does not say it.
_KEYWORDS: dict[str, Any] = {
    "area": "", "about": "", "needs": "", "try_with": [], "traces": True, "links": {},
}  # fmt: skip


class Declared(NamedTuple):
    """What a tool says of itself (definition.Tool): its name, its area, what it shows, what it
    needs, the arguments without which it does not start, and whether it traces; and the other names
    that it has in its folder, which are links to it."""

    name: str
    area: str
    description: str
    needs: str
    try_with: list[str]
    traces: bool
    names: list[str] = []


def tools(folder: str) -> list[Declared]:
    """The tools in a folder, area by area. What they declare is read and not run: for a hundred of
    them that takes a tenth of a second, and importing what they import would take several."""
    found = []
    names: dict[str, list[str]] = {}
    read: dict[str, dict[str, Any]] = {}  # by file: one may have several names
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or not os.access(path, os.X_OK):
            continue
        real = os.path.realpath(path)
        if real not in read:
            with open(real, encoding="utf-8") as file:
                read[real] = _declared(file.read())
        declared = dict(read[real])
        about, links = declared.pop("about"), declared.pop("links")
        if os.path.islink(path) and name not in links:  # another name of the same
            names.setdefault(os.readlink(path), []).append(name)
            continue
        found.append(Declared(name, description=links.get(name, about), **declared))
    found = [tool._replace(names=names.get(tool.name, [])) for tool in found]
    areas = {area: number for number, area in enumerate(AREAS)}
    return sorted(found, key=lambda tool: areas.get(tool.area, len(areas)))


def _declared(text: str) -> dict[str, Any]:
    """The keywords with which a text calls the class of its tool: ``tool = EventTool(...)``."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            if [getattr(target, "id", "") for target in node.targets] == ["tool"]:
                given = {
                    keyword.arg: ast.literal_eval(keyword.value)
                    for keyword in node.value.keywords
                    if keyword.arg in _KEYWORDS
                }
                return {**_KEYWORDS, **given}
    return dict(_KEYWORDS)


def load(path: str) -> Any:
    """A tool as a module that runs nothing yet: ``tool``, its ``parser`` and ``start``."""
    module: Any = types.ModuleType(os.path.basename(path))
    module.__file__ = path
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec"), module.__dict__)
    module.tool = module.__dict__.get("tool")
    module.parser = module.tool.parser if module.tool else module.parser
    module.parser.prog = module.__name__
    return module


class _Examined(BaseException):
    def __init__(self, source: Unrendered) -> None:
        super().__init__()
        self.source = source


def source(module: types.ModuleType) -> Unrendered | None:
    """What a tool would compile for its shortest command line; None for one that has
    no BPF program. Raises Failure where the tool does."""

    def examine(source: Unrendered) -> None:
        raise _Examined(source)

    if not module.tool.traces:
        return None
    options = module.tool.options(module.tool.try_with)
    options.examine = examine
    try:
        module.start(options)
    except _Examined as examined:
        return examined.source
    return None
