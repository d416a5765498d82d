/*
 * Waits for locks of the kernel (domains/kernel_locks.py). What runs when a wait ends holds up all
 * others that want the lock: it had better be quick.
 */
#include "stack_maps.h"

/* LCB_F_* of the kernel's include/trace/events/lock.h. */
#define SPINNING 1
#define READING 2
#define WRITING 4
#define MUTEX 32

struct wait {
	u64 lock;
	u64 since;
	s32 stack;
	u32 flags;
};

/* Of each thread that sleeps, or may: a thread waits for one lock at a time. */
BPF_HASH(waits, u32, struct wait, 65536);

/*
 * Of a CPU that spins: a task, a soft interrupt, an interrupt and an NMI may each wait for a
 * spinlock there, the one on top of the other. None of them leaves the CPU meanwhile.
 */
#define MOST_SPINS 4
BPF_PERCPU_ARRAY(spins, struct wait, MOST_SPINS);
BPF_PERCPU_ARRAY(spins_here, u32, 1); /* how many of these there are */

static inline int wait_begins(void *ctx, u64 lock, u32 flags)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	u32 thread = bpf_get_current_pid_tgid(), only = 0;
	struct wait wait = { .lock = lock, .flags = flags }, *known;
	u32 *here, place;

	/* The tool itself would wait for what it does to its maps. */
	if (($LOCK && lock != $LOCK) || task->tgid == $SELF || !wanted(task))
		return 0;
	if (flags & SPINNING && !(flags & MUTEX)) {
		here = spins_here.lookup(&only);
		if (!here)
			return 0;
		/* If all places are taken, their ends were missed. */
		place = *here < MOST_SPINS ? *here : 0;
		known = spins.lookup(&place);
		if (!known)
			return 0;
		wait.stack = take_stack(ctx, 0);
		wait.since = bpf_ktime_get_ns();
		*known = wait;
		*here = place + 1;
		return 0;
	}
	/* One that spins for a mutex and then sleeps begins twice. */
	known = waits.lookup(&thread);
	if (known && known->lock == lock)
		return 0;
	wait.stack = take_stack(ctx, 0);
	wait.since = bpf_ktime_get_ns();
	if (waits.update(&thread, &wait))
		lost.increment(0);
	return 0;
}

/*
 * The wait that ends, if it was seen to begin. The lock is 0 where it is not known: then it is what
 * the thread sleeps for.
 */
static inline bool end_wait(u64 lock, struct wait *wait)
{
	u32 thread = bpf_get_current_pid_tgid(), only = 0;
	u32 *here = spins_here.lookup(&only), place;
	struct wait *known;

	if (lock && here && *here) {
#pragma unroll
		for (int below = 1; below <= MOST_SPINS; below++) {
			place = *here - below; /* none, if it is less than 0 */
			known = spins.lookup(&place);
			if (!known || known->lock != lock)
				continue;
			*wait = *known;
			*here = place;
			return true;
		}
	}
	known = waits.lookup(&thread);
	if (!known || (lock && known->lock != lock))
		return false;
	*wait = *known;
	waits.delete(&thread);
	return true;
}
