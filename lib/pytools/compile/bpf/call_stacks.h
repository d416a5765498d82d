/*
 * What is counted by the stacks that lead to a function. Where a process's function is entered, its
 * caller may be missing in the stack: it has not set up its frame yet. The kernel puts it in where
 * it knows the first instruction, on x86 since Linux commit cfa7f3d2c526 (v6.11).
 */
#include "stack_key.h"

struct call_key {
	struct stack_key stack;
	u32 unused;
	u64 caller; /* 0: it is not a process's function */
};

#define COUNTED struct call_key
#define new_count(key) name_functions(&(key)->stack)
#include "stacks.h"

static inline u64 caller_of(struct pt_regs *ctx)
{
	return $RETURN_ADDRESS;
}
