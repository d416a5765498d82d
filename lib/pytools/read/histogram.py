"""Histograms as values: buckets, from counts; total, average and percentiles."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Mapping


__all__ = [
    "Bucket",
    "Histogram",
    "PERCENTILES",
    "Summary",
    "linear",
    "log2",
    "log2_bucket",
    "summary",
]

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


def linear(counts: Mapping[int, int], summarized: bool = False) -> Histogram:
    """A histogram with a bucket for each value that was counted, with its summary if asked for.

    >>> linear({2: 5, 0: 1}).buckets
    [Bucket(lo=0, hi=0, amount=1), Bucket(lo=2, hi=2, amount=5)]
    >>> linear({2: 5, 0: 1}, summarized=True).summary[:3]
    (10, 1.667, 2)
    """
    buckets = [Bucket(value, value, counts[value]) for value in sorted(counts) if counts[value]]
    found = Histogram("linear", buckets, sum(counts.values()))
    if not summarized:
        return found
    total = sum(value * count for value, count in counts.items())
    return found._replace(summary=summary(found, total, max(counts, default=0)))


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


def merged(first: Histogram, second: Histogram) -> Histogram:
    """Two histograms of one scale as one: of what was counted in either.

    >>> merged(linear({0: 1}), linear({0: 2, 3: 1})).buckets
    [Bucket(lo=0, hi=0, amount=3), Bucket(lo=3, hi=3, amount=1)]
    """
    amounts: dict[tuple[int, int], float] = {}
    for lo, hi, amount in (*first.buckets, *second.buckets):
        amounts[lo, hi] = amounts.get((lo, hi), 0) + amount
    buckets = [Bucket(lo, hi, amount) for (lo, hi), amount in sorted(amounts.items())]
    made = Histogram(first.scale, buckets, first.samples + second.samples)
    if first.summary is None or second.summary is None:
        return made
    total = first.summary.total + second.summary.total
    return made._replace(
        summary=summary(made, total, max(first.summary.maximum, second.summary.maximum))
    )
