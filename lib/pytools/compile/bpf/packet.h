/*
 * Packets as a program at an interface has them (CLASSIFIER). Of IPv4 and IPv6, also behind VLAN
 * tags and MPLS labels: their two ends, what they carry, and their size. Of all others: their
 * Ethernet type, and their size.
 */
#ifndef PACKET_H
#define PACKET_H
#include "ends.h"
#include "verifier.h"

/* Whoever has packets in another form (frame.h) says so before this. */
#ifndef PACKET_FORM
#define PACKET_FORM struct __sk_buff
#define LOAD_FROM(from, skb, place, value) \
	bpf_skb_load_bytes_relative(skb, place, &(value), sizeof(value), from)
#endif
/* By its place in the packet of IP. */
#define LOAD(skb, packet, place, value) \
	LOAD_FROM((packet)->from, skb, (packet)->start + (place), value)
#define TCP 6
#define UDP 17
#define DCCP 33
#define SCTP 132
#define UDPLITE 136
#define MOST_EXTENSIONS 6 /* headers between that of IPv6 and what it carries */
#define MOST_TAGS 4 /* of VLANs, beside the one that the kernel keeps apart */
#define MOST_LABELS 8 /* of MPLS */

/* Ethernet types (linux/if_ether.h, whose names a kernel's headers may define otherwise). */
#define TYPE_ALL 0x0003 /* the kernel's own: a packet socket that has named none */
#define TYPE_LLC 0x0004 /* the kernel's own: 802.2, where a length stands in the type's place */
#define TYPE_IPV4 0x0800
#define TYPE_VLAN 0x8100
#define TYPE_IPV6 0x86dd
#define TYPE_MPLS 0x8847
#define TYPE_MPLS_MULTICAST 0x8848
#define TYPE_QINQ 0x88a8
#define TYPE_OLD_QINQ 0x9100
#define LEAST_TYPE 0x0600 /* smaller numbers are lengths */

struct packet {
	/* Of what IP carries, behind the extension headers of IPv6; else the Ethernet type. */
	u32 protocol;
	u32 bytes; /* from the header of IP on, else from behind the one of Ethernet */
	u32 from; /* where "start" counts from: BPF_HDR_START_NET or _MAC */
	u32 start; /* where the header of IP begins */
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

/* False where it is none, or is cut off. */
static inline bool read_ipv4(PACKET_FORM *skb, struct ends *ends, struct packet *packet)
{
	struct ipv4_header header = {};

	if (LOAD(skb, packet, 0, header) || header.version_words < 0x45 ||
	    header.version_words > 0x4f)
		return false;
	packet->protocol = header.protocol;
	ends->family = IPV4;
	ends->ip = 4;
	__builtin_memcpy(ends->laddr, header.source, 4);
	__builtin_memcpy(ends->raddr, header.destination, 4);
	/* 0: larger than the header can say. */
	packet->bytes = header.length ? bpf_ntohs(header.length) : skb->len;
	if (!(header.fragment & bpf_htons(0x1fff)))
		packet->transport = (header.version_words & 15) * 4;
	return true;
}

static inline bool read_ipv6(PACKET_FORM *skb, struct ends *ends, struct packet *packet)
{
	struct ipv6_header header = {};
	u32 place = sizeof(header), step;
	struct {
		u8 next;
		u8 words; /* of 8 bytes, without the first */
		u16 fragment;
	} extension = {};

	if (LOAD(skb, packet, 0, header) || (bpf_ntohl(header.flow) >> 28) != 6)
		return false;
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
			return true;
		}
		if (LOAD(skb, packet, place, extension))
			return true;
		if (packet->protocol == 44) {
			packet->protocol = extension.next;
			if (extension.fragment & bpf_htons(0xfff8))
				return true;
			place += 8;
			continue;
		}
		packet->protocol = extension.next;
		place += (extension.words + 1) * 8;
	}
	return true;
}

static inline bool is_vlan(u32 type)
{
	return type == TYPE_VLAN || type == TYPE_QINQ || type == TYPE_OLD_QINQ;
}

/*
 * The type or length that stands in the frame; 0 where there is none. Not every interface is one of
 * Ethernet, but what others have there is hardly the type that the kernel knows.
 */
static inline u32 type_in_frame(PACKET_FORM *skb)
{
	u16 type = 0;

	LOAD_FROM(BPF_HDR_START_MAC, skb, 12, type);
	return bpf_ntohs(type);
}

/*
 * The Ethernet type of what is behind the VLAN tags in the frame, and where that begins. The
 * kernel keeps the outermost tag apart, mostly. Sets "bytes" to those from there on, but for IP.
 */
static inline u32 behind_tags(PACKET_FORM *skb, struct packet *packet)
{
	u32 type = bpf_ntohs(skb->protocol), place = 14, step, written;
	struct {
		u16 id;
		u16 type;
	} tag = {};

	packet->from = BPF_HDR_START_NET;
	packet->bytes = skb->len;
	if (type == TYPE_IPV4 || type == TYPE_IPV6)
		return type;
	written = type_in_frame(skb);
	if (type == 0 || type == TYPE_ALL)
		type = written;
	if (written == type || (written < LEAST_TYPE && type == TYPE_LLC))
		packet->bytes -= 14;
	if (written == type && type < LEAST_TYPE)
		type = TYPE_LLC;
	if (!is_vlan(type))
		return type;
	/* Of a packet that is sent, the network's header may be the tag, or be behind it. */
#pragma unroll
	for (step = 0; step < MOST_TAGS; step++) {
		if (!is_vlan(type) || LOAD_FROM(BPF_HDR_START_MAC, skb, place, tag))
			break;
		type = bpf_ntohs(tag.type);
		place += sizeof(tag);
	}
	packet->from = BPF_HDR_START_MAC;
	packet->start = place;
	packet->bytes = skb->len - place;
	return type < LEAST_TYPE ? TYPE_LLC : type;
}

/* What is behind the labels of MPLS, by its first bits: no label says. */
static inline u32 behind_labels(PACKET_FORM *skb, struct packet *packet, u32 type)
{
	u32 label = 0, place = 0, step;
	u8 version = 0;

#pragma unroll
	for (step = 0; step < MOST_LABELS; step++) {
		if (LOAD(skb, packet, place, label))
			return type;
		place += sizeof(label);
		if (label & bpf_htonl(0x100)) /* the last one */
			break;
	}
	if (!(label & bpf_htonl(0x100)) || LOAD(skb, packet, place, version))
		return type;
	version >>= 4;
	if (version != 4 && version != 6)
		return type;
	packet->start += place;
	return version == 4 ? TYPE_IPV4 : TYPE_IPV6;
}

/* Else the verifier goes through all that follows for each place that the header may have. */
static inline void forget_where(struct packet *packet, u32 unknown)
{
	u32 from = packet->from, start = packet->start;

	FORGET(from, unknown);
	FORGET(start, unknown);
	packet->from = from;
	packet->start = start;
}

/*
 * Read a packet; both must be all zeros before. Of one that is not IP or can't be taken apart,
 * "ends" stays so.
 */
static inline void read_packet(PACKET_FORM *skb, struct ends *ends, struct packet *packet)
{
	u32 type = behind_tags(skb, packet), carried = type;
	u16 ports[2] = {};

	packet->protocol = type;
	if (type == TYPE_MPLS || type == TYPE_MPLS_MULTICAST)
		carried = behind_labels(skb, packet, type);
	forget_where(packet, skb->len);
	if (!(carried == TYPE_IPV4 && read_ipv4(skb, ends, packet)) &&
	    !(carried == TYPE_IPV6 && read_ipv6(skb, ends, packet))) {
		if (packet->bytes == skb->len && type_in_frame(skb) == type)
			packet->bytes -= 14;
		return;
	}
	packet->headers = packet->transport;
	if (packet->transport &&
	    (packet->protocol == TCP || packet->protocol == UDP || packet->protocol == DCCP ||
	     packet->protocol == SCTP || packet->protocol == UDPLITE)) {
		LOAD(skb, packet, packet->transport, ports);
		ends->lport = bpf_ntohs(ports[0]);
		ends->rport = bpf_ntohs(ports[1]);
		packet->headers += 8;
	}
}

/*
 * How many packets on the wire it is, which the interface cuts or has put together. Each has the
 * headers, and the bytes of all are put right for that.
 */
static inline u32 packets_on_wire(PACKET_FORM *skb, struct packet *packet)
{
	u32 packets = skb->gso_segs;
	u8 words = 0;

	if (packets <= 1)
		return 1;
	if (packet->protocol == TCP && !LOAD(skb, packet, packet->transport + 12, words))
		packet->headers = packet->transport + (words >> 4) * 4;
	packet->bytes += (packets - 1) * packet->headers;
	return packets;
}
#endif
