"""Tools that trace nothing: they list what there is, and end."""
from __future__ import annotations

import argparse

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import escape
from pytools.show.output import Output
from pytools.show.stream import EventWriter, plain
from pytools.tool import fields
from pytools.tool.definition import Tool, Trace
from pytools.tool.fields import Context, Field
from pytools.tool.waiting import Waiting

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Mapping, Sequence


__all__ = ["Listing", "ListingTool", "TableListing"]


class ListingTool(Tool):
    """A tool that lists what there is (``traces=False``). ``listed`` are the fields that programs
    get of each."""

    def __init__(self, text: str | None, *, listed: Sequence[Field], **declared: Any) -> None:
        super().__init__(text, **declared)
        self.fields = list(listed)

    def schema(self) -> dict[str, Any]:
        return {
            **super().schema(),
            "kind": Listing.kind,
            "fields": fields.schema(self.fields, ""),
        }

    def listing(
        self,
        options: argparse.Namespace,
        found: Callable[[], Iterable[Any]],
        text: Callable[[Any], Iterable[str]],
        values: Callable[[Any], Sequence[Any]],
    ) -> Listing:
        """List; see Listing."""
        return Listing(self, options, found, text, values)

    def in_columns(
        self, options: argparse.Namespace, found: Callable[[], Iterable[Mapping[str, Any]]]
    ) -> TableListing:
        """List in columns; see TableListing."""
        return TableListing(self, options, found)


class Listing(Trace):
    """What ``found`` gives each time that it is asked: ``text`` makes lines for people of one of
    them, ``values`` those of the tool's fields, in their order."""

    kind = "table"

    def __init__(
        self,
        tool: ListingTool,
        options: argparse.Namespace,
        found: Callable[[], Iterable[Any]],
        text: Callable[[Any], Iterable[str]],
        values: Callable[[Any], Sequence[Any]],
    ) -> None:
        super().__init__(tool, options, None)
        context = Context(options, self.clock, self.began)
        self._columns = fields.columns(tool.fields, "", "json", context)
        self._found = found
        self._text = text
        self._values = values

    def read(self) -> tuple[list[Any], Mapping[str, int]]:
        return [
            {
                column.key: plain(value, column.form)
                for column, value in zip(self._columns, self._values(each))
            }
            for each in self._found()
        ], {}

    def print(self, output: Output, waiting: Waiting) -> None:
        form = self.options.form
        if form == "text":
            lines = [escape(line) for each in self._found() for line in self._text(each)]
            output.write("".join(f"{line}\n" for line in lines))
            return
        writer = EventWriter(output, form, self._columns)
        moment = output.clock.rfc3339()
        for each in self._found():
            writer.add(self._values(each), moment)
        writer.head()
        writer.flush()


class TableListing(Listing):
    """What ``found`` gives are rows: values by their names (``Field.value``). People get them in
    columns."""

    def __init__(
        self,
        tool: ListingTool,
        options: argparse.Namespace,
        found: Callable[[], Iterable[Mapping[str, Any]]],
    ) -> None:
        super().__init__(
            tool, options, found, lambda row: (),
            lambda row: [row[column.of] for column in self._columns],
        )  # fmt: skip
        context = Context(options, self.clock, self.began)
        self._for_people = fields.columns(tool.fields, "", "text", context)

    def print(self, output: Output, waiting: Waiting) -> None:
        if self.options.form != "text":
            super().print(output, waiting)
            return
        writer = EventWriter(output, "text", self._for_people)
        for row in self._found():
            writer.add([row[column.of] for column in self._for_people])
        writer.head()
        writer.flush()
