/*
 * Packets of IPv4 and IPv6, as a program at an interface has them (CLASSIFIER): their two ends,
 * what they carry, and their size.
 */
#ifndef PACKET_H
#define PACKET_H
#include "ends.h"

#define LOAD(skb, place, value) \
	bpf_skb_load_bytes_relative(skb, place, &(value), sizeof(value), BPF_HDR_START_NET)
#define TCP 6
#define UDP 17
#define DCCP 33
#define SCTP 132
#define UDPLITE 136
#define MOST_EXTENSIONS 6 /* headers between that of IPv6 and what it carries */

struct packet {
	u32 protocol; /* of what it carries, behind the extension headers of IPv6 */
	u32 bytes; /* from the header of IP on; 0 where there is no such packet */
	u32 transport; /* where the transport's header begins; 0 where this packet has none */
	u32 headers; /* bytes of all headers; the transport's has at least 8 where it has ports */
};

struct ipv4_header {
	u8 version_words; /* its length in words of 4 bytes */
	u8 service;
	u16 length;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 protocol;
	u16 checksum;
	char source[4];
	char destination[4];
};
struct ipv6_header {
	u32 flow;
	u16 length;
	u8 next;
	u8 hops;
	char source[16];
	char destination[16];
};

static inline void read_ipv4(struct __sk_buff *skb, struct ends *ends, struct packet *packet)
{
	struct ipv4_header header = {};

	if (LOAD(skb, 0, header))
		return;
	packet->protocol = header.protocol;
	ends->family = IPV4;
	ends->ip = 4;
	__builtin_memcpy(ends->laddr, header.source, 4);
	__builtin_memcpy(ends->raddr, header.destination, 4);
	/* 0: larger than the header can say. */
	packet->bytes = header.length ? bpf_ntohs(header.length) : skb->len;
	if (!(header.fragment & bpf_htons(0x1fff)))
		packet->transport = (header.version_words & 15) * 4;
}

static inline void read_ipv6(struct __sk_buff *skb, struct ends *ends, struct packet *packet)
{
	struct ipv6_header header = {};
	u32 place = sizeof(header), step;
	struct {
		u8 next;
		u8 words; /* of 8 bytes, without the first */
		u16 fragment;
	} extension = {};

	if (LOAD(skb, 0, header))
		return;
	ends->family = IPV6;
	ends->ip = 6;
	__builtin_memcpy(ends->laddr, header.source, 16);
	__builtin_memcpy(ends->raddr, header.destination, 16);
	packet->bytes = header.length ? bpf_ntohs(header.length) + sizeof(header) : skb->len;
	packet->protocol = header.next;
#pragma unroll
	for (step = 0; step < MOST_EXTENSIONS; step++) {
		/* Hop-by-hop, routing, fragment, destination. */
		if (packet->protocol != 0 && packet->protocol != 43 && packet->protocol != 44 &&
		    packet->protocol != 60) {
			packet->transport = place;
			return;
		}
		if (LOAD(skb, place, extension))
			return;
		if (packet->protocol == 44) {
			packet->protocol = extension.next;
			if (extension.fragment & bpf_htons(0xfff8))
				return;
			place += 8;
			continue;
		}
		packet->protocol = extension.next;
		place += (extension.words + 1) * 8;
	}
}

/* Read an IP packet; both must be all zeros before. False for another packet. */
static inline bool read_packet(struct __sk_buff *skb, struct ends *ends, struct packet *packet)
{
	u16 ports[2] = {};

	if (skb->protocol == bpf_htons(0x0800))
		read_ipv4(skb, ends, packet);
	else if (skb->protocol == bpf_htons(0x86dd))
		read_ipv6(skb, ends, packet);
	packet->headers = packet->transport;
	if (packet->transport &&
	    (packet->protocol == TCP || packet->protocol == UDP || packet->protocol == DCCP ||
	     packet->protocol == SCTP || packet->protocol == UDPLITE)) {
		LOAD(skb, packet->transport, ports);
		ends->lport = bpf_ntohs(ports[0]);
		ends->rport = bpf_ntohs(ports[1]);
		packet->headers += 8;
	}
	return packet->bytes;
}

/*
 * How many packets on the wire it is, which the interface cuts or has put together. Each has the
 * headers, and the bytes of all are put right for that.
 */
static inline u32 packets_on_wire(struct __sk_buff *skb, struct packet *packet)
{
	u32 packets = skb->gso_segs;
	u8 words = 0;

	if (packets <= 1)
		return 1;
	if (packet->protocol == TCP && !LOAD(skb, packet->transport + 12, words))
		packet->headers = packet->transport + (words >> 4) * 4;
	packet->bytes += (packets - 1) * packet->headers;
	return packets;
}
#endif
