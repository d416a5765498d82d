"""Histograms that a BPF program counts: their maps, the C that fills them, and what
has come into them since they were last read."""
from __future__ import annotations

from collections import Counter, defaultdict
from typing import Collection

from pytools import hist
from pytools.hist import Histogram
from pytools.maps import Growth
from pytools.output import Output
from pytools.program import Program

__all__ = ["NANOSECONDS", "Samples"]

# Of the units that histograms of time have.
NANOSECONDS = {"nsecs": 1, "usecs": 1000, "msecs": 1_000_000}

_ONE = """
BPF_PERCPU_ARRAY(samples, u64, 64);

static inline void count_sample(u64 id, u32 bucket)
{
	u64 *count = samples.lookup(&bucket);

	if (count)
		__sync_fetch_and_add(count, 1);
}
"""

_KEYED = """
struct sample_key {
	u64 id;
	u64 bucket;
};
BPF_HASH(samples, struct sample_key, u64, 262144);

static inline void count_sample(u64 id, u32 bucket)
{
	struct sample_key key = { .id = id, .bucket = bucket };
	u64 *count = samples.lookup(&key), one = 1;

	if (!count) {
		if (!samples.insert(&key, &one))
			return;
		/* Another CPU put it in meanwhile, or there is no room. */
		count = samples.lookup(&key);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		samples_lost.increment(0);
}
"""

_NO_TOTAL = """
#define add_to_total(id, value)
"""

# Only one CPU writes to each.
_TOTAL = """
struct total_key {
	u64 id;
	u64 cpu;
};
struct total {
	u64 sum;
	u64 maximum;
};
BPF_HASH(totals, struct total_key, struct total, 65536);

static inline void add_to_total(u64 id, u64 value)
{
	struct total_key key = { .id = id, .cpu = bpf_get_smp_processor_id() };
	struct total *total, first = { .sum = value, .maximum = value };

	total = totals.lookup(&key);
	if (!total) {
		if (!totals.insert(&key, &first))
			return;
		total = totals.lookup(&key);
	}
	if (!total) {
		samples_lost.increment(0);
		return;
	}
	__sync_fetch_and_add(&total->sum, value);
	if (value > total->maximum)
		total->maximum = value;
}
"""

_ADD = """
static inline void add_sample(u64 id, u64 value)
{
	count_sample(id, log2_bucket(value / %d));
	add_to_total(id, value);
}
"""


class Samples:
    """Log2 histograms: one, or with ``keyed`` one for each id. ``code`` is C for the
    top of a template, the function ``add_sample(u64 id, u64 value)`` and a counter
    ``samples_lost``; ``divisor`` turns a value into the unit of the histogram;
    ``summary`` says whether totals and maxima are kept."""

    def __init__(self, divisor: int, keyed: bool, summary: bool) -> None:
        self.code = (
            '#include "histogram.h"\nBPF_PERCPU_ARRAY(samples_lost, u64, 1);\n'
            + (_KEYED if keyed else _ONE)
            + (_TOTAL if summary else _NO_TOTAL)
            + _ADD % divisor
        )
        self._divisor = divisor
        self._keyed = keyed
        self._summary = summary
        self._sums: Counter[int] = Counter()
        self._maxima: Counter[int] = Counter()

    def read(self, program: Program) -> None:
        """Read from this program's maps from now on."""
        self._samples = program.maps["samples"]
        self._growth = Growth(self._samples)
        self._lost = Growth(program.maps["samples_lost"])
        self._program = program
        self._totals = program.maps["totals"] if self._summary else None

    def since_last(self, more: Collection[tuple[int, int]] = ()) -> dict[int, Histogram]:
        """The histograms of what was counted since the last call, by id; without
        ids, one of the id 0, be it empty. ``more`` are samples that the reader has
        itself: (id, value)."""
        counts: dict[int, Counter[int]] = defaultdict(Counter)
        for key, value in more:
            counts[key][hist.log2_bucket(value // self._divisor)] += 1
        if self._keyed:
            for (key, bucket), count in self._samples.drain():
                counts[key][bucket] += count
        else:
            counts[0].update(self._growth.since_last())
        found = {key: hist.log2(count) for key, count in sorted(counts.items())}
        if self._totals is None:
            return found
        # One that came between the two maps' being read may be in no histogram yet:
        # it is kept for the next.
        sums, maxima = self._sums, self._maxima
        for (key, _), (total, maximum) in self._totals.drain():
            sums[key] += total
            maxima[key] = max(maxima[key], maximum)
        for key, value in more:
            sums[key] += value
            maxima[key] = max(maxima[key], value)
        return {
            key: histogram._replace(
                summary=hist.summary(
                    histogram, sums.pop(key, 0) / self._divisor, maxima.pop(key, 0) / self._divisor
                )
            )
            for key, histogram in found.items()
        }

    def lost(self, output: Output) -> int:
        """How many samples are missing since the last call, said on standard error:
        there was no room, or the kernel did not run the program."""
        return output.lost("samples", self._lost, self._program.missed_since_last())
