"""Histograms: from counts to buckets, and to text, JSON or CSV."""
from __future__ import annotations

import json
from typing import Any, Iterable, Iterator, Mapping, NamedTuple

from pytools.output import Output, csv_field, escape

__all__ = ["Bucket", "Histogram", "HistogramWriter", "linear", "log2"]

# Rows of text that a linear histogram may have before lengths share a row.
MOST_ROWS = 64
NARROWEST_BAR = 10


class Bucket(NamedTuple):
    """``amount`` samples (or estimated time) from ``lo`` to ``hi``, both included."""

    lo: int
    hi: int
    amount: float


class Histogram(NamedTuple):
    """The buckets in order, from the first that is not empty to the last
    (``linear``) or from zero to the last (``log2``)."""

    scale: str
    buckets: list[Bucket]
    samples: int

    def scaled(self, each: float) -> Histogram:
        """The same with every sample counted as ``each``."""
        if each == 1:
            return self
        return self._replace(
            buckets=[
                bucket._replace(amount=round(bucket.amount * each, 3)) for bucket in self.buckets
            ]
        )


def log2(counts: Mapping[int, int]) -> Histogram:
    """A histogram of log2 buckets by their number: 0 holds 0 and 1, bucket b
    holds 2**b to 2**(b + 1) - 1 (``log2_bucket`` in bpf/histogram.h).

    >>> log2({1: 3}).buckets
    [Bucket(lo=0, hi=1, amount=0), Bucket(lo=2, hi=3, amount=3)]
    """
    last = max((number for number, count in counts.items() if count), default=-1)
    buckets = [
        Bucket(1 << number if number else 0, (2 << number) - 1, counts.get(number, 0))
        for number in range(last + 1)
    ]
    return Histogram("log2", buckets, sum(counts.values()))


def linear(counts: Mapping[int, int]) -> Histogram:
    """A histogram with a bucket for each value that was counted.

    >>> linear({2: 5, 0: 1}).buckets
    [Bucket(lo=0, hi=0, amount=1), Bucket(lo=2, hi=2, amount=5)]
    """
    buckets = [Bucket(value, value, counts[value]) for value in sorted(counts) if counts[value]]
    return Histogram("linear", buckets, sum(counts.values()))


def rows(histogram: Histogram) -> list[Bucket]:
    """The buckets as rows of text: those of a linear histogram from zero on
    without gaps, as many values a row as keep it to MOST_ROWS."""
    if histogram.scale != "linear" or not histogram.buckets:
        return histogram.buckets
    last = histogram.buckets[-1].hi
    step = 1
    while last // step >= MOST_ROWS:
        # 1, 2, 5, 10, 20, 50, ...
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    counts = [0.0] * (last // step + 1)
    for bucket in histogram.buckets:
        counts[bucket.lo // step] += bucket.amount
    return [Bucket(i * step, i * step + step - 1, count) for i, count in enumerate(counts)]


def text(histogram: Histogram, unit: str, width: int, counted: str = "count") -> str:
    """The histogram as a table with bars, ``width`` columns wide. ``unit`` heads
    the values, ``counted`` the counts."""
    table = rows(histogram)
    if not table:
        return ""
    ranged = histogram.scale == "log2" or table[0].lo != table[0].hi
    low_width = max(10, len(str(table[-1].lo))) if ranged else 0
    high_width = max(10, len(str(table[-1].hi)))
    left = low_width + 4 + high_width if ranged else max(high_width, len(unit))
    shown = [f"{bucket.amount:.0f}" for bucket in table]
    count_width = max(8, len(counted), *map(len, shown))
    bar = max(NARROWEST_BAR, min(width - left - count_width - 8, 100))
    most = max(bucket.amount for bucket in table) or 1
    lines = [f"{unit:>{left}} : {counted:<{count_width}} distribution"]
    for bucket, count in zip(table, shown):
        value = f"{bucket.hi:>{left}}"
        if ranged:
            value = f"{bucket.lo:>{low_width}} -> {bucket.hi:<{high_width}}"
        stars = "*" * int(bar * bucket.amount / most)
        lines.append(f"{value} : {count:<{count_width}} |{stars:<{bar}}|")
    return "\n".join(lines) + "\n"


class HistogramWriter:
    """Writes a tool's histograms in the form that the user asked for.

    ``unit`` is the unit of the values; ``label`` heads them in text, and
    ``counted`` their counts.
    """

    def __init__(
        self, output: Output, form: str, unit: str, label: str = "", counted: str = "count"
    ) -> None:
        self.output = output
        self.form = form
        self.unit = unit
        self.label = label or unit
        self.counted = counted
        self._headed = False

    def write(self, keyed: Iterable[tuple[Mapping[str, Any], Histogram]], lost: int = 0) -> None:
        """Write one interval's histograms, each with its key, which says what
        tells it from the others. ``lost`` counts samples that are in none."""
        write = {"json": self._json, "csv": self._csv}.get(self.form, self._text)
        self.output.write("".join(write(list(keyed), lost)))

    def _text(self, keyed: list[tuple[Mapping[str, Any], Histogram]], lost: int) -> Iterator[str]:
        for key, histogram in keyed:
            for name, value in key.items():
                yield f"{name} = {escape(value) if isinstance(value, str) else value}\n"
            yield text(histogram, self.label, self.output.width, self.counted)
            yield "\n"
        if not keyed:
            yield "\n"

    def _json(self, keyed: list[tuple[Mapping[str, Any], Histogram]], lost: int) -> Iterator[str]:
        moment = self.output.clock.rfc3339()
        for key, histogram in keyed:
            record: dict[str, Any] = {
                "ts": moment,
                "tool": self.output.tool,
                "key": dict(key),
                "unit": self.unit,
                "scale": histogram.scale,
                "buckets": [{"lo": lo, "hi": hi, "count": n} for lo, hi, n in histogram.buckets],
                "samples": histogram.samples,
            }
            if self.counted != "count":
                record["counted"] = self.counted
            if lost:
                record["lost"] = lost
            yield json.dumps(record) + "\n"

    def _csv(self, keyed: list[tuple[Mapping[str, Any], Histogram]], lost: int) -> Iterator[str]:
        moment = self.output.clock.rfc3339()
        for key, histogram in keyed:
            if not self._headed:
                self._headed = True
                yield ",".join(["ts", *key, "unit", "lo", "hi", self.counted]) + "\n"
            start = [moment, *map(csv_field, key.values()), self.unit]
            for bucket in histogram.buckets:
                yield ",".join(map(str, [*start, *bucket])) + "\n"
