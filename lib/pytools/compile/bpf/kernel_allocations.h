/* What the kernel allocates and frees, by its tracepoints. */
#include <linux/sched.h>
#include "allocations.h"

static inline int kernel_allocates(void *ctx, u64 address, u64 size)
{
	struct memory memory = { .address = address };

	if (!address || is_left_out(size))
		return 0;
	if (wanted((struct task_struct *)bpf_get_current_task()))
		remember(ctx, &memory, size, 0, 0);
	return 0;
}

static inline int kernel_frees(u64 address)
{
	struct memory memory = { .address = address };
	struct allocation *allocation = allocations.lookup(&memory);

	if (allocation)
		forget(&memory, allocation);
	return 0;
}
