"""Histograms and time series: their buckets, as text and as JSON."""
from __future__ import annotations

import time

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.bt.show.values import json

if TYPE_CHECKING:
    from typing import Mapping, Optional, Sequence

__all__ = ["Histogram", "Series", "linear", "log2", "series"]

WIDTH = 52  # of a bar
SUFFIXES = ("", "K", "M", "G", "T", "P", "E")
NANOSECONDS = 1_000_000_000
GRAPH_WIDTH, PADDING = 53, 21  # of a time series; how far its two limits stand apart
# Of the time of day behind the second: from an interval in nanoseconds on, the digits, the unit.
FRACTIONS = (
    (NANOSECONDS, 0, ""), (1_000_000, 3, "ms"), (1000, 6, "\u03bcs"), (0, 9, "ns"),
)  # fmt: skip


class Bucket(NamedTuple):
    """A bucket of a histogram, from ``low`` (None: from the least number on) to before ``high``
    (None: to the greatest). ``label`` is what text has for it."""

    low: int | None
    high: int | None
    label: str
    amount: int


class Histogram(NamedTuple):
    buckets: list[Bucket]

    def text(self) -> str:
        most = max((bucket.amount for bucket in self.buckets), default=0)
        lines = []
        for bucket in self.buckets:
            bar = "@" * (bucket.amount * WIDTH // most if most else 0)
            lines.append(f"{bucket.label:<16}{bucket.amount:>8} |{bar:<{WIDTH}}|\n")
        return "".join(lines)

    def json(self) -> str:
        """A list of buckets, whose ``max`` is in them."""
        parts = []
        for low, high, _, count in self.buckets:
            members = [] if low is None else [f'"min": {json(low)}']
            members += [] if high is None else [f'"max": {json(high - 1)}']
            parts.append("{" + ", ".join([*members, f'"count": {count}']) + "}")
        return "[" + ",".join(parts) + "]"


def _between(counts: Mapping[int, int]) -> range:
    """From the first bucket with a count to the last."""
    some = [number for number, count in counts.items() if count]
    return range(min(some), max(some) + 1) if some else range(0)


def log2(counts: Mapping[int, int], bits: int, divisor: int = 1) -> Histogram:
    """A histogram of powers of two, each in 2^bits parts, by the numbers of its buckets: 0 has
    what is below zero; then 2^bits numbers have a bucket each; then each power its parts."""
    buckets = []
    for number in _between(counts):
        count = counts.get(number, 0) // divisor
        if number == 0:
            buckets.append(Bucket(None, 0, "(..., 0)", count))
            continue
        low, high = _start(number - 1, bits), _start(number, bits)
        if number <= 2 << bits and high == low + 1:
            label = f"[{low}]"
        else:
            label = f"[{_short(number - 1, bits)}, {_short(number, bits)})"
        buckets.append(Bucket(low, high, label, count))
    return Histogram(buckets)


def _power(number: int, bits: int) -> tuple[int, int]:
    """(the power, the factor) of the first number of a bucket."""
    if number <= 2 << bits:
        return 0, number
    return (number >> bits) - 1, (1 << bits) + (number & (1 << bits) - 1)


def _start(number: int, bits: int) -> int:
    power, factor = _power(number, bits)
    return factor << power


def _short(number: int, bits: int) -> str:
    power, factor = _power(number, bits)
    return f"{factor << power % 10}{SUFFIXES[power // 10]}"


def linear(counts: Mapping[int, int], low: int, high: int, step: int) -> Histogram:
    """A histogram of steps: bucket 0 has what is below ``low``, the last what is not below
    ``high``."""
    buckets = []
    last = (high - low) // step + 1
    for number in _between(counts):
        first, end = low + (number - 1) * step, low + number * step
        count = counts.get(number, 0)
        if number == 0:
            buckets.append(Bucket(None, low, f"(..., {_step_label(low, step)})", count))
        elif number >= last:
            buckets.append(Bucket(first, None, f"[{_step_label(first, step)}, ...)", count))
        elif step == 1:
            buckets.append(Bucket(first, end, f"[{first}]", count))
        else:
            label = f"[{_step_label(first, step)}, {_step_label(end, step)})"
            buckets.append(Bucket(first, end, label, count))
    return Histogram(buckets)


def _step_label(number: int, step: int) -> str:
    if number and step % 1024 == 0:
        for size, suffix in ((1 << 20, "M"), (1 << 10, "K")):
            if number % size == 0:
                return f"{number // size}{suffix}"
    return str(number)


class Series(NamedTuple):
    """The values of a time series by the wall-clock time, in nanoseconds, at which their interval
    began; None where there is none."""

    points: Sequence[tuple[int, Optional[int]]]

    def json(self) -> str:
        parts = []
        for moment, value in self.points:
            if value is not None:
                second, rest = divmod(moment, NANOSECONDS)
                text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
                parts.append(f'{{"interval_start":"{text}.{rest:09d}","value":{json(value)}}}')
        return "[" + ",".join(parts) + "]"

    def text(self) -> str:
        values = [value for _, value in self.points if value is not None]
        if not values:
            return "<no data>"
        low, high = min(values), max(values)
        if low == high:
            low, high = low - (low not in (0, -(1 << 63))), high + 1
        interval = 0
        if len(self.points) > 1:
            interval = (self.points[-1][0] - self.points[0][0]) // (len(self.points) - 1)
        digits, unit = next((d, u) for least, d, u in FRACTIONS if interval >= least)
        head = "hh:mm:ss" + f".{unit}" * bool(unit)
        blank = 8 + (digits + 1 if digits else 0)
        limits = f"{'':<{blank + 1}}{low:<{PADDING}}{high:>{GRAPH_WIDTH - PADDING}}\n"
        lines = [limits, f"{head:<{blank + 1}}|{'_' * (GRAPH_WIDTH - 2)}|\n"]
        zero = int(GRAPH_WIDTH * -low / (high - low)) if low < 0 < high else 0
        for moment, value in self.points:
            line = list("|" + " " * (GRAPH_WIDTH - 2) + "|")
            if zero:
                line[zero] = "."
            if value is not None:
                place = int((GRAPH_WIDTH - 1) * (value - low) / (high - low))
                line[max(0, min(GRAPH_WIDTH - 1, place))] = "*"
            shown = "-" if value is None else str(value)
            lines.append(f"{_time_of_day(moment, digits)} {''.join(line)} {shown}\n")
        lines.append(f"{'':<{blank}} v{'_' * (GRAPH_WIDTH - 2)}v\n")
        return "".join(lines) + limits


def _time_of_day(moment: int, digits: int) -> str:
    second, rest = divmod(moment, NANOSECONDS)
    text = time.strftime("%H:%M:%S", time.localtime(second))
    return text + (f".{rest // 10 ** (9 - digits):0{digits}d}" if digits else "")


def series(values: Mapping[int, int], interval: int, first: int, last: int) -> Series:
    """A time series by the numbers of intervals since 1970, from ``first``, or from the first one
    behind it that has a value, to ``last``."""
    begin = min((number for number in values if number >= first), default=last + 1)
    return Series([(n * interval, values.get(n)) for n in range(begin, last + 1)])
