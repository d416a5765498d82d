/*
 * For each byte on the standard input, call a function many times, pinned to a CPU:
 *
 *     functions COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop, and then an empty line.
 */
#include "load.h"

#include <unistd.h>

/* Not optimized, it sets up its frame as functions do that have one. */
__attribute__((noinline, noclone, optimize("O0"))) int measured(void *number)
{
	return ++*(long *)number < 0;
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0, done = 0;
	char byte;

	if (!count)
		return 2;
	if (pin(argv[2]))
		return 1;
	while (read(0, &byte, 1) == 1) {
		if (timed(count, measured, &done))
			return 1;
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
