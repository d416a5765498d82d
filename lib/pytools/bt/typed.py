"""The typed tree: what ``check`` makes of a program, and ``emit`` makes C of."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.bt.tree import Wrong

if TYPE_CHECKING:
    from typing import Any, Callable, Union

    from pytools.bt.tree import Span
    from pytools.bt.types import Type

__all__ = [
    "Action", "CHECKS", "FLOW", "INTO", "PLACES", "SCALARS", "STATEMENTS", "TAILS", "Typed",
    "checks", "emits", "flow", "into", "places", "statement", "tail",
]  # fmt: skip


class Typed(NamedTuple):
    """An expression or a statement with a type. ``op`` says what it is, ``parts`` are its
    operands and what else ``emit`` has to know; ``constant`` is its value if that is known (a
    number, a truth, a text). ``space`` tells where a struct, an array or a string lies before it
    is read: "kernel", "user", "context" or "own" (what the program has itself)."""

    op: str
    type: Type
    at: Span
    parts: tuple[Any, ...] = ()
    constant: Union[None, int, bool, str] = None
    space: str = "own"


class Action(NamedTuple):
    """What one program does: the form of its probe, the points that it serves (indexes of all
    points), its condition and its statements."""

    kind: str
    points: list[int]
    predicate: Any
    statements: list[Typed]
    variables: list[Any]
    many: bool = False  # the program has to ask which point it runs for
    type_id: int = 0  # in the kernel's BTF, of a function that is traced with types
    way: str = ""  # in which the arguments of a USDT probe are written


# One table each: how a builtin or a function is checked (by its name), and how C is made of what
# that gave (by its ``op``): a number; a place in memory; a value put into a place; the bytes of a
# string behind a record; an expression for what it does; a statement.
CHECKS: dict[str, Callable[..., Typed]] = {}
SCALARS: dict[str, Callable[..., str]] = {}
PLACES: dict[str, Callable[..., Any]] = {}
INTO: dict[str, Callable[..., None]] = {}
TAILS: dict[str, Callable[..., str]] = {}
STATEMENTS: dict[str, Callable[..., None]] = {}
FLOW: dict[str, Callable[..., None]] = {}


def _entry(table: dict[str, Any], names: tuple[str, ...]) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        for name in names:
            assert name not in table, name
            table[name] = function
        return function

    return add


def checks(*names: str) -> Callable[[Any], Any]:
    """The function below checks a call of these names: (checker, call) to Typed."""
    return _entry(CHECKS, names)


def emits(*ops: str) -> Callable[[Any], Any]:
    """The function below makes C of a number: (emitter, node) to an expression."""
    return _entry(SCALARS, ops)


def places(*ops: str) -> Callable[[Any], Any]:
    """The function below finds where a value is: (emitter, node) to Place."""
    return _entry(PLACES, ops)


def into(*ops: str) -> Callable[[Any], Any]:
    """The function below puts a value into memory: (emitter, node, place)."""
    return _entry(INTO, ops)


def tail(*ops: str) -> Callable[[Any], Any]:
    """The function below puts a string's bytes at an address: (emitter, node, address, most) to
    an expression of how many there are."""
    return _entry(TAILS, ops)


def statement(*ops: str) -> Callable[[Any], Any]:
    """The function below makes C of an expression whose value nobody wants: (emitter, node)."""
    return _entry(STATEMENTS, ops)


def flow(*ops: str) -> Callable[[Any], Any]:
    """The function below makes C of a statement: (emitter, node)."""
    return _entry(FLOW, ops)


def wrong(at: Span, message: str, hint: str = "") -> Wrong:
    """An error to raise."""
    return Wrong(at, message, hint)
