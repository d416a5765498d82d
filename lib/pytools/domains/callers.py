"""Who called: the functions of the process and of the kernel, innermost first, as a program has put
their addresses into an event (bpf_get_stack)."""
from __future__ import annotations

import struct

from pytools.base.annotations import TYPE_CHECKING
from pytools.read.symbols import KernelTable, Symbols, call_site

if TYPE_CHECKING:
    from typing import Any, Callable, Collection, Iterable, Sequence

__all__ = ["CALLERS_BYTES", "Callers", "KernelCallers", "UNKNOWN", "addresses_of"]

MOST_CALLERS = 32
CALLERS_BYTES = 8 * MOST_CALLERS
UNKNOWN = "[unknown]"


class Callers:
    """Names the functions in records that have ``pid`` and ``callers``. ``pids`` are processes that
    are known before, ``tell`` is told why there are no names."""

    def __init__(self, pids: Sequence[int], tell: Callable[[str], None]) -> None:
        self._symbols = Symbols()
        self._tell = tell
        self._symbols.watch(pids)

    @property
    def pid(self) -> int:
        """The process that looks names up, and opens files for it."""
        return self._symbols.pid

    def named(self, records: Iterable[Any]) -> list[Any]:
        """The records with names in place of the addresses. Of a process that ends at once, the
        names may be gone by then."""
        found = list(records)
        stacks = [addresses_of(record.callers) for record in found]
        wanted: dict[int, set[int]] = {}
        for record, addresses in zip(found, stacks):
            wanted.setdefault(record.pid, set()).update(call_site(addresses))
        known = self._symbols.resolve(wanted, last=False)
        if self._symbols.why_not:
            self._tell(self._symbols.why_not)
            self._tell = _told
        made = []
        for record, addresses in zip(found, stacks):
            names = known.get(record.pid, {})
            symbols = (names.get(address) for address in call_site(addresses))
            callers = tuple(symbol.name if symbol else UNKNOWN for symbol in symbols)
            made.append(record._replace(callers=callers))
        return made

    def close(self) -> None:
        self._symbols.close()


class KernelCallers:
    """Names the kernel's functions that led to one of the functions ``traced``."""

    def __init__(self, traced: Collection[str]) -> None:
        self._traced = traced
        self._table = KernelTable()

    def names(self, data: bytes) -> tuple[str, ...]:
        """The names for such addresses. At the return of a function, the innermost may be the
        program's own, and those by which the kernel runs it."""
        symbols = [self._table.symbol(address) for address in call_site(addresses_of(data))]
        places = [n for n, symbol in enumerate(symbols) if symbol and symbol.name in self._traced]
        return tuple(
            f"{symbol.name} {symbol.module}".rstrip() if symbol else UNKNOWN
            for symbol in symbols[places[-1] + 1 if places else 0 :]
        )


def addresses_of(data: bytes) -> list[int]:
    """The addresses that are in such a member of an event."""
    whole = len(data) // 8 * 8  # behind the last member of an event is what aligns the next one
    return [address for (address,) in struct.iter_unpack("=Q", data[:whole]) if address]


def _told(why: str) -> None:
    """It has been said."""
