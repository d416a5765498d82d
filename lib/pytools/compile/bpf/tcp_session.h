/*
 * TCP sessions: which states of a socket are those of one, and what went over it.
 */
#ifndef TCP_SESSION_H
#define TCP_SESSION_H
#include "socket.h"

/* Whether a socket in that state has a session: from the handshake's end to the last packet. */
static inline bool has_session(int state)
{
	return state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 ||
	       state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING;
}

static inline u8 state_of(struct sock *sk)
{
	u8 state = 0;

	bpf_probe_read_kernel(&state, sizeof(state), (void *)&sk->__sk_common.skc_state);
	return state;
}

static inline bool is_closed(struct sock *sk)
{
	return state_of(sk) == TCP_CLOSE;
}

/* Whether the peer has still to answer the answer to its SYN. */
static inline bool is_in_handshake(struct sock *sk)
{
	return state_of(sk) == TCP_SYN_RECV;
}

/* By which user space knows the socket, too; 0 where nobody has asked for it. */
static inline u64 cookie_of(struct sock *sk)
{
	u64 cookie = 0;

	bpf_probe_read_kernel(&cookie, sizeof(cookie), &sk->__sk_common.skc_cookie);
	return cookie;
}

/* Bytes of data; what was sent again counts once. */
static inline u64 bytes_sent(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	u64 sent = 0, again = 0;

	bpf_probe_read_kernel(&sent, sizeof(sent), &tcp->bytes_sent);
	bpf_probe_read_kernel(&again, sizeof(again), &tcp->bytes_retrans);
	return sent - again;
}

/* The kernel counts a FIN as a byte that was received. */
static inline u64 bytes_received(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	u64 received = 0, flags = 0;

	bpf_probe_read_kernel(&received, sizeof(received), &tcp->bytes_received);
	bpf_probe_read_kernel(&flags, sizeof(flags), &sk->__sk_common.skc_flags);
	return received - (flags >> SOCK_DONE & 1);
}
#endif
