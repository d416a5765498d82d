"""getopt(): the named options that a program is given behind "--"."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.syntax.constants import fold
from pytools.bt.syntax.lexer import integer
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import NoReturn, Sequence, Union

    from pytools.bt.tree import Call, Expression

    Value = Union[bool, int, str]

__all__ = ["Options"]

_TRUTH = {"true": True, "false": False}


class Options:
    """``given`` by name, None without a value; ``expected`` are those that the program asks for:
    their defaults and descriptions."""

    def __init__(self, words: Sequence[str]) -> None:
        self.given: dict[str, Union[str, None]] = {}
        for word in words:
            name, equals, value = word[2:].partition("=")
            self.given[name] = value if equals else None
        self.expected: dict[str, tuple[Value, str]] = {}

    def value(self, call: Call) -> Expression:
        """The literal that a call of getopt() stands for. Raises Wrong."""
        if not 1 <= len(call.arguments) <= 3:
            raise Wrong(
                call.at,
                "The 'getopt' function can take a maximum of three arguments and a minimum of one "
                "argument.",
            )
        name, *rest = call.arguments
        if not isinstance(name, tree.Text):
            raise Wrong(name.at, "First argument to 'getopt' must be a string literal.")
        description = ""
        if len(rest) == 2:
            if not isinstance(rest[1], tree.Text):
                raise Wrong(rest[1].at, "Third argument to 'getopt' must be a string literal.")
            description = rest[1].value
        default = _literal(rest[0]) if rest else False
        self._expect(call, name.value, default, description)
        if name.value not in self.given:
            return _node(call.at, default)
        return _node(call.at, _read(name.value, default, self.given[name.value]))

    def _expect(self, call: Call, name: str, default: Value, description: str) -> None:
        known, its = self.expected.get(name, (default, description))
        if type(known) is not type(default) or known != default:
            shown = str(known).lower() if isinstance(known, bool) else known
            raise Wrong(
                call.at,
                f"Command line option '{name}' needs to have the same default value in all places "
                f"it is used. Previous default value: {shown}",
            )
        if description and its and description != its:
            raise Wrong(
                call.at,
                f"Command line option '{name}' must have the same description in all places it's "
                "used. Hint: You can wrap it in a macro",
            )
        self.expected[name] = default, its or description

    def check(self) -> None:
        """Raise Wrong if there are options that the program does not ask for."""
        unknown = [name for name in self.given if name not in self.expected]
        if not unknown:
            return
        names = ", ".join(f"--{name}" for name in unknown)
        raise Wrong(None, f"unexpected program command line options: {names}", self._usage())

    def _usage(self) -> str:
        if not self.expected:
            return "the program has no options"
        shown = [
            f"--{name}" + (f": {description}" if description else "")
            for name, (_, description) in self.expected.items()
        ]
        if any(": " in each for each in shown):
            return "expected program options:\n" + "\n".join(shown)
        return "expected program options: " + ", ".join(shown)


def _literal(node: Expression) -> Value:
    """The value of a literal."""
    if isinstance(node, (tree.Text, tree.Boolean)):
        return node.value
    number = isinstance(node, tree.Number) or (
        isinstance(node, tree.Unary) and isinstance(node.operand, tree.Number)
    )
    value = fold(node) if number else None
    if value is None:
        raise Wrong(
            node.at,
            "Second argument to 'getopt' must be a string literal, integer literal, or a boolean "
            "literal.",
        )
    return value


def _read(name: str, default: Value, text: Union[str, None]) -> Value:
    """What is given for an option, as a value like its default."""
    if isinstance(default, bool):
        found = True if text is None else _TRUTH.get(text.lower())
        if found is None and text in ("0", "1"):
            found = text == "1"
        if found is None:
            _fail(name, "invalid boolean", text)
        return found
    if isinstance(default, str):
        if text is None:
            _fail(name, "string without a value", text)
        return text
    sign, digits = (-1, text[1:]) if text and text.startswith("-") else (1, text or "")
    try:
        value = sign * integer(digits if digits[:1].isdigit() else "")[0]
    except (ValueError, IndexError):
        _fail(name, "invalid integer", text)
    if value < -(2**63):
        _fail(name, "integer out of range", text)
    return value


def _fail(name: str, what: str, text: Union[str, None]) -> NoReturn:
    shown = "true" if text is None else text
    raise Wrong(None, f"program command line option --{name} {what} (value: {shown})")


def _node(at: tree.Span, value: Value) -> Expression:
    if isinstance(value, bool):
        return tree.Boolean(at, value)
    if isinstance(value, str):
        return tree.Text(at, value)
    if value < 0:
        return tree.Unary(at, "-", tree.Number(at, -value))
    return tree.Number(at, value)
