/*
 * Flights that begin when a task's I/O becomes a request, where block_flights.h
 * alone has them begin when the device gets it. Before this stands the tool's
 * begin(flight), for what is to be known of that task.
 */
#define WATCH_STARTS

/* The current task makes a request of which "origin" is the address, or that of its bio. */
static inline int starts(u64 origin)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct flight *flight = flights.lookup(&origin), first = {};

	if (flight && flight->issued)
		strays.increment(UNENDED);
	if (!wanted(task)) {
		if (flight)
			*flight = first;
		return 0;
	}
	if (!flight) {
		if (flights.update(&origin, &first))
			strays.increment(NO_ROOM);
		flight = flights.lookup(&origin);
		if (!flight)
			return 0;
	}
	*flight = first;
	flight->queued = bpf_ktime_get_ns();
	begin(flight);
	return 0;
}

$REQUEST_STARTS

/* The flight that began at "origin", from now on that of the request. */
static inline struct flight *started(u64 request, u64 origin)
{
	struct flight *flight = flights.lookup(&origin), copy;

	if (!flight || origin == request)
		return flight;
	copy = *flight;
	flights.delete(&origin);
	if (flights.update(&request, &copy))
		return NULL;
	return flights.lookup(&request);
}
