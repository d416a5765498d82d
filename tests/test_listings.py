"""Tools that list what there is: for people, for programs, and collected."""
from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from pytools.show.output import Output
from pytools.tool.fields import Field
from pytools.tool.listings import ListingTool

pytestmark = pytest.mark.rendering


class Thing(NamedTuple):
    name: str
    parts: list[str]


THINGS = [Thing("a\x1b", ["b", "c"]), Thing("d", [])]
LISTED = [{"name": "a\x1b", "parts": "b, c"}, {"name": "d", "parts": None}]


def listing(*arguments: str) -> Any:
    tool = ListingTool(
        "Made up.", area="none", about="things", traces=False, listed=[
            Field("", key="name", type="string"),
            Field("", key="parts", type="string", raw=lambda parts: parts or None),
        ],
    )  # fmt: skip
    tool.parser.prog = "things"
    return tool.listing(
        tool.options(arguments),
        lambda: iter(THINGS),
        lambda thing: [thing.name, *(f"  {part}" for part in thing.parts)],
        lambda thing: (thing.name, ", ".join(thing.parts)),
    )


def printed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    output = Output("things")
    parts: list[str] = []
    monkeypatch.setattr(output, "write", parts.append)
    listing(*arguments).print(output, None)
    return "".join(parts)


def test_people_get_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch) == "a\\x1b\n  b\n  c\nd\n"


def test_programs_get_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in printed(monkeypatch, "--json").splitlines()]
    assert len({row.pop("ts") for row in rows}) == 1 and rows == LISTED
    head, *lines = printed(monkeypatch, "--csv").splitlines()
    assert head == "ts,name,parts"
    assert [line.split(",", 1)[1] for line in lines] == ['a\\x1b,"b, c"', "d,"]


def test_what_is_collected_is_there_each_time() -> None:
    found = listing()
    for collected in (found.collect(), found.collect(), found.collect(cumulative=True)):
        assert (collected.kind, collected.rows, collected.lost) == ("table", LISTED, {})
    found.close()


def test_a_tool_that_traces_nothing_has_no_options_about_programs() -> None:
    with pytest.raises(SystemExit):
        listing("--ebpf")
    assert not listing().tool.traces
    assert [field["name"] for field in listing().tool.schema()["fields"]] == ["name", "parts"]
