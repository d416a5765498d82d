/*
 * How long handlers of interrupts take, of which a CPU runs one at a time: when the one that runs
 * began. Who includes this has a function add_time(id, nanoseconds), and a program that calls
 * handler_begins() if times are wanted.
 */
#include "verifier.h"

BPF_PERCPU_ARRAY(began, u64, 1);

static inline bool wanted_cpu(void)
{
	return $CPU < 0 || bpf_get_smp_processor_id() == $CPU;
}

static inline int handler_begins(void)
{
	u32 only = 0;
	u64 *since = began.lookup(&only);

	if (since && wanted_cpu())
		*since = bpf_ktime_get_ns();
	return 0;
}

/* One that began before all this is not counted. */
static inline int handler_ends(u64 id)
{
	u32 only = 0;
	u64 *since = began.lookup(&only), then, no_time = 0;

	if (!wanted_cpu())
		return 0;
	if (!$TIMED) {
		/* LLVM 11 would make of an addition of nothing what it has no instruction for. */
		KEEP(no_time);
		add_time(id, no_time);
		return 0;
	}
	if (!since || !*since)
		return 0;
	then = *since;
	*since = 0;
	add_time(id, bpf_ktime_get_ns() - then);
	return 0;
}
