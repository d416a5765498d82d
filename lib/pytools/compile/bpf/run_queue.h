/*
 * How long tasks wait on a run queue: from the moment a task is woken up,
 * created or switched out although it could run on, to the moment it runs.
 * What includes this has a program at sched_switch, which calls wait_ended().
 */
#include "task_moment.h"

/* When the task of each pid began to wait; 0: it does not. Sized for every pid. */
BPF_ARRAY(waiting_since, u64, 1);

RAW_TRACEPOINT(sched_wakeup, struct task_struct *task)
{
	u32 pid = READ(task_struct, task, pid);
	u64 *since = waiting_since.lookup(&pid), now;

	if (!since)
		return 0;
	now = since_now(task, bpf_ktime_get_ns());
	/* Else preempted on its way to sleep and woken up: it waits already. */
	if (!*since || !SAME_SWITCHES(*since, now))
		*since = now;
	return 0;
}

RAW_TRACEPOINT(sched_wakeup_new, struct task_struct *task)
{
	u32 pid = READ(task_struct, task, pid);
	u64 *since = waiting_since.lookup(&pid);

	if (since)
		*since = since_now(task, bpf_ktime_get_ns());
	return 0;
}

/*
 * The nanoseconds that next has waited (see nanoseconds_since()) and the
 * beginning of prev's wait, if it has one.
 */
static inline s64 wait_ended(bool prev_waits, struct task_struct *prev, struct task_struct *next)
{
	u64 now = bpf_ktime_get_ns(), began;
	/* The task that runs is still prev. */
	u32 pid = bpf_get_current_pid_tgid();
	u64 *since;

	since = pid ? waiting_since.lookup(&pid) : NULL;
	if (since)
		*since = prev_waits ? since_now(prev, now) : 0;

	pid = READ(task_struct, next, pid);
	since = pid ? waiting_since.lookup(&pid) : NULL;
	if (!since || !*since)
		return UNKNOWN;
	began = *since;
	*since = 0;
	return nanoseconds_since(began, since_now(next, now));
}
