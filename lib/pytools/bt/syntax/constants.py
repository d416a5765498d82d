"""Values that are known from the text alone."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree

if TYPE_CHECKING:
    from typing import Callable, Optional

    from pytools.bt.tree import Expression, Name

__all__ = ["fold"]

_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "*": lambda a, b: a * b,
    "/": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
    "%": lambda a, b: abs(a) % abs(b) * (-1 if a < 0 else 1),
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "<<": lambda a, b: a << b if 0 <= b < 64 else 0,
    ">>": lambda a, b: a >> b if 0 <= b < 64 else 0,
    "<": lambda a, b: int(a < b),
    "<=": lambda a, b: int(a <= b),
    ">": lambda a, b: int(a > b),
    ">=": lambda a, b: int(a >= b),
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "&": lambda a, b: a & b,
    "^": lambda a, b: a ^ b,
    "|": lambda a, b: a | b,
    "&&": lambda a, b: int(bool(a and b)),
    "||": lambda a, b: int(bool(a or b)),
}
_LIMIT = 2**64


def fold(
    expression: Expression, names: Optional[Callable[[Name], Optional[int]]] = None
) -> Optional[int]:
    """An integer that an expression of literals amounts to, as C counts; None for any other
    expression. ``names`` gives the value of a name."""
    value: Optional[int] = None
    if isinstance(expression, tree.Name):
        return names(expression) if names else None
    if isinstance(expression, (tree.Number, tree.Boolean)):
        return int(expression.value)
    if isinstance(expression, tree.Unary):
        operand = fold(expression.operand, names)
        if operand is not None:
            value = {"-": -operand, "~": ~operand, "!": int(not operand)}.get(expression.operator)
    elif isinstance(expression, tree.Binary):
        left = fold(expression.left, names)
        right = fold(expression.right, names)
        if left is not None and right is not None:
            if not (expression.operator in "/%" and not right):
                value = _ARITHMETIC[expression.operator](left, right)
    elif isinstance(expression, tree.Ternary):
        condition = fold(expression.condition, names)
        if condition is not None:
            value = fold(expression.then if condition else expression.otherwise, names)
    if value is None or not -_LIMIT < value < _LIMIT:
        return None
    return value
