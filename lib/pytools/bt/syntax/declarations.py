"""C's definitions in a program: struct, union, enum, typedef, with bit-fields, arrays, function
pointers."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.syntax.constants import fold
from pytools.bt.syntax.lexer import NAME
from pytools.bt.syntax.statements import Statements

if TYPE_CHECKING:
    from typing import Optional, Union

    from pytools.bt.tree import CEnum, CMember, CRecord, CTypedef, Name, TypeName

__all__ = ["Declarations"]

_LARGEST_ARRAY = 2**31


class Declarations(Statements):
    def __init__(self, text: str, position: int = 0, end: Optional[int] = None) -> None:
        super().__init__(text, position, end)
        self.types: list[Union[CRecord, CEnum, CTypedef]] = []
        self.enumerators: dict[str, int] = {}

    def definition(self) -> None:
        """struct NAME { ... }; and its like, at the outermost level."""
        start = self.start
        word = self.word
        self.next()
        if word == "typedef":
            for member in self._members("typedef"):
                record = member.record
                self.types.append(
                    tree.CTypedef((start, self.last), member.name, member.type, record)
                )
            return
        packed = self._attributes()
        name = self.name("identifier") if self.kind == NAME else ""
        if word == "enum":
            self.types.append(self._enum(start, name))
        else:
            self.types.append(self._record_of(word, start, name, packed))
        self.take(";")

    def _attributes(self) -> bool:
        """Skip __attribute__((...)): True if one of them is packed."""
        packed = False
        while self.word == "__attribute__":
            self.next()
            first = self.start
            self.expect("(")
            self.expect("(")
            depth = 2
            while depth:
                if self.kind > 7:  # END, BAD
                    self.fail("__attribute__ syntax error, mismatched '(' and ')'")
                depth += (self.word == "(") - (self.word == ")")
                self.next()
            packed = packed or "packed" in self.text[first : self.last]
        return packed

    def _record_of(self, word: str, start: int, name: str, packed: bool) -> CRecord:
        self.expect("{")
        self.enter()
        members: list[CMember] = []
        while self.word != "}":
            if not self.take(";"):
                members += self._members("member")
        self.next()
        self.depth -= 1
        packed = self._attributes() or packed
        return tree.CRecord((start, self.last), word, name, tuple(members), packed)

    def _enum(self, start: int, name: str) -> CEnum:
        self.expect("{")
        values: list[tuple[str, int]] = []
        value = -1
        while self.word != "}":
            word = self.name("enumerator")
            value = self._constant("an enumerator", 2**64) if self.take("=") else value + 1
            values.append((word, value))
            self.enumerators[word] = value
            if not self.take(","):
                break
        self.expect("}")
        self._attributes()
        return tree.CEnum((start, self.last), name, tuple(values))

    def _members(self, what: str) -> list[CMember]:
        """A declaration up to its semicolon: several names may stand in it."""
        start = self.start
        record: Optional[CRecord] = None
        base: Optional[str] = None
        while self.word in ("const", "volatile"):
            self.next()
        word = self.word
        if word in ("struct", "union", "enum"):
            self.next()
            packed = self._attributes()
            name = self.name("identifier") if self.kind == NAME else ""
            if self.word == "{" and word == "enum":
                self.types.append(self._enum(start, name))
                base = f"enum {name}" if name else "int"
            elif self.word == "{":
                record = self._record_of(word, start, name, packed)
                base = f"{word} {name}" if name else ""
            elif name:
                base = f"{word} {name}"
            else:
                self.fail("expected identifier")
        else:
            base = self.base_type()
        found: list[CMember] = []
        while self.word not in (";", "}"):
            while self.word in ("const", "volatile"):
                self.next()
            found.append(self._declarator(start, base, record, what))
            if not self.take(","):
                break
        if self.word != "}":  # which may come without a semicolon before it
            self.expect(";")
        if not found and record and what == "member":
            at = (start, self.last)
            named = tree.TypeName(at, base) if base else None
            found.append(tree.CMember(at, named, "", 0, record))
        return found

    def _declarator(self, start: int, base: str, record: Optional[CRecord], what: str) -> CMember:
        """What stands behind the type: *name[4], name:3, (*name)(int)."""
        type_: TypeName = tree.TypeName((start, self.last), base)
        while self.word in ("*", "const", "volatile", "restrict"):
            type_ = type_._replace(pointers=type_.pointers + (self.word == "*"))
            self.next()
        if self.take("("):  # a pointer to a function, or to an array
            self.expect("*")
            stars = 1
            while self.take("*"):
                stars += 1
            name = self.name(f"{what} name")
            sizes = self._sizes()
            self.expect(")")
            if self.word == "(":
                self._skip_parameters()
                type_ = tree.TypeName(type_.at, "void", stars, sizes)
            else:
                array = type_._replace(sizes=self._sizes())
                type_ = tree.TypeName(type_.at, "", stars, sizes, array)
            return tree.CMember((start, self.last), type_, name)
        name = "" if self.word == ":" else self.name(f"{what} name")
        type_ = type_._replace(sizes=self._sizes())
        bits = self._constant("a bit-field's width", 65) if self.take(":") else 0
        self._attributes()
        plain = not (base or type_.pointers or type_.sizes)
        return tree.CMember((start, self.last), None if plain else type_, name, bits, record)

    def _sizes(self) -> tuple[Optional[int], ...]:
        sizes: list[Optional[int]] = []
        while self.take("["):
            empty = self.word == "]"
            sizes.append(None if empty else self._constant("an array's size", _LARGEST_ARRAY))
            self.expect("]")
        return tuple(sizes)

    def _skip_parameters(self) -> None:
        depth = 0
        while True:
            if self.kind > 7:  # END, BAD
                self.fail("expected ')'")
            depth += (self.word == "(") - (self.word == ")")
            self.next()
            if not depth:
                return

    def _constant(self, what: str, limit: int) -> int:
        """An expression whose value is known."""
        start = self.start
        value = fold(self.expression(), self._enumerator)
        if value is None:
            self.fail(f"{what} must be a constant", (start, self.last))
        if not -limit < value < limit:
            self.fail(f"{what} is too large", (start, self.last))
        return value

    def _enumerator(self, name: Name) -> Optional[int]:
        return self.enumerators.get(name.name)
