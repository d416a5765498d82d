"""Tables, as text, JSON and CSV."""
from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from pytools.show.output import Output
from pytools.show.stream import Column
from pytools.show.table import TableWriter

pytestmark = pytest.mark.rendering

COLUMNS = [Column("CPU"), Column("NAME", 1), Column("SHARE")]
FOR_PEOPLE = [*COLUMNS[:2], Column("SHARE", form=lambda v: f"{v:.1%}")]
ROWS = [(0, "a\x1b[2J", 0.5), (10, "1e5", None)]


def written(monkeypatch: Any, form: str) -> str:
    output = Output("test")
    parts: list[str] = []
    monkeypatch.setattr(output, "write", parts.append)
    TableWriter(output, form, FOR_PEOPLE if form == "text" else COLUMNS).write(ROWS)
    return "".join(parts)


def test_text_is_aligned_and_escaped(monkeypatch: Any) -> None:
    head, first, second, end = written(monkeypatch, "text").splitlines()
    assert [head.split(), first.split(), second.split()] == [
        ["CPU", "NAME", "SHARE"],
        ["0", "a\\x1b[2J", "50.0%"],
        ["10", "1e5", "-"],
    ]
    assert len(head) == len(first) == len(second) and end == ""
    assert head.index("NAME") == first.index("a") == second.index("1e5")


def test_json_has_the_values_themselves(monkeypatch: Any) -> None:
    rows = [json.loads(line) for line in written(monkeypatch, "json").splitlines()]
    assert [(row["cpu"], row["name"], row["share"]) for row in rows] == ROWS


def test_csv_has_a_head_and_a_line_for_each_row(monkeypatch: Any) -> None:
    rows = list(csv.reader(io.StringIO(written(monkeypatch, "csv"))))
    assert [row[1:] for row in rows] == [
        ["cpu", "name", "share"],
        ["0", "a\\x1b[2J", "0.5"],
        ["10", "1e5", ""],
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_refreshed_table_takes_the_place_of_the_last_on_a_terminal(
    monkeypatch: Any, terminal: bool
) -> None:
    output = Output("test")
    output.terminal, output.height = terminal, 4
    parts: list[str] = []
    monkeypatch.setattr(output, "write", parts.append)
    table = TableWriter(output, "text", [Column("N")], refresh=True)
    for start in (0, 100):
        table.write([(start + number,) for number in range(10)])
    assert len(parts) == 2
    for start, text in zip((0, 100), parts):
        assert text.startswith("\x1b[H\x1b[J") == terminal
        lines = text.replace("\x1b[H\x1b[J", "").split()
        # The cursor's own line is the fourth.
        rows = 2 if terminal else 10
        assert lines == ["N", *(str(start + number) for number in range(rows))]
        assert not terminal or text.count("\n") <= 4
