"""Histograms: from counts to buckets, and to text, JSON or CSV."""
from __future__ import annotations

import json
from typing import Any, Iterable, Iterator, Mapping, NamedTuple

from pytools.output import Output, csv_field, escape

__all__ = [
    "Bucket", "Histogram", "HistogramWriter", "Summary", "linear", "log2", "log2_bucket", "summary",
]  # fmt: skip

# Rows of text that a linear histogram may have before lengths share a row.
MOST_ROWS = 64
NARROWEST_BAR = 10
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


class Bucket(NamedTuple):
    """``amount`` samples (or estimated time) from ``lo`` to ``hi``, both included."""

    lo: int
    hi: int
    amount: float


class Summary(NamedTuple):
    """Total, average and maximum of the values that a histogram counts: exact, and
    in its unit. ``percentiles`` are estimated from the buckets: each is off by less
    than the width of the bucket that it is in."""

    total: float
    average: float
    maximum: float
    percentiles: dict[str, float]


class Histogram(NamedTuple):
    """The buckets in order, from the first that is not empty to the last
    (``linear``) or from zero to the last (``log2``)."""

    scale: str
    buckets: list[Bucket]
    samples: int
    summary: Summary | None = None

    def scaled(self, each: float) -> Histogram:
        """The same with every sample counted as ``each``."""
        if each == 1:
            return self
        return self._replace(
            buckets=[
                bucket._replace(amount=round(bucket.amount * each, 3)) for bucket in self.buckets
            ]
        )


def log2_bucket(value: int) -> int:
    """The number of the log2 bucket that a value is in.

    >>> log2_bucket(1), log2_bucket(2), log2_bucket(1023)
    (0, 1, 9)
    """
    return max(value.bit_length() - 1, 0)


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


def summary(histogram: Histogram, total: float, maximum: float) -> Summary:
    """The summary of a histogram whose values have this total and this maximum.
    Within a bucket, the values are taken to be spread evenly.

    >>> summary(log2({3: 4}), 44, 12).percentiles["p50"]
    11.0
    """
    found = {}
    for name, share in PERCENTILES.items():
        rank, below = share * histogram.samples, 0.0
        for lo, hi, amount in histogram.buckets:
            if amount and below + amount >= rank:
                # A bucket of one value is that value, one of more reaches to the next.
                width = hi + 1 - lo if hi > lo else 0
                found[name] = min(lo + width * (rank - below - 0.5) / amount, maximum)
                found[name] = round(max(found[name], lo), 3)
                break
            below += amount
    average = total / histogram.samples if histogram.samples else 0.0
    return Summary(round(total, 3), round(average, 3), round(maximum, 3), found)


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

    def write(
        self,
        keyed: Iterable[tuple[Mapping[str, Any], Histogram]],
        lost: int = 0,
        beside: Mapping[str, int] = {},
    ) -> None:
        """Write one interval's histograms, each with its key, which says what
        tells it from the others. ``lost`` counts samples that are in none, and so
        does ``beside``, by reason, for JSON."""
        missing = {**({"lost": lost} if lost else {}), **beside}
        write = {"csv": self._csv, "text": self._text}.get(self.form)
        lines = write(list(keyed)) if write else self._json(list(keyed), missing)
        self.output.write("".join(lines))

    def _text(self, keyed: list[tuple[Mapping[str, Any], Histogram]]) -> Iterator[str]:
        for key, histogram in keyed:
            for name, value in key.items():
                yield f"{name} = {escape(value) if isinstance(value, str) else value}\n"
            yield text(histogram, self.label, self.output.width, self.counted)
            if histogram.summary is not None and histogram.samples:
                yield from self._summary_lines(histogram.samples, histogram.summary)
            yield "\n"
        if not keyed:
            yield "\n"

    def _summary_lines(self, samples: int, found: Summary) -> Iterator[str]:
        yield (
            f"  {samples} samples, total {found.total:.1f} {self.unit}, "
            f"average {found.average:.1f}, max {found.maximum:.1f}\n"
        )
        estimated = [f"{name} {value:.1f}" for name, value in found.percentiles.items()]
        yield f"  {', '.join(estimated)} {self.unit}\n"

    def _json(
        self, keyed: list[tuple[Mapping[str, Any], Histogram]], missing: Mapping[str, int]
    ) -> Iterator[str]:
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
            if histogram.summary is not None:
                total, average, maximum, percentiles = histogram.summary
                record.update(total=total, average=average, max=maximum, percentiles=percentiles)
            if self.counted != "count":
                record["counted"] = self.counted
            record.update(missing)
            yield json.dumps(record) + "\n"

    def _csv(self, keyed: list[tuple[Mapping[str, Any], Histogram]]) -> Iterator[str]:
        moment = self.output.clock.rfc3339()
        for key, histogram in keyed:
            if histogram.summary is not None:
                yield from self._csv_summary(moment, key, histogram.samples, histogram.summary)
                continue
            if not self._headed:
                self._headed = True
                yield ",".join(["ts", *key, "unit", "lo", "hi", self.counted]) + "\n"
            start = [moment, *map(csv_field, key.values()), self.unit]
            for bucket in histogram.buckets:
                yield ",".join(map(str, [*start, *bucket])) + "\n"

    def _csv_summary(
        self, moment: str, key: Mapping[str, Any], samples: int, found: Summary
    ) -> Iterator[str]:
        """A line for the summary takes the place of those for the buckets."""
        if not self._headed:
            self._headed = True
            names = ["ts", *key, "unit", "samples", "total", "average", "max", *PERCENTILES]
            yield ",".join(names) + "\n"
        numbers = [samples, *found[:3], *(found.percentiles.get(name, "") for name in PERCENTILES)]
        yield ",".join(
            map(str, [moment, *map(csv_field, key.values()), self.unit, *numbers])
        ) + "\n"
