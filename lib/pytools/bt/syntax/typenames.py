"""Names of types as a program has them, and values that the C preprocessor would put in."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.syntax.constants import fold
from pytools.bt.syntax.lexer import END, NAME, NUMBER, Lexer
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import Optional

    from pytools.bt.tree import Expression, TypeName

__all__ = ["C_WORDS", "RECORDS", "VALUES", "TypeNames", "flat"]

# What is a value in parentheses, not a type: (pid) * 2.
VALUES = frozenset(
    "args ctx kstack ustack nsecs pid tid comm uid gid cpu elapsed curtask cgroup rand func probe "
    "retval username usermode ncpus numaid jiffies ppid pcomm cpid stack".split()
    + [f"arg{n}" for n in range(10)]
    + [f"sarg{n}" for n in range(10)]
)
RECORDS = ("struct", "union", "enum")
C_WORDS = frozenset("unsigned signed long short int char const volatile".split())
_C_NAMES = {
    # (sign, length) to C's name; char and int are below
    "short": "short",
    "": "int",
    "long": "long",
    "long long": "long long",
}
_USES = 10000  # of C macros: one that uses another twice, which uses another twice, ...


class TypeNames(Lexer):
    def __init__(self, text: str, position: int = 0, end: Optional[int] = None) -> None:
        super().__init__(text, position, end)
        self.defined: dict[str, tuple[int, int]] = {}  # #define NAME: where the value stands
        self.source = text  # where they stand: the text with its directives
        self.expanding: tuple[str, ...] = ()  # those whose value is being read
        self.uses = 0  # of them

    def expression(self) -> Expression:
        raise NotImplementedError  # expressions.py

    def definition_of(self, name: str) -> Expression:
        """The value of a C macro, as if it stood here in parentheses."""
        start, end = self.start, self.end
        self.uses += 1
        if self.uses > _USES:
            self.fail(f"C macros are used more than {_USES} times")
        saved = self.text, self.limit, self.expanding
        first, self.limit = self.defined[name]
        self.text, self.expanding = self.source, (*self.expanding, name)
        self.seek(first)
        self.enter()
        try:
            value = self.expression()
            if self.kind != END:
                self.fail("unexpected input")
        except Wrong as wrong:
            where = "" if " (in the macro " in wrong.message else f" (in the macro {name})"
            raise Wrong((start, end), f"{wrong.message}{where}") from None
        finally:
            self.text, self.limit, self.expanding = saved
        self.depth -= 1
        self.seek(end)
        self.last = end
        return value._replace(at=(start, end))

    def type_reference(self) -> Optional[TypeName]:
        """A type, if what stands here up to a comma or parenthesis is one."""
        if self.kind != NAME or self.word in VALUES:
            return None
        if self.word == "typeof":
            return self.type_name()
        start = self.start
        try:
            found = self.type_name()
        except Wrong:
            self.seek(start)
            return None
        if self.word in (")", ","):
            return found
        self.seek(start)
        return None

    def type_name(self) -> TypeName:
        """A type as it is written: a name, then stars and sizes."""
        start = self.start
        if self.word == "typeof":
            self.next()
            self.expect("(")
            of = self.type_reference() or self.expression()
            self.expect(")")
            type_ = flat(tree.TypeName((start, self.last), "", of=of))
        else:
            type_ = tree.TypeName((start, self.end), self.base_type())
            type_ = type_._replace(at=(start, self.last))
        while self.word in ("*", "["):
            if self.take("*"):
                while self.word in ("const", "volatile"):
                    self.next()
                if type_.sizes:  # a pointer to an array
                    type_ = tree.TypeName(type_.at, "", of=type_)
                type_ = type_._replace(pointers=type_.pointers + 1)
            else:
                type_ = type_._replace(sizes=(*type_.sizes, self.array_size()))
            type_ = type_._replace(at=(start, self.last))
        return type_

    def array_size(self) -> Optional[int]:
        """[n] or []. It reads no more than one word, because what stands here may be no type after
        all."""
        self.expect("[")
        size = None
        if self.kind == NUMBER:
            size = self.number()
        elif self.word in self.defined:
            size = fold(self.definition_of(self.word))
        self.expect("]")
        return size

    def base_type(self) -> str:
        """The name of a type without stars and sizes; C's own in one spelling ("unsigned int")."""
        while self.word in ("const", "volatile"):
            self.next()
        word = self.name("type name")
        if word in RECORDS:
            return f"{word} {self.name('identifier')}"
        if word not in C_WORDS:
            while self.word in ("const", "volatile"):
                self.next()
            return word
        words = [word]
        while self.word in C_WORDS:
            words.append(self.word)
            self.next()
        sign = "unsigned " if "unsigned" in words else ""
        if "char" in words:
            return "signed char" if "signed" in words else sign + "char"
        length = " ".join(word for word in words if word in ("long", "short"))
        if length not in _C_NAMES:
            self.fail("expected type name")
        return sign + _C_NAMES[length]


def flat(type_: TypeName) -> TypeName:
    """A type of a type (``typeof(uint64*)[2]``) as one, if it is no pointer to an array."""
    inner = type_.of
    if not isinstance(inner, tree.TypeName) or (type_.pointers and inner.sizes):
        return type_
    sizes = (*inner.sizes, *type_.sizes)
    return inner._replace(at=type_.at, pointers=inner.pointers + type_.pointers, sizes=sizes)
