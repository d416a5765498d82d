/*
 * The command of --exec and all that descend from it, by process. A child is one of them before it
 * runs: sched_process_fork comes in the parent, and only then may the child. A process is one of
 * them until its task is freed: it closes its files, and leaves its CPU, behind sched_process_exit.
 * Its number is not given out again so soon: the kernel goes round all others first.
 */
#ifndef FAMILY_H
#define FAMILY_H

/* Places in the counters. */
#define FOLLOWED 0 /* children that have become one of them */
#define NOT_FOLLOWED 1 /* children for which there was no room */

BPF_HASH(family, u32, u8, 32768);
BPF_PERCPU_ARRAY(family_counts, u64, 2);

static inline bool in_family(struct task_struct *task)
{
	u32 pid = task->tgid;

	return family.lookup(&pid);
}

RAW_TRACEPOINT(sched_process_fork, struct task_struct *parent, struct task_struct *child)
{
	u32 pid = child->tgid;
	u8 nothing = 0;

	/* A further thread is no process. */
	if (pid != child->pid || !in_family(parent))
		return 0;
	family_counts.increment(family.update(&pid, &nothing) ? NOT_FOLLOWED : FOLLOWED);
	return 0;
}

RAW_TRACEPOINT(sched_process_free, struct task_struct *task)
{
	u32 pid = task->tgid;

	/* The last task of a process that is freed has its number. */
	if (task->pid == pid)
		family.delete(&pid);
	return 0;
}
#endif
