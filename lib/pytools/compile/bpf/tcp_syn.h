/*
 * The SYN of a TCP socket. The state TCP_SYN_SENT is none yet: the kernel sets it before it has a
 * local port, and with TCP_FASTOPEN_CONNECT the SYN waits for the first data.
 */
#ifndef TCP_SYN_H
#define TCP_SYN_H
#include "socket.h"

/* Whether the last connect(2) has begun an attempt, whose end nobody has asked for yet. */
static inline bool is_connecting(struct socket *socket)
{
	u32 state = 0;

	bpf_probe_read_kernel(&state, sizeof(state), &socket->state);
	return state == SS_CONNECTING;
}

/* Whether the socket has sent anything since it began to connect, if only a SYN. */
static inline bool has_sent_syn(struct sock *sk)
{
	u32 segments = 0;

	bpf_probe_read_kernel(&segments, sizeof(segments), &((struct tcp_sock *)sk)->segs_out);
	return segments;
}

/*
 * When it has sent its first SYN, and nothing else since; "known" is when that was at the
 * earliest. What was sent last has the time at which it was sent, in tcp_wstamp_ns.
 */
static inline u64 first_syn(struct sock *sk, u64 known)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	u32 again = 0;
	u64 sent = 0;

	bpf_probe_read_kernel(&again, sizeof(again), &tcp->total_retrans);
	bpf_probe_read_kernel(&sent, sizeof(sent), &tcp->tcp_wstamp_ns);
	return !again && sent > known ? sent : known;
}

/*
 * The same for a SYN that was just sent for the second time: until there is an answer,
 * retrans_stamp is when it was sent first, in milliseconds. "known" is exact where both agree.
 */
#define SAME_SYN_NS 10000000
static inline u64 first_syn_of_two(struct sock *sk, u64 known)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	u64 now_us = 0, sent;
	u32 first_ms = 0;

	bpf_probe_read_kernel(&now_us, sizeof(now_us), &tcp->tcp_mstamp);
	bpf_probe_read_kernel(&first_ms, sizeof(first_ms), &tcp->retrans_stamp);
	sent = bpf_ktime_get_ns() - (u64)((u32)(now_us / 1000) - first_ms) * 1000000;
	return sent > known + SAME_SYN_NS ? sent : known;
}
#endif
