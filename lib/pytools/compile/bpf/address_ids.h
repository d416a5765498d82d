/*
 * A number for an address, to be the id of a histogram: that of IPv4 is its own, and one of IPv6
 * is given out (see domains/addresses.py).
 */
#ifndef ADDRESS_IDS_H
#define ADDRESS_IDS_H
#include "whole_address.h"

#define GIVEN_OUT (1ULL << 63)

BPF_HASH(address_ids, struct whole_address, u64, 65536);

/* 0 where there is no room. */
static inline u64 address_id(char *address, u16 family)
{
	struct whole_address whole = whole_address(address, family);
	u32 *parts = (u32 *)&whole;
	u64 *known, id;

	if (!whole.words[0] && parts[2] == bpf_htonl(0xffff))
		return parts[3];
	known = address_ids.lookup(&whole);
	if (known)
		return *known;
	/* Two of 65,536 are the same once in 2^32 runs. */
	id = GIVEN_OUT | (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	address_ids.insert(&whole, &id);
	/* Another CPU may have been first. */
	known = address_ids.lookup(&whole);
	return known ? *known : 0;
}
#endif
