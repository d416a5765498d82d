/*
 * What is counted for a thread that waited and for the task that woke it up (see
 * read/stacks.py). The kernel's stack of the latter is taken in any case: it says
 * whether it was an interrupt that woke the thread up.
 */
#ifndef WAKES_H
#define WAKES_H

#include "stack_key.h"

struct wake_key {
	struct stack_key sleeper;
	struct stack_key waker;
};

#define COUNTED struct wake_key
#define SLEEPER(counted) (&(counted)->sleeper)
#define new_count(counted)                             \
	do {                                           \
		name_functions(&(counted)->sleeper);   \
		name_functions(&(counted)->waker);     \
	} while (0)
#define forget_waker(counted) no_task(&(counted)->waker)

#define NOBODY ((u32)-1)

static inline void no_task(struct stack_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->pid = NOBODY;
	key->user_id = key->kernel_id = NO_STACK;
}

/* The current task, or what interrupted it, wakes another one up. */
static inline void take_waker(struct stack_key *waker, void *ctx)
{
	take_stacks(waker, ctx);
	if (!$KERNEL_STACKS)
		waker->kernel_id = take_stack(ctx, 0);
}
#endif
