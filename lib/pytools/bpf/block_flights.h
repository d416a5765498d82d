/*
 * The way of a request: a device gets it, and has done all of it. Before this
 * stand block.h and the tool's
 *   issue(flight, request)        the device gets it, maybe again
 *   finish(flight, request, now)  it has done all of it
 */
RAW_TRACEPOINT(block_rq_issue, $REQUEST_ARGUMENTS)
{
	u64 key = (u64)request, now = bpf_ktime_get_ns();
	struct flight first = {};

#ifdef WATCH_STARTS
	struct flight *flight = flights.lookup(&key);

	if (!flight || flight->issued)
		flight = started(key, (u64)$REQUEST_ORIGIN);
	if (flight) {
		if (!watched(request)) {
			flights.delete(&key);
			return 0;
		}
		flight->issued = now;
		issue(flight, request);
		return 0;
	}
	if ($FILTERED)
		return 0;
	/* A flush has no beginning before: the block layer itself makes it. */
	if (operation_of(request) == REQ_OP_FLUSH)
		first.queued = now;
#endif
	if (!watched(request))
		return 0;
	first.issued = now;
	issue(&first, request);
	if (flights.update(&key, &first))
		strays.increment(NO_ROOM);
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
	struct flight *flight = flights.lookup(&key);

	if (!flight) {
#ifdef WATCH_STARTS
		u64 origin = (u64)$REQUEST_ORIGIN;

		flights.delete(&origin);
#endif
		/* One without bytes is a write that was but the sender of a flush. */
		if (bytes && !$FILTERED && watched(request))
			strays.increment(UNMATCHED);
		return 0;
	}
	if (bytes < request->__data_len)
		return 0;
	/* As above: it never was with the device. */
	if (flight->issued)
		finish(flight, request, now);
	flights.delete(&key);
	return 0;
}
