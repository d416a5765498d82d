#ifndef TASK_MOMENT_H
#define TASK_MOMENT_H
/*
 * When something began for a task, kept in 64 bits: nanoseconds, and the number
 * of times that the task had been switched out by then, modulo 256. The number
 * tells whether the task has run since. The kernel may leave a program out, and
 * a pid may go to another task: neither may become a time that never was.
 */
#define UNKNOWN ((s64)(1ULL << 63)) /* less than any time */

static inline u64 since_now(struct task_struct *task, u64 now)
{
#if TYPED
	return now << 8 |
	       (u8)(READ(task_struct, task, nvcsw) + READ(task_struct, task, nivcsw));
#else
	struct { unsigned long voluntary, involuntary; } switches = {};

	/* Both in one: a read costs more than all else here. */
	_Static_assert(offsetof(struct task_struct, nivcsw) ==
		       offsetof(struct task_struct, nvcsw) + sizeof(long), "nvcsw, nivcsw");
	bpf_probe_read_kernel(&switches, sizeof(switches), &task->nvcsw);
	return now << 8 | (u8)(switches.voluntary + switches.involuntary);
#endif
}

/* The same number of switches at both times. */
#define SAME_SWITCHES(since, now) ((u8)(since) == (u8)(now))

/*
 * Nanoseconds from one to the other: less than 0 where clocks of CPUs differ,
 * UNKNOWN where the beginning is not known (0), or another's.
 */
static inline s64 nanoseconds_since(u64 since, u64 now)
{
	if (!since || !SAME_SWITCHES(since, now))
		return UNKNOWN;
	return (s64)(now - since) >> 8;
}
#endif
