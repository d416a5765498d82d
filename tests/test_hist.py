"""Histograms: bounds of buckets, nothing lost, every form."""
from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter

import hypothesis
import pytest
from hypothesis import strategies as st

from pytools.read import histogram as hist
from pytools.show import histograms
from pytools.compile.compiler import Compiler
from pytools.show.output import Output
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import render

import capture

pytestmark = pytest.mark.rendering


class Written(Output):
    """Output that is kept."""

    def __init__(self) -> None:
        super().__init__("tool")
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def log2_bucket(value: int) -> int:
    """What log2_bucket() in bpf/histogram.h is to give."""
    return max(value.bit_length() - 1, 0)


@pytest.mark.parametrize(
    "value, lo, hi",
    [(0, 0, 1), (1, 0, 1), (2, 2, 3), (3, 2, 3), (4, 4, 7), (1023, 512, 1023), (1024, 1024, 2047)]
    + [(2**63, 2**63, 2**64 - 1), (2**64 - 1, 2**63, 2**64 - 1)],
)
def test_a_log2_bucket_holds_its_value(value: int, lo: int, hi: int) -> None:
    bucket = hist.log2({log2_bucket(value): 1}).buckets[-1]
    assert (bucket.lo, bucket.hi) == (lo, hi)


@hypothesis.given(st.lists(st.integers(0, 2**40), min_size=1, max_size=300))
def test_percentiles_are_in_the_buckets_of_the_true_ones(values: list[int]) -> None:
    counts = Counter(map(log2_bucket, values))
    histogram = hist.log2(counts)
    found = hist.summary(histogram, sum(values), max(values))
    assert found.total == sum(values) and found.maximum == max(values)
    assert found.average == pytest.approx(sum(values) / len(values), abs=0.001)
    ordered = sorted(values)
    for name, share in hist.PERCENTILES.items():
        true = ordered[max(math.ceil(share * len(values)) - 1, 0)]
        (bucket,) = [b for b in histogram.buckets if b.lo <= true <= b.hi]
        assert bucket.lo <= found.percentiles[name] <= min(bucket.hi + 1, max(values))


@pytest.mark.parametrize(
    "form, lines",
    [
        ("text", ["  4 samples, total 44.0 us, average 11.0, max 12.0"]),
        ("text", ["  p50 11.0, p90 12.0, p99 12.0, p99.9 12.0 us"]),
        (
            "csv",
            [
                "ts,pid,unit,samples,total,average,max,p50,p90,p99,p99.9",
                ",7,us,4,44,11.0,12,11.0,12,12,12",
            ],
        ),
    ],
)
def test_a_summary_is_printed(form: str, lines: list[str]) -> None:
    histogram = hist.log2({3: 4})
    histogram = histogram._replace(summary=hist.summary(histogram, 44, 12))
    written = Written()
    histograms.HistogramWriter(written, form, "us").write([({"pid": 7}, histogram)])
    for line in lines:
        assert line in written.text


def test_the_program_s_log2_is_the_histogram_s() -> None:
    """clang folds log2_bucket() of a constant; a wrong one leaves a 1."""
    values = [0, 1, 2, 3, 4, 7, 8, 255, 256, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
    values += [(1 << bit) + 1 for bit in range(1, 64)]
    checks = "".join(
        f"\tif (log2_bucket({value}ULL) != {log2_bucket(value)})\n\t\treturn 1;\n"
        for value in values
    )
    template = '#include "histogram.h"\n' f"PERF_EVENT(program)\n{{\n{checks}\treturn 0;\n}}\n"
    with Compiler() as compiler:
        image = compiler.compile(render(Unrendered(template), capture.recorded("6.12")))
    no_op = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])  # r0 = 0, exit
    assert image.programs[0].instructions == no_op


def test_log2_buckets_begin_at_zero_without_gaps() -> None:
    histogram = hist.log2({5: 2, 3: 1, 9: 0})
    assert [bucket.amount for bucket in histogram.buckets] == [0, 0, 0, 1, 0, 2]
    for before, after in zip(histogram.buckets, histogram.buckets[1:]):
        assert after.lo == before.hi + 1
    assert histogram.samples == 3


def test_an_empty_histogram_is_empty_in_every_form() -> None:
    for empty in (hist.log2({}), hist.linear({}), hist.linear({3: 0})):
        assert empty.buckets == [] and empty.samples == 0
        assert histograms.text(empty, "usecs", 80) == ""


@hypothesis.given(st.dictionaries(st.integers(0, 5000), st.integers(1, 10**12), min_size=1))
def test_a_linear_histogram_loses_no_sample_in_at_most_64_rows(counts: dict[int, int]) -> None:
    histogram = hist.linear(counts)
    rows = histograms.rows(histogram)
    assert len(rows) <= histograms.MOST_ROWS
    assert sum(row.amount for row in rows) == sum(counts.values()) == histogram.samples
    assert rows[0].lo == 0 and rows[-1].lo <= max(counts) <= rows[-1].hi
    for row in rows:
        inside = sum(count for value, count in counts.items() if row.lo <= value <= row.hi)
        assert row.amount == inside
    for before, after in zip(rows, rows[1:]):
        assert after.lo == before.hi + 1


def test_five_thousand_lengths_are_grouped() -> None:
    histogram = hist.linear({length: 1 for length in range(5000)})
    assert len(histogram.buckets) == 5000  # JSON and CSV have them all
    rows = histograms.rows(histogram)
    assert 25 < len(rows) <= 64
    assert {row.amount for row in rows} == {rows[0].hi + 1}


@hypothesis.given(
    st.dictionaries(st.integers(0, 63), st.integers(0, 2**64), min_size=1),
    st.integers(1, 300),
    st.sampled_from(["nsecs", "usecs", "tasks"]),
)
def test_text_has_lines_of_one_width(counts: dict[int, int], width: int, unit: str) -> None:
    text = histograms.text(hist.log2(counts), unit, width)
    lines = text.splitlines()
    if not any(counts.values()):
        return
    assert len(lines) == max(n for n, count in counts.items() if count) + 2
    assert len({len(line) for line in lines[1:]}) == 1
    assert {line.index(":") for line in lines} == {lines[0].index(":")}
    for line in lines[1:]:
        assert line.count("*") <= max(width, histograms.NARROWEST_BAR)


@hypothesis.given(st.dictionaries(st.integers(0, 30), st.integers(0, 10**6), min_size=1))
def test_text_fits_80_columns(counts: dict[int, int]) -> None:
    for histogram in (hist.log2(counts), hist.linear(counts)):
        for line in histograms.text(histogram, "usecs", 80).splitlines():
            assert len(line) <= 80


def test_the_longest_bar_is_the_largest_count_s() -> None:
    lines = histograms.text(hist.linear({0: 10, 1: 5, 2: 0, 3: 1}), "tasks", 80).splitlines()[1:]
    stars = [line.count("*") for line in lines]
    assert stars[0] == len(lines[0]) - lines[0].index("|") - 2
    assert stars[1] in (stars[0] // 2, (stars[0] + 1) // 2)
    assert stars[2] == 0 and 0 < stars[3] < stars[1]


def test_scaled_counts_keep_the_number_of_samples() -> None:
    histogram = hist.linear({0: 99, 2: 33}).scaled(1000 / 99)
    assert histogram.samples == 132
    assert [round(bucket.amount) for bucket in histogram.buckets] == [1000, 333]


# Writing.

KEYED = [
    ({"comm": 'a,"b\x1b\n', "pid": 1}, hist.log2({0: 1, 3: 2})),
    ({"comm": "c", "pid": 2}, hist.log2({1: 5})),
]


def test_json_has_the_documented_shape() -> None:
    output = Written()
    histograms.HistogramWriter(output, "json", "us").write(KEYED, lost=3)
    records = [json.loads(line) for line in output.text.splitlines()]
    assert len(records) == 2
    for record, (key, histogram) in zip(records, KEYED):
        assert record.pop("ts")[-8:].endswith("Z")
        assert record == {
            "tool": "tool",
            "key": key,
            "unit": "us",
            "scale": "log2",
            "buckets": [{"lo": lo, "hi": hi, "count": n} for lo, hi, n in histogram.buckets],
            "samples": histogram.samples,
            "lost": 3,
        }


def test_csv_has_one_heading_and_a_row_a_bucket() -> None:
    output = Written()
    writer = histograms.HistogramWriter(output, "csv", "us")
    writer.write(KEYED)
    writer.write(KEYED)
    rows = list(csv.reader(io.StringIO(output.text)))
    assert rows[0] == ["ts", "comm", "pid", "unit", "lo", "hi", "count"]
    assert len(rows) == 1 + 2 * (4 + 2)
    assert {len(row) for row in rows} == {7}
    assert rows[1][1] == 'a,"b\\x1b\\x0a'


def test_text_escapes_keys() -> None:
    output = Written()
    histograms.HistogramWriter(output, "text", "us").write(KEYED)
    assert 'comm = a,"b\\x1b\\x0a\n' in output.text
    assert "\x1b" not in output.text
