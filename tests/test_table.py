"""Tables, as text, JSON and CSV."""
from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from pytools.output import Output
from pytools.stream import Column
from pytools.table import TableWriter

pytestmark = pytest.mark.rendering

COLUMNS = [Column("CPU"), Column("NAME", 1), Column("SHARE", form=lambda v: f"{v:.1%}")]
ROWS = [(0, "a\x1b[2J", 0.5), (10, "1e5", None)]


def written(monkeypatch: Any, form: str) -> str:
    output = Output("test")
    parts: list[str] = []
    monkeypatch.setattr(output, "write", parts.append)
    TableWriter(output, form, COLUMNS).write(ROWS)
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
