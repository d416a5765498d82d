"""Histograms that a BPF program counts: their maps, the C that fills them, and what
has come into them since they were last read."""
from __future__ import annotations

from collections import Counter, defaultdict

from pytools.base.annotations import TYPE_CHECKING
from pytools.read import histogram as hist
from pytools.read.histogram import Histogram
from pytools.read.growth import Growth
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Callable, Collection


__all__ = ["LinearSamples", "NANOSECONDS", "Samples"]

# Of the units that histograms of time have.
NANOSECONDS = {"nsecs": 1, "usecs": 1000, "msecs": 1_000_000}

_ONE = """
BPF_PERCPU_ARRAY(samples, u64, 64);

static inline void add_sample(u64 id, u64 value)
{
	u32 bucket = log2_bucket(value / UNIT);
	u64 *count = samples.lookup(&bucket);

	if (count)
		__sync_fetch_and_add(count, 1);
}
"""

_KEYED = """
#include "generation.h"

struct sample_key {
	u64 id;
	u32 bucket;
	u32 generation;
};
BPF_HASH(samples, struct sample_key, u64, 262144);

static inline void add_sample(u64 id, u64 value)
{
	struct sample_key key = {
		.id = id,
		.bucket = log2_bucket(value / UNIT),
		.generation = current_generation(),
	};
	u64 *count = samples.lookup(&key), one = 1;

	add_to_total(id, key.generation, value);
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

_NO_TOTALS = """
#define add_to_total(id, generation, value)
"""

# Only one CPU writes to each.
_TOTALS = """
struct total_key {
	u64 id;
	u32 cpu;
	u32 generation;
};
struct total {
	u64 sum;
	u64 maximum;
};
BPF_HASH(totals, struct total_key, struct total, 65536);

static inline void add_to_total(u64 id, u32 generation, u64 value)
{
	struct total_key key = {
		.id = id,
		.cpu = bpf_get_smp_processor_id(),
		.generation = generation,
	};
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

# As many keys as there are ids and values: few enough to be kept and read as they grow.
_LINEAR = """
BPF_PERCPU_ARRAY(samples_lost, u64, 1);

struct sample_key {
	u32 id;
	u32 value;
};
BPF_HASH(samples, struct sample_key, u64, 65536);

static inline void add_sample(u32 id, u32 value)
{
	struct sample_key key = { .id = id, .value = value };
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


class Samples:
    """Log2 histograms: one, or with ``keyed`` one for each id. ``code`` is C for the
    top of a template, the function ``add_sample(u64 id, u64 value)`` and a counter
    ``samples_lost``; ``divisor`` turns a value into the unit of the histogram;
    ``summary`` says whether totals and maxima are kept."""

    def __init__(self, divisor: int, keyed: bool, summary: bool) -> None:
        self._single = not keyed and not summary
        code = _ONE if self._single else (_TOTALS if summary else _NO_TOTALS) + _KEYED
        self.code = (
            f'#include "histogram.h"\n#define UNIT {divisor}\n'
            "BPF_PERCPU_ARRAY(samples_lost, u64, 1);\n" + code
        )
        self._divisor = divisor
        self._keyed = keyed
        self._summary = summary

    def read(self, program: Program) -> None:
        """Read from this program's maps from now on."""
        self._samples = program.maps["samples"]
        self._lost = Growth(program.maps["samples_lost"])
        self._program = program
        if self._single:
            self._growth = Growth(self._samples)
        else:
            from pytools.read.generations import Generations

            self._generations = Generations(program)
        self._totals = program.maps["totals"] if self._summary else None

    def since_last(self, more: Collection[tuple[int, int]] = ()) -> dict[int, Histogram]:
        """The histograms of what was counted since the last call, by id; without
        ids, one of the id 0, be it empty. ``more`` are samples that the reader has
        itself: (id, value)."""
        counts: dict[int, Counter[int]] = defaultdict(Counter)
        for key, value in more:
            counts[key][hist.log2_bucket(value // self._divisor)] += 1
        if not self._keyed:
            counts.setdefault(0, Counter())
        if self._single:
            counts[0].update(self._growth.since_last())
        else:
            self._generations.end()
            for (key, bucket), count in self._generations.drain(self._samples):
                counts[key][bucket] += count
        found = {key: hist.log2(count) for key, count in sorted(counts.items())}
        if self._totals is None:
            return found
        sums: Counter[int] = Counter()
        maxima: Counter[int] = Counter()
        for (key, _), (total, maximum) in self._generations.drain(self._totals):
            sums[key] += total
            maxima[key] = max(maxima[key], maximum)
        for key, value in more:
            sums[key] += value
            maxima[key] = max(maxima[key], value)
        return {
            key: histogram._replace(
                summary=hist.summary(
                    histogram, sums[key] / self._divisor, maxima[key] / self._divisor
                )
            )
            for key, histogram in found.items()
        }

    def lost(self) -> int:
        """How many samples are missing since the last call: there was no room, or the kernel
        did not run the program."""
        return sum(self._lost.since_last().values()) + self._program.missed_since_last()


class LinearSamples:
    """Histograms with a bucket for each value: one, or with ``keyed`` one for each id. ``code`` is
    C for the top of a template, the function ``add_sample(u32 id, u32 value)`` and a counter
    ``samples_lost``; ``summary`` says whether the histograms have one; ``always`` gives the ids
    that have a histogram, be it empty."""

    code = _LINEAR

    def __init__(
        self, keyed: bool, summary: bool, always: Callable[[], Collection[int]] = tuple
    ) -> None:
        self._summary = summary
        self._always = always if keyed else lambda: (0,)

    def read(self, program: Program) -> None:
        """Read from this program's maps from now on."""
        self._growth = Growth(program.maps["samples"])
        self._lost = Growth(program.maps["samples_lost"])
        self._program = program

    def since_last(self, more: Collection[tuple[int, int]] = ()) -> dict[int, Histogram]:
        """As in ``Samples``."""
        counts: dict[int, Counter[int]] = {key: Counter() for key in self._always()}
        grown = self._growth.since_last().items()
        for (key, value), count in (*grown, *((sample, 1) for sample in more)):
            counts.setdefault(key, Counter())[value] += count
        return {key: hist.linear(count, self._summary) for key, count in sorted(counts.items())}

    def lost(self) -> int:
        """As in ``Samples``."""
        return sum(self._lost.since_last().values()) + self._program.missed_since_last()
