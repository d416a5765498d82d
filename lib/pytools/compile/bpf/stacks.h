/*
 * What is counted by stack (see stacks.py).
 */
#ifndef STACKS_H
#define STACKS_H

#include "process_name.h"
#include "stack_maps.h"

/* What is counted apart. A tool leaves zero what it does not tell apart. */
struct stack_key {
	u32 pid; /* a tgid, as the kernel names it */
	u32 tid;
	s32 user_id;
	s32 kernel_id;
	u32 state;
	char comm[16];
	char thread[16];
};

BPF_HASH(counts, struct stack_key, u64, 40960);
/* Processes that have got a new stack since they were last read. */
BPF_HASH(processes, u32, u8, 4096);

/* Give the key the process, the names and the stacks of the current task. */
static inline void take_stacks(struct stack_key *key, void *ctx)
{
	key->pid = bpf_get_current_pid_tgid() >> 32;
	current_process_name(key->comm);
	if ($THREADS)
		bpf_get_current_comm(key->thread, sizeof(key->thread));
	key->user_id = $USER_STACKS ? take_stack(ctx, 1 << 8 /* BPF_F_USER_STACK */) : NO_STACK;
	key->kernel_id = $KERNEL_STACKS ? take_stack(ctx, 0) : NO_STACK;
}

static inline void add_to_stack(struct stack_key *key, u64 amount)
{
	u64 *sum = counts.lookup(key);
	u32 pid = key->pid;
	u8 nothing = 0;

	if (!sum) {
		if (key->user_id >= 0)
			processes.update(&pid, &nothing);
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
