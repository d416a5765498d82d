/*
 * Requests when a device gets them, each once, for a tool that need not know who made them and when
 * they end. Before this stand block.h and the tool's
 *   add_request(request, bytes)  the device gets it for the first time
 */

/* The sector of each request that its device could not take yet, and how many there may be: most
 * often none, which costs less to read than a look-up. */
BPF_TABLE("lru_hash", u64, u64, again, 4096);
BPF_ARRAY(requeued, u64, 1);

RAW_TRACEPOINT(block_rq_requeue, $REQUEST_ARGUMENTS)
{
	u64 key = (u64)request, sector = READ(request, request, __sector), *waiting;
	u32 only = 0;

	if (!READ(request, request, __data_len) || !watched(request))
		return 0;
	again.update(&key, &sector);
	waiting = requeued.lookup(&only);
	if (waiting)
		__sync_fetch_and_add(waiting, 1);
	return 0;
}

RAW_TRACEPOINT(block_rq_issue, $REQUEST_ARGUMENTS)
{
	u32 bytes = READ(request, request, __data_len), only = 0;
	u64 *waiting = requeued.lookup(&only), *sector, key = (u64)request;

	/* A flush is nowhere. */
	if (!bytes || !watched(request))
		return 0;
	if (waiting && *waiting) {
		sector = again.lookup(&key);
		if (sector) {
			/* If another one has its address now, it never came again. */
			bool same = *sector == READ(request, request, __sector);

			again.delete(&key);
			__sync_fetch_and_add(waiting, -1);
			if (same)
				return 0;
		}
	}
	add_request(request, bytes);
	return 0;
}
