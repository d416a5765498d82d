/*
 * The way of a request: a device gets it, and has done all of it. Before this
 * stand block.h and the tool's
 *   issue(flight, request)        the device gets it, maybe again
 *   finish(flight, request, now)  it has done all of it
 */
RAW_TRACEPOINT(block_rq_issue, $REQUEST_ARGUMENTS)
{
	u64 key = (u64)request;
	struct flight *flight = flights.lookup(&key), first = {};

	/* On a busy machine, v6.18 has run no program for some ends. */
	if (flight && flight->issued) {
		strays.increment(UNENDED);
		*flight = first;
	}
#ifdef WATCH_STARTS
	if (!flight || !flight->queued)
		flight = started(key, (u64)$REQUEST_ORIGIN);
	if ($FILTERED && (!flight || !flight->queued))
		return 0;
#endif
	if (!watched(request)) {
		if (flight)
			*flight = first;
		return 0;
	}
	if (!flight) {
		if (flights.update(&key, &first))
			strays.increment(NO_ROOM);
		flight = flights.lookup(&key);
		if (!flight)
			return 0;
	}
	issue(flight, request);
	flight->issued = bpf_ktime_get_ns();
#ifdef WATCH_STARTS
	/* A flush has no beginning before: the block layer itself makes it. */
	if (!flight->queued && operation_of(request) == REQ_OP_FLUSH)
		flight->queued = flight->issued;
#endif
	return 0;
}

/* The device could not take it: it will be issued again. */
RAW_TRACEPOINT(block_rq_requeue, $REQUEST_ARGUMENTS)
{
	u64 key = (u64)request;
	struct flight *flight = flights.lookup(&key);

	if (flight)
		flight->issued = 0;
	return 0;
}

RAW_TRACEPOINT(block_rq_complete, $COMPLETION_ARGUMENTS)
{
	u64 key = (u64)request, now = bpf_ktime_get_ns();
	struct flight *flight = flights.lookup(&key), none = {};

	if (flight && flight->issued) {
		if (bytes < READ(request, request, __data_len))
			return 0;
		finish(flight, request, now);
		*flight = none;
		return 0;
	}
	/* One without bytes is a write that was but the sender of a flush. */
	if (bytes && !$FILTERED && watched(request))
		strays.increment(UNMATCHED);
	if (flight)
		*flight = none;
	return 0;
}
