/*
 * Counts by process and number, whatever the number stands for, with the name of the process. Who includes this has a per-CPU array lost.
 */
#include "generation.h"
#include "process_name.h"

struct key {
	u32 pid;
	u32 number;
	char comm[16];
	u32 generation;
};
BPF_HASH(counts, struct key, u64, 65536);

static inline void count_of_process(u32 number)
{
	struct key key = {
		.pid = bpf_get_current_pid_tgid() >> 32,
		.number = number,
		.generation = current_generation(),
	};
	u64 *count, one = 1;

	current_process_name(key.comm);
	count = counts.lookup(&key);
	if (!count && counts.insert(&key, &one)) {
		/* Another CPU put it in meanwhile, or there is no room. */
		count = counts.lookup(&key);
		if (!count)
			lost.increment(0);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
}
