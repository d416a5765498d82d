/* The numbers of system calls as facts/syscalls.py has them: those of 32-bit programs apart. */
#define COMPAT $COMPAT
#define UNKNOWN $UNKNOWN

static inline u32 call_of(s64 number)
{
	/* Without the bit that marks an x32 call. */
	u32 call = number & 0x3fffffff;

	if (number < 0 || call > UNKNOWN)
		call = UNKNOWN;
	return $COMPAT_CALL ? call + COMPAT : call;
}
