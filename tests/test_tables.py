"""Tools that print tables: what is collected and printed of rows that are made up."""
from __future__ import annotations

import argparse
import json
import time
from typing import Any, Callable, Sequence

import pytest

from pytools.base.errors import Failure
from pytools.show.output import Output
from pytools.tool.fields import TIME, Field, by_context
from pytools.tool.tables import TableTool, TableTrace

pytestmark = pytest.mark.rendering


class Traced:
    """Stands for a program: says when it is attached and detached."""

    def __init__(self, said: list[str]) -> None:
        self.said = said
        self.closed = False

    def attach(self) -> None:
        self.said.append("attach")

    def detach(self) -> None:
        self.said.append("detach")

    def close(self) -> None:
        self.closed = True


class Waiting:
    """A clock that waiting moves, and each look at it by a microsecond, in place of Waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000_000_000
        self.ended = False
        monkeypatch.setattr(time, "monotonic", lambda: self.now / 1e9)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now)

    def until(self, deadline: float) -> bool:
        self.now = round(deadline * 1e9)
        return True


def tool(*table: Field, keys: str = "") -> TableTool:
    made = TableTool(
        "Made up.", area="none", about="rows", doing="Reading", table=table, keys=keys
    )  # fmt: skip
    made.parser.prog = "rows"
    return made


def parsed(made: TableTool, *arguments: str) -> argparse.Namespace:
    return made.options(arguments)


def trace(
    made: TableTool,
    intervals: Sequence[Sequence[Sequence[Any]]],
    *arguments: str,
    said: list[str] | None = None,
    lost: Sequence[int] = (),
    **more: Any,
) -> TableTrace:
    """A trace whose intervals have these rows, and so many lost."""
    told = [] if said is None else said
    rows, missing = iter(intervals), iter(lost)

    def read() -> Sequence[Sequence[Any]]:
        told.append("read")
        return next(rows)

    traced: Any = Traced(told)
    options = parsed(made, *arguments)
    return made.trace(options, traced, read, lost=lambda: next(missing, 0), **more)


def printed(monkeypatch: pytest.MonkeyPatch, traced: TableTrace) -> str:
    output = Output("rows")
    parts: list[str] = []
    monkeypatch.setattr(output, "write", parts.append)
    waiting: Any = Waiting(monkeypatch)
    traced._before = waiting.now
    traced.print(output, waiting)
    return "".join(parts)


NAME = Field("NAME", width=1, type="string")
COUNT = Field("COUNT", added="sum")
TOTAL = Field("TIME(us)", key="time_ns", people=lambda ns: f"{ns / 1e3:.1f}", added="sum")
MEAN = Field("AVG", key="average_ns", added="time_ns / count")
MOST = Field("MAX", key="maximum_ns", added="max")
SECONDS = Field("", key="seconds", raw=lambda seconds: round(seconds, 6), type="number", unit="s")


def rate(heading: str) -> Field:
    return Field(
        f"{heading}/s", width=-8, key=heading.lower(), people=lambda each: f"{each:.0f}",
        added="sum", rate=True,
    )  # fmt: skip


# Collecting.


def test_rows_are_those_since_the_last_time() -> None:
    traced = trace(tool(NAME, COUNT), [[("a", 1), ("b", 2)], [], [("a", 5)]])
    first, second, third = (traced.collect() for _ in range(3))
    assert first.rows == [{"name": "a", "count": 1}, {"name": "b", "count": 2}]
    assert (second.rows, third.rows) == ([], [{"name": "a", "count": 5}])
    assert [each.kind for each in (first, second, third)] == ["table"] * 3
    assert not first.cumulative
    assert traced.began <= first.began <= first.ended == second.began <= second.ended


def test_rows_since_the_start_are_added_up_by_what_tells_them_apart() -> None:
    traced = trace(tool(NAME, COUNT), [[("a", 1), ("b", 2)], [], [("b", 5), ("c", 7)]])
    first, second, third = (traced.collect(cumulative=True) for _ in range(3))
    assert second.rows == first.rows == [{"name": "a", "count": 1}, {"name": "b", "count": 2}]
    assert third.rows == [
        {"name": "a", "count": 1}, {"name": "b", "count": 7}, {"name": "c", "count": 7},
    ]  # fmt: skip
    assert first.cumulative and first.began == third.began == traced.began


def test_sums_maxima_and_quotients() -> None:
    made = tool(NAME, COUNT, TOTAL, MEAN, MOST)
    rows = [[("a", 2, 300, 150, 200)], [("a", 1, 1001, 1001, 1001)], [("a", 4, 4, 1, 1)]]
    traced = trace(made, rows)
    collected = [traced.collect(cumulative=True).rows for _ in rows]
    values = [list(row.values())[1:] for (row,) in collected]
    assert values == [[2, 300, 150, 200], [3, 1301, 433, 1001], [7, 1305, 186, 1001]]


def test_several_keys_tell_rows_apart_and_one_may_be_unknown() -> None:
    made = tool(Field("PID"), Field("COMM", type="string"), COUNT)
    rows = [[(1, "a", 1), (2, None, 1), (2, "a", 1)], [(2, None, 3), (1, "b", 1), (2, "a", 1)]]
    traced = trace(made, rows)
    traced.collect(cumulative=True)
    found = {(row["pid"], row["comm"]): row["count"] for row in traced.collect(True).rows}
    assert found == {(1, "a"): 1, (2, None): 4, (2, "a"): 2, (1, "b"): 1}


def test_what_was_collected_before_does_not_change_later() -> None:
    made = tool(NAME, COUNT, TOTAL, MEAN, SECONDS)
    traced = trace(made, [[("a", 1, 10, 10)], [("a", 3, 90, 30)]])
    first = traced.collect(cumulative=True).rows
    kept = json.dumps(first)
    traced.collect(cumulative=True)
    assert json.dumps(first) == kept


def test_seconds_are_those_of_the_interval_or_since_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Waiting(monkeypatch)
    made = tool(NAME, rate("CALL"), SECONDS)
    rows = [[("a", 10)], [("b", 10)], [("a", 10)]]
    cumulative, since_last = trace(made, rows), trace(made, rows)
    seconds, all_seconds = [], []
    for length in (2, 3, 0.5):
        waiting.now += round(length * 1e9)
        seconds += [row["seconds"] for row in since_last.collect().rows]
        all_seconds.append({r["name"]: r["seconds"] for r in cumulative.collect(True).rows})
    assert seconds == [2, 3, 0.5]
    assert all_seconds == [{"a": 2}, {"a": 5, "b": 5}, {"a": 5.5, "b": 5.5}]


def test_programs_get_counts_and_not_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch)
    traced = trace(tool(rate("READ"), SECONDS), [[(1000,)]])
    waiting.now += 2_000_000_000
    assert traced.collect().rows == [{"read": 1000, "seconds": 2.0}]


def test_collecting_leaves_out_no_row() -> None:
    rows = [[("a", 3), ("b", 2), ("c", 1)]]
    traced = trace(tool(NAME, COUNT), rows, most=1, most_for_programs=2)
    assert len(traced.collect().rows) == 3


def test_losses_since_the_last_time_and_since_the_start() -> None:
    made = tool(NAME, COUNT)
    traced = trace(made, [[], [], []], lost=[3, 0, 4])
    assert [traced.collect().lost for _ in range(3)] == [{"lost": 3}, {}, {"lost": 4}]
    traced = trace(made, [[], [], []], lost=[3, 0, 4])
    found = [traced.collect(cumulative=True).lost for _ in range(3)]
    assert found == [{"lost": 3}, {"lost": 3}, {"lost": 7}]


def test_options_decide_which_fields_there_are() -> None:
    made = tool(
        Field("PID", optional=True, option=("-P", "--process"), help="by process"),
        NAME._replace(optional=True, when=lambda options: not options.process),
        COUNT,
    )
    by_name = trace(made, [[("a", 1)]]).collect()
    by_process = trace(made, [[(7, 1)]], "-P").collect()
    assert by_name.rows == [{"name": "a", "count": 1}]
    assert by_process.rows == [{"pid": 7, "count": 1}]


def test_the_schema_has_a_field_once() -> None:
    made = tool(NAME, COUNT._replace(when=lambda options: False), COUNT, SECONDS)
    found = made.schema()
    assert (found["tool"], found["kind"]) == ("rows", "table")
    assert [field["name"] for field in found["fields"]] == ["name", "count", "seconds"]


def test_nothing_is_left_of_a_program_that_is_not_attached() -> None:
    made = tool(NAME, COUNT)
    traced: Any = Traced([])

    def fail() -> None:
        raise OSError

    with pytest.raises(OSError):
        made.trace(parsed(made), traced, list, attach=fail)
    assert (traced.said, traced.closed) == (["detach"], True)


def test_what_is_done_after_an_interval_is_done_when_collected_too() -> None:
    said: list[str] = []
    rows: list[list[Any]] = [[("a", 1)], [], []]
    traced = trace(tool(NAME, COUNT), rows, said=said, after=lambda: said.append("after"))
    traced.collect()
    traced.collect()
    traced.detach()
    traced.collect()
    assert said == ["attach", "read", "after", "read", "after", "detach", "read"]


def test_what_was_attached_before_it_failed_is_detached() -> None:
    said: list[str] = []

    def attach() -> None:
        said.append("one attached")
        raise Failure("cannot attach the other")

    with pytest.raises(Failure):
        trace(
            tool(NAME, COUNT), [[]], said=said, attach=attach,
            detach=lambda: said.append("detached"),
        )  # fmt: skip
    assert said == ["one attached", "detached"]


# Printing.


def test_forms_know_the_width_that_people_see(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Field(
        "NAME", width=1, people=by_context(lambda context: lambda name: name[: context.width - 77])
    )  # fmt: skip
    text = printed(monkeypatch, trace(tool(cut, COUNT), [[("abcdef", 1)]], "-d", "1"))
    assert text == "NAME  COUNT\nabc       1\n\n"


def test_a_table_an_interval_the_program_detached_before_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    traced = trace(tool(NAME, COUNT), [[("a", 1)], [("b", 20)]], "1", "2", said=said)
    text = printed(monkeypatch, traced)
    assert text == "NAME  COUNT\na         1\n\nNAME  COUNT\nb        20\n\n"
    assert said == ["attach", "read", "detach", "read"]


def test_what_attaches_and_detaches_itself_is_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def says(what: str) -> Callable[[], None]:
        return lambda: said.append(what)

    traced = trace(
        tool(NAME, COUNT), [[], []], "1", "2", said=said, attach=says("attach many"),
        detach=says("detach many"), whole=False, after=says("after"),
    )  # fmt: skip
    printed(monkeypatch, traced)
    assert said == ["attach many", "read", "after", "read"]
    traced.detach()
    assert said[4:] == ["detach many"]


@pytest.mark.parametrize(
    "form, most, most_for_programs, shown",
    [
        ("text", 2, None, 2),
        ("text", None, 1, 3),
        ("json", 2, None, 3),
        ("json", 2, 1, 1),
        ("csv", 2, 1, 1),
    ],
)
def test_as_many_rows_as_people_or_programs_get(
    form: str,
    most: int | None,
    most_for_programs: int | None,
    shown: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = trace(
        tool(NAME, COUNT), [[("a", 3), ("b", 2), ("c", 1)]], "-d", "1",
        *([f"--{form}"] if form != "text" else []),
        most=most, most_for_programs=most_for_programs,
    )  # fmt: skip
    lines = [line for line in printed(monkeypatch, traced).splitlines() if line]
    assert len(lines) == shown + (form != "json")


def test_lines_with_rates_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tool(TIME, rate("READ"), rate("WRITE"), SECONDS)
    traced = trace(made, [[(1000, 3)], [(0, 2000)]], "2", "2", lines=True)
    head, *lines = printed(monkeypatch, traced).splitlines()
    assert head == "TIME       READ/s  WRITE/s"
    assert [line[8:] for line in lines] == ["      500        2", "        0     1000"]
    assert all(len(line.split()[0]) == len("00:00:00") for line in lines)


def test_lines_with_counts_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tool(TIME, rate("READ"), SECONDS)
    traced = trace(made, [[(1000,)], [(6,)]], "2", "2", "--json", lines=True)
    rows = [json.loads(line) for line in printed(monkeypatch, traced).splitlines()]
    assert [(row["read"], row["seconds"]) for row in rows] == [(1000, 2), (6, 2)]
    assert all(set(row) == {"ts", "read", "seconds"} for row in rows)


def test_what_is_lost_is_said_of_each_interval(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tool(NAME, COUNT)
    traced = trace(made, [[], [], []], "1", "3", "--json", lost=[3, 0, 4], what="calls")
    rows = [json.loads(line) for line in printed(monkeypatch, traced).splitlines()]
    assert [(row["tool"], row["lost"]) for row in rows] == [("rows", 3), ("rows", 4)]
    assert capsys.readouterr().err == "rows: 3 calls lost\nrows: 4 calls lost\n"


def test_the_time_stands_above_a_table_for_people_only(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tool(NAME, COUNT)
    made.add_argument("-T", "--timestamp", action="store_true")
    lines = printed(monkeypatch, trace(made, [[]], "-T", "-d", "1")).splitlines()
    assert len(lines[0]) == len("00:00:00") and lines[1].split() == ["NAME", "COUNT"]
    assert printed(monkeypatch, trace(made, [[]], "-T", "-d", "1", "--json")) == ""


def test_an_interval_of_no_time_divides_by_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = trace(tool(rate("READ")), [[(5,)]], "-d", "0", lines=True)
    assert printed(monkeypatch, traced).splitlines()[1].split() == ["5000000"]
