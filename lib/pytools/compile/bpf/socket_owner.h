/*
 * Whose a socket is: the process that connects or accepts it. Packets, too, change a socket, in
 * whatever task happens to run. Before this stand wanted(task) and socket.h.
 */
#ifndef SOCKET_OWNER_H
#define SOCKET_OWNER_H

/* Whether the owner is known, and whether anybody wants it. */
#define UNKNOWN 0
#define WANTED 1
#define UNWANTED 2

struct owner {
	u64 cgroup;
	u32 pid;
	u32 owned;
	char comm[16];
};

/* The socket is the current task's. */
static inline void own(struct owner *owner)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	owner->cgroup = bpf_get_current_cgroup_id();
	owner->pid = bpf_get_current_pid_tgid() >> 32;
	owner->owned = wanted(task) ? WANTED : UNWANTED;
	bpf_get_current_comm(owner->comm, sizeof(owner->comm));
}

/* Whether the current task uses the socket: it has locked it. Packets only look in. */
static inline bool is_in_use(struct sock *sk)
{
	int locked = 0;

	bpf_probe_read_kernel(&locked, sizeof(locked), &sk->sk_lock.owned);
	return locked;
}
#endif
