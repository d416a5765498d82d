"""Event streams: one line an event, as a table, JSON lines or CSV."""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

from pytools.output import Output, csv_field, escape, json_text

__all__ = ["Column", "EventWriter"]


class Column(NamedTuple):
    """A column: its heading, and its width (negative: aligned to the right, as
    numbers are; 0: as wide as its text, for the last one). ``name`` is what JSON
    and CSV call it. A column with ``from_width`` is shown in text only on a
    terminal of at least so many columns."""

    heading: str
    width: int = 0
    name: str = ""
    from_width: int = 0

    @property
    def key(self) -> str:
        return self.name or self.heading.lower()


class EventWriter:
    """Writes events, each a sequence of values in the order of the columns: ints,
    floats, str (``text_of`` bytes), or None for "not known". ``add`` takes them, and
    the event's wall-clock time (Clock.rfc3339; now, if left out), which JSON and
    CSV have as ``ts``; ``flush`` writes what was added."""

    def __init__(self, output: Output, form: str, columns: Sequence[Column]) -> None:
        self.output = output
        self.form = form
        self.columns = list(columns)
        self._lines: list[str] = []
        self._headed = False
        self._shown = [
            number
            for number, column in enumerate(self.columns)
            if not column.from_width or (output.terminal and output.width >= column.from_width)
        ]
        self.add: Callable[..., None] = {"json": self._json, "csv": self._csv}.get(form, self._text)
        self._keys = [f'{json_text(column.key)}: ' for column in self.columns]
        self._pads = [self.columns[number].width for number in self._shown]

    @property
    def wants_time(self) -> bool:
        """Whether each event needs its wall-clock time: JSON and CSV have it always."""
        return self.form != "text"

    def head(self) -> None:
        """Write the headings, once; there are none in JSON."""
        if self._headed:
            return
        self._headed = True
        if self.form == "csv":
            self.output.write(",".join(["ts"] + [column.key for column in self.columns]) + "\n")
        elif self.form == "text":
            headings = [self.columns[number].heading for number in self._shown]
            self.output.write(self._row(headings) + "\n")

    def _row(self, cells: Sequence[str]) -> str:
        return " ".join(
            [
                cell.ljust(pad) if pad > 0 else cell.rjust(-pad) if pad else cell
                for cell, pad in zip(cells, self._pads)
            ]
        ).rstrip(" ")

    def _text(self, values: Sequence[Any], moment: str | None = None) -> None:
        cells = []
        for number in self._shown:
            value = values[number]
            if type(value) is str:
                if not (value.isprintable() and "\\" not in value):
                    value = escape(value)
            elif value is None:
                value = "-"
            else:
                value = str(value)
            cells.append(value)
        self._lines.append(self._row(cells))

    def _json(self, values: Sequence[Any], moment: str | None = None) -> None:
        parts = [f'{{"ts": "{moment or self.output.clock.rfc3339()}"']
        for key, value in zip(self._keys, values):
            if type(value) is str:
                parts.append(key + json_text(value))
            elif value is None:
                parts.append(key + "null")
            elif value is True or value is False:
                parts.append(key + ("true" if value else "false"))
            else:
                parts.append(key + str(value))
        self._lines.append(", ".join(parts) + "}")

    def _csv(self, values: Sequence[Any], moment: str | None = None) -> None:
        cells = [moment or self.output.clock.rfc3339(), *map(csv_field, values)]
        self._lines.append(",".join(cells))

    def flush(self) -> None:
        """Write what was added, with one write(2)."""
        if self._lines:
            self.head()
            self._lines.append("")
            text = "\n".join(self._lines)
            self._lines.clear()
            self.output.write(text)

    def lost(self, count: int) -> None:
        """Say how many events are missing."""
        self.flush()
        if count:
            self.output.message(f"{count} events lost")
            if self.form == "json":
                moment = self.output.clock.rfc3339()
                self.output.write(
                    f'{{"ts": "{moment}", "tool": {json_text(self.output.tool)}, "lost": {count}}}\n'
                )
