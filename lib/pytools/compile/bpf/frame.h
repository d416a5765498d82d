/*
 * Packets as the kernel itself has them (struct sk_buff), for packet.h: what is in the part of them
 * that is in one piece, where their headers are.
 */
#ifndef FRAME_H
#define FRAME_H

struct frame {
	char *head;
	u32 network; /* where that header begins, from "head" on */
	u32 mac;
	u32 tail; /* where the piece ends */
	u32 protocol;
	u32 len;
	u32 gso_segs;
};

static inline int load_of_frame(struct frame *frame, u32 from, u32 place, void *to, u32 size)
{
	u32 start = (from == BPF_HDR_START_MAC ? frame->mac : frame->network) + place;

	if (start + size > frame->tail)
		return -1;
	return bpf_probe_read_kernel(to, size, frame->head + start);
}

#define PACKET_FORM struct frame
#define LOAD_FROM(from, frame, place, value) \
	load_of_frame(frame, from, place, &(value), sizeof(value))
#include "packet.h"

/*
 * The packet of a raw tracepoint's argument. A network's header that the kernel has not noted begins
 * where the kernel has got to; a header of Ethernet that it has not noted is behind the end.
 */
static inline void read_frame(struct frame *frame, struct sk_buff *skb)
{
	u64 head = READ(sk_buff, skb, head);

	frame->head = (char *)head;
	frame->network = READ(sk_buff, skb, network_header);
	if (!frame->network || frame->network == 0xffff)
		frame->network = READ(sk_buff, skb, data) - head;
	frame->mac = READ(sk_buff, skb, mac_header);
	frame->tail = READ(sk_buff, skb, tail);
	frame->protocol = READ(sk_buff, skb, protocol);
	frame->len = READ(sk_buff, skb, len);
	frame->gso_segs = 1;
}
#endif
