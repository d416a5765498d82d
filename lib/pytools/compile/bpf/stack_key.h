/* Whose stacks they are (see stacks.py). */
#ifndef STACK_KEY_H
#define STACK_KEY_H

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

/* Give the key the process, the names and the stacks of the current task. */
static inline void take_stacks(struct stack_key *key, void *ctx)
{
	key->pid = bpf_get_current_pid_tgid() >> 32;
	current_process_name(key->comm);
	if ($THREADS)
		bpf_get_current_comm(key->thread, sizeof(key->thread));
	/* An idle CPU's task has no stack of a process; newer kernels say EPERM if asked for it. */
	key->user_id = $USER_STACKS && key->pid ? take_stack(ctx, USER_STACK) : NO_STACK;
	key->kernel_id = $KERNEL_STACKS ? take_stack(ctx, 0) : NO_STACK;
}

/* Have the functions of the process named while it lives. */
static inline void name_functions(struct stack_key *key)
{
	u32 pid = key->pid;
	u8 nothing = 0;

	if (key->user_id >= 0)
		processes.update(&pid, &nothing);
}
#endif
