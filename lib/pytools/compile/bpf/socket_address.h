/*
 * The struct sockaddr that a process hands to the kernel.
 */
#ifndef SOCKET_ADDRESS_H
#define SOCKET_ADDRESS_H
#include "ends.h"

/* Make it the peer in "ends"; false where it can't be read, or is of neither IPv4 nor IPv6. */
static inline bool read_peer(struct ends *ends, void *address)
{
	struct {
		u16 family;
		u16 port;
		u32 address;
	} peer = {};

	if (bpf_probe_read_user(&peer, sizeof(peer), address))
		return false;
	if (peer.family != IPV4 && peer.family != IPV6)
		return false;
	ends->rport = bpf_ntohs(peer.port);
	ends->family = peer.family;
	ends->ip = peer.family == IPV6 ? 6 : 4;
	__builtin_memset(ends->raddr, 0, sizeof(ends->raddr));
	if (peer.family == IPV6)
		bpf_probe_read_user(ends->raddr, 16, address + sizeof(peer));
	else
		__builtin_memcpy(ends->raddr, &peer.address, sizeof(peer.address));
	return true;
}

/* Make it the local end, and its family that of the ends; nothing where it can't be read. */
static inline void read_asked(struct ends *ends, void *address)
{
	struct ends asked = *ends;

	if (!read_peer(&asked, address))
		return;
	ends->family = asked.family;
	ends->ip = asked.ip;
	ends->lport = asked.rport;
	__builtin_memcpy(ends->laddr, asked.raddr, sizeof(ends->laddr));
}
#endif
