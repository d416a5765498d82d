/*
 * Packets as the kernel itself has them (struct sk_buff), for packet.h: what is in the part of them
 * that is in one piece, where their headers are.
 */
#ifndef FRAME_H
#define FRAME_H
#include <linux/netdevice.h>
#include <linux/skbuff.h>

struct frame {
	char *head;
	u64 network; /* where that header begins, from "head" on */
	u64 mac;
	u64 tail; /* where the piece ends */
	u32 protocol;
	u32 len;
	u32 gso_segs;
	struct net_device *device;
	struct sock *sk;
};

/* "from" is BPF_HDR_START_MAC, 0, or BPF_HDR_START_NET, 1. */
static inline int load_of_frame(struct frame *frame, u64 from, u64 place, void *to, u64 size)
{
	/* No branches, at each of which the verifier would go on in two ways. NULL can't be read. */
	u64 start = frame->mac + from * (frame->network - frame->mac) + place;
	s64 behind = (s64)(frame->tail - start - size) >> 63;

	return bpf_probe_read_kernel(to, size, (void *)(((u64)frame->head + start) & ~behind));
}

#define PACKET_FORM struct frame
#define LOAD_FROM(from, frame, place, value) \
	load_of_frame(frame, from, place, &(value), sizeof(value))
#include "packet.h"

/* A member of "skb" where the kernel knows no types of arguments: a call for each. */
#define MEMBER(name) ({ \
	typeof(skb->name) value = 0; \
	bpf_probe_read_kernel(&value, sizeof(value), &skb->name); \
	value; \
})

/*
 * A network's header that the kernel has not noted begins where the kernel has got to; a header of
 * Ethernet that it has not noted is behind the end.
 */
static inline void read_frame(struct frame *frame, struct sk_buff *skb)
{
#if TYPED
	u64 head = (u64)READ(sk_buff, skb, head), data = (u64)READ(sk_buff, skb, data);

	frame->network = READ(sk_buff, skb, network_header);
	frame->mac = READ(sk_buff, skb, mac_header);
	frame->tail = READ(sk_buff, skb, tail);
	frame->protocol = READ(sk_buff, skb, protocol);
	frame->len = READ(sk_buff, skb, len);
	frame->device = (struct net_device *)READ(sk_buff, skb, dev);
	frame->sk = (struct sock *)READ(sk_buff, skb, sk);
#else
	u64 head = (u64)MEMBER(head), data = (u64)MEMBER(data);

	frame->network = MEMBER(network_header);
	frame->mac = MEMBER(mac_header);
	frame->tail = MEMBER(tail);
	frame->protocol = MEMBER(protocol);
	frame->len = MEMBER(len);
	frame->device = MEMBER(dev);
	frame->sk = MEMBER(sk);
#endif
	frame->head = (char *)head;
	if (!frame->network || frame->network == 0xffff)
		frame->network = data - head;
	frame->gso_segs = 1;
}
#endif
