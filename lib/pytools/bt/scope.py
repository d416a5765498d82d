"""What names stand for: variables by block, maps over the whole script.

A script is checked again and again until no type changes: what is found out of a variable or a map
at one place is known at all others the next time (``Facts``).
"""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.promotion import promote
from pytools.bt.tree import Wrong
from pytools.bt.types import UNKNOWN, VOID, Aggregate, Int, None_

if TYPE_CHECKING:
    from typing import Optional

    from pytools.bt.tree import MapDeclaration, Span
    from pytools.bt.types import Type

__all__ = ["Facts", "MapFacts", "Scopes", "Variable"]


class Variable:
    """A variable of an action. ``key`` is the same in each pass. ``outer`` says that it lives as
    long as the action, and so from one of its steps to the next."""

    def __init__(self, name: str, key: tuple[int, str, int], declared: Optional[Type], outer: bool):
        self.name = name
        self.key = key
        self.declared = declared
        self.outer = outer
        self.type: Type = UNKNOWN


class MapFacts:
    """What is known of a map of the script."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key: Type = UNKNOWN
        self.value: Type = UNKNOWN
        self.scalar: Optional[bool] = None
        self.kind = ""  # as declared: "hash", "lruhash", ...
        self.entries = 0
        self.cleared = False  # cleared, zeroed or deleted from as a whole, anywhere
        self.asked = False  # by a program of the script, for a value, a key or its keys
        self.writers: set[int] = set()  # actions that count in it
        self.used = False
        self.at: Optional[Span] = None

    @property
    def label(self) -> str:
        return "@" + self.name


class Facts:
    """What all passes so far have found out."""

    def __init__(self) -> None:
        self.variables: dict[tuple[int, str, int], Type] = {}
        self.maps: dict[str, MapFacts] = {}
        self.escaped: set[tuple[int, str]] = set()  # variables that are used behind their block
        self.pointed: set[tuple[int, str, int]] = set()  # variables whose address is taken
        self.changed = False

    def escape(self, action: int, name: str) -> None:
        """A variable of an action is used behind the block in which it is first assigned."""
        self.escaped.add((action, name))
        self.variables = {k: v for k, v in self.variables.items() if k[:2] != (action, name)}
        self.changed = True

    def map(self, name: str) -> MapFacts:
        if name not in self.maps:
            self.maps[name] = MapFacts(name)
        return self.maps[name]

    def declare(self, declaration: MapDeclaration, entries: int) -> None:
        found = self.map(declaration.name)
        found.kind, found.entries, found.at = declaration.kind, entries, declaration.at

    def access(self, name: str, scalar: bool, at: Span) -> MapFacts:
        """A map that is used with keys or without. Raises Wrong if it was otherwise before."""
        found = self.map(name)
        if found.scalar is None:
            found.scalar, self.changed = scalar, True
        elif found.scalar != scalar:
            if scalar:
                raise Wrong(
                    at,
                    f"@{name} used as a map without an explicit key (scalar map), "
                    "previously used with an explicit key (non-scalar map)",
                )
            raise Wrong(
                at,
                f"@{name} used as a map with an explicit key (non-scalar map), "
                "previously used without an explicit key (scalar map)",
            )
        if found.at is None:
            found.at = at
        return found

    def see_key(self, found: MapFacts, key: Type, at: Span) -> None:
        if isinstance(key, None_) and not key.unknown or isinstance(key, Aggregate):
            raise Wrong(at, f"Value '{key}' cannot be used as a map key.")
        wider = promote(found.key, key)
        if wider is None:
            raise Wrong(
                at,
                f"Argument mismatch for {found.label}: trying to access with arguments: "
                f"'{key}' when map expects arguments: '{found.key}'",
            )
        if wider != found.key:
            found.key, self.changed = wider, True

    def see_value(self, found: MapFacts, value: Type, at: Span) -> None:
        if value == VOID:
            raise Wrong(at, f"Value '{value}' cannot be assigned to a map")
        wider: Optional[Type]
        counted = isinstance(found.value, Aggregate), isinstance(value, Aggregate)
        if counted[0] != counted[1] and UNKNOWN not in (found.value, value):
            wider = None
        else:
            wider = promote(found.value, value)
        if wider is None:
            raise Wrong(
                at,
                f"Type mismatch for {found.label}: trying to assign value of type '{value}' "
                f"when map already has a type '{found.value}'",
            )
        if wider != found.value:
            found.value, self.changed = wider, True

    def see_variable(self, variable: Variable, value: Type, at: Span) -> None:
        if value == VOID or isinstance(value, Aggregate):
            raise Wrong(at, f"Value '{value}' cannot be assigned to a scratch variable.")
        before = self.variables.get(variable.key, UNKNOWN)
        wider: Optional[Type] = promote(before, value)
        if variable.declared is not None:
            wider = variable.declared
            fits = promote(variable.declared, value)
            numbers = isinstance(value, Int) and isinstance(variable.declared, Int)
            if fits is None or fits.size > variable.declared.size and not numbers:
                wider = None
        if wider is None:
            raise Wrong(
                at,
                f"Type mismatch for ${variable.name}: trying to assign value of type '{value}' "
                f"when variable already has a type '{variable.declared or before}'",
            )
        if wider != before:
            self.variables[variable.key], self.changed = wider, True
        variable.type = self.variables.get(variable.key, UNKNOWN)


class Scopes:
    """The variables of one action, block by block."""

    def __init__(self, facts: Facts, action: int) -> None:
        self._facts = facts
        self._action = action
        self._blocks: list[dict[str, Variable]] = [{}]
        self._gone: set[str] = set()
        self.all: list[Variable] = []

    def open(self) -> None:
        self._blocks.append({})

    def close(self) -> None:
        self._gone |= self._blocks.pop().keys()

    def declare(
        self, name: str, declared: Optional[Type] = None, at: Optional[Span] = None
    ) -> Variable:
        """A new variable of the innermost block. Raises Wrong if the block has one of that name."""
        if name in self._blocks[-1] and at is not None:
            raise Wrong(
                at, f"Variable ${name} was already declared. Variable shadowing is not allowed."
            )
        block = self._blocks[-1]
        # One that is used behind the block in which it is first assigned belongs to the action.
        if declared is None and at is None and (self._action, name) in self._facts.escaped:
            block = self._blocks[0]
        key = (self._action, name, sum(each.name == name for each in self.all))
        variable = Variable(name, key, declared, block is self._blocks[0])
        variable.type = declared if declared else self._facts.variables.get(key, UNKNOWN)
        block[name] = variable
        self.all.append(variable)
        return variable

    def find(self, name: str, read: bool = True) -> Optional[Variable]:
        """The variable of that name that can be seen here. One that is only assigned may be a new
        one."""
        for block in reversed(self._blocks):
            if name in block:
                return block[name]
        if read and name in self._gone and (self._action, name) not in self._facts.escaped:
            self._facts.escape(self._action, name)
        return None

    @property
    def depth(self) -> int:
        return len(self._blocks)
