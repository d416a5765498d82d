/*
 * Operations on files, from the call of a file system's function to its return. A thread may be in
 * several functions at a time: one file system may be stacked on another, and a write may end in an
 * fsync. Before this stand wanted(task) and the counter $LOST; after it, what the tool does with what operation_ends()
 * gives, and the programs of domains/file_systems.py.
 */
#define EIOCBQUEUED 529 /* it goes on without its caller */

struct operation {
	u64 since; /* 0: none, or over */
	u64 object; /* what leads to its file: by its kind, as the function got it */
};

/*
 * By the number of the operation and the thread. A thread does the same again and again: what it
 * has here stays, which costs less than to put it in and to take it out.
 */
BPF_TABLE("lru_hash", u64, struct operation, operations, 65536);
BPF_PERCPU_ARRAY(asynchronous, u64, 1);

static inline u64 operation_key(u32 number)
{
	return (u64)number << 32 | (u32)bpf_get_current_pid_tgid();
}

static inline int operation_begins(u32 number, u64 object)
{
	u64 key = operation_key(number);
	struct operation *known, first = {};

	if (!wanted((struct task_struct *)bpf_get_current_task()))
		return 0;
	known = operations.lookup(&key);
	if (!known) {
		operations.update(&key, &first);
		known = operations.lookup(&key);
	}
	if (!known) {
		$LOST.increment(0);
		return 0;
	}
	known->object = object;
	known->since = bpf_ktime_get_ns();
	return 0;
}

/* What ends now; "since" is 0 where its beginning was not seen, or where it goes on. */
static inline struct operation operation_ends(u32 number, s64 result)
{
	u64 key = operation_key(number);
	struct operation *known = operations.lookup(&key), ended = {};

	if (!known || !known->since)
		return ended;
	if (result == -EIOCBQUEUED)
		asynchronous.increment(0);
	else
		ended = *known;
	known->since = 0;
	return ended;
}
