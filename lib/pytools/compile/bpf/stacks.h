/* What is counted by stack (see stacks.py). */
#ifndef STACKS_H
#define STACKS_H

#include "stack_key.h"

/* What counts by more than one task's stacks says so before it includes this. */
#ifndef COUNTED
#define COUNTED struct stack_key
#define new_count(key) name_functions(key)
#endif

BPF_HASH(counts, COUNTED, u64, 40960);

static inline void add_to_stack(COUNTED *key, u64 amount)
{
	u64 *sum = counts.lookup(key);

	if (!sum) {
		new_count(key);
		if (!counts.insert(key, &amount))
			return;
		/* Another CPU put it in meanwhile, or there is no room. */
		sum = counts.lookup(key);
	}
	if (sum)
		__sync_fetch_and_add(sum, amount);
	else
		stacks_lost.increment(LOST_COUNTS);
}
#endif
