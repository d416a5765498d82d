"""What the programs of a script share: records, settings, maps, sizes of types."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.plan import Record
from pytools.compile.agreed import SETTING

if TYPE_CHECKING:
    from typing import Any, Optional

    from pytools.bt.checker import Checked
    from pytools.bt.options import Options
    from pytools.bt.scope import MapFacts
    from pytools.bt.types import Type
    from pytools.facts.kernel import Kernel

__all__ = ["Table", "Whole"]

# The first versions with helpers, for kernels without BTF.
_HELPERS = {
    "for_each_map_elem": (5, 13),
    "loop": (5, 17),
    "map_lookup_percpu_elem": (5, 19),
    "ktime_get_tai_ns": (6, 1),
}


class Table:
    """A map of the script as C has it."""

    def __init__(self, facts: MapFacts, number: int) -> None:
        self.facts = facts
        self.number = number
        name = facts.name if facts.name.isidentifier() and len(facts.name) < 64 else ""
        self.table = f"map{number}_{name}" if name else f"map{number}"


class Whole:
    """The state that all programs of a script are made with."""

    def __init__(self, checked: Checked, kernel: Kernel, options: Options, place: Any) -> None:
        self.kernel = kernel
        self.options = options
        self.config = options.config
        self.layouts = checked.layouts
        self.points = checked.points
        self.facts = checked.facts
        self.records: list[Record] = []
        self.settings: dict[str, list[Any]] = {}
        self._marks: list[str] = []
        self._bytes: set[int] = set()
        self.pointed = checked.facts.pointed
        self.stacks: list[int] = []
        # Helpers that the kernel allows in some functions only, and where they are called.
        self.helpers: dict[str, list[int]] = {}
        self._named: dict[str, list[str]] = {}
        self._helpers: dict[str, bool] = {}
        self.pieces: set[str] = set()  # parts of C that some programs need
        self.place = place  # of a span: FILE:LINE:COLUMN
        self.tables = {
            name: Table(facts, number)
            for number, (name, facts) in enumerate(sorted(checked.facts.maps.items()))
            if facts.used
        }
        for number, table in enumerate(self.tables.values()):
            table.number = number

    def bytes_type(self, size: int) -> str:
        """C's type of so many bytes."""
        self._bytes.add(size)
        return f"bytes_{size}"

    def bytes_types(self) -> str:
        return "".join(
            f"typedef struct {{ char bytes[{size}]; }} bytes_{size};\n"
            for size in sorted(self._bytes)
        )

    def first_marks(self, names: list[str]) -> None:
        """The settings that other C has, which stand first."""
        self._marks = list(names)

    def setting(self, name: str, how: list[Any]) -> str:
        """C of a number that is put in when the programs are loaded."""
        self.settings[name] = how
        return self.mark(name)

    def mark(self, name: str) -> str:
        """C of what is put in for a name."""
        if name not in self._marks:
            self._marks.append(name)
        return f"setting({name}, {SETTING + self._marks.index(name):#x})"

    @property
    def marks(self) -> list[str]:
        return self._marks

    def record(self, record: Record) -> int:
        """The number of a kind of record."""
        self.records.append(record)
        return len(self.records) - 1

    def plan(self, kind: Type) -> list[Any]:
        return self.layouts.plan(kind)

    def stack(self, depth: int) -> int:
        """A depth of stacks for which there are maps."""
        if depth not in self.stacks:
            self.stacks.append(depth)
        return depth

    def setting_name(self, word: str, of: str) -> str:
        """The name of a setting that stands for something of the script's."""
        names = self._named.setdefault(word, [])
        if of not in names:
            names.append(of)
        return f"{word}_{names.index(of)}"

    def has_helper(self, name: str) -> bool:
        """Whether the kernel has a helper of that name."""
        if not self.kernel.has_btf:
            return self.kernel.version >= _HELPERS[name]
        label = f"BPF_FUNC_{name}"
        if label not in self._helpers:
            self._helpers[label] = label in self.kernel.btf.enumerators({label})
        return self._helpers[label]

    @property
    def allocates(self) -> bool:
        """Whether a map's memory may be taken when it is needed: before Linux commit ee53cbfb1ebf
        (v6.1), programs could not wait for it everywhere. bpf_mem_alloc came with it."""
        if not self.kernel.has_btf:
            return self.kernel.version >= (6, 1)
        return self.kernel.btf.function("bpf_mem_alloc_init") is not None

    def table(self, facts: Optional[MapFacts]) -> Table:
        assert facts is not None
        return self.tables[facts.name]
