/*
 * Options of a socket of IPv4 or IPv6 that matter when it is bound.
 */
#ifndef SOCKET_OPTIONS_H
#define SOCKET_OPTIONS_H
#include "socket.h"

/* A bit-field of a byte: its first bit as the compiler counts them, and its width. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define BITS(byte, first, width) ((byte) >> (8 - (first) - (width)) & ((1 << (width)) - 1))
#else
#define BITS(byte, first, width) ((byte) >> (first) & ((1 << (width)) - 1))
#endif

#define REUSEADDR 8
#define REUSEPORT 16

/* Which options are set: REUSEADDR, REUSEPORT, and those below it. */
static inline u32 options_of(struct sock *sk)
{
	struct inet_sock *inet = (struct inet_sock *)sk;
	u32 options = 0;
	u8 reuse = 0;
	$SOCKET_OPTIONS
	/* The byte behind the state: skc_reuse has four bits, skc_reuseport one. */
	bpf_probe_read_kernel(&reuse, sizeof(reuse), (u8 *)&sk->__sk_common.skc_state + 1);
	if (BITS(reuse, 0, 4))
		options |= REUSEADDR;
	if (BITS(reuse, 4, 1))
		options |= REUSEPORT;
	return options;
}

/* The number of the device that it is bound to; 0 for none. */
static inline s32 device_of(struct sock *sk)
{
	s32 device = 0;

	bpf_probe_read_kernel(&device, sizeof(device), &sk->__sk_common.skc_bound_dev_if);
	return device;
}
#endif
