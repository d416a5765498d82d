/*
 * For each byte on the standard input, allocate and free memory many times, pinned to a CPU:
 *
 *     allocations COUNT CPU
 *
 * One in LEAKED is never freed. Prints the nanoseconds of each of the PARTS parts of the loop, and
 * then an empty line.
 */
#include "load.h"

#include <unistd.h>

enum { LEAKED = 1000, BYTES = 100 };

static int allocate(void *count)
{
	void *volatile memory = malloc(BYTES);

	if (++*(long *)count % LEAKED)
		free(memory);
	return !memory;
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
		if (timed(count, allocate, &done))
			return 1;
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
