/* The log2 bucket of a value: 0 holds 0 and 1, bucket b holds 2^b to 2^(b+1)-1. */
static inline u32 log2_bucket(u64 value)
{
	u32 bucket = 0;

	if (value >> 32) {
		value >>= 32;
		bucket += 32;
	}
	if (value >> 16) {
		value >>= 16;
		bucket += 16;
	}
	if (value >> 8) {
		value >>= 8;
		bucket += 8;
	}
	if (value >> 4) {
		value >>= 4;
		bucket += 4;
	}
	if (value >> 2) {
		value >>= 2;
		bucket += 2;
	}
	return bucket + (value >> 1);
}
