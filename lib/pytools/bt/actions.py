"""What records ask for: text to print, maps to print, clear and zero, commands, the end."""
from __future__ import annotations

import os
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import escape
from pytools.bt.show import formats, values
from pytools.bt.show.tables import Entries

if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Sequence

    from pytools.bt.plan import Plan, Record
    from pytools.bt.show.lines import Lines
    from pytools.bt.show.names import Names
    from pytools.bt.show.tables import Table
    from pytools.load.loader import Loaded

    Action = Callable[[bytes], None]

__all__ = ["Actions"]


class Actions:
    """Does what records ask for, in their order. ``exit_code`` is set when one ends the program.

    A generation of counts ends before they are printed. What is cleared next is what was printed:
    what was counted in between belongs to the next time. That holds as long as nothing else happens
    in between that the program can know of (``begin_step``)."""

    def __init__(
        self,
        plan: Plan,
        tables: Mapping[str, Table],
        names: Names,
        lines: Lines,
        loaded: Loaded,
        uses: Mapping[str, set[str]],
        warns: bool = True,
    ) -> None:
        self.exit_code: int | None = None
        self.left_out = 0  # commands
        self.stopping = False  # what is on its way is printed, and runs no commands any more
        self._plan = plan
        self._tables = tables
        self._names = names
        self._lines = lines
        self._warns = warns
        self._uses = uses  # maps that a program uses, by its name
        self._in_block = False
        self._ended = False  # the generation, in this block, with nothing counted by it since
        self._printed: set[str] = set()
        self._generations = None
        if any(each.generation for each in plan.maps):
            from pytools.read.generations import Generations

            self._generations = Generations(loaded)
        self._actions = [self._action(record) for record in plan.records]

    def close(self) -> None:
        self._names.close()

    # Blocks and batches.

    def begin_block(self) -> None:
        """A block that the tool runs begins."""
        self._in_block = True
        self._ended = False
        self._printed.clear()

    def begin_step(self, program: str) -> None:
        """A step of the block is run: what it counts itself was not printed."""
        own = self._uses.get(program, set())
        for name, table in self._tables.items():
            if table.plan.table in own:
                self._printed.discard(name)
                self._ended = False

    def end_block(self) -> None:
        self._in_block = False

    def begin_batch(self) -> None:
        """Records of probes follow."""
        self._printed.clear()

    def do(self, records: Sequence[tuple[Any, ...]]) -> None:
        actions = self._actions
        for number, data in records:
            actions[number](data)
            if self.exit_code is not None:
                return

    # One action of each record.

    def _action(self, record: Record) -> Action:
        word = record.action
        if word in ("print_map", "clear", "zero"):
            table = self._tables[record.map]
            if word == "print_map":
                return lambda data: self._print_map(table, record.top, record.divisor)
            clear = self._clear if word == "clear" else self._zero
            return lambda data: clear(table)
        if word == "printf":
            own = self._lines.action(record, self._names, self._exit)
            if own is not None:
                return own
            write, printed = self._lines.write, self._lines.printed
            if not self._lines.json:
                form = formats.format_of(record, self._names)
                return lambda data: write(form(data))
            raw = formats.format_of(record, self._names, _as_it_is)
            return lambda data: printed("printf", raw(data))
        if word in ("warnf", "warning") and not self._warns:
            return lambda data: None
        if word in ("errorf", "warnf", "debugf"):
            form, at = formats.format_of(record, self._names), record.at
            return lambda data: self._lines.message(word, at, form(data))
        if word == "warning":
            return lambda data: self._lines.message(word, record.at, _text(record))
        if word in ("system", "cat"):
            return self._outside(record)
        if word == "time":
            return lambda data: self._lines.printed("time", time.strftime(_text(record)))
        get = formats.arguments(record, self._names)
        if word == "print":
            return lambda data: self._lines.value(get(data)[0])
        if word == "print_element":
            return self._element(record, get)
        if word == "join":
            escaped = not self._lines.json
            return lambda data: self._lines.printed(
                "join", _joined(_text(record), get(data), escaped)
            )
        if word == "exit":
            return lambda data: self._exit(get(data))
        if word == "error":
            return lambda data: self._error(record, get(data))
        return lambda data: None

    def _exit(self, arguments: list[Any]) -> None:
        self.exit_code = int(arguments[0]) & 0xFF if arguments else 0

    def _error(self, record: Record, arguments: list[Any]) -> None:
        number = int(arguments[0]) if arguments else 0
        text = _text(record)
        more = {"retcode": number, "helper": text}
        said = os.strerror(-number) if number < 0 else text
        self._lines.message("helper_error", record.at, said, more)

    def _outside(self, record: Record) -> Action:
        from pytools.bt import outside  # few programs do

        names, lines = self._names, self._lines
        most = int(self._plan.config.get("max_cat_bytes", 10240))
        cat = record.action == "cat"
        form = formats.format_of(
            record, names, _as_it_is if cat else outside.quoting(record.pieces)
        )

        def act(data: bytes) -> None:
            if self.stopping:
                self.left_out += 1
                return
            text = form(data)
            outside.cat(lines, text, most) if cat else outside.system(lines, text)

        return act

    # Maps.

    def _end_generation(self) -> None:
        """Move what was counted until now to the tables."""
        if self._ended and self._in_block:
            return
        assert self._generations is not None
        self._generations.end()
        for table in self._tables.values():
            if table.plan.generation:
                table.ended(self._generations.number)
        self._ended = True

    def _print_map(self, table: Table, top: int, divisor: int) -> None:
        if table.plan.generation:
            self._end_generation()
            self._printed.add(table.plan.name)
            shown = table.held(top, divisor)
        else:
            shown = table.all(top, divisor)
        if shown.scalar and not shown.entries and shown.form in ("map", "stats"):
            shown = Entries(shown.name, shown.form, True, [(None, table.nothing())])
        self._lines.map(shown)

    def _clear(self, table: Table) -> None:
        if not table.plan.generation:
            table.clear()
            return
        if table.plan.name not in self._printed:
            self._end_generation()
        self._printed.discard(table.plan.name)
        table.clear_held()

    def _zero(self, table: Table) -> None:
        if not table.plan.generation:
            table.zero()
            return
        if table.plan.name not in self._printed:
            self._end_generation()
        self._printed.discard(table.plan.name)
        table.zero_held()

    def _element(self, record: Record, get: Callable[[bytes], list[Any]]) -> Action:
        """A value that stands in the record, behind its key; of a map that is by CPU, the key."""
        table = self._tables[record.map]
        if len(record.arguments) > 1:
            return lambda data: self._lines.value(get(data)[-1])
        if not record.arguments:
            return lambda data: self._lines.value(table.element(b""))
        ((offset, kind),) = record.arguments
        size = values.size_of(kind)

        def shown(data: bytes) -> None:
            key = data[offset : offset + size]
            if kind[0] == "string":
                key = data[record.size :].ljust(size, b"\0")
            self._lines.value(table.element(key))

        return shown

    def print_all(self) -> None:
        """Print all maps, at the end, by name."""
        if self._generations is not None:
            self._ended = False
            self._end_generation()
        for name in sorted(self._tables):
            table = self._tables[name]
            self._lines.map(table.held() if table.plan.generation else table.all())


def _as_it_is(number: int, text: str) -> str:
    return text


def _text(record: Record) -> str:
    return "".join(piece for piece in record.pieces if isinstance(piece, str))


def _joined(separator: str, words: list[Any], escaped: bool) -> str:
    """Words up to the first that is empty."""
    found = []
    for word in words:
        if not word:
            break
        found.append(escape(word) if escaped else word)
    return separator.join(found)
