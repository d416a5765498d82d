"""C being written: lines, names, and memory for what is too large for a register.

A number is an expression of 64 bits: a name or a literal, which may be said twice. All else is a
``Place``. Small values lie on the stack; the others in an entry of a per-CPU map that belongs to
the program alone, for the time of a statement or, if they are variables, of the program.
"""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.bt.tree import Wrong
from pytools.bt.types import Bool, Int, String, Tuple, Type, align_up, fits_register

if TYPE_CHECKING:
    from typing import Any, Optional

    from pytools.bt.emit.whole import Whole

__all__ = ["Code", "Place", "c_type", "literal", "on_stack", "reader", "wide_type", "width"]

STACK_BYTES = 160  # of 512: the rest is the compiler's
SMALL = 32  # bytes: what may lie on the stack
MOST_SCRATCH = 32760  # a per-CPU map's value (PCPU_MIN_UNIT_SIZE)


# See compile.callbacks.
_GIVEN = {
    "loop": "\tvoid *ctx = ((void **)given)[0];",
    "each": """\
	void *ctx = ((void **)given)[0], *each_key = ((void **)given)[1];
	void *each_value = ((void **)given)[2];""",
}


class Place(NamedTuple):
    """Where a value is: ``space`` is "own", "kernel", "user", "context", or "" if nothing tells.
    ``base`` is a pointer if it is its own memory, else a number."""

    base: str
    offset: int = 0
    space: str = "own"

    @property
    def address(self) -> str:
        return f"({self.base} + {self.offset})" if self.offset else self.base

    def at(self, offset: int) -> Place:
        """So many bytes further."""
        return self._replace(offset=self.offset + offset)


def literal(number: int) -> str:
    """A number of 64 bits as C.

    >>> literal(-1), literal(1 << 63)
    ('-1LL', '9223372036854775808ULL')
    """
    if number == -(1 << 63):
        return "(-9223372036854775807LL - 1)"
    return f"{int(number)}{'LL' if number < 1 << 63 else 'ULL'}"


def c_type(kind: Type) -> str:
    """C's type of a number."""
    if isinstance(kind, Int):
        return f"{'s' if kind.signed else 'u'}{8 * kind.bytes}"
    return f"u{8 * kind.size}"


def wide_type(kind: Type) -> str:
    return "s64" if isinstance(kind, Int) and kind.signed else "u64"


class Code:
    """The C of one program, or of a function that a helper calls back for it (``root``)."""

    def __init__(self, whole: Whole, name: str, leave: str, root: Optional[Code] = None) -> None:
        self.whole = whole
        self.name = name
        self.leave = leave  # "return 0;" or what says that the steps of an action end
        self.root: Code = root or self
        self.children: list[Code] = []
        self.captured = False  # whether its variables are used by functions that are called back
        self.called = ""  # of a function that is called back: "each" element, or in a "loop"
        self.frame_table = ""
        self.jumps = {"break": "break;", "continue": "continue;"}
        self.lines: list[str] = []
        self.heads: list[str] = []  # declarations at the top
        self.indent = 1
        self._stack = STACK_BYTES // 2 if root else STACK_BYTES
        self._names = 0
        self._top = self._most = self._kept = 0
        self.uses_scratch = False

    # Lines.

    def line(self, text: str) -> None:
        self.lines.append("\t" * min(self.indent, 12) + text)

    def open(self, head: str) -> None:
        self.line(f"{head} {{")
        self.indent += 1

    def close(self, foot: str = "}") -> None:
        self.indent -= 1
        self.line(foot)

    def name_of(self, letter: str) -> str:
        self.root._names += 1
        return f"{letter}_{self.root._names}"

    def number(self, kind: Type, value: str) -> str:
        """A new name for a number."""
        name = self.name_of("n")
        self.line(f"{wide_type(kind)} {name} = {value};")
        return name

    def head(self) -> list[str]:
        """What a function begins with: where its memory is."""
        found = []
        root = self.root
        if self.uses_scratch or self.frame_table:
            found.append("int zero = 0;")
        if self.uses_scratch:
            found += [
                f"char *kept = (char *)scratch_{root.name}.lookup(&zero), *scratch;",
                "if (!kept)\n\t\treturn 0;",
            ]
            if root._kept + root._most <= MOST_SCRATCH:
                found.append(f"scratch = kept + {root._kept};")
            else:
                found.append(f"scratch = (char *)more_{root.name}.lookup(&zero);")
                found.append("if (!scratch)\n\t\treturn 0;")
        if self.frame_table:
            found += [
                f"char *frame = (char *){self.frame_table}.lookup(&zero);",
                "if (!frame)\n\t\treturn 0;",
            ]
        return [f"\t{each}" for each in [*found, *self.heads]]

    def text(self) -> str:
        """The function, with its maps, and those that it has called back."""
        parts = []
        if self.uses_scratch:
            parts += self._scratch_maps()
        for child in self.children:
            head = f"int {child.name}(void *given)"
            parts += [
                head,
                "{",
                _GIVEN[child.called],
                *child.head(),
                *child.lines,
                "\treturn 0;",
                "}\n",
            ]
        parts += [f"int {self.name}(void *ctx)", "{", *self.head(), *self.lines]
        return "\n".join([*parts, "\treturn 0;", "}\n"])

    def _scratch_maps(self) -> list[str]:
        """The maps with the program's memory: one, or two of what is too much for one."""
        sizes = {"scratch": self._kept + self._most}
        if sizes["scratch"] > MOST_SCRATCH:
            sizes = {"scratch": self._kept, "more": self._most}
        for size in sizes.values():
            if size > MOST_SCRATCH:
                raise Wrong(
                    None,
                    f"one action needs {size} bytes for strings and other values: {MOST_SCRATCH} "
                    "are the most (max_strlen makes strings shorter)",
                )
        return [
            f"BPF_PERCPU_ARRAY({name}_{self.name}, {self.whole.bytes_type(max(size, 8))}, 1);"
            for name, size in sizes.items()
        ]

    # Memory.

    def slot(self, size: int, keep: bool = False, stack: bool = True) -> Place:
        """Memory for a value of so many bytes: until the statement ends, or (``keep``) the program.
        Not on the stack, if what is put there may stand at any offset."""
        size = max(align_up(size, 8), 8)
        root = self.root
        if stack and size <= min(SMALL, self._stack) and not (keep and root.captured):
            self._stack -= size
            name = self.name_of("s")
            self.heads.append(f"u64 {name}[{size // 8}];")
            return Place(f"((char *){name})")
        self.uses_scratch = root.uses_scratch = True
        if keep:
            place = Place("kept", root._kept)
            root._kept += size
            return place
        place = Place("scratch", root._top)
        root._top += size
        root._most = max(root._most, root._top)
        return place

    def mark(self) -> int:
        return self.root._top

    def release(self, mark: int) -> None:
        """Give back the slots since a mark."""
        self.root._top = mark

    def zero(self, place: Place, size: int) -> None:
        if size:
            self.line(f"zero_bytes({aligned(place)}, {size});")

    def copy_own(self, to: Place, place: Place, size: int) -> None:
        """Bytes from the program's own memory to other such."""
        if size and to.address != place.address:
            self.line(f"copy_bytes({aligned(to)}, {aligned(place)}, {size});")

    # Reading and writing.

    def load(self, place: Place, kind: Type) -> str:
        """A number that is at a place."""
        c = c_type(kind)
        if place.space == "own":
            return self.number(kind, f"*({c} *){place.address}")
        if place.space == "context":
            return self.number(kind, f"({c})context_word({'u' + c[1:]}, {place.offset})")
        name = self.name_of("r")
        self.line(f"{c} {name} = 0;")
        self.line(f"{reader(place.space)}(&{name}, {kind.size}, {place.address});")
        return self.number(kind, name)

    def load_bits(self, place: Place, field: Any) -> str:
        """The bits of a bit-field."""
        first, bits = field.offset % 8, field.bits
        size = align_up(first + bits, 8) // 8
        word = self.name_of("r")
        self.line(f"u64 {word} = 0;")
        if place.space == "own":
            self.line(f"copy_bytes(&{word}, {place.address}, {size});")
        else:
            base = f"(u64)ctx + {place.offset}" if place.space == "context" else place.address
            self.line(f"{reader(place.space)}(&{word}, {size}, {base});")
        signed = isinstance(field.type, Int) and field.type.signed
        kind = "s64" if signed else "u64"
        return self.number(field.type, f"({kind})({word} << {64 - first - bits}) >> {64 - bits}")

    def store(self, place: Place, kind: Type, value: str) -> None:
        """Put a number into the program's own memory."""
        self.line(f"*({c_type(kind)} *){place.address} = {value};")

    def fetch(self, to: Place, place: Place, kind: Type) -> None:
        """Copy a value of any type to the program's own memory."""
        if fits_register(kind):
            self.store(to, kind, self.load(place, kind))
            return
        if place.space == "own":
            self.copy_own(to, place, kind.size)
            return
        base = f"(u64)ctx + {place.offset}" if place.space == "context" else place.address
        if isinstance(kind, String):
            self.zero(to, kind.size)
            self.read_text(to, kind.size + 1, base, place.space)
        elif kind.size:
            self.line(f"{reader(place.space)}({to.address}, {kind.size}, {base});")

    def read_text(self, to: Place, size: int, address: str, space: str) -> str:
        """Read a string into a place of so many bytes, the NUL included; the helper's result."""
        name = self.name_of("g")
        self.line(f"long {name} = {reader(space)}_text({to.address}, {size}, {address});")
        return name

    def has_gaps(self, kind: Type) -> bool:
        """Whether bytes of a tuple belong to none of its elements."""
        if not isinstance(kind, Tuple):
            return False
        used = sum(element.size for element in kind.elements)
        return used != kind.size or any(self.has_gaps(element) for element in kind.elements)

    def convert(self, to: Place, kind: Type, place: Place, source: Type) -> None:
        """Copy a value of one type as one of another that it fits into."""
        if kind == source:
            self.fetch(to, place, kind)
        elif isinstance(kind, Tuple) and isinstance(source, Tuple):
            if self.has_gaps(kind):
                self.zero(to, kind.size)
            places = source.offsets()
            for number, (offset, element) in enumerate(zip(kind.offsets(), kind.elements)):
                other = source.names.index(kind.names[number]) if kind.names else number
                inner = place.at(places[other])
                self.convert(to.at(offset), element, inner, source.elements[other])
        elif fits_register(kind) and fits_register(source):
            value = self.load(place, source)
            if isinstance(kind, Bool):
                value = f"!!{value}"
            self.store(to, kind, value)
        else:
            self.zero(to, kind.size)
            self.fetch(to, place, source if source.size <= kind.size else kind)


def reader(space: str) -> str:
    return {"kernel": "read_kernel", "context": "read_kernel", "own": "read_kernel",
            "user": "read_user"}.get(space, "read_any")  # fmt: skip


def aligned(place: Place) -> str:
    """A place's address, of which the compiler may know that it is a multiple of 8."""
    if place.offset % 8 == 0 and (place.base in ("kept", "scratch", "frame") or on_stack(place)):
        return f"__builtin_assume_aligned({place.address}, 8)"
    return place.address


def on_stack(place: Place) -> bool:
    return place.base.startswith("((char")


def width(left: int, *places: Place) -> int:
    """How many bytes can be read or written at once at all of those places, of so many that are
    left: on the stack, at multiples only."""
    for size in (8, 4, 2):
        if size <= left and all(place.offset % size == 0 for place in places if on_stack(place)):
            return size
    return 1
