/*
 * The round-trip times that a TCP socket has measured, in microseconds; 0 where it has none.
 */
#ifndef TCP_RTT_H
#define TCP_RTT_H
#include "socket.h"

/* Of each socket, how many packets the peer had acknowledged when it was looked at. */
BPF_TABLE("lru_hash", u64, u32, acknowledged, 65536);

/* The kernel keeps eight times the value. */
static inline u32 smoothed_rtt(struct sock *sk)
{
	u32 eightfold = 0;

	bpf_probe_read_kernel(&eightfold, sizeof(eightfold), &((struct tcp_sock *)sk)->srtt_us);
	return eightfold >> 3;
}

/* The last one, if one was measured since this was asked before: the peer has acknowledged more. */
static inline u32 new_rtt(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	u32 delivered = 0, usecs = 0, *before;
	u64 key = (u64)sk;

	bpf_probe_read_kernel(&delivered, sizeof(delivered), &tcp->delivered);
	before = acknowledged.lookup(&key);
	if (before && *before == delivered)
		return 0;
	if (before)
		*before = delivered; /* a session's packets are looked at one after the other */
	else
		acknowledged.update(&key, &delivered);
	bpf_probe_read_kernel(&usecs, sizeof(usecs), &tcp->rack.rtt_us);
	return usecs;
}
#endif
