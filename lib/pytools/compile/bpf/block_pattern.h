/*
 * Whether a request begins where the one before it on that disk ended, in the order in which the
 * disk's driver gets them.
 */
#define NO_PATTERN 0 /* none was seen before it */
#define SEQUENTIAL 'S'
#define RANDOM 'R'

/* For each disk, the sector behind the request that was issued last. */
BPF_TABLE("lru_hash", u64, u64, ends, 4096);

/* The pattern of a request that has bytes. */
static inline u8 pattern_of(u64 disk, u64 sector, u32 bytes)
{
	u64 behind = sector + (bytes >> 9), *end = ends.lookup(&disk);
	u8 pattern;

	if (!end) {
		ends.update(&disk, &behind);
		return NO_PATTERN;
	}
	pattern = *end == sector ? SEQUENTIAL : RANDOM;
	*end = behind;
	return pattern;
}
