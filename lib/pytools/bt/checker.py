"""From the tree to the typed tree: names, types, and what a script must not say.

The script is walked again and again until its variables' and maps' types stay as they are; what is
wrong for sure is an error at once, what may only be unknown yet is one in the last walk.
"""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.attaching import is_pattern
from pytools.bt.expressions import DEEPEST, Expressions
from pytools.bt.layouts import Layouts
from pytools.bt.loops import Loops
from pytools.bt.probes import Probes, expanded, forms_of, missing, point_of
from pytools.bt.scope import Facts, Scopes
from pytools.bt.tree import Wrong
from pytools.bt.typed import Action, Typed
from pytools.bt.types import UNKNOWN, VOID, Aggregate, Int

if TYPE_CHECKING:
    from typing import Any, Sequence

    from pytools.bt.options import Options
    from pytools.bt.plan import Point
    from pytools.facts.kernel import Kernel

__all__ = ["Checked", "Checker"]

MAP_KINDS = ("hash", "lruhash", "percpuhash", "percpulruhash")


class Checked(NamedTuple):
    """A script with its types."""

    actions: list[Action]
    points: list[Point]
    facts: Facts
    layouts: Layouts
    warnings: list[tuple[Any, str]]


GO_ON = "the config option missing_probes=warn goes on without it"


def _ends_block(node: Typed) -> bool:
    """Whether nothing behind a statement is done."""
    return node.op == "jump" or node.op == "evaluate" and node.parts[0].op == "exit"


class Checker(Probes, Loops, Expressions):
    """The walk over a script."""

    def __init__(self, program: tree.Program, kernel: Kernel, options: Options) -> None:
        self.program = program
        self.kernel = kernel
        self.options = options
        self.layouts = Layouts(kernel, program)
        self.facts = Facts()
        self.said = []
        self.final = False
        self.depth = 0
        self.actions: list[Action] = []
        self.points: list[Point] = []
        self.loops = 0

    def declare_map(self, declaration: tree.MapDeclaration) -> None:
        if declaration.kind not in MAP_KINDS:
            raise Wrong(
                declaration.at,
                f"Invalid bpf map type: {declaration.kind}",
                f"Valid map types: {', '.join(MAP_KINDS)}",
            )
        entries = declaration.entries
        number = entries.value if isinstance(entries, tree.Number) else 0
        if not 0 < number < 1 << 32:
            raise Wrong(
                declaration.at, f"@{declaration.name}: how many entries it has is a number above 0"
            )
        self.facts.declare(declaration, number)

    def walk(self) -> None:
        """One walk over all probes."""
        self.actions, self.points, self.said = [], [], []
        for number, probe in enumerate(self.program.probes):
            first = len(self.points)
            points = [
                each._replace(action=number)
                for point in probe.points
                for each in expanded(point_of(point, self), self.kernel)
                if self._is_there(probe, each)
            ]
            if not points:
                self._has_none(probe)
                continue
            self.points += points
            for form in forms_of(probe, points, self.kernel, self.layouts, self.options.pid):
                self._action(probe, form, first)
        if not self.actions:
            raise Wrong(None, "No probes to attach")
        if self.final:
            for facts in self.facts.maps.values():
                if facts.kind and not facts.used:
                    self.warn(facts.at, f"Unused map: {facts.label}")
                if facts.value == UNKNOWN and (facts.used or facts.cleared):
                    raise Wrong(facts.at, f"Undefined map: {facts.label}")

    def _is_there(self, probe: tree.Probe, point: Point) -> bool:
        """Whether a point can be asked for its arguments. Raises Wrong if it has to be there."""
        why = missing(probe, point, self.kernel, self.layouts)
        at = (point.at[0], point.at[1])
        several = is_pattern(point.target)  # others of the probe may be there
        if why and point.missing == "error" and not several:
            raise Wrong(at, why, GO_ON)
        if why and (point.missing == "warn" or point.missing == "error" and several):
            self.warn(at, f"{why} Skipping.")
        return not why

    def _has_none(self, probe: tree.Probe) -> None:
        """Say that no point of a probe is there. Raises Wrong if one has to be."""
        text = "Probe has no valid attach points."
        if self.options.config["missing_probes"] == "error":
            points = probe.points
            raise Wrong((points[0].at[0], points[-1].at[1]), text, GO_ON)
        text += " It is being removed which may cause issues with program behavior."
        self.warn(probe.at, text)

    def _action(self, probe: tree.Probe, form: Any, first: int) -> None:
        self.enter(form)
        self.first = first
        self.scopes = Scopes(self.facts, len(self.actions))
        self.loops = 0
        predicate = self.condition(probe.predicate) if probe.predicate is not None else None
        statements = self.statements(probe.body.statements)
        if probe.body.value is not None:
            statements.append(self.evaluated(probe.body.value))
        points = [first + number for number in form.points]
        self.actions.append(
            Action(
                form.kind,
                points,
                predicate,
                statements,
                self.scopes.all,
                form.many,
                form.type_id,
                form.way,
            )
        )

    # Statements.

    def statements(self, nodes: Sequence[Any]) -> list[Typed]:
        found: list[Typed] = []
        for node in nodes:
            if found and self.final and _ends_block(found[-1]):
                self.warn(node.at, "Unreachable statement.")
            found.append(self.statement(node))
        return found

    def statement(self, node: Any) -> Typed:
        """The typed form of a statement. Raises Wrong."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Wrong(node.at, "the statements are nested too deeply")
        try:
            method = getattr(self, "_do_" + type(node).__name__.strip("_").lower(), None)
            if method is None:
                return self.evaluated(node)
            found: Typed = method(node)
            return found
        finally:
            self.depth -= 1

    def block(self, node: tree.Block) -> list[Typed]:
        """The statements of a block, with a scope of their own."""
        self.scopes.open()
        try:
            found = self.statements(node.statements)
            if node.value is not None:
                found.append(self.evaluated(node.value))
            return found
        finally:
            self.scopes.close()

    def evaluated(self, node: Any) -> Typed:
        """An expression for what it does."""
        found = self.expression(node)
        if isinstance(found.type, Aggregate) and found.op == "aggregate":
            name = found.parts[0]
            raise Wrong(found.at, f"{name}() must be assigned directly to a map")
        return Typed("evaluate", VOID, found.at, (found,))

    def _do_evaluate(self, node: tree.Evaluate) -> Typed:
        return self.evaluated(node.expression)

    def _do_block(self, node: tree.Block) -> Typed:
        return Typed("statements", VOID, node.at, (self.block(node),))

    def _do_assign(self, node: tree.Assign) -> Typed:
        target = node.target
        if isinstance(target, tree.Name):
            if target.name != "_" or node.operator:
                raise Wrong(target.at, f"{target.name} cannot be assigned to")
            return Typed("evaluate", VOID, node.at, (self.value(node.value),))
        if isinstance(target, tree.Variable):
            return self._assign_variable(node, target)
        if not isinstance(target, (tree.Map, tree.Element)):
            raise Wrong(node.at, "only variables and maps can be assigned to")
        return self._assign_map(node, target)

    def _assign_variable(self, node: tree.Assign, target: tree.Variable) -> Typed:
        value = self.value(node.value)
        variable = self.scopes.find(target.name, read=bool(node.operator))
        if node.operator:
            if variable is None:
                raise Wrong(target.at, f"Undefined or undeclared variable: ${target.name}")
            value = self.binary(node.at, node.operator, self.expression(target), value)
        elif variable is None:
            variable = self.scopes.declare(target.name)
        assert variable is not None
        self.facts.see_variable(variable, value.type, node.at)
        return self._stored(variable, value, node.at)

    def _stored(self, variable: Any, value: Typed, at: tree.Span) -> Typed:
        kind = variable.declared or variable.type
        if isinstance(kind, Int) and isinstance(value.type, Int):
            self._warn_sign(kind, value, at, f"${variable.name}")
        return Typed("set_variable", VOID, at, (variable, self.cast(value, kind)))

    def _warn_sign(self, kind: Int, value: Typed, at: tree.Span, name: str) -> None:
        a = value.type
        assert isinstance(a, Int)
        if not self.final or a.flexible or isinstance(value.constant, int):
            return
        if a.signed != kind.signed and (a.bytes >= kind.bytes or a.signed):
            self.warn(
                at,
                f"Implicitly casting {'signed' if a.signed else 'unsigned'} integer '{a}' to "
                f"{'signed' if kind.signed else 'unsigned'} '{kind}' for {name}",
            )

    def _assign_map(self, node: tree.Assign, target: Any) -> Typed:
        value = self.expression(node.value)
        before: list[Typed] = []
        if value.op == "block" and value.parts[1] is not None and value.parts[1].op == "aggregate":
            before, value = value.parts
        facts = self.facts.access(target.name, isinstance(target, tree.Map), target.at)
        key = None
        if isinstance(target, tree.Element):
            key = self.key(target.keys, target.at)
            self.facts.see_key(facts, key.type, target.at)
            if self.final:
                key = self.cast(key, facts.key)
        facts.used = True
        if isinstance(value.type, Aggregate) and value.op == "aggregate":
            if node.operator:
                raise Wrong(node.at, f"{value.parts[0]}() must be assigned directly to a map")
            self.facts.see_value(facts, value.type, node.at)
            facts.writers.add(len(self.actions))
            counted = Typed("count", VOID, node.at, (facts, key, value))
            return Typed("statements", VOID, node.at, ([*before, counted],)) if before else counted
        value = self.plain(value)
        if value.type == VOID:
            raise Wrong(node.at, "Value 'none' cannot be assigned to a map")
        if isinstance(value.type, Aggregate):
            raise Wrong(
                node.at, f"Map value '{value.type}' cannot be assigned from one map to another."
            )
        added = None
        if node.operator:
            old = self.expression_of_target(target)
            if self.final:
                old = old._replace(parts=(facts, key))
            if old.type == UNKNOWN:
                old = old._replace(type=Int(8))
            if node.operator in ("+", "-") and isinstance(value.type, Int):
                added = value
            value = self.binary(node.at, node.operator, old, value)
        self.facts.see_value(facts, value.type, node.at)
        if not self.final:
            return Typed("set_map", VOID, node.at)
        if isinstance(facts.value, Int) and isinstance(value.type, Int):
            self._warn_sign(facts.value, value, node.at, facts.label)
            if added is not None:
                return Typed("add_map", VOID, node.at, (facts, key, node.operator, added))
        return Typed("set_map", VOID, node.at, (facts, key, self.cast(value, facts.value)))

    def _do_let(self, node: tree.Let) -> Typed:
        value = self.value(node.value) if node.value is not None else None
        declared = self.type_of(node.type) if node.type is not None else None
        if declared is not None and (declared == VOID or not declared.size and value is None):
            # string and buffer without a size: that of what is assigned
            declared = None
        elif declared is not None and not declared.size:
            declared = None
        variable = self.scopes.declare(node.variable, declared, node.at)
        if value is None:
            return Typed("declare", VOID, node.at, (variable,))
        if declared is not None and isinstance(value.constant, int) and isinstance(declared, Int):
            self._fits(declared, value, node.at)
        self.facts.see_variable(variable, value.type, node.at)
        return self._stored(variable, value, node.at)

    @staticmethod
    def _fits(kind: Int, value: Typed, at: tree.Span) -> None:
        number = value.constant
        low = -(1 << 8 * kind.bytes - 1) if kind.signed else 0
        high = 1 << 8 * kind.bytes - kind.signed
        if value.op == "number" and isinstance(number, int) and not low <= number < high:
            raise Wrong(
                at,
                f"Type mismatch: the literal {number} does not fit into {kind}",
                f"cast it: ({kind}){number}",
            )

    def _do_if(self, node: tree.If) -> Typed:
        condition = self.condition(node.condition)
        otherwise: list[Typed] = []
        if getattr(node.condition, "name", "") == "comptime" and condition.constant is not None:
            return self._chosen(node, bool(condition.constant))
        then = self.block(node.then)
        if isinstance(node.otherwise, tree.Block):
            otherwise = self.block(node.otherwise)
        elif node.otherwise is not None:
            otherwise = [self._do_if(node.otherwise)]
        return Typed("if", VOID, node.at, (condition, then, otherwise))

    def _chosen(self, node: tree.If, then: bool) -> Typed:
        """The branch of an ``if comptime`` that is there."""
        if then:
            return Typed("statements", VOID, node.at, (self.block(node.then),))
        if isinstance(node.otherwise, tree.Block):
            return Typed("statements", VOID, node.at, (self.block(node.otherwise),))
        if node.otherwise is not None:
            return self._do_if(node.otherwise)
        return Typed("statements", VOID, node.at, ([],))

    def _do_jump(self, node: tree.Jump) -> Typed:
        if node.word != "return" and not self.loops:
            raise Wrong(node.at, f"Can not use {node.word} outside of a loop")
        value = self.value(node.value) if node.value is not None else None
        return Typed("jump", VOID, node.at, (node.word, value))
