"""What checks of calls have in common."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.settings import parameter
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed
from pytools.bt.types import UNKNOWN, Int

if TYPE_CHECKING:
    from typing import Any

    from pytools.bt.checker import Checker

__all__ = ["constant", "integer", "modes", "take", "text"]


def take(call: tree.Call, fewest: int, most: int = -1) -> list[Any]:
    """The arguments of a call, of which there are so many. Raises Wrong."""
    count = len(call.arguments)
    most = fewest if most < 0 else most
    if not fewest <= count <= most:
        if fewest == most:
            wanted = f"{fewest or 'no'} argument{'s' * (fewest != 1)}"
        else:
            wanted = f"{fewest} to {most} arguments"
        raise Wrong(call.at, f"{call.name}() takes {wanted} ({count} given)")
    return list(call.arguments)


def constant(checker: Checker, call: tree.Call, node: Any, what: str) -> int:
    """An argument that has to be known when it is compiled. Raises Wrong."""
    found = checker.value(node)
    if found.op == "parameter":
        return parameter(found.parts[1], found.parts[2])
    if isinstance(found.constant, bool) or not isinstance(found.constant, int):
        raise Wrong(found.at, f"{call.name}() expects {what} to be an integer literal")
    return found.constant


def text(checker: Checker, call: tree.Call, node: Any) -> str:
    """An argument that has to be a string literal. Raises Wrong."""
    found = checker.expression(node)
    if found.op == "number" and found.parts[:1] == ("parameter",):
        return ""
    if found.op == "parameter":
        return str(found.parts[1])
    if found.op != "text":
        raise Wrong(found.at, f"{call.name}() expects a string literal ({found.type} provided)")
    return str(found.constant)


def integer(checker: Checker, call: tree.Call, node: Any) -> Typed:
    """An argument that is an integer. Raises Wrong."""
    found = checker.value(node)
    if found.type != UNKNOWN and not isinstance(found.type, Int):
        raise Wrong(
            found.at, f"{call.name}() only supports integer arguments ({found.type} provided)"
        )
    return found


def modes(call: tree.Call, node: Any, known: dict[str, Any]) -> Any:
    """What a bare word among the arguments stands for. Raises Wrong."""
    if isinstance(node, tree.Name) and node.name in known:
        return known[node.name]
    raise Wrong(getattr(node, "at", call.at), f"{call.name}() takes one of {', '.join(known)} here")
