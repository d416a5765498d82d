/*
 * Memory that was allocated and has not been freed, and which stacks did that (outstanding.py).
 * Before this stands a function report(what, address, size), which tells of a call, if it is to.
 */
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

#include "stack_maps.h"

/* Of a process, its pid and which of the programs that it ran; of the kernel, zeros. */
struct memory {
	u64 address;
	u32 pid;
	u32 program;
};

struct allocation {
	u64 size;
	u64 since;
	u64 caller; /* a function that the stack lacks; 0: none */
	s32 stack;
	u32 unused;
};
BPF_HASH(allocations, struct memory, struct allocation, 1);
BPF_PERCPU_ARRAY(allocations_lost, u64, 1);

struct site {
	u64 caller;
	u32 pid;
	u32 program;
	s32 stack;
	u32 unused;
};

struct site_sum {
	u64 bytes;
	u64 count;
};
BPF_HASH(sites, struct site, struct site_sum, 1);

static inline struct site site_of(struct memory *memory, struct allocation *allocation)
{
	struct site site = {
		.caller = allocation->caller,
		.pid = memory->pid,
		.program = memory->program,
		.stack = allocation->stack,
	};

	return site;
}

static inline bool is_left_out(u64 size)
{
	if (size < $MIN_SIZE || size > $MAX_SIZE)
		return true;
	return $SAMPLE_RATE > 1 && bpf_get_prandom_u32() % (u32)$SAMPLE_RATE;
}

/* With $COMBINED. */
static inline void count_at_site(struct memory *memory, struct allocation *allocation, s64 sign)
{
	struct site site = site_of(memory, allocation);
	struct site_sum none = {}, *sum = sites.lookup(&site);

	if (!sum && sign > 0) {
		sum = sites.lookup_or_try_init(&site, &none);
		if (!sum)
			stacks_lost.increment(LOST_COUNTS);
	}
	if (!sum)
		return;
	__sync_fetch_and_add(&sum->bytes, sign * allocation->size);
	__sync_fetch_and_add(&sum->count, sign);
}

static inline void forget(struct memory *memory, struct allocation *allocation)
{
	struct allocation gone = *allocation;

	/* Whoever removes it counts it: another thread may be at it, too. */
	if (allocations.delete(memory))
		return;
	if ($COMBINED)
		count_at_site(memory, &gone, -1);
	report(FREED, memory->address, gone.size);
}

static inline void keep(struct memory *memory, struct allocation *allocation)
{
	struct allocation *before;

	if (allocations.insert(memory, allocation)) {
		/* What is there was freed unseen, for the memory is somebody's anew. */
		before = allocations.lookup(memory);
		if (before)
			forget(memory, before);
		if (allocations.update(memory, allocation)) {
			allocations_lost.increment(0);
			return;
		}
	}
	if ($COMBINED)
		count_at_site(memory, allocation, 1);
	report(ALLOCATED, memory->address, allocation->size);
}

static inline void remember(void *ctx, struct memory *memory, u64 size, u64 caller, u64 of)
{
	struct allocation allocation = {
		.size = size,
		.since = bpf_ktime_get_ns(),
		.caller = caller,
		.stack = $STACKS ? take_stack(ctx, of) : NO_STACK,
	};

	keep(memory, &allocation);
}
#endif
