/*
 * The calls of functions that have not returned, by thread: from where a function is entered to
 * where it returns, however deep calls are nested.
 *
 * A call of a process's function is known by where its stack is, which its return has as well: a
 * call that never returned, because of longjmp(3) or an exception, is taken for no other. Not every
 * kernel tells where the stack is when one of its own functions returns. There, a return belongs to
 * the last call of that function, and a call that never returned is left out when the thread calls
 * a function from the same place of its stack, or from further up.
 *
 * What uses this may define what a call has more (CALL_MEMBERS: of eight bytes each) before it
 * includes it. $CALL_SPACE is the room that all need (tool/calls.py).
 */
#include <linux/sched.h>
#include "verifier.h"

#ifndef CALL_MEMBERS
#define CALL_MEMBERS
#endif

/* How many calls of a thread may be nested; the kernel returns from as many of a process's. */
#define MOST_NESTED 64
/* How many calls that ended unseen are left out at a time: more take the verifier long. */
#define MOST_LEFT_OUT 16
/* Of two places further apart than this, one is on another stack. */
#define USER_STACK_BYTES (8 << 20)
#define KERNEL_STACK_BYTES (16 << 10)

struct call {
	u64 since;
	u64 stack; /* where it was as the function was entered; 0: nothing returns there any more */
	u64 probe;
	CALL_MEMBERS
};

#define CALL_WORDS (sizeof(struct call) / sizeof(u64))

struct nested {
	u32 depth;
	u32 beyond; /* how many of the kernel's functions have been called beyond the limit */
	u64 words[$CALL_SPACE]; /* of MOST_NESTED struct call */
};
/* By task_struct: the idle tasks of all CPUs have one number. */
BPF_HASH(threads, u64, struct nested, 10240);
/* What a thread begins with: it is too large for a program's own stack. */
BPF_ARRAY(no_calls, struct nested, 1);

/* What is not timed: places in calls_lost. */
enum call_loss { TOO_DEEP, NO_ROOM, NOT_RETURNED };
BPF_PERCPU_ARRAY(calls_lost, u64, 3);

static inline bool in_kernel(u64 stack)
{
	return (s64)stack < 0;
}

/* Whether a call has ended unseen, if its thread calls a function from this place of its stack. */
static inline bool has_ended(struct call *call, u64 stack, u64 probe)
{
	if (!call->stack)
		return true;
	if (in_kernel(call->stack) != in_kernel(stack))
		return !in_kernel(stack);
	/* A function that ends with a call of another leaves its place of the stack to that one. */
	if (call->stack == stack)
		return call->probe == probe;
	if (in_kernel(stack))
		return call->stack < stack && (call->stack ^ stack) < KERNEL_STACK_BYTES;
	return call->stack < stack && stack - call->stack < USER_STACK_BYTES;
}

/* The place is less than MOST_NESTED: the verifier is told so here, and clang can't take it away. */
static inline struct call *call_at(struct nested *nested, u64 place)
{
	KEEP(place);
	place &= MOST_NESTED - 1;
	KEEP(place);
	return (struct call *)&nested->words[place * CALL_WORDS];
}

/* A place for the call that begins: the caller sets its time last. NULL if there is none. */
static inline struct call *begin_call(u64 stack, u64 probe)
{
	u64 task = bpf_get_current_task();
	struct nested *nested = threads.lookup(&task);
	struct call *call;
	u64 depth;
	u32 only = 0;

	if (!nested) {
		nested = no_calls.lookup(&only);
		if (nested)
			threads.update(&task, nested);
		nested = threads.lookup(&task);
		if (!nested) {
			calls_lost.increment(NO_ROOM);
			return NULL;
		}
	}
	depth = nested->depth;
	for (int i = 0; i < MOST_LEFT_OUT && depth; i++) {
		call = call_at(nested, depth - 1);
		if (!has_ended(call, stack, probe))
			break;
		calls_lost.increment(NOT_RETURNED);
		depth--;
	}
	if (depth >= $MOST_LEVELS) {
		nested->beyond += in_kernel(stack);
		if ($MOST_LEVELS == MOST_NESTED)
			calls_lost.increment(TOO_DEEP);
		return NULL;
	}
	call = call_at(nested, depth);
	nested->depth = depth + 1;
	nested->beyond = 0;
	call->stack = stack;
	call->probe = probe;
	return call;
}

/* The call that ends; NULL if it was not seen to begin. It is there until the next one begins. */
static inline struct call *end_call(u64 stack, u64 probe)
{
	u64 task = bpf_get_current_task();
	struct nested *nested = threads.lookup(&task);
	struct call *call;
	u64 place;

	if (!nested)
		return NULL;
	place = nested->depth;
	for (int i = 0; i < MOST_NESTED && place; i++) {
		call = call_at(nested, --place);
		if (in_kernel(call->stack) && nested->beyond) {
			nested->beyond--;
			return NULL;
		}
		if (call->probe == probe && (in_kernel(call->stack) || call->stack == stack)) {
			if (nested->depth > place + 1)
				calls_lost.increment(NOT_RETURNED, nested->depth - place - 1);
			nested->depth = place;
			return call;
		}
	}
	return NULL;
}

static inline u64 called_stack(struct pt_regs *ctx)
{
	return $CALLED_STACK;
}

static inline u64 returned_stack(struct pt_regs *ctx)
{
	return $RETURNED_STACK;
}

/* Nothing of a process returns any more when it executes another program. */
RAW_TRACEPOINT(sched_process_exec, struct task_struct *task)
{
	u64 current = (u64)task;
	struct nested *nested = threads.lookup(&current);
	struct call *call;

	if (!nested)
		return 0;
	for (u32 place = 0; place < MOST_NESTED; place++) {
		call = call_at(nested, place);
		if (!in_kernel(call->stack))
			call->stack = 0;
	}
	return 0;
}

RAW_TRACEPOINT(sched_process_free, struct task_struct *task)
{
	u64 freed = (u64)task;

	threads.delete(&freed);
	return 0;
}
