/*
 * Whose a socket is: the process that connects or accepts it. Packets, too, change a socket, in
 * whatever task happens to run. Before this stand wanted(task) and socket.h.
 */
#ifndef SOCKET_OWNER_H
#define SOCKET_OWNER_H

#include "process_name.h"

/* Whether the owner is known, and whether anybody wants it. */
#define UNKNOWN 0
#define WANTED 1
#define UNWANTED 2

struct owner {
	u64 cgroup;
	u64 owned; /* one of the above */
	u32 pid;
	u32 uid;
	char comm[16];
	char thread[16];
};

static inline bool current_is_wanted(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return wanted(task);
}

/* The socket is the current task's, of which it is known whether anybody wants it. */
static inline void own(struct owner *owner, u32 owned)
{
	owner->cgroup = bpf_get_current_cgroup_id();
	owner->pid = bpf_get_current_pid_tgid() >> 32;
	owner->uid = bpf_get_current_uid_gid();
	owner->owned = owned;
	current_process_name(owner->comm);
	bpf_get_current_comm(owner->thread, sizeof(owner->thread));
}

/* Whether the current task uses the socket: it has locked it. Packets only look in. */
static inline bool is_in_use(struct sock *sk)
{
	int locked = 0;

	bpf_probe_read_kernel(&locked, sizeof(locked), &sk->sk_lock.owned);
	return locked;
}

/* Whether a process has the socket as a file: it has made or accepted it, and not yet closed it. */
static inline bool has_file(struct sock *sk)
{
	struct socket *socket = NULL;

	bpf_probe_read_kernel(&socket, sizeof(socket), &sk->sk_socket);
	return socket;
}
#endif
