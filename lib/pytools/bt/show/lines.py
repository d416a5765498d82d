"""A program's output: bpftrace's text, or its JSON lines, one write for many."""
from __future__ import annotations

import os
import select
import sys

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.base.text import escape_line, json_text
from pytools.bt.show import values
from pytools.bt.show.graphs import Histogram, Series
from pytools.bt.show.tables import Entries

if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from pytools.bt.plan import Record
    from pytools.bt.show.names import Names

__all__ = ["JsonLines", "Lines", "lines"]

MOST_BYTES = 1 << 16  # that wait to be written


class Lines:
    """Output as text. ``buffering`` is as bpftrace's -B has it: "full" writes much at once, "none"
    each piece, "line" (or "") each line, or rather all lines of a batch."""

    json = False

    def __init__(self, path: str = "", buffering: str = "") -> None:
        self._buffering = buffering
        self._parts: list[str] = []
        self._bytes = 0
        self._held = True
        self._fd = 1
        if path:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._fd = os.open(path, flags, 0o666)
            except OSError as error:
                raise Failure(f"cannot write to {path}: {error.strerror}") from None

    def write(self, text: str) -> None:
        self._parts.append(text)
        self._bytes += len(text)
        if (self._buffering == "none" or self._bytes >= MOST_BYTES) and not self._held:
            self._flush()

    def release(self) -> None:
        """All is attached: what BEGIN has printed before that may be seen."""
        self._held = False

    def batch_ends(self) -> None:
        """Nothing more comes for a while."""
        if self._buffering != "full" and not self._held:
            self._flush()

    def close(self) -> None:
        self._held = False
        self._flush()

    def _flush(self) -> None:
        data = memoryview("".join(self._parts).encode("utf-8", "surrogateescape"))
        self._parts.clear()
        self._bytes = 0
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except BrokenPipeError:
                raise
            except OSError as error:
                raise Failure(f"cannot write the output: {error.strerror}") from None

    def action(
        self, record: Record, names: Names, end: Callable[[list[Any]], None]
    ) -> Optional[Callable[[bytes], None]]:
        """What is done with the data of a printf(), where that is not to print them; ``end`` ends
        the program, with a status."""
        return None

    # What there is to say.

    def attached(self, count: int) -> None:
        complain(f"Attached {count} probe{'s' * (count != 1)}")

    def printed(self, kind: str, text: str) -> None:
        """The text of printf, time, cat, join, and of a command (syscall)."""
        self.write(text + "\n" if kind in ("join", "syscall") else text)

    def value(self, value: Any) -> None:
        self.write(_text(value) + "\n")

    def map(self, shown: Entries) -> None:
        parts = []
        for key, value in shown.entries:
            name = shown.name if shown.scalar else f"{shown.name}[{values.key_text(key)}]"
            graph = isinstance(value, (Histogram, Series))
            parts.append(f"{name}:\n{_text(value)}\n" if graph else f"{name}: {_text(value)}\n")
        self.write("".join(parts))

    def lost_events(self, count: int) -> None:
        complain(f"Lost {count} events")

    def full(self, name: str, count: int, what: str) -> None:
        """So many insertions into a map were lost since the last time; ``what`` says so."""
        complain("WARNING: " + what.format(name=name, count=count))

    def message(self, kind: str, at: str, text: str, more: dict[str, Any] = {}) -> None:
        """An error or a warning of the program's own (errorf, warnf), or of a helper."""
        word = "ERROR" if kind == "errorf" else "WARNING"
        complain(f"{at}: {word}: {text}" if at else f"{word}: {text}")

    def end(self) -> None:
        """All events are printed: maps follow."""
        self.write("\n\n")


class JsonLines(Lines):
    """Output as JSON, a line for everything."""

    json = True

    def _line(self, kind: str, data: str, more: str = "") -> None:
        self.write(f'{{"type": {json_text(kind)}, {more}"data": {data}}}\n')

    def attached(self, count: int) -> None:
        self._line("attached_probes", f'{{"probes": {count}}}', f'"count": {count}, ')
        self._parts.insert(0, self._parts.pop())  # before what BEGIN has printed

    def printed(self, kind: str, text: str) -> None:
        self._line(kind, json_text(text))

    def value(self, value: Any) -> None:
        self._line("value", _json(value))

    def map(self, shown: Entries) -> None:
        if not shown.entries:
            return
        if shown.scalar:
            data = _json(shown.entries[0][1])
        else:
            data = values.json_object(
                [(values.json_key(key), _json(value)) for key, value in shown.entries]
            )
        self._line(shown.form, values.json_object([(shown.name, data)]))

    def lost_events(self, count: int) -> None:
        self._line("lost_events", f'{{"events": {count}}}', f'"count": {count}, ')

    def full(self, name: str, count: int, what: str) -> None:
        super().full(name, count, what)
        self._line("lost_insertions", values.json_object([(name, str(count))]))

    def message(self, kind: str, at: str, text: str, more: dict[str, Any] = {}) -> None:
        file, line, column = (at.split("-")[0].rsplit(":", 2) + ["0", "0"])[:3]
        where = [("filename", json_text(file)), ("line", line), ("col", column)]
        said = [("type", json_text(kind)), ("msg", json_text(text))]
        extra = [(name, values.json(value)) for name, value in more.items()]
        self.write(values.json_object(said + extra + where) + "\n")

    def end(self) -> None:
        pass


def lines(form: str, path: str, buffering: str) -> Lines:
    """The output of a form, "text" or "json", to a file or to standard output."""
    return (JsonLines if form == "json" else Lines)(path, buffering)


def _text(value: Any) -> str:
    return value.text() if isinstance(value, (Histogram, Series)) else values.text(value)


def _json(value: Any) -> str:
    return value.json() if isinstance(value, (Histogram, Series)) else values.json(value)


def complain(text: str) -> None:
    """Say something on standard error, which may have several lines."""
    try:
        for line in text.split("\n"):
            print(escape_line(line), file=sys.stderr)
        sys.stderr.flush()
    except (OSError, AttributeError):
        pass
