/*
 * How an event gets to the reader. Before this stand struct event, the ring buffer "events", and
 * the counter "lost" of those for which the ring had no room.
 *
 * The reader looks often enough by itself (BPF_RB_NO_WAKEUP): whoever woke it up for each event
 * would take longer than all else. It is woken up (BPF_RB_FORCE_WAKEUP) when they come in floods.
 */
#define NO_WAKEUP 1
#define FORCE_WAKEUP 2

/* The first "size" bytes of an event, in the ring; NULL where there is no room, which is counted. */
static inline struct event *reserve_part(u64 size)
{
	struct event *event = events.ringbuf_reserve(size);

	if (!event)
		lost.increment(0);
	return event;
}

/* The same for a whole event. */
static inline struct event *reserve_event(void)
{
	return reserve_part(sizeof(struct event));
}

/* Hand over what was reserved. */
static inline void submit_event(struct event *event)
{
	events.ringbuf_submit(event, NO_WAKEUP);
}
