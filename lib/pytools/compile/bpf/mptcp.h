/*
 * MPTCP: a socket of a process, which has TCP sockets of the kernel for its connections.
 */
#ifndef MPTCP_H
#define MPTCP_H
#include "socket.h"

#define MPTCP 262 /* IPPROTO_MPTCP */

/* The TCP socket that has a socket's connection: itself, or for MPTCP its first subflow. */
static inline struct sock *tcp_of(struct sock *sk)
{
	struct sock *first = NULL;
	u16 protocol = 0;

	bpf_probe_read_kernel(&protocol, sizeof(protocol), &sk->sk_protocol);
	if (protocol == MPTCP)
		bpf_probe_read_kernel(&first, sizeof(first), $FIRST_SUBFLOW);
	return protocol == IPPROTO_TCP ? sk : first;
}

/* Whether a TCP socket is a subflow of MPTCP. */
static inline bool is_mptcp(struct sock *sk)
{
	bool is = false;

	bpf_probe_read_kernel(&is, sizeof(is), $IS_MPTCP);
	return is;
}
#endif
