/* The error in the result of a system call, 0 if there is none; and whether the user wants it. */
#define MOST_ERRORS 4095 /* MAX_ERRNO */

static inline u32 error_of(s64 result)
{
	return result < 0 && result >= -MOST_ERRORS ? -result : 0;
}

static inline bool wanted_error(u32 error)
{
	if ($FAILED_ONLY && !error)
		return false;
	return $ERRNO < 0 || error == $ERRNO;
}
