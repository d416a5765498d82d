"""Event streams: one line an event, as a table, JSON lines or CSV."""
from __future__ import annotations

from operator import getitem, itemgetter

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.show.output import Output
from pytools.base.text import csv_field, escape, json_text, c_text

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Mapping, Sequence


__all__ = ["Column", "EventWriter", "plain"]

# A column remembers the text of so many values of so many characters, and no
# longer ones: together less than 1 MiB.
MOST_REMEMBERED = 4096
LONGEST_REMEMBERED = 128
BELOW = " " * 8  # before a line that is below another


class Column(NamedTuple):
    """A column: its heading, and its width (negative: aligned to the right, as
    numbers are; 0: as wide as its text, for the last one). ``name`` is what JSON
    and CSV call it. A column with ``from_width`` is shown in text only on a
    terminal of at least so many columns. ``of`` names the member of a record
    that the column is about, if it is not the column's own name; ``form`` gives
    what is written in place of the member's value; ``rate`` says that a table has it
    by second. What is ``below`` has no place in the line, but lines below it: its values are lines;
    it is the last one."""

    heading: str
    width: int = 0
    name: str = ""
    from_width: int = 0
    of: str = ""
    form: Callable[[Any], Any] | None = None
    rate: bool = False
    below: bool = False

    @property
    def key(self) -> str:
        return self.name or self.heading.lower()

    def fits(self, output: Output) -> bool:
        """Whether the column is shown in text."""
        return not self.from_width or (output.terminal and output.width >= self.from_width)


class _Texts(dict):  # type: ignore[type-arg]  # a text by any value
    """What is written for each value of a column. A stream has the same pids,
    names and errors again and again: each is formatted and escaped once."""

    def __init__(self, write: Callable[[Any], str]) -> None:
        self._write = write

    def __missing__(self, value: Any) -> str:
        text = self._write(value)
        if len(text) <= LONGEST_REMEMBERED:
            if len(self) >= MOST_REMEMBERED:
                self.clear()
            self[value] = text
        return text


# As a function, and one of C: it is called for every value.
_text_of_value: Callable[[Any, Any], str] = getitem


class EventWriter:
    """Writes events. ``add`` takes the values of one, in the order of the columns:
    ints, floats, str (``text_of`` bytes), bytes (a C string; b"" if it is not
    known), or None for "not known"; and its wall-clock time (Clock.rfc3339; now,
    if left out), which JSON and CSV have as ``ts``. ``records`` takes the records
    of a ring buffer, whose members ``members`` names; the first is the time of
    the event (bpf_ktime_get_ns). ``flush`` writes what was added."""

    def __init__(
        self,
        output: Output,
        form: str,
        columns: Sequence[Column],
        members: Sequence[str] = (),
    ) -> None:
        self.output = output
        self.form = form
        self.columns = list(columns)
        self._lines: list[str] = []
        self.any = False  # whether anything was written but the headings
        self._headed = False
        shown = [
            (number, column)
            for number, column in enumerate(self.columns)
            if form != "text" or column.fits(output)
        ]
        # Nothing stands behind it in its line.
        self._last = next((c for _, c in reversed(shown) if not c.below), None)
        self._headings = [
            self._padded(column)(column.heading) for _, column in shown if not column.below
        ]
        self._line = _with_lines_below if shown and shown[-1][1].below else " ".join
        cell = {"json": self._json, "csv": self._csv}.get(form, self._text)
        self._texts = [_Texts(cell(column)) for _, column in shown]
        self._pick = _picker([number for number, _ in shown])
        if members:
            places = [list(members).index(column.of or column.key) for _, column in shown]
            self._pick_members = _picker(places)

    # What a value becomes, by form.

    def _padded(self, column: Column) -> Callable[[str], str]:
        width = column.width
        if column is self._last and width > 0:
            width = 0
        if width < 0:
            return lambda text: text.rjust(-width)
        return lambda text: text.ljust(width)

    def _text(self, column: Column) -> Callable[[Any], str]:
        padded = self._padded(column)

        def write(value: Any) -> str:
            value = plain(value, column.form)
            if column.below:
                return "".join(f"\n{BELOW}{escape(line)}" for line in value)
            return padded("-" if value is None else escape(str(value)))

        return write

    def _json(self, column: Column) -> Callable[[Any], str]:
        key = json_text(column.key)

        def write(value: Any) -> str:
            value = plain(value, column.form)
            if isinstance(value, str):
                return f"{key}: {json_text(value)}"
            if value is None or isinstance(value, bool):
                value = {None: "null", True: "true", False: "false"}[value]
            return f"{key}: {value}"

        return write

    def _csv(self, column: Column) -> Callable[[Any], str]:
        return lambda value: csv_field(plain(value, column.form))

    # Lines.

    def head(self) -> None:
        """Write the headings, once; there are none in JSON."""
        if self._headed:
            return
        self._headed = True
        if self.form == "csv":
            self.output.write(",".join(["ts"] + [column.key for column in self.columns]) + "\n")
        elif self.form == "text":
            self.output.write(" ".join(self._headings).rstrip(" ") + "\n")

    def add(self, values: Sequence[Any], moment: str | None = None) -> None:
        self._add(self._pick(values), moment)

    def records(self, records: Iterable[tuple[Any, ...]]) -> None:
        pick, texts, line = self._pick_members, self._texts, self._line
        if self.form == "text":
            self._lines += [line(map(_text_of_value, texts, pick(record))) for record in records]
            return
        rfc3339 = self.output.clock.rfc3339
        for record in records:
            self._add(pick(record), rfc3339(record[0]))

    def _add(self, values: Sequence[Any], moment: str | None) -> None:
        cells = map(_text_of_value, self._texts, values)
        if self.form == "text":
            self._lines.append(self._line(cells))
            return
        moment = moment or self.output.clock.rfc3339()
        if self.form == "json":
            self._lines.append(f'{{"ts": "{moment}", {", ".join(cells)}}}')
        else:
            self._lines.append(f"{moment},{','.join(cells)}")

    def flush(self) -> None:
        """Write what was added, with one write(2)."""
        if self._lines:
            self.any = True
            self.head()
            self._lines.append("")
            text = "\n".join(self._lines)
            self._lines.clear()
            self.output.write(text)

    def lost(self, count: int, beside: Mapping[str, int] = {}, what: str = "events") -> None:
        """Say how many are missing of ``what``; JSON also has those ``beside``, by reason."""
        self.flush()
        if count:
            self.output.message(f"{count} {what} lost")
        found = {**({"lost": count} if count else {}), **beside}
        if found and self.form == "json":
            moment = self.output.clock.rfc3339()
            tool = json_text(self.output.tool)
            counts = ", ".join(f"{json_text(name)}: {number}" for name, number in found.items())
            self.output.write(f'{{"ts": "{moment}", "tool": {tool}, {counts}}}\n')


def _with_lines_below(cells: Iterable[str]) -> str:
    *line, below = cells
    return " ".join(line) + below


def _picker(places: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A function that gives those values of many, in that order."""
    if len(places) == 1:
        return lambda values: (values[places[0]],)
    return itemgetter(*places)


def plain(value: Any, form: Callable[[Any], Any] | None) -> Any:
    """What a value stands for: bytes, the text of the C string in them."""
    if form is not None:
        value = form(value)
    if isinstance(value, bytes):
        return c_text(value) if value else None
    return value
