/*
 * Of what has two numbers in common: how often it was, the sum and the maximum of its values. A CPU
 * has its own (totals.py). Who includes this has a per-CPU array lost.
 */
#include "generation.h"

struct total_of {
	u64 id;
	u32 kind;
	u32 generation;
};

struct total {
	u64 count;
	u64 sum;
	u64 maximum;
};

BPF_TABLE("percpu_hash", struct total_of, struct total, totals, 1);

static inline void add_to_total(u64 id, u32 kind, u64 value)
{
	struct total_of key = {
		.id = id,
		.kind = kind,
		.generation = current_generation(),
	};
	struct total *total = totals.lookup(&key), first = {};

	if (!total) {
		totals.insert(&key, &first);
		total = totals.lookup(&key);
	}
	if (!total) {
		lost.increment(0);
		return;
	}
	total->count++;
	total->sum += value;
	if (value > total->maximum)
		total->maximum = value;
}
