/*
 * What lasts on each CPU, one stretch after the other, such as a task that runs. One
 * that is not over when the reader ends an interval is cut in two there, so that each
 * interval has all the time that is in it (see stretches.py).
 */
struct stretch {
	u64 since; /* 0: not counted */
	u64 id; /* as in add_sample() */
	u64 of; /* whatever tells the tool that it is still the same */
	/* When the last cut was made in one that has ended since, and which that was. */
	u64 cut;
	u64 cut_since;
	u64 cut_id;
};
BPF_PERCPU_ARRAY(stretches, struct stretch, 1);
/* When the reader last cut them. */
BPF_ARRAY(cut_at, u64, 1);

/* That of the current CPU. */
static inline struct stretch *current_stretch(void)
{
	u32 only = 0;

	return stretches.lookup(&only);
}

/* Add what it has lasted since its beginning, or since the cut, to the samples. */
static inline void end_stretch(struct stretch *stretch, u64 now)
{
	u32 only = 0;
	u64 *cut = cut_at.lookup(&only), since = stretch->since;

	if (!cut || !since)
		return;
	if (since < *cut && *cut <= now) {
		/* The reader may not have seen it any more. */
		stretch->cut_since = since;
		stretch->cut_id = stretch->id;
		stretch->cut = since = *cut;
	}
	add_sample(stretch->id, now - since);
}
