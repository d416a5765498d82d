/*
 * What TCP sends again: which segment it is, and why.
 */
#ifndef RETRANSMISSION_H
#define RETRANSMISSION_H
#include <linux/skbuff.h>
#include <net/request_sock.h>
#include <net/tcp.h>
#include "socket_file.h"
#include "tcp_session.h"

/* Numbers of reasons: those of states of congestion (TCP_CA_*), and others (retransmissions.py). */
#define RECOVERS 3
#define TIMED_OUT 4
#define IS_SYN 8
#define IS_SYNACK 9
#define IS_PROBE 10
#define IS_NEW_DATA 11
#define LOSS_PROBE 5 /* ICSK_TIME_LOSS_PROBE: the timer that is set */
#define SYN_FLAG 2

struct again {
	struct ends ends;
	u64 inode; /* of the socket; 0 where no process has it open */
	u32 seq;
	u32 segments;
	s32 error; /* why it could not be sent */
	u8 state;
	u8 reason;
	u16 flags;
};

static inline void read_segment(struct again *again, struct sk_buff *skb)
{
	struct tcp_skb_cb segment = {};

	bpf_probe_read_kernel(&segment, sizeof(segment), &skb->cb);
	again->seq = segment.seq;
	again->flags = segment.tcp_flags;
	again->segments = segment.tcp_gso_segs;
}

/*
 * A segment is sent again by the timer (TIMED_OUT, also all that is lost then, and where a router has
 * no room for it), because the peer's ACKs tell of a loss (RECOVERS), or as a probe.
 */
static inline u8 reason_of(struct sock *sk, struct again *again)
{
	struct inet_connection_sock *connection = (struct inet_connection_sock *)sk;
	u8 state = 0, timer = 0;

	if (again->flags & SYN_FLAG)
		return IS_SYN;
	bpf_probe_read_kernel(&state, sizeof(state), (char *)connection + $RECOVERY_STATE);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	state >>= 3;
#endif
	state &= 31;
	if (state == RECOVERS || state == TIMED_OUT)
		return state;
	bpf_probe_read_kernel(&timer, sizeof(timer), &connection->icsk_pending);
	return timer == LOSS_PROBE ? IS_PROBE : state;
}

/* The answer to a SYN, which has no socket yet. */
static inline void read_request(struct again *again, struct request_sock *request)
{
	struct sock_common *common = &request->__req_common;
	u16 port = 0;

	read_ends(&again->ends, (struct sock *)request);
	bpf_probe_read_kernel(&port, sizeof(port), &common->skc_num);
	again->ends.lport = port;
	bpf_probe_read_kernel(&again->seq, sizeof(again->seq),
			      &((struct tcp_request_sock *)request)->snt_isn);
	again->state = TCP_SYN_RECV;
	again->reason = IS_SYNACK;
	again->segments = 1;
}
#endif
