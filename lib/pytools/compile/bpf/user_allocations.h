/*
 * What processes allocate and free by functions of their allocators, which allocators.py attaches
 * to. An allocator's functions call each other: the outermost call of a thread counts, and its
 * stack is taken when it has returned. The caller's frame is the innermost then, whether or not
 * the allocator keeps the frame pointer.
 */
#include <linux/sched.h>
#include "allocations.h"
#include "process_name.h"

#define MOST_ERROR 4095 /* MAP_FAILED, and what else is no address */
/* How much of the stack is between a call of operator new and its call of malloc(3), at most. */
#define OPERATOR_BYTES 512

/* A thread's outermost call of an allocator. */
struct call {
	u64 stack; /* where the stack was then; 0: it has returned */
	u64 size;
	u64 place; /* where it puts the address; 0: it returns it */
	u64 new_stack; /* where the stack was when operator new was called, */
	u64 new_caller; /* and by whom; 0: it was not */
	struct memory before; /* what realloc(3) was given */
	struct allocation given;
	u32 pid; /* another process may have had the thread's number */
	u16 was_given;
	u16 left_out;
};
BPF_TABLE("lru_hash", u32, struct call, calls, 16384);

/* How often a process has executed a program since the tool began. */
BPF_TABLE("lru_hash", u32, u32, programs, 16384);
/* How many have. */
BPF_ARRAY(executed, u64, 1);

static inline struct memory memory_at(u64 address)
{
	struct memory memory = { .address = address, .pid = bpf_get_current_pid_tgid() >> 32 };
	u32 pid = memory.pid, zero = 0, *program;
	u64 *any = executed.lookup(&zero);

	program = any && *any ? programs.lookup(&pid) : NULL;
	if (program)
		memory.program = *program;
	return memory;
}

struct process {
	u32 pid;
	u32 program;
};
struct name {
	char comm[COMM_BYTES];
};
BPF_TABLE("lru_hash", struct process, struct name, names, 16384);

/* Have the reader open the files of a process, and tell it the process's name. */
static inline void tell_of_process(u32 pid, u32 program)
{
	struct process process = { .pid = pid, .program = program };
	struct name name = {};
	u8 nothing = 0;

	current_process_name(name.comm);
	names.update(&process, &name);
	processes.update(&pid, &nothing);
}

static inline struct call *call_of_thread(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	u32 tid = thread;
	struct call none = { .pid = thread >> 32 }, *call = calls.lookup(&tid);
	struct memory memory;

	if (call && call->pid == none.pid)
		return call;
	/* The first one of a thread. */
	memory = memory_at(0);
	tell_of_process(memory.pid, memory.program);
	calls.update(&tid, &none);
	return calls.lookup(&tid);
}

/* A call for so many bytes; place is where it puts their address, if it does not return it. */
static inline int called(struct call *call, u64 stack, u64 size, u64 place)
{
	/* A deeper one is a part of it. One that never returned is not above. */
	if (!call || call->stack >= stack)
		return 0;
	call->stack = stack;
	call->size = size;
	call->place = place;
	call->was_given = 0;
	call->left_out =
		is_left_out(size) || !wanted((struct task_struct *)bpf_get_current_task());
	if (call->new_stack < stack || call->new_stack - stack > OPERATOR_BYTES)
		call->new_caller = 0;
	return 0;
}

/* The same, and it is given memory in exchange. */
static inline int exchanges(u64 stack, u64 address, u64 size)
{
	struct call *call = call_of_thread();
	struct allocation *given;

	if (!call || call->stack >= stack)
		return 0;
	called(call, stack, size, 0);
	call->before = memory_at(address);
	given = address ? allocations.lookup(&call->before) : NULL;
	if (given) {
		/* Now: another thread may get that memory before this call returns. */
		call->given = *given;
		call->was_given = 1;
		forget(&call->before, given);
	}
	return 0;
}

static inline int frees(u64 address)
{
	struct memory memory = memory_at(address);
	struct allocation *allocation = allocations.lookup(&memory);

	if (address && allocation)
		forget(&memory, allocation);
	return 0;
}

UPROBE(sized, u64 size)
{
	return called(call_of_thread(), $CALLED_STACK, size, 0);
}

UPROBE(calloc, u64 count, u64 size)
{
	return called(call_of_thread(), $CALLED_STACK, count * size, 0);
}

UPROBE(aligned, u64 alignment, u64 size)
{
	return called(call_of_thread(), $CALLED_STACK, size, 0);
}

UPROBE(posix_memalign, u64 place, u64 alignment, u64 size)
{
	return called(call_of_thread(), $CALLED_STACK, size, place);
}

UPROBE(realloc, u64 address, u64 size)
{
	return exchanges($CALLED_STACK, address, size);
}

UPROBE(reallocarray, u64 address, u64 count, u64 size)
{
	return exchanges($CALLED_STACK, address, count * size);
}

UPROBE(mmap, u64 address, u64 size)
{
	return called(call_of_thread(), $CALLED_STACK, size, 0);
}

UPROBE(mremap, u64 address, u64 old_size, u64 size)
{
	return exchanges($CALLED_STACK, address, size);
}

UPROBE(free, u64 address)
{
	return frees(address);
}

UPROBE(munmap, u64 address, u64 length)
{
	struct memory memory = memory_at(address), rest = memory;
	struct allocation *known = allocations.lookup(&memory), allocation;

	if (!known)
		return 0;
	allocation = *known;
	forget(&memory, known);
	if (length >= allocation.size)
		return 0;
	rest.address += length;
	allocation.size -= length;
	keep(&rest, &allocation);
	return 0;
}

/*
 * operator new of a C++ library, which calls malloc(3). Nothing is attached where it returns: an
 * exception could not pass that. It may keep no frame pointer; then its caller is missing in the
 * stack.
 */
UPROBE(new, u64 size)
{
	struct call *call = call_of_thread();
	u64 caller = 0;

	if (!call || call->stack >= $CALLED_STACK ||
	    (call->new_caller && call->new_stack > $CALLED_STACK &&
	     call->new_stack - $CALLED_STACK < OPERATOR_BYTES))
		return 0; /* called by another one */
	caller = $RETURN_ADDRESS;
	call->new_caller = caller;
	call->new_stack = $CALLED_STACK;
	return 0;
}

URETPROBE(returned, u64 result)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct call *call = calls.lookup(&tid);
	u64 caller, address = result;
	struct memory memory;

	if (!call || call->stack != $RETURNED_STACK)
		return 0;
	call->stack = 0;
	caller = call->new_caller;
	call->new_caller = 0;
	if (call->place && ((u32)result ||
	    bpf_probe_read_user(&address, sizeof(address), (void *)call->place)))
		address = 0;
	if (!address || address >= -(u64)MOST_ERROR) {
		/* It failed, and has changed nothing. */
		if (call->was_given && call->size)
			keep(&call->before, &call->given);
		return 0;
	}
	if (call->left_out)
		return 0;
	memory = memory_at(address);
	remember(ctx, &memory, call->size, caller, USER_STACK);
	return 0;
}

/* A process that executes another program has none of its memory any more. */
TRACEPOINT(sched, sched_process_exec)
{
	u64 thread = bpf_get_current_pid_tgid();
	u32 pid = thread >> 32, tid = thread, next = 1, *program;

	if (!wanted((struct task_struct *)bpf_get_current_task()))
		return 0;
	/* A thread that had this number may have been ended within a call. */
	calls.delete(&tid);
	program = programs.lookup(&pid);
	if (program)
		next = *program + 1;
	programs.update(&pid, &next);
	executed.increment(0);
	tell_of_process(pid, next);
	return 0;
}
