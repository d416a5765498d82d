/*
 * Events about TCP sessions for domains/session_traffic.py: that one has begun, who has accepted
 * it, and that it has ended, with its last counts. Before this stand wanted(task) and mptcp.h.
 */
#ifndef SESSION_EVENTS_H
#define SESSION_EVENTS_H

#define BEGAN 0
#define ACCEPTED 1
#define ENDED 2

struct event {
	struct ends ends;
	u32 interface;
	u32 what;
	u32 owned;
	u64 began;
	u64 cookie;
	u64 sent;
	u64 received;
	u64 cgroup;
	u32 pid;
	char comm[16];
};
EVENTS(events, struct event);
BPF_PERCPU_ARRAY(lost, u64, 1);

#include "socket_owner.h"
#include "events.h"
#include "tcp_life.h"

static inline void tell(struct sock *sk, struct session *session, u32 what)
{
	struct event *event;
	struct ends ends;

	read_ends(&ends, sk);
	if (!wanted_socket(&ends))
		return;
	event = reserve_event();
	if (!event)
		return;
	event->ends = ends;
	event->interface = 0;
	bpf_probe_read_kernel(&event->interface, sizeof(event->interface),
			      &sk->__sk_common.skc_bound_dev_if);
	event->what = what;
	event->began = session->since;
	event->cookie = cookie_of(sk);
	event->sent = bytes_sent(sk);
	event->received = bytes_received(sk);
	event->cgroup = session->owner.cgroup;
	event->pid = session->owner.pid;
	event->owned = session->owner.owned;
	__builtin_memcpy(event->comm, session->owner.comm, sizeof(event->comm));
	submit_event(event);
}

static inline void session_changed(struct sock *sk, struct session *session, bool begins)
{
	tell(sk, session, begins ? BEGAN : ACCEPTED);
}

static inline void session_ended(struct sock *sk, struct session *session)
{
	tell(sk, session, ENDED);
}
#endif
