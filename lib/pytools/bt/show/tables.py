"""The maps of a program: read, added up over the CPUs, cleared, and put in bpftrace's order."""
from __future__ import annotations

import struct
import sys

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.bt.show import graphs, values
from pytools.bt.show.shapes import Record

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

    from pytools.bt.plan import MapPlan, Type
    from pytools.bt.show.names import Names
    from pytools.load.maps import Map

__all__ = ["Entries", "Table"]

GRAPHS = {"hist": "hist", "lhist": "hist", "tseries": "tseries"}
PARTS = (*GRAPHS,)  # types whose keys have a bucket, or a slot, behind what the script sees
STATS = ("avg", "stats")
BY_VALUE = ("count", "sum", "int", "min", "max", *STATS)
U32 = 4


class Entries(NamedTuple):
    """What is to be printed of a map: ``form`` is how JSON calls it, ``scalar`` says that its only
    value has no key. Values are those of ``values``, or graphs."""

    name: str
    form: str
    scalar: bool
    entries: list[tuple[Any, Any]]


class Table:
    """A map of the script's. ``ended`` tells it that a generation has ended: what was counted in
    it moves here, until the map is cleared."""

    def __init__(self, plan: MapPlan, made: Map, names: Names) -> None:
        self.plan = plan
        self.map = made
        self._key = values.decoder(plan.key, names)
        self._key_size = values.size_of(plan.key)
        self._word = plan.value[0]
        self._sort_key = _sort_key(plan.key)
        self._cell, self._merge = _reduction(plan.value, made.per_cpu or 1)
        self._decode: Callable[[bytes, int], Any] | None = None
        if self._cell is None:
            self._decode = values.decoder(plan.value, names)
        # Behind the key: a bucket or a slot, then the generation.
        behind = -(-(self._key_size or U32) // U32) * U32  # a key of nothing is a u32
        self._part = behind if self._word in PARTS else -1
        self._generation = behind + U32 * (self._part >= 0) if plan.generation else -1
        self._held: dict[tuple[bytes, int], Any] = {}

    # Reading.

    def _cells(self, pairs: Iterable[tuple[bytes, bytes]]) -> dict[tuple[bytes, int], Any]:
        """The cells of a map by the key and the bucket, or the number of the interval."""
        cell, merge, part, size = self._cell, self._merge, self._part, self._key_size
        found: dict[tuple[bytes, int], Any] = {}
        for raw_key, raw_value in pairs:
            number = 0
            if part >= 0:
                number = int.from_bytes(raw_key[part : part + U32], sys.byteorder)
            if self._word == "tseries":
                number = _interval(raw_value)
            place = raw_key[:size], number
            value = raw_value if cell is None else cell(raw_value)
            found[place] = merge(found[place], value) if place in found else value
        return found

    def ended(self, current: int) -> None:
        """Move what was counted before the current generation here."""
        place = self._generation

        def old(key: bytes) -> bool:
            return int.from_bytes(key[place : place + U32], sys.byteorder) != current

        for where, value in self._cells(self.map.take_raw(old)).items():
            held = self._held
            held[where] = self._merge(held[where], value) if where in held else value

    def _all(self) -> dict[tuple[bytes, int], Any]:
        found = self._cells(self.map.raw())
        for where, value in self._held.items():
            found[where] = self._merge(found[where], value) if where in found else value
        return found

    def held(self, top: int = 0, divisor: int = 1) -> Entries:
        """What was moved here, to print."""
        return self._entries(self._held, top, divisor or 1)

    def all(self, top: int = 0, divisor: int = 1) -> Entries:
        """All that was counted, to print."""
        return self._entries(self._all(), top, divisor or 1)

    def element(self, key: bytes) -> Any:
        """The value of one key; of one that is not there, that of zeros."""
        cells = {where: cell for where, cell in self._all().items() if where[0] == key}
        for _, value in self._entries(cells, 0, 1).entries:
            return value
        return self.nothing()

    def nothing(self) -> Any:
        """The value of a map that has none."""
        if self._word in GRAPHS:
            return graphs.Histogram([])
        zeros = bytes(self.map.spec.value_size * 2 + 16)
        if self._cell is None:
            assert self._decode is not None
            return self._decode(zeros, 0)
        return _value(self.plan.value, (0, 0) if self._word in STATS else 0, 1)

    # Clearing.

    def clear_held(self) -> None:
        self._held.clear()

    def zero_held(self) -> None:
        for where in self._held:
            self._held[where] = _zero(self._word)

    def clear(self) -> None:
        """Remove all entries of a map without generations."""
        self.map.take_raw(lambda key: True)

    def zero(self) -> None:
        """Set all values of a map without generations to zero."""
        for key, value in self.map.raw():
            self.map.set(key, bytes(len(value)))

    # For people and programs.

    def _entries(self, cells: dict[tuple[bytes, int], Any], top: int, divisor: int) -> Entries:
        word = self._word
        found = self._graphs(cells, divisor) if word in GRAPHS else self._values(cells, divisor)
        scalar = self.plan.key[0] == "none"
        if top and word != "tseries":
            found = found[-top:]
        form = GRAPHS.get(word, "stats" if word in STATS else "map")
        shown = [(None if scalar else self._key(key, 0), value) for key, value in found]
        return Entries(self.plan.name, form, scalar, shown)

    def _by_key(self, pair: Any) -> Any:
        return self._sort_key(pair[0])

    def _values(self, cells: dict[tuple[bytes, int], Any], divisor: int) -> list[tuple[bytes, Any]]:
        kind, decode = self.plan.value, self._decode
        pairs: list[tuple[bytes, Any]] = [(key, cells[key, n]) for key, n in cells]
        pairs.sort(key=self._by_key)
        if decode is not None:
            decoded = [(key, decode(cell, 0)) for key, cell in pairs]
            if self._word == "int":
                decoded.sort(key=_second)
                return [(key, _divided(value, divisor)) for key, value in decoded]
            return decoded
        if self._word in BY_VALUE:
            pairs.sort(key=_order)
        return [(key, _value(kind, cell, divisor)) for key, cell in pairs]

    def _graphs(self, cells: dict[tuple[bytes, int], Any], divisor: int) -> list[tuple[bytes, Any]]:
        by_key: dict[bytes, dict[int, Any]] = {}
        for (key, number), cell in cells.items():
            by_key.setdefault(key, {})[number] = cell
        order = sorted(by_key, key=self._sort_key)
        if self._word == "tseries":
            _, interval, slots, what = self.plan.value
            last = max((number for _, number in cells), default=0)
            return [
                (
                    key,
                    graphs.series(
                        {number: _reduced(what, cell) for number, cell in by_key[key].items()
                         if cell[1]}, interval, last - slots + 1, last,
                    ),
                )
                for key in order
            ]  # fmt: skip
        totals: dict[bytes, int] = {key: sum(by_key[key].values()) for key in order}
        order.sort(key=totals.__getitem__)
        if self._word == "hist":
            bits = self.plan.value[1]
            return [(key, graphs.log2(by_key[key], bits, divisor)) for key in order]
        low, high, step = self.plan.value[1:4]
        return [(key, graphs.linear(by_key[key], low, high, step)) for key in order]


# What the CPUs have counted, as one cell.


def _reduction(
    kind: Type, cpus: int
) -> tuple[Callable[[bytes], Any] | None, Callable[[Any, Any], Any]]:
    """How a value of all CPUs becomes a cell (None: the value's bytes are the cell), and how two
    cells of one key become one."""
    word = kind[0]
    if word in ("count", "hist", "lhist"):
        counts = struct.Struct(f"={cpus}Q").unpack_from
        return lambda data: sum(counts(data)), lambda one, other: one + other
    if word == "sum":
        letter = "q" if kind[1] else "Q"
        sums = struct.Struct(f"={cpus}{letter}").unpack_from
        return lambda data: _wrapped(sum(sums(data)), kind[1]), lambda one, other: _wrapped(
            one + other, kind[1]
        )
    if word == "tseries":
        slots = struct.Struct("=" + "qQQ" * cpus).unpack_from
        return _series_cell(kind[3], lambda data: slots(data)), _series_merge(kind[3])
    if word in ("min", "max", *STATS):
        pairs = struct.Struct("=" + ("qQ" if kind[1] else "QQ") * cpus).unpack_from
        if word in STATS:
            return lambda data: _totals(pairs(data)), lambda one, other: (
                one[0] + other[0], one[1] + other[1],
            )  # fmt: skip
        best = min if word == "min" else max

        def extreme(data: bytes) -> Any:
            found = pairs(data)
            return best((n for n, is_set in zip(found[::2], found[1::2]) if is_set), default=0)

        return extreme, best
    return None, lambda one, other: one


def _wrapped(number: int, signed: bool) -> int:
    number &= (1 << 64) - 1
    return number - (1 << 64) if signed and number >> 63 else number


def _totals(pairs: tuple[int, ...]) -> tuple[int, int]:
    return sum(pairs[::2]), sum(pairs[1::2])


def _interval(raw_value: bytes) -> int:
    """The latest interval that any CPU has a value of."""
    numbers = struct.unpack(f"={len(raw_value) // 8}Q", raw_value)
    return int(max(numbers[2::3]))


def _series_cell(
    what: str, unpack: Callable[[bytes], tuple[int, ...]]
) -> Callable[[bytes], tuple[int, int]]:
    merge = _series_merge(what)

    def cell(data: bytes) -> tuple[int, int]:
        numbers = unpack(data)
        latest = max(numbers[2::3])
        found = (0, 0)
        for value, meta, interval in zip(numbers[::3], numbers[1::3], numbers[2::3]):
            if interval == latest and meta:
                found = merge(found, (value, meta)) if found[1] else (value, meta)
        return found

    return cell


def _series_merge(what: str) -> Callable[[Any, Any], Any]:
    def merge(one: Any, other: Any) -> Any:
        if not one[1] or not other[1]:
            return one if one[1] else other
        if what in ("sum", "avg"):
            return one[0] + other[0], one[1] + other[1]
        if what in ("min", "max"):
            return (min if what == "min" else max)(one, other)
        return max(one, other, key=_second)

    return merge


def _reduced(what: str, cell: tuple[int, int]) -> Any:
    return _divided(cell[0], cell[1]) if what == "avg" else cell[0]


def _zero(word: str) -> Any:
    return (0, 0) if word in STATS or word == "tseries" else 0


def _divided(number: Any, divisor: int) -> Any:
    """C's division: towards zero."""
    if isinstance(number, bool) or divisor in (0, 1):
        return number
    return number // divisor if number >= 0 else -(-number // divisor)


def _second(pair: Any) -> Any:
    return pair[1]


def _order(pair: Any) -> Any:
    """By what maps are sorted that are by value."""
    cell = pair[1]
    return _divided(cell[0], cell[1]) if isinstance(cell, tuple) else cell


def _value(kind: Type, cell: Any, divisor: int) -> Any:
    if kind[0] not in STATS:
        return _divided(cell, divisor)
    total, count = cell
    average = _divided(_divided(total, count) if count else 0, divisor)
    if kind[0] == "avg":
        return average
    return Record([("count", count), ("average", average), ("total", total)])


def _sort_key(kind: Type) -> Any:
    """By what keys are sorted: numbers by number, texts by their bytes, tuples member by member."""
    word = kind[0]
    if word == "tuple":
        members = [
            (offset, offset + values.size_of(inner), _sort_key(inner)) for offset, inner in kind[2]
        ]
        return lambda key: [order(key[first:behind]) for first, behind, order in members]
    if word in ("int", "enum"):
        unpack = struct.Struct("=" + values.int_code(kind[1], kind[2])).unpack_from
        return lambda key: unpack(key)[0]
    if word in ("pointer", "ksym", "usym"):
        return lambda key: int.from_bytes(key[:8], sys.byteorder)
    return lambda key: key
