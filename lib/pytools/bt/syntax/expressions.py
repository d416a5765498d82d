"""Expressions and the names of types in them: precedence climbing, casts against parentheses."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.syntax.lexer import MAP, NAME, NUMBER, PARAMETER, STRING, VARIABLE
from pytools.bt.syntax.lexer import after_layout, integer, quoted
from pytools.bt.syntax.typenames import C_WORDS, RECORDS, VALUES, TypeNames
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import Optional, Union

    from pytools.bt.tree import Block, Expression, IfValue, TypeName

__all__ = ["Expressions", "KEYWORDS"]

_OPERATORS = "|| && | ^ & ==,!= <,<=,>,>= <<,>> +,- *,/,%".split()
PRECEDENCE = {word: level for level, words in enumerate(_OPERATORS, 1) for word in words.split(",")}
_PREFIXES = ("-", "~", "!", "*", "&")
_STEPS = ("++", "--")
KEYWORDS = frozenset("let for while unroll else return break continue import".split())


class Expressions(TypeNames):
    def __init__(self, text: str, position: int = 0, end: Optional[int] = None) -> None:
        super().__init__(text, position, end)
        self.predicate = False  # in one, where / may be its end
        self.longest = 0  # chain of operators: a + b + c + ...
        self.parameters: frozenset[str] = frozenset()  # of the macro whose body this is

    def block(self, value: bool) -> Block:
        raise NotImplementedError  # statements.py

    def if_value(self) -> Union[IfValue, tree.If]:
        raise NotImplementedError

    def expression(self) -> Expression:
        self.enter()
        left = self.binary(1)
        if self.word == "?":
            self.next()
            if self.take(":"):
                then = left
            else:
                then = self.expression()
                self.expect(":")
            otherwise = self.expression()
            left = tree.Ternary((left.at[0], self.last), left, then, otherwise)
        self.depth -= 1
        return left

    def binary(self, floor: int) -> Expression:
        """Operands joined by operators that bind at least as tightly as ``floor``."""
        left = self.unary()
        length = 0
        while True:
            word = self.word
            level = PRECEDENCE.get(word, 0)
            if level < floor:
                break
            if word == "/" and self.predicate and self._ends_predicate():
                break
            self.next()
            right = self.binary(level + 1)
            left = tree.Binary((left.at[0], self.last), word, left, right)
            length += 1
        if length > self.longest:
            self.longest = length
        return left

    def _ends_predicate(self) -> bool:
        return self.text.startswith("{", after_layout(self.text, self.end))

    def unary(self) -> Expression:
        word = self.word
        if word in _PREFIXES or word in _STEPS:
            start = self.start
            self.enter()
            self.next()
            operand = self.unary()
            self.depth -= 1
            at = (start, self.last)
            if word in _PREFIXES:
                return tree.Unary(at, word, operand)
            self._steppable(operand)
            return tree.Step(at, word, operand, True)
        return self.postfix(self.primary())

    def _steppable(self, target: Expression) -> None:
        if not isinstance(target, (tree.Variable, tree.Map, tree.Element, tree.Name)):
            self.fail("increment/decrement requires a variable or map", target.at)

    def postfix(self, left: Expression) -> Expression:
        length = 0
        while True:
            word = self.word
            if word == "." or word == "->":
                self.next()
                member: Union[str, int]
                if self.kind == NUMBER and word == ".":
                    member = self.number()
                else:
                    member = self.name(f"field name after '{word}'")
                left = tree.Member((left.at[0], self.last), left, member, word == "->")
            elif word == "[":
                self.next()
                index = self.expression()
                self.expect("]")
                left = tree.Index((left.at[0], self.last), left, index)
            elif word in _STEPS:
                self._steppable(left)
                self.next()
                left = tree.Step((left.at[0], self.last), word, left, False)
            else:
                break
            length += 1
        if length > self.longest:
            self.longest = length
        return left

    def primary(self) -> Expression:
        kind, word, start = self.kind, self.word, self.start
        if kind == NAME:
            return self._word(word, start)
        if kind == VARIABLE:
            self.next()
            return tree.Variable((start, self.last), word[1:])
        if kind == MAP:
            self.next()
            if self.word != "[":
                return tree.Map((start, self.last), word[1:])
            self.next()
            keys = self._list("]")
            if not keys:
                self.fail("expected expression", (start, self.last))
            return tree.Element((start, self.last), word[1:], keys)
        if kind == NUMBER:
            try:
                value, suffix = integer(word)
            except ValueError as error:
                self.fail(str(error))
            self.next()
            return tree.Number((start, self.last), value, suffix)
        if kind == STRING:
            text = ""
            while self.kind == STRING:
                text += quoted(self.word, self.start)
                self.next()
            return tree.Text((start, self.last), text)
        if word == "(":
            return self._parentheses(start)
        if word == "{":
            return self.block(True)
        if kind == PARAMETER:
            number = 0 if word == "$#" else int(word[1:11])
            if word != "$#" and not 0 < number < 10**9:
                self.fail(f"param {word[:24]} is out of integer range [1, {10**9 - 1}]")
            self.next()
            return tree.Parameter((start, self.last), number)
        self.fail("expected expression")

    def _word(self, word: str, start: int) -> Expression:
        """An expression that begins with a name."""
        if word in ("true", "false"):
            self.next()
            return tree.Boolean((start, self.last), word == "true")
        if word == "if":
            return self.if_value()
        if word in ("sizeof", "offsetof", "typeinfo"):
            return self._of_type(word, start)
        if word in RECORDS or word == "typeof":
            return self.type_name()
        if word == "comptime":
            self.next()
            operand = self.unary()
            return tree.Call((start, self.last), word, (operand,))
        if word in KEYWORDS:
            self.fail("expected expression")
        if word in self.defined and word not in self.expanding:
            return self.definition_of(word)
        self.next()
        if self.word == "!" and self.text.startswith("(", self.end):
            self.next()  # an old macro's greet!()
        if self.word != "(":
            return tree.Name((start, self.last), word)
        self.next()
        arguments = self._list(")")
        return tree.Call((start, self.last), word, arguments)

    def _list(self, end: str) -> tuple[Expression, ...]:
        """Expressions between commas up to ``end``, which is taken."""
        found = []
        while self.word != end:
            found.append(self.expression())
            if not self.take(","):
                break
        self.expect(end)
        return tuple(found)

    def _of_type(self, word: str, start: int) -> Expression:
        """sizeof, offsetof, typeinfo: of a type or an expression."""
        self.next()
        self.expect("(")
        of = self.type_reference() or self.expression()
        if word == "offsetof":
            self.expect(",")
            path: list[Union[str, int]] = [self.name("field name")]
            while self.word in (".", "["):
                if self.take("["):
                    path.append(self.number())
                    self.expect("]")
                else:
                    self.next()
                    path.append(self.name("field name"))
            self.expect(")")
            return tree.OffsetOf((start, self.last), of, tuple(path))
        self.expect(")")
        if word == "typeinfo":
            return tree.Call((start, self.last), word, (of,))
        return tree.SizeOf((start, self.last), of)

    def _parentheses(self, start: int) -> Expression:
        """What begins with a parenthesis: a cast, a tuple, a record, or just an expression."""
        first: Optional[Expression] = None
        self.next()
        if self.take(")"):
            return tree.Tuple_((start, self.last), ())
        if self.kind == NAME and self.word not in VALUES:
            inner = self.start
            word = self.word
            self.next()
            if self.word == "=":
                self.seek(inner)
                return self._record(start)
            shaped = word in RECORDS or word in C_WORDS or self.word in (")", "*", "[")
            self.seek(inner)
            if word == "typeof":
                type_ = self.type_name()
                first = self._cast(start, type_) or type_
            elif shaped and word not in self.defined:
                try:
                    first = self._cast(start, self.type_name())
                except Wrong:
                    pass
                if first is None:
                    self.seek(inner)
            if isinstance(first, tree.Cast):
                return first
        predicate, self.predicate = self.predicate, False
        if first is None:
            first = self.expression()
        if self.word != ",":
            self.expect(")")
            self.predicate = predicate
            return first
        self.next()
        elements = (first, *self._list(")"))
        self.predicate = predicate
        return tree.Tuple_((start, self.last), elements)

    def _cast(self, start: int, type_: TypeName) -> Optional[Expression]:
        """(type)operand, if the parenthesis ends here and an operand is behind it; else None."""
        if self.word != ")":
            return None
        end = self.start
        self.next()
        plain = not (type_.pointers or type_.sizes or type_.of)
        parameter = plain and type_.name in self.parameters
        if not (
            self.kind in (NUMBER, VARIABLE, MAP, PARAMETER, STRING)
            or (self.kind == NAME and self.word not in KEYWORDS)
            or self.word in ("(", "!", "~")
            or (self.word in ("-", "*", "&") and not parameter)
        ):
            self.seek(end)
            return None
        self.enter()
        operand = self.unary()
        self.depth -= 1
        return tree.Cast((start, self.last), type_, operand)

    def _record(self, start: int) -> Expression:
        """(name=value, ...)"""
        names: list[str] = []
        values = []
        while self.word != ")":
            at = (self.start, self.end)
            name = self.name("identifier")
            if name in names:
                self.fail(f"Named argument list already contains name: {name}", at)
            names.append(name)
            self.expect("=")
            values.append(self.expression())
            if not self.take(","):
                break
        self.expect(")")
        return tree.Tuple_((start, self.last), tuple(values), tuple(names))
