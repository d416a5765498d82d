/*
 * Events whose last member is as long as its text, and which are too large for the stack: each
 * is made in a draft, of which each program has one on each CPU. One for all programs would not do:
 * on a new kernel (v7.2) a program may be preempted by another on the same CPU, but by itself
 * never. Programs at user functions have no drafts: one may be preempted by itself.
 */
#include "verifier.h"

struct draft {
	u64 unseen; /* bytes of events that no reader was woken for */
	u64 lost; /* events for which the ring had no room */
	struct event event;
};
BPF_PERCPU_ARRAY(drafts, struct draft, $DRAFTS);

/* The draft of a program, by its number; never NULL, which the verifier can't know. */
static inline struct draft *draft_of(u32 program)
{
	return drafts.lookup(&program);
}

/* All ones where a is less than b. */
#define LESS(a, b) ((u64)((s64)((a) - (b)) >> 63))

/*
 * Hand over the first "size" bytes of a draft's event. The draft can be used again. There are no
 * branches here: a program that does this in a loop would make the verifier walk both ways of each
 * in every round.
 */
static inline void submit_draft(struct draft *draft, u64 size)
{
	u64 awake;
	s64 failed;

	draft->unseen += size;
	awake = LESS($WAKE_BYTES, draft->unseen);
	KEEP(awake);
	draft->unseen &= ~awake;
	failed = events.ringbuf_output(&draft->event, size, NO_WAKEUP << (awake & 1));
	draft->lost -= failed >> 63;
}
