/*
 * Look an address up that needs no server, many times, pinned to a CPU:
 *
 *     lookups COUNT CPU
 *
 * Prints the nanoseconds of all of them.
 */
#include "load.h"

#include <netdb.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found;
	long long begin;

	if (!count)
		return 2;
	if (pin(argv[2]))
		return 1;
	begin = now();
	for (long i = 0; i < count; i++) {
		if (getaddrinfo("127.0.0.1", NULL, &hints, &found))
			return 1;
		freeaddrinfo(found);
	}
	printf("%lld\n", now() - begin);
	return 0;
}
