"""Statements: blocks with and without a value, loops, assignments."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import did_you_mean
from pytools.bt import tree
from pytools.bt.syntax.expressions import Expressions
from pytools.bt.syntax.lexer import NAME, STRING, VARIABLE

if TYPE_CHECKING:
    from typing import Optional, Union

    from pytools.bt.tree import Block, Expression, IfValue, Statement, TypeName

__all__ = ["Statements"]

_ASSIGNMENTS = frozenset("= <<= >>= += -= *= /= %= &= |= ^=".split())
_IMMUTABLE = (
    "Tuples and records are immutable once created. "
    "Consider creating a new value and assigning it instead."
)


class Statements(Expressions):
    def block(self, value: bool) -> Block:
        """{ statements }; its last expression is its value if ``value`` and no semicolon is behind
        it."""
        start = self.start
        self.expect("{")
        self.enter()
        statements: list[Statement] = []
        result: Optional[Expression] = None
        while self.word != "}":
            if self.take(";"):
                continue
            first = self.start
            statement, expression = self._statement()
            if expression is None:
                statements.append(statement)
            elif self.word != "}":
                if isinstance(expression, (tree.IfValue, tree.Block)):
                    self.take(";")
                elif not self.take(";"):
                    self.fail("expected ';'", hint=_nearest_keyword(expression))
                statements.append(_evaluate((first, self.last), expression))
            elif value:
                result = expression
            else:
                statements.append(_evaluate((first, self.last), expression))
        self.next()
        self.depth -= 1
        return tree.Block((start, self.last), tuple(statements), result)

    def _statement(self) -> tuple[Statement, Optional[Expression]]:
        """A statement, or an expression that may be the value of the block."""
        start = self.start
        if self.kind == NAME:
            word = self.word
            if word == "if":
                found = self._if()
                return (None, found) if isinstance(found, tree.IfValue) else (found, None)
            if word in _STATEMENTS:
                self.next()
                return _STATEMENTS[word](self, start), None
        elif self.word == "{":
            found_ = self.block(True)
            if found_.value is None:
                return tree.Evaluate(found_.at, found_), None
            return None, found_
        expression = self.expression()
        operator = self.word
        if operator not in _ASSIGNMENTS:
            return None, expression
        self._assignable(expression)
        self.next()
        value = self.expression()
        statement = tree.Assign((start, self.last), expression, operator[:-1], value)
        self._end()
        return statement, None

    def _assignable(self, target: Expression) -> None:
        if isinstance(target, (tree.Variable, tree.Map, tree.Element)):
            return
        if isinstance(target, tree.Name) and target.name == "_" and self.word == "=":
            return
        if isinstance(target, tree.Member):
            self.fail(_IMMUTABLE, target.at)
        self.fail("invalid assignment target", target.at)

    def _end(self) -> None:
        if self.word != "}":
            self.expect(";")

    def if_value(self) -> Union[IfValue, tree.If]:
        found = self._if()
        if not isinstance(found, tree.IfValue):
            self.fail("every branch of this 'if' needs a value", found.at)
        return found

    def _if(self) -> Union[IfValue, tree.If]:
        """An if with its branches: one that is a value, if all of them have one."""
        start = self.start
        self.enter()
        self.next()
        condition = self.expression()
        then = self.block(True)
        otherwise: Union[Block, tree.If, IfValue, None] = None
        if self.take("else"):
            if self.word == "if":
                otherwise = self._if()
            elif self.word == "{":
                otherwise = self.block(True)
            else:
                self.fail("expected '{' or 'if' after 'else'")
        self.depth -= 1
        at = (start, self.last)
        if then.value is not None and (
            isinstance(otherwise, tree.IfValue)
            or (isinstance(otherwise, tree.Block) and otherwise.value is not None)
        ):
            return tree.IfValue(at, condition, then, otherwise)
        return tree.If(at, condition, _without_value(then), _branch(otherwise))

    def _let(self, start: int) -> Statement:
        if self.kind != VARIABLE:
            self.fail("expected variable after 'let'")
        name = self.word[1:]
        self.next()
        type_: Optional[TypeName] = None
        value: Optional[Expression] = None
        if self.take(":"):
            type_ = self.type_name()
        if self.take("="):
            value = self.expression()
        statement = tree.Let((start, self.last), name, type_, value)
        self._end()
        return statement

    def _for(self, start: int) -> Statement:
        parenthesis = self.take("(")
        if self.kind != VARIABLE:
            self.fail("expected variable in for loop")
        name = self.word[1:]
        self.next()
        self.expect(":")
        first = self.expression()
        behind = self.expression() if self.take("..") else None
        if parenthesis:
            self.expect(")")
        if behind is not None:
            body = self.block(False)
            return tree.ForRange((start, self.last), name, first, behind, body)
        if not isinstance(first, tree.Map):
            self.fail("expected map or range in for loop", first.at)
        body = self.block(False)
        return tree.ForMap((start, self.last), name, first, body)

    def _while(self, start: int) -> Statement:
        condition = self.expression()
        body = self.block(False)
        return tree.While((start, self.last), condition, body)

    def _unroll(self, start: int) -> Statement:
        times = self.expression()
        body = self.block(False)
        return tree.Unroll((start, self.last), times, body)

    def _jump(self, start: int) -> Statement:
        word = self.text[start : self.last]
        value = None
        if word == "return" and self.word not in (";", "}"):
            value = self.expression()
        statement = tree.Jump((start, self.last), word, value)
        self._end()
        return statement

    def _import(self, start: int) -> Statement:
        at = (start, self.end if self.kind == STRING else self.last)
        self.fail("import inside a block is not supported", at)


_STATEMENTS = {
    "let": Statements._let,
    "for": Statements._for,
    "while": Statements._while,
    "unroll": Statements._unroll,
    "break": Statements._jump,
    "continue": Statements._jump,
    "return": Statements._jump,
    "import": Statements._import,
}


def _without_value(block: Block) -> Block:
    """The same block where nobody wants its value."""
    if block.value is None:
        return block
    statement = _evaluate(block.value.at, block.value)
    return block._replace(statements=(*block.statements, statement), value=None)


def _branch(branch: Union[Block, tree.If, IfValue, None]) -> Union[Block, tree.If, None]:
    if isinstance(branch, tree.Block):
        return _without_value(branch)
    if isinstance(branch, tree.IfValue):
        then = _without_value(branch.then)
        return tree.If(branch.at, branch.condition, then, _branch(branch.otherwise))
    return branch


def _evaluate(at: tree.Span, expression: Expression) -> Statement:
    """An expression as a statement."""
    if isinstance(expression, tree.IfValue):
        return _branch(expression)
    if isinstance(expression, tree.Block):
        return tree.Evaluate(at, _without_value(expression))
    return tree.Evaluate(at, expression)


def _nearest_keyword(expression: Expression) -> str:
    """What ``whlie (1) {`` may be meant to be."""
    words = ["if", "else", *_STATEMENTS]
    if not isinstance(expression, (tree.Call, tree.Name)) or expression.name in words:
        return ""
    return did_you_mean(expression.name, words, 0.7)
