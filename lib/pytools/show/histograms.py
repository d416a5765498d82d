"""Histograms as text, JSON lines or CSV."""
from __future__ import annotations

import json

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import csv_field, escape
from pytools.read.histogram import PERCENTILES, Bucket, Histogram, Summary
from pytools.show.output import Output

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Mapping


__all__ = ["HistogramWriter"]

# Rows of text that a linear histogram may have before lengths share a row.
MOST_ROWS = 64
NARROWEST_BAR = 10


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


def _names_and_values(key: Mapping[str, Any]) -> Iterator[str]:
    for name, value in key.items():
        yield f"{name} = {escape(value) if isinstance(value, str) else value}\n"


class HistogramWriter:
    """Writes a tool's histograms in the form that the user asked for.

    ``unit`` is the unit of the values; ``label`` heads them in text, and
    ``counted`` their counts. ``heading`` gives the lines of text above a histogram, by its key.
    """

    def __init__(
        self,
        output: Output,
        form: str,
        unit: str,
        label: str = "",
        counted: str = "count",
        heading: Callable[[Mapping[str, Any]], Iterable[str]] | None = None,
    ) -> None:
        self.output = output
        self.form = form
        self.unit = unit
        self.label = label or unit
        self.counted = counted
        self._heading = heading or _names_and_values
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
            yield from self._heading(key)
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
