/*
 * How long threads are off their CPUs: from the moment one is switched out to the
 * moment it runs again, counted by the stack with which it left. What includes
 * this has wanted(task) before it.
 */
#include "stacks.h"

#define TASK_DEAD 0x80
#define PREEMPTED 0

/* What counts by more than this stack says so before it includes this. */
#ifndef SLEEPER
#define SLEEPER(counted) (counted)
#define forget_waker(counted)
#endif

/* Where a thread waits, and since when; 0: it does not. */
struct wait {
	u64 since;
	COUNTED key;
};
BPF_HASH(waits, u32, struct wait, 65536);
BPF_PERCPU_ARRAY(waits_lost, u64, 1);

static inline bool is_counted(struct task_struct *task, u64 state)
{
	if ($STATE == 0 ? state != PREEMPTED : $STATE > 0 && !(state & $STATE))
		return false;
	return wanted(task);
}

static inline void begin(void *ctx, u32 tid, u64 state, u64 now)
{
	struct wait none = {}, *wait;

	forget_waker(&none.key);
	wait = waits.lookup_or_try_init(&tid, &none);
	if (!wait) {
		waits_lost.increment(0);
		return;
	}
	SLEEPER(&wait->key)->tid = tid;
	SLEEPER(&wait->key)->state = state;
	take_stacks(SLEEPER(&wait->key), ctx);
	wait->since = now;
}

RAW_TRACEPOINT(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	u64 now = bpf_ktime_get_ns(), since;
	u64 state = preempt ? PREEMPTED : $PREV_STATE;
	/* The task that runs is still prev. */
	u32 tid = bpf_get_current_pid_tgid();
	struct wait *wait;

	if (state & TASK_DEAD)
		waits.delete(&tid);
	else if (tid && is_counted(prev, state))
		begin(ctx, tid, state, now);

	tid = READ(task_struct, next, pid);
	wait = tid ? waits.lookup(&tid) : NULL;
	if (!wait || !wait->since)
		return 0;
	since = wait->since;
	wait->since = 0;
	/* Nobody ends the wait of one that could run. */
	if (SLEEPER(&wait->key)->state == PREEMPTED)
		forget_waker(&wait->key);
	if (now >= since && now - since >= $SHORTEST && now - since <= $LONGEST)
		add_to_stack(&wait->key, now - since);
	forget_waker(&wait->key);
	return 0;
}
