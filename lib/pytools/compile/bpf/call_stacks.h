/*
 * What is counted by the stacks that lead to functions (read/call_stacks.py). Names are taken once
 * for a stack of a process, or of a thread.
 *
 * Where a process's function is entered, its caller may be missing in the stack: it has not set up
 * its frame yet. The kernel puts it in where it knows the first instruction by which functions do
 * that, on x86 since Linux commit cfa7f3d2c526 (v6.11).
 */
#include "process_name.h"
#include "stack_maps.h"

struct call_stack {
	u64 caller; /* 0: the stack has it */
	u32 pid; /* 0 if processes are not told apart */
	u32 tid; /* 0 if the names of threads are not */
	s32 user_id;
	s32 kernel_id;
};

struct call_count {
	u64 count;
	char comm[COMM_BYTES];
	char thread[COMM_BYTES];
};
BPF_HASH(counts, struct call_stack, struct call_count, 40960);

static inline u64 caller_of(struct pt_regs *ctx)
{
	return $RETURN_ADDRESS;
}

static inline int count_stack(void *ctx, u64 caller)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call_stack key = { .caller = caller, .user_id = NO_STACK, .kernel_id = NO_STACK };
	struct call_count *count;
	u32 pid = thread >> 32;
	u8 nothing = 0;

	if ($PROCESSES) {
		key.pid = pid;
		key.tid = $THREADS ? thread : 0;
	}
	/* An idle CPU's task has no stack of a process; newer kernels say EPERM if asked for it. */
	if ($USER_STACKS && pid)
		key.user_id = take_stack(ctx, USER_STACK);
	if ($KERNEL_STACKS)
		key.kernel_id = take_stack(ctx, 0);
	count = counts.lookup(&key);
	if (!count) {
		struct call_count first = {};

		if ($PROCESSES) {
			current_process_name(first.comm);
			if ($THREADS)
				bpf_get_current_comm(first.thread, sizeof(first.thread));
			if (key.user_id >= 0)
				processes.update(&pid, &nothing);
		}
		counts.insert(&key, &first);
		/* Another CPU may have put it in meanwhile, or there is no room. */
		count = counts.lookup(&key);
	}
	if (count)
		__sync_fetch_and_add(&count->count, 1);
	else
		stacks_lost.increment(LOST_COUNTS);
	return 0;
}
