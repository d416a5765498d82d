#ifndef SOCKET_H
#define SOCKET_H
#include "ends.h"
#include <linux/fdtable.h>
#include <linux/net.h>
#include <linux/sched.h>
#include <linux/tcp.h>
#include <net/inet_sock.h>
#include <net/net_namespace.h>
#include <net/tcp_states.h>

static inline bool is_tcp(struct sock *sk)
{
	u16 protocol = 0;

	bpf_probe_read_kernel(&protocol, sizeof(protocol), &sk->sk_protocol);
	return protocol == IPPROTO_TCP;
}

static inline void read_ends(struct ends *ends, struct sock *sk)
{
	struct net *net = NULL;
	u32 words[4] = {};
	u16 port = 0;

	__builtin_memset(ends, 0, sizeof(*ends));
	bpf_probe_read_kernel(&net, sizeof(net), &sk->__sk_common.skc_net);
	bpf_probe_read_kernel(&ends->netns, sizeof(ends->netns), &net->ns.inum);
	/* Not skc_num, which a socket has lost when it is closed. */
	bpf_probe_read_kernel(&port, sizeof(port), &((struct inet_sock *)sk)->inet_sport);
	ends->lport = bpf_ntohs(port);
	bpf_probe_read_kernel(&port, sizeof(port), &sk->__sk_common.skc_dport);
	ends->rport = bpf_ntohs(port);
	bpf_probe_read_kernel(&ends->family, sizeof(ends->family), &sk->__sk_common.skc_family);
	ends->ip = 4;
	if (ends->family != IPV6) {
		bpf_probe_read_kernel(ends->laddr, 4, &sk->__sk_common.skc_rcv_saddr);
		bpf_probe_read_kernel(ends->raddr, 4, &sk->__sk_common.skc_daddr);
		return;
	}
	bpf_probe_read_kernel(ends->laddr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	bpf_probe_read_kernel(ends->raddr, 16, &sk->__sk_common.skc_v6_daddr);
	bpf_probe_read_kernel(words, sizeof(words), &sk->__sk_common.skc_v6_daddr);
	if (words[0] || words[1] || words[2] != bpf_htonl(0xffff))
		ends->ip = 6;
}

/* The socket that an open file is; NULL if it is none. */
static inline struct socket *socket_of_file(struct file *file)
{
	struct socket *socket = NULL;
	struct file *back = NULL;

	bpf_probe_read_kernel(&socket, sizeof(socket), &file->private_data);
	/* What another kind of file has there does not point back. */
	bpf_probe_read_kernel(&back, sizeof(back), &socket->file);
	if (!file || back != file)
		return NULL;
	return socket;
}

/* The socket that is the current process's file descriptor; NULL if it is none. */
static inline struct socket *open_socket(u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *table = task->files->fdt;
	struct file **files = table->fd, *file = NULL;

	if (fd >= table->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return socket_of_file(file);
}

/* The same as the protocol knows it. */
static inline struct sock *socket_of(u32 fd)
{
	struct socket *socket = open_socket(fd);
	struct sock *sk = NULL;

	if (socket)
		bpf_probe_read_kernel(&sk, sizeof(sk), &socket->sk);
	return sk;
}
#endif
