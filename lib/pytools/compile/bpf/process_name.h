/*
 * What ps(1) calls a process: the name of its first thread. The other threads have names of their
 * own, which bpf_get_current_comm() gives.
 */
#ifndef PROCESS_NAME_H
#define PROCESS_NAME_H

#define COMM_BYTES 16

static inline void process_name(char *name, struct task_struct *task)
{
	struct task_struct *first = task->group_leader;

	bpf_probe_read_kernel(name, COMM_BYTES, first->comm);
}

static inline void current_process_name(char *name)
{
	process_name(name, (struct task_struct *)bpf_get_current_task());
}
#endif
