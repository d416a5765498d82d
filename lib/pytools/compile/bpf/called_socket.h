/*
 * The socket that a system call, or a request of io_uring, was about, when it has returned.
 */
#ifndef CALLED_SOCKET_H
#define CALLED_SOCKET_H
#include "socket.h"
#include "syscall.h"

/* What the protocol has of a socket, if it is one of IPv4 or IPv6; else NULL. */
static inline struct sock *internet_socket(struct socket *socket)
{
	struct sock *sk = NULL;
	u16 family = 0;

	if (!socket)
		return NULL;
	bpf_probe_read_kernel(&sk, sizeof(sk), &socket->sk);
	bpf_probe_read_kernel(&family, sizeof(family), &sk->__sk_common.skc_family);
	return family == IPV4 || family == IPV6 ? sk : NULL;
}

static inline u16 protocol_of(struct sock *sk)
{
	u16 protocol = 0;

	bpf_probe_read_kernel(&protocol, sizeof(protocol), &sk->sk_protocol);
	return protocol;
}
#endif
