/*
 * Packets that the kernel drops (kfree_skb): which it is, where, why, and whose.
 */
#ifndef DROP_H
#define DROP_H
#include "frame.h"
#include "socket.h"
#include "socket_file.h"

struct drop {
	struct ends ends;
	u64 place; /* the instruction behind the call that frees it */
	u64 inode; /* of the socket; 0 where no process has it open */
	u32 reason;
	u32 bytes;
	u16 protocol; /* as in struct packet */
	u8 state; /* of the socket; 0 where none is known */
	u8 flags; /* of TCP */
	char device[16]; /* empty where none is known */
};

/* Namespaces have numbers from here on: PROC_DYNAMIC_FIRST, and those of the first ones below. */
#define LEAST_NAMESPACE 0xefff0000
#define MOST_CALLERS 12 /* to find one function more than the kernel's own for this tracepoint */

/* The function that only frees packets for others, once it has been looked up: address and size. */
BPF_ARRAY(frees_for_others, u64, 2);

/* Where a packet is freed: if that function does it, in its caller. */
static inline u64 place_of(void *ctx, u64 location)
{
	u64 callers[MOST_CALLERS] = {}, *start, *size;
	u32 number = 0;

	start = frees_for_others.lookup(&number);
	number = 1;
	size = frees_for_others.lookup(&number);
	if (!start || !size || location - *start >= *size)
		return location;
	bpf_get_stack(ctx, callers, sizeof(callers), 0);
#pragma unroll
	for (number = 0; number + 1 < MOST_CALLERS; number++)
		if (callers[number] == location && callers[number + 1])
			return callers[number + 1];
	return location;
}

static inline u32 namespace_of(struct net *net)
{
	u32 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &net->ns.inum);
	return number >= LEAST_NAMESPACE ? number : 0;
}

/* A packet in a queue of TCP's, or of UDP's, has something else in the place of its device. */
static inline u32 read_device(struct drop *drop, struct net_device *device)
{
	struct net *net = NULL;
	u32 number;

	bpf_probe_read_kernel(&net, sizeof(net), &device->nd_net);
	number = namespace_of(net);
	if (number)
		bpf_probe_read_kernel(drop->device, sizeof(drop->device), &device->name);
	return number;
}

/* What a socket knows: not every one is whole, such as that of a connection which is not yet. */
static inline void read_socket(struct drop *drop, struct frame *frame, struct sock *sk)
{
	struct net *net = NULL;

	bpf_probe_read_kernel(&drop->state, sizeof(drop->state), (void *)&sk->__sk_common.skc_state);
	if (drop->state == TCP_TIME_WAIT || drop->state == TCP_NEW_SYN_RECV)
		return;
	drop->inode = inode_of(sk);
	if (!drop->ends.netns) {
		bpf_probe_read_kernel(&net, sizeof(net), &sk->__sk_common.skc_net);
		drop->ends.netns = namespace_of(net);
	}
	/* A segment that has no header of IP yet, as where no route leads to the peer. */
	if (!drop->ends.family && !drop->protocol && is_tcp(sk)) {
		read_ends(&drop->ends, sk);
		drop->protocol = TCP;
		LOAD_FROM(BPF_HDR_START_NET, frame, 13, drop->flags);
	}
}

/* All of "drop" but its reason and place; it must be all zeros before. */
static inline void read_drop(struct drop *drop, struct sk_buff *skb, struct sock *receiver)
{
	struct packet packet = {};
	struct frame frame;

	read_frame(&frame, skb);
	if (receiver)
		frame.sk = receiver;
	read_packet(&frame, &drop->ends, &packet);
	drop->protocol = packet.protocol;
	drop->bytes = packet.bytes;
	if (packet.protocol == TCP && packet.transport)
		LOAD(&frame, &packet, packet.transport + 13, drop->flags);
	drop->ends.netns = read_device(drop, frame.device);
	if (frame.sk)
		read_socket(drop, &frame, frame.sk);
}
#endif
