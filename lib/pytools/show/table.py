"""Tables: one for each interval, as text, JSON lines or CSV."""
from __future__ import annotations


from pytools.base.annotations import TYPE_CHECKING
from pytools.show.output import Output
from pytools.base.text import escape
from pytools.show.stream import Column, EventWriter

if TYPE_CHECKING:
    from typing import Any, Iterable, Sequence


__all__ = ["TableWriter"]


# Move to the top left corner and erase all below (ECMA-48: CUP, ED).
CLEAR = "\x1b[H\x1b[J"


class TableWriter:
    """Writes a tool's tables in the form that the user asked for: text laid out by
    tabulate, as wide as its values; a JSON object or a CSV line for each row.

    A value is an int, a float, a str, or None for "not known". With ``refresh``, each table takes
    the place of the one before on a terminal, and is cut to its height.
    """

    def __init__(
        self, output: Output, form: str, columns: Sequence[Column], refresh: bool = False
    ) -> None:
        self.output = output
        self.refresh = refresh and output.terminal
        self.form = form
        self.columns = list(columns)
        self._events = EventWriter(output, form, columns)

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write one interval's rows, each with its values in the columns' order."""
        if self.form != "text":
            self._events.head()
            moment = self.output.clock.rfc3339()  # one for the whole table
            for row in rows:
                self._events.add(row, moment)
            self._events.flush()
            return
        import tabulate  # takes longer to import than a tool to start

        tabulate.MIN_PADDING = 0  # two spaces between columns are enough
        shown = [(i, column) for i, column in enumerate(self.columns) if column.fits(self.output)]
        cells = [[self._cell(column, row[i]) for i, column in shown] for row in rows]
        headings = [column.heading for _, column in shown]
        align = ["left" if column.width > 0 else "right" for _, column in shown]
        # Text only: tabulate would take a command called "1e5" for a number.
        table = tabulate.tabulate(
            cells, headings, "plain", disable_numparse=True, colalign=align if cells else None
        )  # without rows it has no columns to align
        if self.refresh:
            table = CLEAR + "\n".join(table.splitlines()[: self.output.height - 1])
        self.output.write(table + "\n\n")

    def lost(self, count: int) -> None:
        """Say how many events are missing in the tables so far."""
        self._events.lost(count)

    @staticmethod
    def _cell(column: Column, value: Any) -> str:
        if column.form is not None and value is not None:
            value = column.form(value)
        return "-" if value is None else escape(str(value))
