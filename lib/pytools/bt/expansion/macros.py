"""Macros: a call becomes a Block with the macro's statements, arguments in place of parameters.

They are hygienic: a macro sees the maps and variables that it is given, and its own variables get
names that nobody else has.
"""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.expansion.standard import FUNCTIONS, STANDARD_NAMES
from pytools.bt.syntax.lexer import DEPTH
from pytools.bt.syntax.typenames import flat
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Optional, Sequence, Union

    from pytools.bt.expansion.imports import Sources
    from pytools.bt.expansion.options import Options
    from pytools.bt.tree import Expression, Macro

__all__ = ["Macros"]

_LITERALS = (tree.Number, tree.Text, tree.Boolean)
_BUILTIN = "__builtin_"
_EXPANSIONS = 10_000
_NODES = 1_000_000  # that macros may make


class _Scope(NamedTuple):
    """Where a macro's body is put in: what its parameters stand for; ``prefix`` is that of the
    names of its own variables."""

    macro: Macro
    expressions: dict[str, Expression]
    variables: dict[str, str]
    maps: dict[str, str]
    prefix: str
    chain: tuple[Macro, ...]


class Macros:
    """Puts macros into trees (``visit``); ``used`` if there was one."""

    def __init__(self, sources: Sources, options: Options) -> None:
        self._sources = sources
        self._options = options
        self._user: dict[str, list[Macro]] = {}
        self._standard: dict[str, list[Macro]] = {}
        self._scope: Optional[_Scope] = None
        self._nodes = 0
        self.used = 0

    def define(self, macro: Macro) -> None:
        """Make a macro known. Raises Wrong if there is one that takes the same arguments."""
        names = set()
        for parameter in macro.parameters:
            key = type(parameter), parameter.name
            if key in names:
                what = {tree.Variable: "Variable", tree.Map: "Map"}.get(type(parameter), "Ident")
                raise Wrong(
                    parameter.at,
                    f"{what} for macro argument has already been used: {_shown(parameter)}",
                )
            names.add(key)
        known = self._user.setdefault(macro.name, [])
        if any(_fits(other, macro.parameters) for other in known):
            raise Wrong(macro.at, f"Redefinition of macro: {macro.name}")
        known.append(macro)

    def visit(self, node: Any) -> Any:
        """The same tree without calls of macros."""
        method = _VISITORS.get(type(node))
        return method(self, node) if method else self._children(node)

    def _children(self, node: Any) -> Any:
        """A node with its children visited: itself, if nothing changes."""
        if self._scope:
            self._nodes += 1
            if self._nodes > _NODES:
                raise Wrong(node.at, f"macros make more than {_NODES} nodes of this program")
        changes = {}
        for name, child in zip(node._fields, node):
            if isinstance(child, tuple) and child and name != "at":
                if hasattr(child, "_fields"):
                    made = self.visit(child)
                else:
                    made = self._list(child)
                if made is not child:
                    changes[name] = made
        return node._replace(**changes) if changes else node

    def _list(self, nodes: Sequence[Any]) -> Sequence[Any]:
        made = tuple(self.visit(each) if hasattr(each, "_fields") else each for each in nodes)
        return nodes if all(new is old for new, old in zip(made, nodes)) else made

    # Names in a macro's body.

    def _variable(self, node: tree.Variable) -> tree.Variable:
        return node._replace(name=self._variable_name(node.name)) if self._scope else node

    def _variable_name(self, name: str) -> str:
        assert self._scope
        return self._scope.variables.get(name) or self._scope.prefix + name

    def _map(self, node: Any) -> Any:
        node = self._children(node)
        if not self._scope:
            return node
        if node.name not in self._scope.maps:
            raise Wrong(
                node.at,
                f"Unhygienic access to map: @{node.name}. "
                "Maps must be passed into the macro as arguments.",
            )
        return node._replace(name=self._scope.maps[node.name])

    def _loop(self, node: Any) -> Any:
        made = self._children(node)
        if self._scope:
            made = made._replace(variable=self._variable_name(node.variable))
        return made

    def _let(self, node: tree.Let) -> tree.Let:
        if self._scope and node.variable in self._scope.variables:
            raise Wrong(node.at, f"Variable declaration shadows macro arg ${node.variable}")
        made: tree.Let = self._loop(node)
        return made

    # Calls.

    def _name(self, node: tree.Name) -> Expression:
        if self._scope and node.name in self._scope.expressions:
            return self._scope.expressions[node.name]
        return self._called(node, node.name, ())

    def _call(self, node: tree.Call) -> Expression:
        node = self._children(node)
        if node.name == "getopt":
            return self._options.value(node)
        return self._called(node, node.name, node.arguments)

    def _called(self, node: Expression, name: str, arguments: Sequence[Expression]) -> Expression:
        """What a call of a macro becomes; the call, if it is none of a macro."""
        within = self._scope.chain if self._scope else ()
        of_standard = bool(within) and within[-1] in self._standard.get(within[-1].name, ())
        known = [] if of_standard else self._user.get(name, [])
        for macro in known:
            if _fits(macro, arguments):
                return self._put_in(macro, node, arguments)
        if name.startswith(_BUILTIN):  # what the user's macros don't change
            return node._replace(name=name[len(_BUILTIN) :])
        if name in STANDARD_NAMES:
            standard = self._standard_named(name)
            for macro in standard:
                if _fits(macro, arguments):
                    return self._put_in(macro, node, arguments)
            if isinstance(node, tree.Call):
                known = known or standard
        if known and name not in FUNCTIONS:
            _mismatch(node, name, known, arguments)
        return node

    def _standard_named(self, name: str) -> list[Macro]:
        if not self._standard:
            for macro in self._sources.standard():
                self._standard.setdefault(macro.name, []).append(macro)
        return self._standard[name]

    def _put_in(
        self, macro: Macro, node: Expression, arguments: Sequence[Expression]
    ) -> Expression:
        chain = self._scope.chain if self._scope else ()
        if any(macro is other for other in chain):
            first = next(i for i, other in enumerate(chain) if macro is other)
            names = " > ".join(each.name for each in (*chain[first:], macro))
            raise Wrong(node.at, f"Recursive macro call detected. Call chain: {names}")
        if len(chain) >= DEPTH:
            raise Wrong(node.at, f"macros that call each other more than {DEPTH} deep")
        self.used += 1
        if self.used > _EXPANSIONS:
            raise Wrong(node.at, f"macros are used more than {_EXPANSIONS} times")
        prefix = f"{macro.name}_{self.used}__"
        scope = _Scope(macro, {}, {}, {}, prefix, (*chain, macro))
        for parameter, argument in zip(macro.parameters, arguments):
            if isinstance(parameter, tree.Variable):
                scope.variables[parameter.name] = argument.name
            elif isinstance(parameter, tree.Map):
                scope.maps[parameter.name] = argument.name
            else:
                if isinstance(argument, (tree.Variable, tree.Map)):  # which it must not change
                    argument = tree.Block(node.at, (), argument)
                scope.expressions[parameter.name] = argument
        outside, self._scope = self._scope, scope
        body: tree.Block = self._children(macro.body)
        self._scope = outside
        if not body.statements and isinstance(body.value, _LITERALS):
            return body.value._replace(at=node.at)  # where a literal is needed, it is one
        return body._replace(at=node.at)

    # Types that are arguments: m(typeof(struct x)).

    def _type(self, node: tree.TypeName) -> tree.TypeName:
        made: tree.TypeName = flat(self._children(node))
        if not self._scope or not made.name:
            return made
        word, _, name = made.name.rpartition(" ")
        argument = self._scope.expressions.get(name)
        if argument is None:
            return made
        if word:
            plain = _plain_name(argument)
            if not plain:
                raise Wrong(
                    argument.at,
                    f"Invalid replacement for macro '{self._scope.macro.name}' type parameter "
                    f"'{name}' which makes up the type '{node.name}'",
                )
            return made._replace(name=f"{word} {plain}")
        if isinstance(argument, tree.Name):
            return made._replace(name=argument.name)
        return flat(made._replace(name="", of=argument))

    def _offset_of(self, node: tree.OffsetOf) -> tree.OffsetOf:
        made: tree.OffsetOf = self._children(node)
        if not self._scope or len(made.path) != 1:
            return made
        argument = self._scope.expressions.get(str(made.path[0]))
        if argument is None:
            return made
        path: list[Union[str, int]] = []
        while isinstance(argument, tree.Member):
            path.insert(0, argument.name)
            argument = argument.object
        if not isinstance(argument, tree.Name):
            raise Wrong(
                argument.at,
                "FieldAccess expressions must be made up entirely of idents (e.g. a.b.c) to "
                "replace the second argument in `offsetof`",
            )
        return made._replace(path=(argument.name, *path))


_VISITORS: dict[type, Callable[[Macros, Any], Any]] = {
    tree.Variable: Macros._variable,
    tree.Map: Macros._map,
    tree.Element: Macros._map,
    tree.ForRange: Macros._loop,
    tree.ForMap: Macros._loop,
    tree.Let: Macros._let,
    tree.Name: Macros._name,
    tree.Call: Macros._call,
    tree.TypeName: Macros._type,
    tree.OffsetOf: Macros._offset_of,
}


def _fits(macro: Macro, arguments: Sequence[Expression]) -> bool:
    """True if the arguments are what the macro's parameters ask for."""
    if len(macro.parameters) != len(arguments):
        return False
    return all(
        isinstance(parameter, tree.Name) or type(parameter) is type(argument)
        for parameter, argument in zip(macro.parameters, arguments)
    )


def _mismatch(
    node: Expression, name: str, macros: Sequence[Macro], arguments: Sequence[Expression]
) -> NoReturn:
    """Say what a call has to be like."""
    nearest = min(macros, key=lambda macro: abs(len(macro.parameters) - len(arguments)))
    message = f"Call to {name}() has arguments that do not match any definition."
    expected = len(nearest.parameters)
    if expected != len(arguments):
        raise Wrong(
            node.at,
            message,
            f"The closest definition of {name}() has a different number of arguments. "
            f"Expected: {expected} but got {len(arguments)}",
        )
    for parameter, argument in zip(nearest.parameters, arguments):
        if isinstance(parameter, tree.Name) or type(parameter) is type(argument):
            continue
        wanted = "map" if isinstance(parameter, tree.Map) else "variable"
        kinds = {tree.Map: "a map", tree.Variable: "a variable"}
        got = kinds.get(type(argument), "an expression")
        raise Wrong(
            argument.at,
            f"Mismatched arg. {name}() expects a {wanted} for arg {_shown(parameter)} but got "
            f"{got}.",
            message,
        )
    raise Wrong(node.at, message)


def _shown(parameter: Expression) -> str:
    sign = {tree.Variable: "$", tree.Map: "@"}.get(type(parameter), "")
    return f"{sign}{parameter.name}"


def _plain_name(argument: Expression) -> str:
    """The word that an argument is, or the type of one word; "" if it is more."""
    if isinstance(argument, tree.Name):
        return argument.name
    while isinstance(argument, tree.TypeName):
        if argument.pointers or argument.sizes:
            return ""
        if argument.name:
            return "" if " " in argument.name else argument.name
        argument = argument.of
    return argument.name if isinstance(argument, tree.Name) else ""
