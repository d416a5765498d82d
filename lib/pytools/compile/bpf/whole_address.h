/*
 * An address of either version as IPv6 has it: that of IPv4 as ::ffff:192.0.2.1.
 */
#ifndef WHOLE_ADDRESS_H
#define WHOLE_ADDRESS_H
#include "ends.h"

struct whole_address {
	u64 words[2];
};

/* Of an address in struct ends. */
static inline struct whole_address whole_address(char *address, u16 family)
{
	struct whole_address whole = {};
	u32 *parts = (u32 *)&whole;

	if (family == IPV6) {
		__builtin_memcpy(&whole, address, sizeof(whole));
		return whole;
	}
	parts[2] = bpf_htonl(0xffff);
	__builtin_memcpy(&parts[3], address, 4);
	return whole;
}

static inline bool is_address(char *address, u16 family, u64 first, u64 second)
{
	struct whole_address whole = whole_address(address, family);

	return whole.words[0] == first && whole.words[1] == second;
}
#endif
