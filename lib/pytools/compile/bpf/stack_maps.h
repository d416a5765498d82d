/*
 * The maps of stacks (see stacks.py). A stack map has a place for each stack by
 * its hash, and refuses a stack whose place is another's: that one gets a place
 * in a second map.
 */
#ifndef STACK_MAPS_H
#define STACK_MAPS_H

#define IN_SECOND_MAP (1 << 30)
#define NO_STACK (-14) /* EFAULT: a kernel thread's user stack, ... */
#define PLACE_TAKEN (-17) /* EEXIST */
#define USER_STACK (1 << 8) /* BPF_F_USER_STACK */

/* What is lost, by kind: places in stacks_lost. */
enum stack_loss { LOST_TO_COLLISIONS, LOST_TO_FULL_MAP, LOST_COUNTS, LOST_KINDS };

BPF_STACK_TRACE(stacks, 16384);
BPF_STACK_TRACE(more_stacks, 8192);
BPF_PERCPU_ARRAY(stacks_lost, u64, 3);
/* Processes that have got a new stack since they were last read. */
BPF_HASH(processes, u32, u8, 4096);

static inline s32 take_stack(void *ctx, u64 flags)
{
	s32 id = stacks.get_stackid(ctx, flags);

	if (id >= 0 || id == NO_STACK)
		return id;
	if (id == PLACE_TAKEN) {
		id = more_stacks.get_stackid(ctx, flags);
		if (id >= 0)
			return id | IN_SECOND_MAP;
	}
	stacks_lost.increment(id == PLACE_TAKEN ? LOST_TO_COLLISIONS : LOST_TO_FULL_MAP);
	return id;
}
#endif
