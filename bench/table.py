"""What was measured, held against the limits, as the one table that is printed."""
from __future__ import annotations

from typing import NamedTuple, Sequence

from tabulate import tabulate

HEADINGS = ("what", "ours", "peer", "peer is", "ratio", "limit", "ok?")


class Row(NamedTuple):
    """One comparison. ``ours`` and ``peer`` are in ``unit``. ``limit`` is the most
    that ours/peer may be, ``most`` the most that ours may be whatever the peer
    is; a row with neither only tells."""

    what: str
    ours: float | None
    peer: float | None = None
    peer_is: str = ""
    limit: float | None = None
    unit: str = ""
    most: float | None = None

    @property
    def ratio(self) -> float | None:
        if self.ours is None or not self.peer:
            return None
        return self.ours / self.peer

    @property
    def held(self) -> bool | None:
        """Whether the limit is held; None where there is none. What could not
        be measured is not held."""
        if self.most is not None:
            return self.ours is not None and self.ours <= self.most
        if self.limit is not None:
            return self.ratio is not None and self.ratio <= self.limit
        return None


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    cells = [_cells(row) for row in rows]
    return str(tabulate(cells, HEADINGS, "simple", disable_numparse=True))


def _cells(row: Row) -> list[str]:
    limit = _quantity(row.most, row.unit)
    if row.limit is not None:
        limit = f"{row.limit:.2f}"
    return [
        row.what,
        _quantity(row.ours, row.unit),
        _quantity(row.peer, row.unit),
        row.peer_is,
        "" if row.ratio is None else f"{row.ratio:.3f}",
        limit,
        {None: "", True: "yes", False: "NO"}[row.held],
    ]


def _quantity(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if value == int(value):
        return f"{int(value):,} {unit}".rstrip()
    # Three digits that count.
    digits = max(0, 2 - len(str(int(abs(value)))) + 1)
    return f"{value:,.{digits}f} {unit}".rstrip()
