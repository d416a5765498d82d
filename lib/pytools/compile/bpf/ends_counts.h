/*
 * Counts by the two ends of sockets, in the map "counts": how often something was, and how often
 * it failed. The local port makes no difference. Before this stands the counter "lost".
 */
#include "ends.h"

struct ends_count {
	u64 times;
	u64 failed;
};
BPF_HASH(counts, struct ends, struct ends_count, 16384);

static inline void count_ends(struct ends *between, bool failed)
{
	struct ends_count none = {}, *count;
	struct ends ends = *between;

	ends.lport = 0;
	count = counts.lookup_or_try_init(&ends, &none);
	if (!count) {
		lost.increment(0);
		return;
	}
	lock_xadd(&count->times, 1);
	if (failed)
		lock_xadd(&count->failed, 1);
}
