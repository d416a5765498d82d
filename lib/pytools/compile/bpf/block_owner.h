/*
 * Whose I/O a request is.
 *
 * That is the process that makes the request, unless it makes it for others: the thread that writes
 * back what they have written into the page cache, or who has to swap out their memory. Then the
 * request belongs to their cgroup, which the block layer knows by its state in the io controller.
 */
#ifndef BLOCK_OWNER_H
#define BLOCK_OWNER_H

#include <linux/blkdev.h>
#include <linux/cgroup.h>
#include "process_name.h"

$STRUCT_BLKCG_GQ

struct owner {
	u64 state; /* of the process's own cgroup, in the io controller */
	u64 cgroup; /* the process's own, or the one for which it makes the request */
	char comm[COMM_BYTES]; /* zeroes behind its end */
	s32 pid; /* -1: it belongs to the cgroup, or to nobody if that is 0 */
};

/* The current task makes a request, of which nothing was known yet. */
static inline void owner_begins(struct owner *owner)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	owner->state = (u64)$TASK_IO_STATE;
	owner->cgroup = bpf_get_current_cgroup_id();
	owner->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_probe_read_kernel_str(owner->comm, COMM_BYTES, task->group_leader->comm);
}

static inline void owner_is_cgroup(struct owner *owner, u64 cgroup)
{
	owner->pid = -1;
	owner->cgroup = cgroup;
	__builtin_memset(owner->comm, 0, COMM_BYTES);
}

/* The request goes to its device. */
static inline void owner_issues(struct owner *owner, bool begun, struct request *request)
{
	struct cgroup_subsys_state *state = $REQUEST_IO_STATE;
	struct cgroup *cgroup;

	if (!begun) {
		owner_is_cgroup(owner, 0);
		return;
	}
	if (!state || (u64)state == owner->state)
		return;
	/* What belongs to the root is that of nobody else. One of version 1 has no path by its id. */
	cgroup = state->cgroup;
	if (cgroup->level && !cgroup->root->hierarchy_id)
		owner_is_cgroup(owner, cgroup->kn->id);
}
#endif
