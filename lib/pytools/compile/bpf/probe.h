/*
 * Which of many probes a program runs for (multi_attach.py): the number that it was loaded
 * with or, where that is less than zero, what tells it when it runs.
 */
#define BY_COOKIE -1
#define BY_ENTERED_CALL -2
#define BY_RETURNING_CALL -3

#define NO_PROBE 0xffffffff
#define CALLS 1024

/* One more than the number of the probe, by system call: as they begin, as they end. */
BPF_ARRAY(probes_of_calls, u64, 2 * CALLS);

static inline u32 probe_of(void *context, s64 index)
{
	u64 number, *probe;
	u32 call;

	if (index >= 0)
		return index;
	if (index == BY_COOKIE)
		return $ATTACH_COOKIE;
	/* In the record of raw_syscalls as in the arguments of the raw tracepoint. */
	number = ((u64 *)context)[1];
	if (number >= CALLS || $COMPAT_CALL)
		return NO_PROBE;
	call = index == BY_RETURNING_CALL ? number + CALLS : number;
	probe = probes_of_calls.lookup(&call);
	return probe ? *probe - 1 : NO_PROBE;
}
